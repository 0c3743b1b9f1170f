"""Ops that move or reinterpret elements without computing: views, copies, casts, joins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import ArgumentTypeError, IndexingError, ShapeError
from ganglion.ops.record import Op, Saved
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
)


def cast(input: Tensor, dtype: dt.dtype) -> Tensor:
    """A copy of ``input`` in another dtype; floats are truncated to integers."""
    return CAST(input, dtype=dtype)  # type: ignore[no-any-return]


COPY = Op(
    "copy", "copy", lambda x: x.copy(), lambda x: x, vjp=(lambda s, g: g,), in_float32=False
)  # fmt: skip


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy through which gradients flow."""
    return COPY(input)  # type: ignore[no-any-return]


def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """``input`` itself if it is stored in row-major order, else a row-major copy."""
    return input if input.is_contiguous() else clone(input)


# --- views: the output shares the input's memory --------------------------------------------------


def _view(name: str, kernel: Any, infer: Any, rule: Any) -> Op:
    return Op(name, "view", kernel, infer, vjp=(rule,), view=True, in_float32=False)


VIEW = _view(
    "view",
    lambda x, shape: np.reshape(x, shape, copy=False),
    lambda x, shape: Meta(infer_size(shape, x.numel), x.dtype),
    lambda s, g: reshape(g, s.shapes[0]),
)
PERMUTE = _view(
    "permute",
    lambda x, dims: np.transpose(x, dims),
    lambda x, dims: Meta(tuple(x.shape[d] for d in dims), x.dtype),
    lambda s, g: PERMUTE(g, dims=tuple(int(d) for d in np.argsort(s["dims"]))),
)
EXPAND = _view(
    "expand",
    lambda x, shape: np.lib.stride_tricks.as_strided(*_expanded(x, shape)),
    lambda x, shape: Meta(_check_expand(x.shape, shape), x.dtype),
    lambda s, g: g,  # the walk sums over the broadcast dimensions
)


def _expanded(x: Array, shape: Shape) -> tuple[Array, Shape, tuple[int, ...]]:
    lead = len(shape) - x.ndim
    _check_expand(x.shape, shape)
    kept = zip(x.strides, x.shape, shape[lead:], strict=True)
    return x, shape, (0,) * lead + tuple(0 if n == 1 != want else s for s, n, want in kept)


def _check_expand(given: Shape, shape: Shape) -> Shape:
    lead = len(shape) - len(given)
    if lead < 0 or any(n not in (1, w) for n, w in zip(given, shape[lead:], strict=True)):
        raise ShapeError(
            f"cannot expand a tensor of shape {show(given)} to {show(shape)}: only dimensions of "
            "size 1 (and new leading ones) can grow"
        )
    return shape


