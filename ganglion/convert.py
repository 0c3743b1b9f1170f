"""What a tensor can be turned into: numbers, lists, arrays, other dtypes, copies; and its layout.

Everything here that looks at values goes through ``read``, so a trace can refuse it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.dispatch import mode, read
from ganglion.errors import ArgumentError, ArgumentTypeError, AutogradError, ShapeError
from ganglion.ops.join import unbind
from ganglion.ops.movement import cast, clone
from ganglion.shapes import Size, normalize_dim
from ganglion.storage import Storage
from ganglion.storage import device as as_device

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- Python numbers -------------------------------------------------------------------------------


def _one(x: Tensor) -> Any:
    return _listed(read(x)).item()


def _listed(array: Array) -> Array:
    """An array whose elements become Python numbers."""
    return array.astype(np.float32) if array.dtype.kind not in "biuf" else array


def item(input: Tensor) -> Any:
    """The one element as a Python number."""
    if input.numel() != 1:
        raise ShapeError(
            f"a Tensor with {input.numel()} elements cannot be converted to Scalar; "
            "use .tolist(), or reduce it first"
        )
    return _one(input)


def tolist(input: Tensor) -> Any:
    """The elements as nested lists of Python numbers, or as one number."""
    return _listed(read(input)).tolist()


def _single(input: Tensor) -> Any:
    if input.numel() != 1:
        raise ArgumentError("only one element tensors can be converted to Python scalars")
    return _one(input)


def as_float(input: Tensor) -> float:
    return float(_single(input))


def as_int(input: Tensor) -> int:
    return int(_single(input))


def as_bool(input: Tensor) -> bool:
    """Whether the one element is nonzero."""
    if input.numel() != 1:
        kind = "more than one value" if input.numel() else "no values"
        raise ShapeError(
            f"Boolean value of Tensor with {kind} is ambiguous; use .any() or .all(), or "
            "compare shapes"
        )
    return bool(_one(input))


def as_index(input: Tensor) -> int:
    """The one integer, for use as an index or a size."""
    if input.numel() != 1 or input.dtype.category == dt.FLOATING:
        raise ArgumentTypeError(
            "only integer tensors of a single element can be converted to an index"
        )
    return int(_one(input))


# --- containers -----------------------------------------------------------------------------------


def length(input: Tensor) -> int:
    """The size of the first dimension."""
    if not input.ndim:
        raise ArgumentTypeError("len() of a 0-d tensor")
    return int(input._data.shape[0])


def iterate(input: Tensor) -> Iterator[Tensor]:
    """The slices of the first dimension."""
    if not input.ndim:
        raise ArgumentTypeError("iteration over a 0-d tensor")
    return iter(unbind(input))


def contains(input: Tensor, element: Any) -> bool:
    """Whether some element equals ``element``, a number or a tensor."""
    if not isinstance(element, (bool, int, float)):
        try:
            element = read(element)
        except AttributeError:
            raise ShapeError(
                "Tensor.__contains__ only supports Tensor or scalar, but you passed in a "
                f"{type(element)}."
            ) from None
    return bool((read(input) == element).any())


# --- arrays ---------------------------------------------------------------------------------------


def numpy(input: Tensor, *, force: bool = False) -> Array:
    """The array itself, sharing memory; ``force`` detaches first."""
    if input.requires_grad and not force:
        raise AutogradError(
            "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
        )
    return read(input)  # type: ignore[no-any-return]


def as_array(input: Tensor, dtype: Any = None, copy: bool | None = None) -> Array:
    """NumPy's protocol: shares memory unless a dtype or ``copy`` asks for more."""
    return np.array(numpy(input), dtype=dtype, copy=copy)


def as_dlpack(input: Tensor, **options: Any) -> Any:
    """DLPack's protocol: the memory as a capsule for another library."""
    if input.requires_grad:
        raise AutogradError("Can't export tensors that require gradient, use tensor.detach()")
    return read(input).__dlpack__(**options)


def dlpack_device(input: Tensor) -> tuple[int, int]:
    """DLPack's code for the CPU."""
    return 1, 0


# --- dtypes and devices ---------------------------------------------------------------------------


