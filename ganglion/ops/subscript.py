"""``x[key]`` and ``x[key] = value``, and the same with a tuple of indices as functions.

A key is read into a basic part (integers, slices, None), which is a view, and the tensors that
index this view. PyTorch's rules hold where NumPy differs: an integer beside tensors is basic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index as as_int
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.dispatch import mode, read, write
from ganglion.errors import ArgumentError, ArgumentTypeError, DTypeError, IndexingError, TraceError
from ganglion.ops.create import FULL
from ganglion.ops.index import (
    INDEX,
    INDEX_ADD,
    INDEX_PUT,
    INDEX_STACK,
    INDEX_WRITE,
    indexed_shape,
)
from ganglion.ops.movement import COPY, SLICE, cast, clone, expand, reshape
from ganglion.ops.nonzero import POSITIONS
from ganglion.ops.select import where
from ganglion.shapes import Shape, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

WHOLE = slice(None)
Placed = tuple[int, "Tensor"]  # an index tensor, and the first dimension it indexes


def getitem(self: Tensor, key: Any) -> Tensor:
    """Elements at a basic index as a view, at an index with tensors as a copy."""
    if type(key) is int:
        return SLICE(self, key=(key,))  # type: ignore[no-any-return]
    view, tensors = _read_key(self, key)
    if not tensors:
        return view
    source, index, dims = _joined(view, tensors)
    return INDEX(source, index, dims=dims, wrap=True)  # type: ignore[no-any-return]


def setitem(self: Tensor, key: Any, value: Any) -> None:
    """Store a value, broadcast and converted to the tensor's dtype, at an index."""
    view, tensors = _read_key(self, key)
    value = _as_value(value, self.dtype, () if tensors else view._data.shape)
    if not tensors:
        if not _same_place(view, value):
            write(view, _fitted(value, view._data.shape))
    elif len(tensors) == 1 and _is_mask(tensors[0][1]) and not value._data.shape:
        write(view, where(_widened(view, *tensors[0]), value, view))
    else:
        _put(view, tensors, value)


def _put(view: Tensor, tensors: list[Placed], value: Tensor) -> None:
    source, index, dims = _joined(view, tensors)
    shape = indexed_shape(source._data.shape, index._data.shape, dims)
    value = _without_leading_ones(value, len(shape))
    if source._storage is view._storage and not _needs_care(view, value):
        INDEX_WRITE(source, index, value, dims=dims, wrap=True)
        return
    result = INDEX_PUT(source, index, value, dims=dims, wrap=True)
    write(view, reshape(result, view._data.shape))


def _needs_care(x: Tensor, value: Tensor) -> bool:
    """Whether a store into ``x`` must be recorded, or may be refused: what ``write`` is for."""
    repeats = 0 in getattr(x._data, "strides", ())  # as after expand: elements share memory
    refused = x._view is not None and bool(x._view.refusal)
    history = mode.grad and (x.requires_grad or value.requires_grad)
    return repeats or refused or history or x._storage.version is None


# --- values ---------------------------------------------------------------------------------------


def _as_value(value: Any, dtype: dt.dtype, shape: Shape) -> Tensor:
    """A tensor of this dtype; numbers are filled into ``shape``."""
    if isinstance(value, (bool, int, float)):
        return FULL(shape=shape, value=value, dtype=dtype)  # type: ignore[no-any-return]
    if not hasattr(value, "_data"):
        value = COPY(np.asarray(value))
    return value if value.dtype is dtype else cast(value, dtype)


def _fitted(value: Tensor, shape: Shape) -> Tensor:
    value = _without_leading_ones(value, len(shape))
    return value if value._data.shape == shape else expand(value, shape)


def _without_leading_ones(value: Tensor, ndim: int) -> Tensor:
    shape = value._data.shape
    extra = len(shape) - ndim
    return reshape(value, shape[extra:]) if extra > 0 and set(shape[:extra]) == {1} else value


def _same_place(a: Tensor, b: Tensor) -> bool:
    """Whether both are the same view, as after ``x[0] += 1``, where nothing is left to store."""
    one, other = a._view, b._view
    if one is None or other is None or one.refusal:
        return False
    if one.origin is not None and one.origin._leaf:
        return False  # the store is refused
    return one.base is other.base and one.chain == other.chain


# --- keys -----------------------------------------------------------------------------------------


def _read_key(x: Tensor, key: Any) -> tuple[Tensor, list[Placed]]:
    """The view of a key's basic part, and the tensors that index it."""
    entries = [_entry(k) for k in (key if type(key) is tuple else (key,))]
    entries = _filled(entries, x)
    basic: list[Any] = []
    tensors: list[Placed] = []
    place = 0
    for k in entries:
        if type(k) is int or k is None or type(k) is slice:
            basic.append(k)
            place += type(k) is not int
        elif _is_mask(k) and not k._data.shape:
            basic.append(None)  # a single truth value selects from a new dimension of size 1
            tensors.append((place, reshape(k, 1)))
            place += 1
        else:
            width = _width(k)
            basic.extend([WHOLE] * width)
            tensors.append((place, k))
            place += width
    if tensors and len(basic) <= x.ndim and all(k == WHOLE for k in basic):
        return x, tensors
    return SLICE(x, key=tuple(basic)), tensors


def _is_mask(x: Tensor) -> bool:
    return x.dtype is dt.bool_


def _width(k: Any) -> int:
    """How many dimensions an entry takes up."""
    if type(k) is int or type(k) is slice:
        return 1
    if k is None or k is Ellipsis:
        return 0
    return k.ndim if _is_mask(k) else 1


