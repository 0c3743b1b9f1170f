"""Functions that index one dimension: select, add, copy, fill, take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ganglion.dtypes as dt
from ganglion.errors import DTypeError, IndexingError, ShapeError
from ganglion.ops import places
from ganglion.ops.index import (
    INDEX,
    INDEX_ADD,
    INDEX_PUT,
    bounded,
    check_index,
    gather,
    wrapped,
)
from ganglion.ops.movement import cast, expand, reshape
from ganglion.ops.record import Op, into
from ganglion.shapes import Meta, Shape, broadcast_shapes, normalize_dim, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor


def _line(input: Tensor, dim: int, index: Tensor, name: str) -> tuple[Tensor, int, Tensor]:
    """Arguments of functions that index one dimension by a vector."""
    check_index(index)
    if index.ndim > 1:
        raise IndexingError(f"{name}(): Index is supposed to be a vector, got {show(index.shape)}")
    at = normalize_dim(dim, input.ndim)
    return (input if input.ndim else reshape(input, 1)), at, reshape(index, -1)


def index_select(input: Tensor, dim: int, index: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The slices of ``input`` along ``dim`` at the positions in a vector, copied."""
    source, at, index = _line(input, dim, index, "index_select")
    found = INDEX(source, index, dims=(at,), wrap=False)
    return into(out, found if input.ndim else reshape(found, ()))


def _sliced_like(x: Tensor, dim: int, index: Tensor, source: Tensor, name: str) -> Tensor:
    """``source``, checked to hold one slice of ``x`` for every position."""
    if x.dtype is not source.dtype:
        raise DTypeError(
            f"{name}(): self ({x.dtype.name}) and source ({source.dtype.name}) must have the same "
            "scalar type"
        )
    source = source if source.ndim else reshape(source, 1)
    shape = list(x._data.shape)
    shape[dim] = index._data.shape[0]
    if source._data.shape != tuple(shape):
        raise ShapeError(
            f"{name}(): with {shape[dim]} indices along dimension {dim} the source must have shape "
            f"{show(shape)}, got {show(source._data.shape)}"
        )
    return source


def index_add(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1
) -> Tensor:
    """``input`` with ``alpha * source`` added at positions along ``dim``, repeated ones too."""
    x, at, index = _line(input, dim, index, "index_add_")
    source = _sliced_like(x, at, index, source, "index_add_")
    if alpha != 1:
        source = source * alpha
    shape = x._data.shape
    found = INDEX_ADD(x, index, source, shape=shape, dims=(at,), wrap=False)
    return found if input.ndim else reshape(found, ())


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """``input`` with slices of ``source`` at positions along ``dim``."""
    x, at, index = _line(input, dim, index, "index_copy_")
    source = _sliced_like(x, at, index, source, "index_copy_")
    found = INDEX_PUT(x, index, source, dims=(at,), wrap=False)
    return found if input.ndim else reshape(found, ())


def index_fill(input: Tensor, dim: int, index: Tensor, value: float | Tensor) -> Tensor:
    """``input`` with one value at positions along ``dim``."""
    x, at, index = _line(input, dim, index, "index_fill_")
    if not isinstance(value, (bool, int, float)):
        if value.ndim:
            raise ShapeError(
                "index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                f"{value.ndim} dimension(s)."
            )
        value = cast(value, x.dtype)
    found = INDEX_PUT(x, index, value, dims=(at,), wrap=True)
    return found if input.ndim else reshape(found, ())


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened input at the positions in ``index``, in its shape."""
    check_index(index)
    return INDEX(reshape(input, -1), index, dims=(0,), wrap=True)  # type: ignore[no-any-return]


WRAP_INDEX = Op(
    "wrap_index",
    "index",
    lambda index, dim, size: bounded(wrapped(index, size), dim, size),
    lambda index, dim, size: Meta(index.shape, dt.int64),
    element=places.wrapped,
)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Elements at positions along ``dim`` (of the flattened input when None), shapes broadcast."""
    check_index(indices)
    if dim is None:
        return take(input, reshape(indices, -1))
    if input.ndim != indices.ndim:
        raise ShapeError(
            "take_along_dim(): input and indices should have the same number of dimensions, got "
            f"{input.ndim} and {indices.ndim}"
        )
    at = normalize_dim(dim, input.ndim)
    size = input._data.shape[at]
    around = _without(input._data.shape, at), _without(indices._data.shape, at)
    joint = list(broadcast_shapes(*around))
    joint[at] = indices._data.shape[at]
    indices = expand(WRAP_INDEX(indices, dim=at, size=size), joint)
    joint[at] = size
    return gather(expand(input, joint), at, indices)


def _without(shape: Shape, dim: int) -> Shape:
    return (*shape[:dim], 1, *shape[dim + 1 :])
