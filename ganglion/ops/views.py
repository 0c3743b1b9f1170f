"""Views beyond the basic ones: windows, strides, and functions that give another shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.dispatch import mode, read
from ganglion.errors import AutogradError, ShapeError
from ganglion.ops import places, sweep
from ganglion.ops.movement import (
    PERMUTE,
    contiguous,
    detach,
    expand,
    reshape,
    squeeze,
    strided,
    t,
    transpose,
    unsqueeze,
    view,
    view_op,
)
from ganglion.ops.record import Op
from ganglion.shapes import (
    Meta,
    Shape,
    broadcast_shapes,
    infer_size,
    normalize_dim,
    show,
    size_args,
)

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
Sizes = int | Sequence[int]


# --- windows --------------------------------------------------------------------------------------


def _windows_array(x: Array, dim: int, size: int, step: int) -> Array:
    shape = (*x.shape[:dim], (x.shape[dim] - size) // step + 1, *x.shape[dim + 1 :], size)
    strides = (*x.strides[:dim], x.strides[dim] * step, *x.strides[dim + 1 :], x.strides[dim])
    return strided(x, shape, strides)


def _infer_windows(x: Meta, dim: int, size: int, step: int) -> Meta:
    count = (x.shape[dim] - size) // step + 1
    return Meta((*x.shape[:dim], count, *x.shape[dim + 1 :], size), x.dtype)


def _add_windows_array(x: Array, shape: Shape, dim: int, size: int, step: int) -> Array:
    out = np.zeros(shape, x.dtype)
    span = (x.shape[dim] - 1) * step + 1
    for i in range(size):
        out[(*(slice(None),) * dim, slice(i, i + span, step))] += x[..., i]
    return out


WINDOWS = view_op(
    "windows",
    _windows_array,
    _infer_windows,
    lambda s, g: ADD_WINDOWS(g, shape=s.shapes[0], **s.params),
    places.windowed,
)
ADD_WINDOWS: Op = Op(
    "add_windows",
    "movement",
    _add_windows_array,
    lambda x, shape, dim, size, step: Meta(shape, x.dtype),
    vjp=(lambda s, g: WINDOWS(g, dim=s["dim"], size=s["size"], step=s["step"]),),
    element=places.summed_windows,
)


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """A view of every window of ``size`` along a dimension, ``step`` apart, as last dimension."""
    dim = normalize_dim(dimension, input.ndim)
    length = input._data.shape[dim] if input.ndim else 1
    if not 0 <= size <= length:
        raise ShapeError(
            f"maximum size for tensor at dimension {dim} is {length} but size is {size}"
        )
    if step <= 0:
        raise ShapeError(f"step is {step} but must be > 0")
    source = input if input.ndim else reshape(input, 1)
    found = WINDOWS(source, dim=dim, size=size, step=step)
    return found if input.ndim else found[0]  # type: ignore[no-any-return]


# --- any strides ----------------------------------------------------------------------------------


def _as_strided_array(x: Array, size: Shape, stride: Shape, offset: int) -> Array:
    if 0 in size:
        return np.empty(size, x.dtype)
    n = x.itemsize
    return np.ndarray(size, x.dtype, x, offset * n, tuple([s * n for s in stride]))


def _infer_as_strided(x: Meta, size: Shape, stride: Shape, offset: int) -> Meta:
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if 0 not in size and last >= x.numel:
        raise ShapeError(
            f"setStorage: sizes {show(size)}, strides {show(stride)}, storage offset {offset} "
            f"reach element {last} of a storage of {x.numel}"
        )
    return Meta(size, x.dtype)


def _add_strided_array(x: Array, shape: Shape, size: Shape, stride: Shape, offset: int) -> Array:
    out = np.zeros(math.prod(shape), x.dtype)
    positions = _as_strided_array(np.arange(out.size), size, stride, offset)
    np.add.at(out, positions.reshape(-1), x.reshape(-1))
    return out.reshape(shape)


AS_STRIDED = view_op(
    "as_strided",
    _as_strided_array,
    _infer_as_strided,
    lambda s, g: ADD_STRIDED(g, shape=s.shapes[0], **s.params),
    places.strided,
)
ADD_STRIDED: Op = Op(
    "add_strided",
    "movement",
    _add_strided_array,
    lambda x, shape, size, stride, offset: Meta(shape, x.dtype),
    vjp=(
        lambda s, g: AS_STRIDED(
            contiguous(g), size=s["size"], stride=s["stride"], offset=s["offset"]
        ),
    ),
    sweep=sweep.add_strided,
)


def as_strided(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """A view of the storage with this size, strides and offset, counted in elements.

    The storage is that of the tensor which ``input`` is a view of; it must be row-major.
    """
    view = input._view
    base = input if view is None else view.base
    if not base.is_contiguous():
        raise ShapeError("as_strided needs a row-major storage; call contiguous() first")
    if len(size) != len(stride):
        raise ShapeError(f"mismatch in length of strides {show(stride)} and shape {show(size)}")
    if min((*stride, 0)) < 0:
        raise ShapeError(f"as_strided: Negative strides are not supported, got {show(stride)}")
    if storage_offset is None:
        storage_offset = _offset(input, base)
    if view is not None and view.origin is not base:
        base = detach(base)
    size, stride = size_args((size,)), size_args((stride,))
    return AS_STRIDED(base, size=size, stride=stride, offset=storage_offset)  # type: ignore[no-any-return]


def _offset(input: Tensor, base: Tensor) -> int:
    if input is base:
        return 0
    bytes_ = read(input).ctypes.data - read(base).ctypes.data
    return int(bytes_ // base._data.itemsize)


# --- shapes ---------------------------------------------------------------------------------------


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """The same memory under the shape of ``other``."""
    return view(input, other._data.shape)


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """``input`` under the shape of ``other``."""
    return reshape(input, other._data.shape)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions ``start_dim`` to ``end_dim`` (inclusive) merged into one."""
    shape = input._data.shape
    if not shape:
        return reshape(input, 1)
    start, end = normalize_dim(start_dim, len(shape)), normalize_dim(end_dim, len(shape))
    if start > end:
        raise ShapeError(
            "flatten() has invalid args: start_dim cannot come after end_dim, got "
            f"{start_dim} and {end_dim}"
        )
    if start == end:
        return input
    return reshape(input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension."""
    return reshape(input, -1) if input._data.shape != (0,) else input


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension split into several (one size may be -1)."""
    at = normalize_dim(dim, input.ndim)
    shape = input._data.shape
    if not sizes:
        raise ShapeError("unflatten: sizes must be non-empty")
    try:
        parts = infer_size(tuple(sizes), shape[at])
    except ShapeError:
        raise ShapeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {at} "
            f"({shape[at]}) in the input tensor"
        ) from None
    return view(input, (*shape[:at], *parts, *shape[at + 1 :]))