# a frozen basic index: ints, slices as ("s", start, stop, step), None
def _unfreeze(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(slice(*k[1:]) if isinstance(k, tuple) else k for k in key)


def _infer_slice(x: Meta, key: tuple[Any, ...]) -> Meta:
    found = np.broadcast_to(np.empty((), bool), x.shape)[_unfreeze(key)]
    return Meta(found.shape, x.dtype)


def _slice_array(x: Array, key: tuple[Any, ...]) -> Array:
    return x[(*_unfreeze(key), ...)]  # the ellipsis keeps 0-d results arrays


SLICE = _view("slice", _slice_array, _infer_slice, lambda s, g: embed(g, s.shapes[0], s["key"]))
ALIAS = Op("alias", "view", lambda x: x[...], lambda x: x, view=True, in_float32=False)


def _embed_array(x: Array, shape: Shape, key: tuple[Any, ...]) -> Array:
    out = np.zeros(shape, x.dtype)
    out[_unfreeze(key)] = x
    return out


EMBED = Op(
    "embed",
    "movement",
    _embed_array,
    lambda x, shape, key: Meta(shape, x.dtype),
    vjp=(lambda s, g: SLICE(g, key=s["key"]),),
    in_float32=False,
)


def embed(input: Tensor, shape: Shape, key: tuple[Any, ...]) -> Tensor:
    """Zeros of ``shape`` with ``input`` at a basic index: what slicing backwards needs."""
    return EMBED(input, shape=shape, key=key)  # type: ignore[no-any-return]


def apply_chain(x: Any, chain: Chain) -> Any:
    """Follow view ops from a base's array to a view's array."""
    for op, params in chain:
        x = op.kernel(x, **params)
    return x


def _write_view_array(base: Array, value: Array, chain: Chain) -> Array:
    out = base.copy()
    apply_chain(out, chain)[...] = value
    return out


def _write_view_base(s: Saved, g: Tensor) -> Tensor:
    written = _through(g, s["chain"])
    return WRITE_VIEW(g, zeros_of(written), chain=s["chain"])  # type: ignore[no-any-return]


def _through(x: Tensor, chain: Chain) -> Tensor:
    for op, params in chain:
        x = op(x, **params)
    return x


WRITE_VIEW = Op(
    "write_view",
    "movement",
    _write_view_array,
    lambda base, value, chain: base,
    vjp=(_write_view_base, lambda s, g: _through(g, s["chain"])),
    in_float32=False,
)

ZEROS_OF = Op("zeros_of", "movement", np.zeros_like, lambda x: x, vjp=(None,), in_float32=False)


def zeros_of(input: Tensor) -> Tensor:
    """Zeros like ``input``, without its history."""
    return ZEROS_OF(input)  # type: ignore[no-any-return]


# --- public functions -----------------------------------------------------------------------------


def view(input: Tensor, *shape: Any) -> Tensor:
    """The same memory under another shape (one size may be -1)."""
    wanted = infer_size(size_args(shape), input._data.size)
    try:
        return VIEW(input, shape=wanted)  # type: ignore[no-any-return]
    except ShapeError:
        raise ShapeError(
            "view size is not compatible with input tensor's size and stride (at least one "
            "dimension spans across two contiguous subspaces). Use .reshape(...) instead."
        ) from None


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """``input`` under another shape: a view where its strides allow, else a copy."""
    wanted = infer_size(size_args(shape), math.prod(input._data.shape))
    if input.is_contiguous():
        return VIEW(input, shape=wanted)  # type: ignore[no-any-return]
    try:
        return VIEW(input, shape=wanted)  # type: ignore[no-any-return]
    except ShapeError:
        return VIEW(clone(input), shape=wanted)  # type: ignore[no-any-return]


def permute(input: Tensor, *dims: Any) -> Tensor:
    """Dimensions in the order ``dims``."""
    order = tuple(normalize_dim(d, input.ndim) for d in size_args(dims))
    if sorted(order) != list(range(input.ndim)):
        raise ShapeError(
            f"permute of a {input.ndim}-d tensor needs each dimension once, got {show(dims)}"
        )
    return PERMUTE(input, dims=order)  # type: ignore[no-any-return]


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
    return input if input.ndim < 2 else PERMUTE(input, dims=(1, 0))


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Dimensions of size 1 repeated without copying; -1 keeps a size."""
    wanted = size_args(sizes)
    lead = len(wanted) - input.ndim
    if lead < 0 or -1 in wanted[:lead]:
        raise ShapeError(f"cannot expand shape {show(input.shape)} to {show(wanted)}")
    given = input._data.shape
    full = tuple(given[i - lead] if n == -1 else n for i, n in enumerate(wanted))
    return EXPAND(input, shape=full)  # type: ignore[no-any-return]


def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without dimensions of size 1 (all, or those named)."""
    dims = range(input.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    drop = {normalize_dim(d, input.ndim) for d in dims}
    shape = tuple(n for i, n in enumerate(input._data.shape) if n != 1 or i not in drop)
    return VIEW(input, shape=shape)  # type: ignore[no-any-return]


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at ``dim``."""
    at = normalize_dim(dim, input.ndim + 1)
    shape = input._data.shape
    return VIEW(input, shape=(*shape[:at], 1, *shape[at:]))  # type: ignore[no-any-return]


def detach(input: Tensor) -> Tensor:
    """The same memory, without gradient history."""
    return ALIAS(input)  # type: ignore[no-any-return]
