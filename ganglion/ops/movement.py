"""Casts, copies, and the views that all others are made of; writing through views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import IndexingError, ShapeError
from ganglion.ops import places, scalar, sweep
from ganglion.ops.record import OPS, Op, Saved
from ganglion.shapes import Meta, Shape, infer_size, normalize_dim, show, size_args

if TYPE_CHECKING:
    from ganglion.storage import Chain
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- casts and copies ---------------------------------------------------------------------------


def cast_array(x: Array, dtype: dt.dtype) -> Array:
    if dtype.category == dt.INTEGRAL and x.dtype.kind == "f":
        return _float_to_int(x, dtype)
    if dtype.name == "bfloat16" and x.dtype.itemsize > 4:
        return x.astype(np.float32).astype(dtype.numpy)
    return x.astype(dtype.numpy)


def _float_to_int(x: Array, dtype: dt.dtype) -> Array:
    """Truncate; NaN and what does not fit int64 become int64's minimum, as on x86."""
    fits = (x >= -(2.0**63)) & (x < 2.0**63)
    wide = np.where(fits, x, 0).astype(np.int64)
    return np.where(fits, wide, np.iinfo(np.int64).min).astype(dtype.numpy)


CAST = Op(
    "cast",
    "cast",
    cast_array,
    lambda x, dtype: Meta(x.shape, dtype),
    vjp=(lambda s, g: cast(g, dt.of_numpy(s.dtypes[0])),),
    in_float32=False,
    scalar=scalar.cast,
)


def cast(input: Tensor, dtype: dt.dtype) -> Tensor:
    """A copy of ``input`` in another dtype; floats are truncated to integers."""
    return CAST(input, dtype=dtype)  # type: ignore[no-any-return]


