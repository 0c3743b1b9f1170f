"""Tensors from data: numbers, nested lists, NumPy arrays, tensors, and anything array-like."""

from __future__ import annotations

from functools import partial, reduce
from itertools import chain
from typing import Any, Final

import numpy as np

import ganglion.dtypes as dt
from ganglion.dispatch import mode, read
from ganglion.eager import quietly
from ganglion.errors import ArgumentError, ArgumentTypeError, DTypeError
from ganglion.ops.create import (
    arange,
    chosen,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    linspace,
    logspace,
    made,
    ones,
    ones_like,
    scalar_tensor,
    zeros,
    zeros_like,
)
from ganglion.ops.movement import cast, cast_array, clone, detach
from ganglion.storage import device as as_device
from ganglion.tensor import Tensor, wrap
from ganglion.tree import map_leaves

__all__ = [
    "arange", "as_tensor", "asarray", "empty", "empty_like", "eye", "from_dlpack", "from_numpy",
    "full", "full_like", "is_tensor", "linspace", "logspace", "new_tensor", "ones", "ones_like",
    "scalar_tensor", "tensor", "zeros", "zeros_like",
    "BoolTensor", "ByteTensor", "CharTensor", "DoubleTensor", "FloatTensor", "HalfTensor",
    "IntTensor", "LongTensor", "ShortTensor",
]  # fmt: skip

Array = np.ndarray[Any, Any]
_NUMBERS: Final = {bool, int, float}
_NOT_DATA: Final = (str, bytes, dict, set)


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor with a copy of ``data``.

    Python floats become the default dtype, ints int64, bools bool; NumPy values keep theirs.
    """
    wanted = None if dtype is None else dt.as_dtype(dtype)
    if device is not None:
        as_device(device)
    if isinstance(data, Tensor):
        copy = detach(data)
        return made(clone(copy) if wanted is None else cast(copy, wanted), requires_grad)
    found = wrap(quietly(_parsed, data, wanted))
    return made(found if mode.tracer is None else mode.tracer.born(found), requires_grad)


def _parsed(data: Any, wanted: dt.dtype | None) -> Array:
    """A new array holding ``data`` in the wanted dtype, or else in the one it stands for."""
    if isinstance(data, (np.ndarray, np.generic)):
        return cast_array(np.asarray(data), wanted or dt.of_numpy(data.dtype))
    if not isinstance(data, (list, tuple, bool, int, float)):
        return _from_foreign(data, wanted)
    leaves = _leaves(data)
    natural = _common_dtype(leaves, data)
    target = wanted or natural
    if not set(map(type, leaves)) <= _NUMBERS:
        data = map_leaves(_bare, data)
    if target.category == dt.INTEGRAL:
        return _integers(data, natural, target)
    if target in dt.HALVES:
        return cast_array(_from_lists(data, dt.float32), target)
    return _from_lists(data, target)


def _from_foreign(data: Any, wanted: dt.dtype | None) -> Array:
    """Data frames, images, buffers and ranges, by NumPy's protocols or as sequences."""
    if hasattr(data, "__array__") or isinstance(data, (memoryview, bytearray)):
        return _parsed(np.asarray(data), wanted)
    if hasattr(data, "__getitem__") and not isinstance(data, _NOT_DATA):
        return _parsed(list(data), wanted)
    raise DTypeError(
        f"Could not infer dtype of {type(data).__name__}; expected numbers, nested lists of "
        "them, a NumPy array or a tensor"
    )


def _from_lists(data: Any, target: dt.dtype) -> Array:
    try:
        return np.array(data, target.numpy)
    except OverflowError:
        raise DTypeError(f"an integer does not fit {target.name}") from None
    except (ValueError, TypeError) as error:
        raise ArgumentError(_ragged(data) or str(error)) from None


def _integers(data: Any, natural: dt.dtype, target: dt.dtype) -> Array:
    exact = dt.float64 if natural.is_floating_point else dt.int64
    found = _from_lists(data, exact)
    limits = dt.iinfo(target)
    low = limits.min if target.signed else -limits.max  # PyTorch lets negatives wrap around
    if not bool(((found >= low) & (found <= limits.max)).all()):
        raise DTypeError(
            f"value cannot be converted to type {target.name} without overflow: values must lie "
            f"between {limits.min} and {limits.max}"
        )
    return cast_array(found, target)


def _bare(leaf: Any) -> Any:
    return read(leaf) if isinstance(leaf, Tensor) else leaf


def _common_dtype(leaves: list[Any], data: Any) -> dt.dtype:
    """The smallest dtype that holds all leaves of nested lists."""
    kinds = set(map(type, leaves))
    if kinds <= _NUMBERS:
        found = [kind for kind in (float, int, bool) if kind in kinds] or [float]
        return dt.of_scalar(found[0]())
    return reduce(dt.promote_types, {_leaf_dtype(x, data) for x in leaves})