def to(
    input: Tensor,
    *args: Any,
    dtype: Any = None,
    device: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """``to(dtype)``, ``to(device, dtype)`` or ``to(other)``; itself where nothing changes."""
    flags = []
    for arg in args:
        if isinstance(arg, (str, as_device)):
            device = arg
        elif isinstance(arg, bool):
            flags.append(arg)  # non_blocking, then copy
        elif arg is not None:
            dtype = arg.dtype if hasattr(arg, "_data") else arg
    if device is not None:
        as_device(device)
    target = input.dtype if dtype is None else dt.as_dtype(dtype)
    if target is not input.dtype:
        return cast(input, target)
    return clone(input) if copy or flags[1:] == [True] else input


def _caster(target: dt.dtype) -> Callable[[Tensor], Tensor]:
    def method(input: Tensor) -> Tensor:
        return input if input.dtype is target else cast(input, target)

    method.__doc__ = f"The tensor as {target.name}."
    return method


class Casts:
    """The methods of Tensor named after Python's types, which would hide those in its body."""

    bool = _caster(dt.bool_)
    byte = _caster(dt.uint8)
    char = _caster(dt.int8)
    short = _caster(dt.int16)
    int = _caster(dt.int32)
    long = _caster(dt.int64)
    half = _caster(dt.float16)
    bfloat16 = _caster(dt.bfloat16)
    float = _caster(dt.float32)
    double = _caster(dt.float64)


_TYPE_NAMES = {
    "Bool": dt.bool_,
    "Byte": dt.uint8,
    "Char": dt.int8,
    "Short": dt.int16,
    "Int": dt.int32,
    "Long": dt.int64,
    "Half": dt.float16,
    "BFloat16": dt.bfloat16,
    "Float": dt.float32,
    "Double": dt.float64,
}


def type_(input: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """Without a dtype the name of the type, ``ganglion.FloatTensor``; with one, the cast."""
    if dtype is None:
        name = next(name for name, d in _TYPE_NAMES.items() if d is input.dtype)
        return f"ganglion.{name}Tensor"
    if isinstance(dtype, str):
        short = dtype.rpartition(".")[2].removesuffix("Tensor")
        dtype = _TYPE_NAMES.get(short, dtype)
    return to(input, dtype=getattr(dtype, "args", (dtype,))[0])


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """The tensor in ``other``'s dtype."""
    return to(input, dtype=other.dtype)


def cpu(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself: it is on the CPU."""
    return input


def cuda(input: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """Always an error: there is no CUDA."""
    return to(input, device="cuda")


# --- copies and pickles ---------------------------------------------------------------------------

# What a copy does not take over: memory, history and hooks are its own.
_OWN = {"_data", "_storage", "_edge", "_leaf", "_view", "_hooks", "_post_hooks", "grad"}


def rebuild(kind: type[Tensor], array: Array, leaf: bool, extras: dict[str, Any]) -> Tensor:
    """A tensor of some class over an array."""
    made = object.__new__(kind)
    made._data, made._storage = array, Storage()
    made._leaf = leaf
    made.__dict__.update(extras)
    return made


def _extras(input: Tensor) -> dict[str, Any]:
    return {name: value for name, value in input.__dict__.items() if name not in _OWN}


def copy_tensor(input: Tensor) -> Tensor:
    """``copy.copy``: another name for the same memory and history."""
    made = object.__new__(type(input))
    made.__dict__.update(input.__dict__)
    return made


def deepcopy_tensor(input: Tensor, memo: dict[int, Any]) -> Tensor:
    """``copy.deepcopy`` of a leaf, with its gradient; views become tensors of their own."""
    if id(input) in memo:
        return memo[id(input)]  # type: ignore[no-any-return]
    if input._edge is not None:
        raise AutogradError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
            "protocol at the moment; copy tensor.detach() instead."
        )
    made = rebuild(type(input), _compact(input), input._leaf, {})
    memo[id(input)] = made
    made.__dict__.update(copy.deepcopy(_extras(input), memo))
    made._grad = copy.deepcopy(input._grad, memo)
    return made


def _compact(input: Tensor) -> Array:
    return np.array(read(input), order="C")


def reduce_tensor(input: Tensor) -> tuple[Any, ...]:
    """The pickle protocol, for programs that pickle in memory: a plain array and its flags."""
    array, wanted = _compact(input), input.requires_grad
    return rebuild, (type(input), array, wanted, _extras(input))


# --- layout and size ------------------------------------------------------------------------------


def size(input: Tensor, dim: int | None = None) -> Any:
    """The shape, or the size of one dimension."""
    shape = input._data.shape
    return Size(shape) if dim is None else shape[_existing_dim(dim, len(shape))]


def _existing_dim(dim: int, ndim: int) -> int:
    found = normalize_dim(dim, ndim)
    if not ndim:
        raise ShapeError("dimension specified for a tensor that has no dimensions")
    return found


def stride(input: Tensor, dim: int | None = None) -> Any:
    """Elements between neighbours in each dimension, or in one."""
    data = input._data
    if isinstance(data, np.ndarray):
        steps = tuple(s // data.itemsize for s in data.strides)
    else:  # a traced tensor counts as contiguous
        steps = tuple(math.prod(data.shape[i + 1 :]) for i in range(len(data.shape)))
    return steps if dim is None else steps[_existing_dim(dim, len(steps))]


def dim(input: Tensor) -> int:
    """The number of dimensions."""
    return len(input._data.shape)


def numel(input: Tensor) -> int:
    """The number of elements."""
    return math.prod(input._data.shape)


def is_contiguous(input: Tensor, memory_format: Any = None) -> bool:
    """Whether the elements lie in row-major order without gaps."""
    tracer = mode.tracer
    if tracer is not None:
        return bool(tracer.form(input).flags.c_contiguous)
    flags = getattr(input._data, "flags", None)
    return True if flags is None else bool(flags.c_contiguous)


def data_ptr(input: Tensor) -> int:
    """The address of the first element."""
    return int(read(input).__array_interface__["data"][0])


def storage_offset(input: Tensor) -> int:
    """Elements from the start of the memory it is a view of."""
    if input._view is None:
        return 0
    return (data_ptr(input) - data_ptr(input._view.base)) // element_size(input)


def element_size(input: Tensor) -> int:
    """Bytes per element."""
    return input.dtype.itemsize


def get_device(input: Tensor) -> int:
    """The number of its CUDA device: -1, as it is on the CPU."""
    return -1


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is a floating one."""
    return input.dtype.is_floating_point


def is_complex(input: Tensor) -> bool:
    """Whether the dtype is complex: never."""
    return False


def is_signed(input: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    return input.dtype.is_signed


def is_nonzero(input: Tensor) -> bool:
    """Whether the one element is nonzero."""
    return as_bool(input)


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one shape."""
    return bool(input._data.shape == other._data.shape)