COPY = Op(
    "copy",
    "copy",
    lambda x: x.copy(),
    lambda x: x,
    vjp=(lambda s, g: g,),
    in_float32=False,
    scalar=lambda x: x,
)


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy through which gradients flow."""
    return COPY(input)  # type: ignore[no-any-return]


def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """``input`` itself if it is stored in row-major order, else a row-major copy."""
    return input if input.is_contiguous() else clone(input)


# --- views: the output shares the input's memory --------------------------------------------------


def view_op(name: str, kernel: Any, infer: Any, rule: Any, element: Any) -> Op:
    """A view, its gradient rule, and where its elements come from."""
    return Op(
        name, "view", kernel, infer, vjp=(rule,), view=True, in_float32=False, element=element
    )


def _view_array(x: Array, shape: Shape) -> Array:
    return x.reshape(shape) if x.flags.c_contiguous else x.reshape(shape, copy=False)


def _expand_array(x: Array, shape: Shape) -> Array:
    lead = len(shape) - x.ndim
    _check_expand(x.shape, shape)
    kept = zip(x.strides, x.shape, shape[lead:], strict=True)
    strides = (0,) * lead + tuple([0 if n == 1 != want else s for s, n, want in kept])
    return strided(x, shape, strides)


def strided(x: Array, shape: Shape, strides: Shape) -> Array:
    """The memory of ``x`` under other strides, in bytes."""
    if x.flags.forc and x.size:  # ten times faster, for arrays that can lend their buffer
        return np.ndarray(shape, x.dtype, x, 0, strides)
    return np.lib.stride_tricks.as_strided(x, shape, strides)


def _check_expand(given: Shape, shape: Shape) -> Shape:
    lead = len(shape) - len(given)
    if lead < 0 or any(n not in (1, w) for n, w in zip(given, shape[lead:], strict=True)):
        raise ShapeError(
            f"cannot expand a tensor of shape {show(given)} to {show(shape)}: only dimensions of "
            "size 1 (and new leading ones) can grow"
        )
    return shape


VIEW = view_op(
    "view",
    _view_array,
    lambda x, shape: Meta(infer_size(shape, x.numel), x.dtype),
    lambda s, g: reshape(g, s.shapes[0]),
    places.viewed,
)
PERMUTE: Op = view_op(
    "permute",
    lambda x, dims: x.transpose(dims),
    lambda x, dims: Meta(tuple(x.shape[d] for d in dims), x.dtype),
    lambda s, g: PERMUTE(g, dims=tuple(sorted(s["dims"], key=s["dims"].__getitem__))),
    places.permuted,
)
EXPAND = view_op(
    "expand",
    _expand_array,
    lambda x, shape: Meta(_check_expand(x.shape, shape), x.dtype),
    lambda s, g: g,  # the walk sums over the broadcast dimensions
    places.expanded,
)
ALIAS = Op(
    "alias",
    "view",
    lambda x: x[...],
    lambda x: x,
    view=True,
    in_float32=False,
    element=places.same,
)


def _view_dtype_meta(x: Meta, dtype: dt.dtype) -> Meta:
    if x.dtype.itemsize == dtype.itemsize:
        return Meta(x.shape, dtype)
    if not x.shape or x.shape[-1] * x.dtype.itemsize % dtype.itemsize:
        raise ShapeError(
            f"a view of {x} as {dtype.name} needs a last dimension whose bytes divide by "
            f"{dtype.itemsize}"
        )
    return Meta((*x.shape[:-1], x.shape[-1] * x.dtype.itemsize // dtype.itemsize), dtype)


VIEW_DTYPE = Op(
    "view_dtype",
    "view",
    lambda x, dtype: x.view(dtype.numpy),
    _view_dtype_meta,
    view=True,
    in_float32=False,
    element=places.read_as,
)


# --- slices: a basic index is a tuple of ints, slices and None ------------------------------------


def _infer_slice(x: Meta, key: tuple[Any, ...]) -> Meta:
    if len(key) - key.count(None) > x.ndim:
        raise IndexingError(f"too many indices for tensor of dimension {x.ndim}")
    shape: list[int] = []
    dim = 0
    for k in key:
        if k is None:
            shape.append(1)
            continue
        size = x.shape[dim]
        if isinstance(k, slice):
            shape.append(len(range(*k.indices(size))))
        elif not -size <= k < size:
            raise IndexingError(f"index {k} is out of bounds for dimension {dim} with size {size}")
        dim += 1
    return Meta((*shape, *x.shape[dim:]), x.dtype)


def _embed_array(x: Array, shape: Shape, key: tuple[Any, ...], fill: float) -> Array:
    out = np.full(shape, fill, x.dtype) if fill else np.zeros(shape, x.dtype)
    out[key] = x
    return out


SLICE = view_op(
    "slice",
    lambda x, key: x[(*key, ...)],  # the ellipsis keeps 0-d results arrays
    _infer_slice,
    lambda s, g: EMBED(g, shape=s.shapes[0], key=s["key"], fill=0),
    places.sliced,
)
# a constant of ``shape`` with the input at a basic index: a slice backwards, or padding
EMBED: Op = Op(
    "embed",
    "movement",
    _embed_array,
    lambda x, shape, key, fill: Meta(shape, x.dtype),
    vjp=(lambda s, g: SLICE(g, key=s["key"]),),
    in_float32=False,
    element=places.embedded,
)


def slice_dim(x: Tensor, dim: int, key: int | slice) -> Tensor:
    """A view of part of one dimension (counted from the front)."""
    return SLICE(x, key=(*(slice(None),) * dim, key))  # type: ignore[no-any-return]


# --- writing through a view -----------------------------------------------------------------------

PlainChain = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]


def plain_chain(chain: Chain) -> PlainChain:
    """A chain of views as plain values, fit for a parameter."""
    return tuple((op.name, tuple(params.items())) for op, params in chain)


def _follow(x: Array, chain: PlainChain, may_copy: bool = False) -> Array:
    for name, params in chain:
        if may_copy and name == VIEW.name:
            x = x.reshape(dict(params)["shape"])
        else:
            x = OPS[name].kernel(x, **dict(params))
    return x


def _write_view_array(base: Array, value: Array, chain: PlainChain) -> Array:
    out = base.copy()
    try:
        _follow(out, chain)[...] = value
    except ValueError:  # the chain reshapes in a way that needs the base's own strides
        positions = _follow(np.arange(base.size).reshape(base.shape), chain, may_copy=True)
        out.reshape(-1)[positions] = value
    return out


def _through(x: Tensor, chain: PlainChain) -> Tensor:
    x = contiguous(x)
    for name, params in chain:
        step = reshape if name == VIEW.name else OPS[name]
        x = step(x, **dict(params))
    return x


def _write_view_base(s: Saved, g: Tensor) -> Tensor:
    written = zeros_of(_through(g, s["chain"]))
    return WRITE_VIEW(g, written, chain=s["chain"])  # type: ignore[no-any-return]


WRITE_VIEW = Op(
    "write_view",
    "movement",
    _write_view_array,
    lambda base, value, chain: base,
    vjp=(_write_view_base, lambda s, g: _through(g, s["chain"])),
    in_float32=False,
    element=places.written,
    sweep=sweep.write_view,
)

ZEROS_OF = Op(
    "zeros_of",
    "movement",
    np.zeros_like,
    lambda x: x,
    in_float32=False,
    element=places.zeros,
)


def zeros_of(input: Tensor) -> Tensor:
    """Zeros like ``input``, without its history."""
    return ZEROS_OF(input)  # type: ignore[no-any-return]


# --- public functions -----------------------------------------------------------------------------


def view(input: Tensor, *shape: Any, dtype: dt.dtype | None = None) -> Tensor:
    """The same memory under another shape (one size may be -1), or read as another dtype."""
    if len(shape) == 1 and isinstance(shape[0], dt.dtype):
        dtype = shape[0]
    if dtype is not None:
        return VIEW_DTYPE(input, dtype=dtype)  # type: ignore[no-any-return]
    wanted = infer_size(size_args(shape), math.prod(input._data.shape))
    try:
        return VIEW(input, shape=wanted)  # type: ignore[no-any-return]
    except ShapeError:
        raise ShapeError(
            "view size is not compatible with input tensor's size and stride (at least one "
            "dimension spans across two contiguous subspaces). Use .reshape(...) instead."
        ) from None


def reshape(input: Tensor, *sizes: Any, shape: Sequence[int] | None = None) -> Tensor:
    """``input`` under another shape: a view where its strides allow, else a copy."""
    wanted = infer_size(size_args(sizes or (shape,)), math.prod(input._data.shape))
    if input.is_contiguous():
        return VIEW(input, shape=wanted)  # type: ignore[no-any-return]
    try:
        return VIEW(input, shape=wanted)  # type: ignore[no-any-return]
    except ShapeError:
        return VIEW(clone(input), shape=wanted)  # type: ignore[no-any-return]


def permute(input: Tensor, *order: Any, dims: Sequence[int] | None = None) -> Tensor:
    """Dimensions in the order ``dims``."""
    wanted = size_args(order or (dims,))
    found = tuple([normalize_dim(d, input.ndim) for d in wanted])
    if sorted(found) != list(range(input.ndim)):
        raise ShapeError(
            f"permute of a {input.ndim}-d tensor needs each dimension once, got {show(wanted)}"
        )
    return PERMUTE(input, dims=found)  # type: ignore[no-any-return]


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swap two dimensions."""
    order = list(range(input.ndim))
    a, b = normalize_dim(dim0, input.ndim), normalize_dim(dim1, input.ndim)
    if order:
        order[a], order[b] = order[b], order[a]
    return PERMUTE(input, dims=tuple(order))  # type: ignore[no-any-return]


