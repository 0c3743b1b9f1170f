"""What tensors share: devices, and the version counter that in-place writes advance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ganglion.errors import ArgumentError

if TYPE_CHECKING:
    from ganglion.ops.record import Op
    from ganglion.tensor import Tensor


class device:  # noqa: N801 - PyTorch's name
    """Where a tensor lives. Only ``cpu`` exists."""

    __slots__ = ("index", "type")

    def __init__(self, type: str | device = "cpu", index: int | None = None) -> None:
        name, _, number = (type.type if isinstance(type, device) else str(type)).partition(":")
        if name != "cpu":
            raise ArgumentError(f"device '{type}' is not available; Ganglion computes on 'cpu'")
        self.type: str = name
        self.index: int | None = int(number) if number else index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type='{self.type}')"


CPU = device("cpu")


class Storage:
    """One block of memory that a tensor and its views share; ``version`` counts the writes."""

    version: int | None = 0
    device = CPU

    def advance(self) -> None:
        """Count a write."""
        self.version += 1  # type: ignore[operator]


class InferenceStorage(Storage):
    """Memory made in inference mode: it counts no writes, and so no tape can rely on it."""

    version = None

    def advance(self) -> None:
        """Count nothing."""


Chain = tuple[tuple["Op", Mapping[str, Any]], ...]


class View:
    """How a tensor looks into its base.

    It shares the memory of ``base``, reached by the view ops in ``chain``, and the gradient
    history of ``origin``, reached by those in ``path``; ``origin`` is the base itself, or a later
    tensor where a history starts: one detached, or a leaf. It is None for a detached tensor, whose
    history is its own. ``version`` is the storage's when this history was last right, ``refusal``
    the reason, if any, why it must not be written to where gradients are recorded.
    """

    __slots__ = ("base", "chain", "origin", "path", "refusal", "version")

    def __init__(
        self,
        base: Tensor,
        chain: Chain,
        origin: Tensor | None,
        path: Chain,
        version: int | None,
        refusal: str = "",
    ) -> None:
        self.base, self.chain = base, chain
        self.origin, self.path = origin, path
        self.version, self.refusal = version, refusal
