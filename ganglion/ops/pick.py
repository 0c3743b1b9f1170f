"""Elements picked along a dimension: what max, sort and median return."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ganglion.errors import IndexingError
from ganglion.ops.index import gather
from ganglion.ops.movement import squeeze
from ganglion.ops.record import into
from ganglion.shapes import Shape, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor


class Picked(NamedTuple):
    """Elements of a tensor along one dimension, and their positions in it."""

    values: Tensor
    indices: Tensor


Pair = tuple["Tensor", "Tensor"]


def picked(
    input: Tensor, dim: int, indices: Tensor, keepdim: bool = True, out: Pair | None = None
) -> Picked:
    """The elements of ``input`` at ``indices`` along ``dim``; gradients flow to just these."""
    values = gather(input, dim, indices)
    if not keepdim and input.ndim:
        values, indices = squeeze(values, dim), squeeze(indices, dim)
    if out is None:
        return Picked(values, indices)
    return Picked(into(out[0], values), into(out[1], indices))


def check_not_empty(name: str, shape: Shape, dim: int) -> None:
    """Refuse to pick from a dimension of size 0."""
    if shape and not shape[dim]:
        raise IndexingError(
            f"{name}(): Expected reduction dim {dim} to have non-zero size, but the input has "
            f"shape {show(shape)}; there is no element to return"
        )