def t(input: Tensor) -> Tensor:
    """The transpose of a tensor of at most two dimensions."""
    if input.ndim > 2:
        raise ShapeError(f"t() expects a tensor with <= 2 dimensions, but it has {input.ndim}")
    return PERMUTE(input, dims=tuple(reversed(range(input.ndim))))  # type: ignore[no-any-return]


def expand(input: Tensor, *sizes: Any, size: Sequence[int] | None = None) -> Tensor:
    """Dimensions of size 1 repeated without copying; -1 keeps a size."""
    wanted = size_args(sizes or (size,))
    given = input._data.shape
    lead = len(wanted) - len(given)
    if lead < 0 or -1 in wanted[:lead]:
        raise ShapeError(f"cannot expand shape {show(given)} to {show(wanted)}")
    if -1 in wanted:
        wanted = tuple([given[i - lead] if n == -1 else n for i, n in enumerate(wanted)])
    return EXPAND(input, shape=wanted)  # type: ignore[no-any-return]


def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without dimensions of size 1 (all, or those named)."""
    dims = range(input.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    drop = {normalize_dim(d, input.ndim) for d in dims}
    shape = tuple([n for i, n in enumerate(input._data.shape) if n != 1 or i not in drop])
    return VIEW(input, shape=shape)  # type: ignore[no-any-return]


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at ``dim``."""
    shape = input._data.shape
    at = normalize_dim(dim, len(shape) + 1)
    return VIEW(input, shape=(*shape[:at], 1, *shape[at:]))  # type: ignore[no-any-return]


def detach(input: Tensor) -> Tensor:
    """The same memory, without gradient history."""
    return ALIAS(input)  # type: ignore[no-any-return]