def movedim(input: Tensor, source: Sizes, destination: Sizes) -> Tensor:
    """Dimensions moved from ``source`` to ``destination``, the others in their order."""
    ndim = input.ndim
    sources = _dims(source, ndim, "source")
    targets = _dims(destination, ndim, "destination")
    if len(sources) != len(targets):
        raise ShapeError(
            "movedim: Invalid source or destination dims: source has "
            f"{len(sources)} dims, destination {len(targets)}"
        )
    order = [d for d in range(ndim) if d not in sources]
    for target, moved in sorted(zip(targets, sources, strict=True)):
        order.insert(target, moved)
    return PERMUTE(input, dims=tuple(order))  # type: ignore[no-any-return]


def _dims(dims: Sizes, ndim: int, name: str) -> list[int]:
    found = [normalize_dim(d, ndim) for d in ((dims,) if isinstance(dims, int) else dims)]
    if len(set(found)) != len(found):
        raise ShapeError(f"movedim: repeated dim in `{name}` ({dims})")
    return found if ndim else []


def reversed_dims(input: Tensor) -> Tensor:
    """``x.T``: the dimensions in reverse order."""
    return PERMUTE(input, dims=tuple(reversed(range(input.ndim))))  # type: ignore[no-any-return]


def matrix_transpose(input: Tensor) -> Tensor:
    """``x.mT``: the last two dimensions swapped."""
    if input.ndim < 2:
        raise ShapeError(
            "tensor.mT is only supported on matrices or batches of matrices, got a "
            f"{input.ndim}-d tensor"
        )
    return transpose(input, -2, -1)


# --- broadcasting ---------------------------------------------------------------------------------


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """``input`` expanded to the shape of ``other``."""
    return expand(input, other._data.shape)


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """``input`` expanded to ``size``."""
    return expand(input, size)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All tensors expanded to the shape they broadcast to."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    shape = broadcast_shapes(*[x._data.shape for x in tensors])
    return tuple(x if x._data.shape == shape else expand(x, shape) for x in tensors)


def _at_least(ndim: int, place: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def one(x: Tensor) -> Tensor:
        return place(x) if x.ndim < ndim else x

    def function(*tensors: Any) -> Any:
        if len(tensors) == 1 and not isinstance(tensors[0], (list, tuple)):
            return one(tensors[0])
        given = tensors[0] if len(tensors) == 1 else tensors
        return tuple(map(one, given))

    function.__name__ = f"atleast_{ndim}d"
    function.__doc__ = f"Each tensor with dimensions of size 1 added until it has {ndim}."
    return function


def _to_3d(x: Tensor) -> Tensor:
    return unsqueeze(atleast_2d(x), -1)


atleast_1d = _at_least(1, lambda x: reshape(x, 1))
atleast_2d = _at_least(2, lambda x: reshape(x, (1, -1)) if x.ndim else reshape(x, (1, 1)))
atleast_3d = _at_least(3, _to_3d)


# --- in place: the tensor itself gets another shape -----------------------------------------------


def _reshaping(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self._leaf and mode.grad:
            raise AutogradError(
                "a leaf Variable that requires grad is being used in an in-place operation. "
                f"Use the out-of-place form, {function.__name__}()."
            )
        found = function(self, *args, **kwargs)
        self._data, self._edge = found._data, found._edge
        if self._view is not None:
            self._view = found._view
        return self

    method.__name__ = f"{function.__name__}_"
    method.__doc__ = f"``{function.__name__}`` in place: the same memory, seen in another shape."
    return method


squeeze_, unsqueeze_ = _reshaping(squeeze), _reshaping(unsqueeze)
transpose_, t_ = _reshaping(transpose), _reshaping(t)


def detach_(input: Tensor) -> Tensor:
    """Drop the history of ``input``, in place; views keep theirs and refuse."""
    if input._view is not None and input._view.origin is not None:
        raise AutogradError("Can't detach views in-place. Use detach() instead.")
    input._edge, input._leaf = None, False
    return input


def resize_(input: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Another shape in place: elements keep their row-major order, new ones are not set."""
    if input.requires_grad:
        raise AutogradError("cannot resize variables that require grad")
    shape = size_args(sizes)
    data = input._data
    if math.prod(shape) <= data.size and data.flags.c_contiguous:
        input._data = data.reshape(-1)[: math.prod(shape)].reshape(shape)
        return input
    made = np.empty(shape, data.dtype)
    kept = min(made.size, data.size)
    made.reshape(-1)[:kept] = data.reshape(-1)[:kept]
    input._data = made
    return input