def _leaves(data: Any) -> list[Any]:
    level = [data]
    while level and isinstance(level[0], (list, tuple)):
        try:
            level = list(chain.from_iterable(level))
        except TypeError:
            raise ArgumentError(_ragged(data)) from None
    return level


def _leaf_dtype(leaf: Any, data: Any) -> dt.dtype:
    if isinstance(leaf, (bool, int, float)) and not isinstance(leaf, np.generic):
        return dt.of_scalar(leaf)
    if isinstance(leaf, Tensor):
        return leaf.dtype
    if isinstance(leaf, (np.generic, np.ndarray)):
        return dt.of_numpy(leaf.dtype)
    if isinstance(leaf, (list, tuple)):
        raise ArgumentError(_ragged(data))
    raise DTypeError(f"Could not infer dtype of {type(leaf).__name__}: {leaf!r} is not a number")


def _ragged(data: Any) -> str:
    """Where nested lists stop being a block, or an empty string."""
    level, dim = [data], 0
    while any(isinstance(x, (list, tuple)) for x in level):
        lengths = [len(x) if isinstance(x, (list, tuple)) else "no sequence" for x in level]
        if len(set(lengths)) > 1:
            other = next(n for n in lengths if n != lengths[0])
            return (
                f"nested lists must form a block: at dim {dim} one has length {lengths[0]} and "
                f"another {other}. Pad them to one length, or make separate tensors."
            )
        level, dim = list(chain.from_iterable(level)), dim + 1
    return ""


def from_numpy(array: Array) -> Tensor:
    """A tensor over the array's own memory; of a read-only array, writes to it fail.

    Errors: ``ArgumentTypeError`` for anything but an array, ``ArgumentError`` for foreign byte
    order, which cannot be shared.
    """
    if not isinstance(array, np.ndarray):
        raise ArgumentTypeError(f"expected np.ndarray (got {type(array).__name__})")
    if not array.dtype.isnative:
        raise ArgumentError(
            f"the array's byte order ({array.dtype.str}) is not this machine's, so its memory "
            "cannot be shared; use ganglion.tensor(array), which copies"
        )
    dt.of_numpy(array.dtype)
    return wrap(np.asarray(array))


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor; tensors and NumPy arrays are shared unless the dtype changes."""
    return asarray(data, dtype=dtype, device=device)


def asarray(
    obj: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Like ``as_tensor``; ``copy`` True always copies, False raises where a copy is needed."""
    d = None if dtype is None else chosen(dtype, device)
    if isinstance(obj, np.ndarray) and obj.dtype.isnative:
        obj = from_numpy(obj)
    if not isinstance(obj, Tensor):
        shared, found = False, tensor(obj, dtype=d, device=device)
    else:
        shared = copy is not True and d in (None, obj.dtype)
        found = obj if shared else clone(obj) if d in (None, obj.dtype) else cast(obj, d)
    if copy is False and not shared:
        raise ArgumentError("asarray(copy=False) cannot share this object's memory; drop copy")
    return made(found, requires_grad)


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor over the memory of another library's array, by the DLPack protocol."""
    if isinstance(ext_tensor, Tensor):
        return detach(ext_tensor)
    try:
        return from_numpy(np.from_dlpack(ext_tensor))
    except AttributeError:
        raise ArgumentTypeError(
            f"from_dlpack needs an object with __dlpack__, got {type(ext_tensor).__name__}"
        ) from None


def new_tensor(
    input: Tensor,
    data: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A new tensor of ``data`` in ``input``'s dtype."""
    d = chosen(dtype, device, input.dtype)
    return tensor(data, dtype=d, requires_grad=requires_grad)


Tensor.new_tensor = new_tensor


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)


def _of_type(dtype: dt.dtype, *args: Any) -> Tensor:
    """PyTorch's typed constructors: sizes, or one sequence of data."""
    if all(isinstance(a, int) for a in args):
        return zeros(args or (0,), dtype=dtype)
    if len(args) != 1:
        raise ArgumentTypeError(f"expected sizes or one sequence, got {args}")
    return tensor(args[0], dtype=dtype)


BoolTensor = partial(_of_type, dt.bool_)
ByteTensor = partial(_of_type, dt.uint8)
CharTensor = partial(_of_type, dt.int8)
ShortTensor = partial(_of_type, dt.int16)
IntTensor = partial(_of_type, dt.int32)
LongTensor = partial(_of_type, dt.int64)
HalfTensor = partial(_of_type, dt.float16)
FloatTensor = partial(_of_type, dt.float32)
DoubleTensor = partial(_of_type, dt.float64)
