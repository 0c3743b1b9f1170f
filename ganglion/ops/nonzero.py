"""Where a condition holds: positions, masked elements, one-hot rows. Some shapes follow values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.dispatch import read
from ganglion.errors import DTypeError, ShapeError
from ganglion.ops import places
from ganglion.ops.index import INDEX, INDEX_PUT
from ganglion.ops.join import unbind
from ganglion.ops.movement import SLICE, reshape
from ganglion.ops.record import Op, into
from ganglion.ops.views import broadcast_tensors
from ganglion.shapes import Meta

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]

NONZERO = Op(
    "nonzero",
    "index",
    np.argwhere,
    lambda x: Meta((x.numel, x.ndim), dt.int64),  # at most so many rows
    runs="eager-only",
    in_float32=False,
)


# row-major positions of a mask's true elements, as a vector
POSITIONS = Op(
    "mask_positions",
    "index",
    np.flatnonzero,
    lambda mask: Meta((mask.numel,), dt.int64),  # at most so many
    runs="eager-only",
)


def nonzero(input: Tensor, *, out: Tensor | None = None, as_tuple: bool = False) -> Any:
    """Indices of the elements that are not zero: rows (n, ndim), or a vector per dimension."""
    if not as_tuple:
        return into(out, NONZERO(input))
    return unbind(NONZERO(input if input.ndim else reshape(input, 1)), 1)


def argwhere(input: Tensor) -> Tensor:
    """Indices of the elements that are not zero, as rows (n, ndim)."""
    return NONZERO(input)  # type: ignore[no-any-return]


def _check_mask(name: str, mask: Tensor) -> None:
    if mask.dtype is not dt.bool_:
        raise DTypeError(f"{name}: expected BoolTensor for mask, got {mask.dtype.name}")


def masked_select(input: Tensor, mask: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The elements where ``mask`` holds, as a vector; shapes broadcast."""
    _check_mask("masked_select", mask)
    x, where = broadcast_tensors(input, mask)
    found = INDEX(reshape(x, -1), POSITIONS(where), dims=(0,), wrap=False)
    return into(out, found)


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """``input`` with elements of ``source``, in order, where ``mask`` holds."""
    _check_mask("masked_scatter", mask)
    if input.dtype is not source.dtype:
        raise DTypeError(
            "masked_scatter: expected self and source to have same dtypes but got "
            f"{input.dtype.name} and {source.dtype.name}"
        )
    x, where = broadcast_tensors(input, mask)
    index, values = POSITIONS(where), reshape(source, -1)
    count = index._data.shape[0]
    if values._data.shape[0] < count:
        raise ShapeError(
            f"masked_scatter: the mask holds {count} times but source has only "
            f"{values._data.shape[0]} elements"
        )
    values = SLICE(values, key=(slice(count),))
    found = INDEX_PUT(reshape(x, -1), index, values, dims=(0,), wrap=False)
    return reshape(found, x._data.shape)


# --- one-hot --------------------------------------------------------------------------------------


def _one_hot_array(index: Array, classes: int) -> Array:
    if index.size and index.min() < 0:
        raise ShapeError(f"Class values must be non-negative, got {index.min()}.")
    if index.size and index.max() >= classes:
        raise ShapeError(
            f"Class values must be smaller than num_classes, got {index.max()} for {classes}."
        )
    out = np.zeros((index.size, classes), np.int64)
    out[np.arange(index.size), index.reshape(-1)] = 1
    return out.reshape(*index.shape, classes)


ONE_HOT = Op(
    "one_hot",
    "index",
    _one_hot_array,
    lambda index, classes: Meta((*index.shape, classes), dt.int64),
    element=places.one_hot,
)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 rows with a 1 at each class number; -1 makes as many classes as are seen."""
    if tensor.dtype is not dt.int64:
        raise DTypeError(
            "one_hot is only applicable to index tensor of type LongTensor, got "
            f"{tensor.dtype.name}; convert it with .long()"
        )
    if num_classes == -1:
        if not tensor._data.size:
            raise ShapeError(
                "Can not infer total number of classes from empty tensor; give num_classes."
            )
        num_classes = int(read(tensor).max()) + 1
    elif num_classes < 1:
        raise ShapeError(f"num_classes should be positive, got {num_classes}")
    return ONE_HOT(tensor, classes=num_classes)  # type: ignore[no-any-return]
