"""Tables of vectors looked up by number."""

from __future__ import annotations

from typing import Any, Self

import ganglion.dtypes as dt
from ganglion.creation import empty
from ganglion.errors import ShapeError
from ganglion.gradmode import no_grad
from ganglion.nn import init
from ganglion.nn.module import Module
from ganglion.nn.parameter import Parameter
from ganglion.ops.embedding import embedding, padding_row
from ganglion.shapes import show
from ganglion.tensor import Tensor


class Embedding(Module):
    """The rows of ``weight`` (num_embeddings, embedding_dim) at given numbers.

    The weight starts from N(0, 1), and 0 at ``padding_idx``, which takes no gradient.
    ``scale_grad_by_freq`` divides gradients by how often a row is taken. With ``max_norm``, rows of
    a larger ``norm_type`` norm that are taken are first scaled down to it, in place. Gradients are
    dense: ``sparse`` is accepted and changes nothing.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_row(padding_idx, num_embeddings)
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        given = _weight
        if given is None:
            given = empty(num_embeddings, embedding_dim, device=device, dtype=dtype)
        elif given.shape != (num_embeddings, embedding_dim):
            raise ShapeError(
                "Shape of weight does not match num_embeddings and embedding_dim: expected "
                f"{show((num_embeddings, embedding_dim))}, got {show(given.shape)}"
            )
        self.weight = Parameter(given, requires_grad=not _freeze)
        if _weight is None:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight anew; the padding row is 0."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx].fill_(0)

    def forward(self, input: Tensor) -> Tensor:
        """(...) integers to (..., embedding_dim)."""
        return embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type,
            self.scale_grad_by_freq, self.sparse,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Sizes, and the options that are not the defaults."""
        shown = [f"{self.num_embeddings}, {self.embedding_dim}"]
        for name, default in _DEFAULTS.items():
            if getattr(self, name) != default:
                shown.append(f"{name}={getattr(self, name)}")
        return ", ".join(shown)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """An embedding over a given table (rows, width), not trained if ``freeze``."""
        if embeddings.ndim != 2:
            raise ShapeError(
                "Embeddings parameter is expected to be 2-dimensional, got shape "
                f"{show(embeddings.shape)}"
            )
        rows, width = embeddings.shape
        return cls(
            rows, width, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse,
            _weight=embeddings, _freeze=freeze,
        )  # fmt: skip


_DEFAULTS: dict[str, Any] = {
    "padding_idx": None,
    "max_norm": None,
    "norm_type": 2,
    "scale_grad_by_freq": False,
    "sparse": False,
}