def _filled(entries: list[Any], x: Tensor) -> list[Any]:
    """The entries with whole dimensions in place of an ellipsis."""
    at = [i for i, k in enumerate(entries) if k is Ellipsis]
    if not at:
        return entries
    if len(at) > 1:
        raise IndexingError("an index can only have a single ellipsis ('...')")
    missing = x.ndim - sum(map(_width, entries))
    if missing < 0:
        raise IndexingError(f"too many indices for tensor of dimension {x.ndim}")
    return [*entries[: at[0]], *[WHOLE] * missing, *entries[at[0] + 1 :]]


def _entry(k: Any) -> Any:
    """One part of a key as an int, a slice, None, Ellipsis, or a tensor of int64 or bool."""
    kind = type(k)
    if kind is int or k is None or k is Ellipsis:
        return k
    if kind is slice:
        return k if k == WHOLE else _slice(k)
    if hasattr(k, "_data"):
        return _tensor_entry(k)
    if isinstance(k, (bool, np.bool_, np.ndarray, list, range)):
        return _array_entry(k)
    if hasattr(k, "__index__"):
        return as_int(k)
    raise IndexingError(
        "only integers, slices (`:`), ellipsis (`...`), None and integer or boolean tensors, "
        f"arrays and lists are valid indices (got {kind.__name__})"
    )


def _slice(k: slice) -> slice:
    start, stop, step = (n if n is None else as_int(n) for n in (k.start, k.stop, k.step))
    if step is not None and step <= 0:
        raise ArgumentError(f"step must be greater than zero, got {step}; use flip() to reverse")
    return slice(start, stop, step)


def _tensor_entry(k: Tensor) -> Any:
    if k.dtype is dt.bool_:
        return k
    if k.dtype not in (dt.int64, dt.int32):
        raise IndexingError(
            f"tensors used as indices must be int64, int32 or bool, got {k.dtype.name}; convert "
            "with .long() for positions or .bool() for a mask"
        )
    if k._data.shape:
        return k
    try:
        return int(read(k))  # a number makes a view
    except TraceError:
        return k


def _array_entry(k: Any) -> Any:
    try:
        array = np.asarray(k)
    except ValueError:
        array = np.empty(0, object)  # of uneven lists
    if not array.size and array.dtype.kind == "f":
        array = array.astype(np.int64)  # an empty list
    if array.dtype.kind not in "biu" or array.dtype == np.uint8:
        raise IndexingError(
            "arrays and lists used as indices must hold integers or booleans, all nested lists of "
            "one length; for an index per dimension use a tuple"
        )
    if not array.ndim and array.dtype.kind != "b":
        return int(array)
    return COPY(array if array.dtype.kind == "b" else array.astype(np.int64))


# --- index tensors --------------------------------------------------------------------------------


def _joined(view: Tensor, tensors: list[Placed]) -> tuple[Tensor, Tensor, Shape]:
    """What to index, by what, over which dimensions; a mask's dimensions are merged into one."""
    shape = view._data.shape
    merged, dims, parts, done = [], [], [], 0
    for place, k in tensors:
        merged.extend(shape[done:place])
        dims.append(len(merged))
        done = place + _width(k)
        if _is_mask(k):
            _check_mask(k._data.shape, shape, place)
            k = POSITIONS(k)
        parts.append(k)
        merged.append(math.prod(shape[place:done]))
    merged.extend(shape[done:])
    source = view if len(merged) == len(shape) else reshape(view, merged)
    index = parts[0] if len(parts) == 1 else INDEX_STACK(*parts)
    return source, index, tuple(dims)


def _check_mask(mask: Shape, shape: Shape, place: int) -> None:
    if shape[place : place + len(mask)] != mask:
        raise IndexingError(
            f"The shape of the mask {show(mask)} at index {place} does not match the shape of the "
            f"indexed tensor {show(shape)} at index {place}"
        )


def _widened(view: Tensor, place: int, mask: Tensor) -> Tensor:
    """A mask with dimensions of size 1 for those of the view that come after its own."""
    shape = mask._data.shape
    _check_mask(shape, view._data.shape, place)
    return reshape(mask, (*shape, *(1,) * (view.ndim - place - len(shape))))


# --- the same as functions ------------------------------------------------------------------------


def index_put_(
    self: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    """Store values at (or, with ``accumulate``, add them to) a tuple of indices."""
    if not isinstance(indices, (tuple, list)):
        raise ArgumentTypeError(
            f"index_put(): indices must be a tuple of tensors, got {type(indices).__name__}"
        )
    if self.dtype is not values.dtype:
        raise DTypeError(
            "Index put requires the source and destination dtypes match, got "
            f"{self.dtype.name} for the destination and {values.dtype.name} for the source."
        )
    key = tuple(WHOLE if k is None else k for k in indices)
    if accumulate:
        _add_to(self, key, values)
    else:
        setitem(self, key, values)
    return self


def _add_to(x: Tensor, key: tuple[Any, ...], values: Tensor) -> None:
    view, tensors = _read_key(x, key)
    if not tensors:
        write(view, view + _fitted(values, view._data.shape))
        return
    source, index, dims = _joined(view, tensors)
    shape = source._data.shape
    values = _fitted(values, indexed_shape(shape, index._data.shape, dims))
    found = INDEX_ADD(source, index, values, shape=shape, dims=dims, wrap=True)
    write(view, reshape(found, view._data.shape))


def index_put(
    input: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    """A copy of ``input`` with values stored at or added to a tuple of indices."""
    return index_put_(clone(input), indices, values, accumulate)
