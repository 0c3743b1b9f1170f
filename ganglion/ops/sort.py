"""Ordering: sort, topk and the elements at given ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import ArgumentError, DTypeError, ShapeError
from ganglion.ops.arithmetic import lerp
from ganglion.ops.compare import isnan, logical_not, lt
from ganglion.ops.elementwise import Array
from ganglion.ops.index import gather
from ganglion.ops.movement import cast, permute, reshape, slice_dim, zeros_of
from ganglion.ops.pick import Pair, Picked, check_not_empty, picked
from ganglion.ops.record import Op, into
from ganglion.ops.reduce import smaller, sum, tied_rule
from ganglion.ops.scan import along
from ganglion.ops.select import clamp, where
from ganglion.ops.unary import ceil, floor, round
from ganglion.shapes import Meta, Shape, normalize_dim, normalize_dims, reduced

if TYPE_CHECKING:
    from ganglion.tensor import Tensor


PACKED = 2048  # elements from which sorting packed keys is faster


# --- the order of elements ------------------------------------------------------------------------


def _keys(x: Array, descending: bool) -> Any:
    """Unsigned integers in the order of ``x``: -0.0 equals 0.0, NaN is largest."""
    if x.dtype.kind == "f":
        keys = _float_keys(x + 0.0)  # the sum turns -0.0 into 0.0
    elif x.dtype.kind == "i":
        keys = x.view(f"u{x.itemsize}") ^ (1 << 8 * x.itemsize - 1)
    else:
        keys = x.view(np.uint8)
    return ~keys if descending else keys


def _float_keys(x: Array) -> Any:
    """The bits of negative numbers are flipped, as they grow towards minus infinity."""
    top = 1 << 8 * x.itemsize - 1
    bits = x.view(f"i{x.itemsize}")
    keys = (bits ^ ((bits >> 8 * x.itemsize - 1) & (top - 1))).view(f"u{x.itemsize}") ^ top
    keys[np.isnan(x)] = 2 * top - 1
    return keys


def _first(keys: Array, k: int) -> Array:
    """Positions of the ``k`` smallest keys of each row, in order; equal keys keep theirs."""
    if keys.itemsize > 4 or keys.size < PACKED:
        return np.argsort(keys, axis=-1, kind="stable")[..., :k]
    packed = keys.astype(np.uint64) << 32  # a key and its position: no two are equal
    packed |= np.arange(keys.shape[-1], dtype=np.uint64)
    if 0 < k < keys.shape[-1]:
        packed = np.partition(packed, k - 1, axis=-1)[..., :k]
    packed.sort(axis=-1)
    return packed[..., :k].view(np.int64) & 0xFFFFFFFF


@along
def _order(x: Array, dim: int, k: int, descending: bool) -> Array:
    keys = _keys(np.moveaxis(x, dim, -1), descending)
    return np.moveaxis(_first(keys, k), -1, dim)


def _infer_order(x: Meta, dim: int, k: int, descending: bool) -> Meta:
    return Meta(_resized(x.shape, dim, k), dt.int64)


def _resized(shape: Shape, dim: int, size: int) -> Shape:
    return (*shape[:dim], size, *shape[dim + 1 :]) if shape else ()


# positions of the first ``k`` elements along ``dim`` in rising or falling order
ARGSORT = Op(
    "argsort",
    "sort",
    _order,
    _infer_order,
    flops=lambda x, **params: x.numel * max(x.numel, 1).bit_length(),
    runs="host",
)


def _size(x: Tensor, dim: int) -> int:
    return x._data.shape[dim] if x.ndim else 1


def argsort(
    input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False
) -> Tensor:
    """Positions that sort ``input`` along ``dim``; always stable, NaN is largest."""
    dim = normalize_dim(dim, input.ndim)
    return ARGSORT(input, dim=dim, k=_size(input, dim), descending=descending)  # type: ignore[no-any-return]


def sort(
    input: Tensor,
    dim: int = -1,
    descending: bool = False,
    *,
    stable: bool = False,
    out: Pair | None = None,
) -> Picked:
    """Sorted ``(values, indices)`` along ``dim``; always stable, NaN is largest."""
    dim = normalize_dim(dim, input.ndim)
    return picked(input, dim, argsort(input, dim, descending), out=out)


def msort(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``input`` sorted along its first dimension."""
    return into(out, sort(input, 0).values)


def topk(
    input: Tensor,
    k: int,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,
    *,
    out: Pair | None = None,
) -> Picked:
    """The ``k`` largest (or smallest) elements along ``dim``, always in order; NaN is largest."""
    dim = normalize_dim(dim, input.ndim)
    if not 0 <= k <= _size(input, dim):
        raise ShapeError(
            f"selected index k out of range: topk of k={k} along a dimension of size "
            f"{_size(input, dim)}"
        )
    return picked(input, dim, ARGSORT(input, dim=dim, k=k, descending=largest), out=out)


def kthvalue(
    input: Tensor, k: int, dim: int = -1, keepdim: bool = False, *, out: Pair | None = None
) -> Picked:
    """The ``k``-th smallest element along ``dim``, counted from 1; NaN is largest."""
    dim = normalize_dim(dim, input.ndim)
    if not 1 <= k <= _size(input, dim):
        raise ShapeError(
            f"kthvalue(): selected number k out of range for dimension {dim}: k={k}, and the size "
            f"is {_size(input, dim)}"
        )
    found = ARGSORT(input, dim=dim, k=k, descending=False)
    return picked(
        input, dim, slice_dim(found, dim, slice(k - 1, k)) if input.ndim else found, keepdim, out
    )


# --- median and mode ------------------------------------------------------------------------------


def _index_op(name: str, kernel: Any) -> Op:
    """An op that gives one position along ``dim``, the dimension kept."""
    return Op(
        name,
        "sort",
        along(kernel),
        lambda x, dim, **params: Meta(_resized(x.shape, dim, 1), dt.int64),
        runs="host",
    )


def _median_index(x: Array, dim: int, skip_nan: bool) -> Array:
    """The lower of the middle elements; the first NaN, if they count and there is one."""
    rows = np.moveaxis(x, dim, -1)
    order = _first(_keys(rows, descending=False), rows.shape[-1])
    return np.moveaxis(np.take_along_axis(order, _middle(rows, skip_nan), -1), -1, dim)


def _middle(rows: Array, skip_nan: bool) -> Any:
    """The rank of each row's median, NaNs being sorted last."""
    n = rows.shape[-1]
    valid = n - np.count_nonzero(np.isnan(rows), axis=-1, keepdims=True)
    if skip_nan:
        return np.maximum(valid - 1, 0) // 2
    return np.where(valid < n, valid, (n - 1) // 2)


def _mode_index(x: Array, dim: int) -> Array:
    """The last occurrence of the most frequent value, of the smallest such."""
    rows = np.moveaxis(x, dim, -1)
    order = _first(_keys(rows, descending=False), rows.shape[-1])
    ordered = np.take_along_axis(rows, order, -1)
    place = np.arange(rows.shape[-1])
    starts = np.insert(ordered[..., 1:] != ordered[..., :-1], 0, values=True, axis=-1)
    run = place - np.maximum.accumulate(np.where(starts, place, 0), axis=-1)
    end = np.argmax(run, axis=-1, keepdims=True)
    return np.moveaxis(np.take_along_axis(order, end, -1), -1, dim)


def _median_array(x: Array, dims: tuple[int, ...], keepdim: bool, skip_nan: bool) -> Array:
    flat = x.reshape(-1)
    if not flat.size:
        return np.array(np.nan, x.dtype)
    middle = int(_middle(flat, skip_nan)[0])
    return np.partition(flat, middle)[middle]  # type: ignore[no-any-return]


MEDIAN_INDEX = _index_op("median_index", _median_index)
MODE_INDEX = _index_op("mode_index", _mode_index)
MEDIAN = Op(
    "median",
    "sort",
    _median_array,
    lambda x, dims, keepdim, skip_nan: smaller(x, dims, keepdim),
    vjp=(tied_rule,),
    saves="xo",
    runs="host",
)


def _median(
    name: str, input: Tensor, dim: int | None, keepdim: bool, out: Any, skip_nan: bool
) -> Any:
    if dim is None:
        dims = tuple(range(input.ndim))
        return into(out, MEDIAN(input, dims=dims, keepdim=False, skip_nan=skip_nan))
    dim = normalize_dim(dim, input.ndim)
    check_not_empty(name, input._data.shape, dim)
    found = MEDIAN_INDEX(input, dim=dim, skip_nan=skip_nan)
    return picked(input, dim, found, keepdim, out)


def median(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Any = None) -> Any:
    """The lower median of all elements, or ``(values, indices)`` along ``dim``; NaN wins."""
    return _median("median", input, dim, keepdim, out, skip_nan=False)


def nanmedian(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Any = None
) -> Any:
    """``median`` of the elements that are not NaN."""
    return _median("nanmedian", input, dim, keepdim, out, skip_nan=True)


def mode(input: Tensor, dim: int = -1, keepdim: bool = False, *, out: Pair | None = None) -> Picked:
    """The most frequent element along ``dim``, the smallest of several, and its last position."""
    dim = normalize_dim(dim, input.ndim)
    check_not_empty("mode", input._data.shape, dim)
    return picked(input, dim, MODE_INDEX(input, dim=dim), keepdim, out)


# --- quantiles ------------------------------------------------------------------------------------

# rank of the quantile -> the two ranks between which to interpolate
_BETWEEN = {
    "linear": (floor, ceil),
    "lower": (floor, floor),
    "higher": (ceil, ceil),
    "nearest": (round, round),
    "midpoint": (floor, ceil),
}


def quantile(
    input: Tensor,
    q: float | Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
    out: Tensor | None = None,
) -> Tensor:
    """The ``q``-quantiles (0 <= q <= 1) over ``dim``; a 1-d ``q`` adds a leading dimension.

    ``interpolation``: linear, lower, higher, nearest or midpoint. NaN wins.
    """
    return into(out, _quantile("quantile", input, q, dim, keepdim, interpolation))


def nanquantile(
    input: Tensor,
    q: float | Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
    out: Tensor | None = None,
) -> Tensor:
    """``quantile`` of the elements that are not NaN."""
    return into(out, _quantile("nanquantile", input, q, dim, keepdim, interpolation))


def _quantile(
    name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str
) -> Tensor:
    _check_quantile(name, input, q, interpolation)
    dims = normalize_dims(dim, input.ndim)
    x = reshape(input, (-1,)) if dim is None or not input.ndim else input
    at = 0 if len(x._data.shape) == 1 else dims[0]
    rows = permute(x, *(i for i in range(x.ndim) if i != at), at)
    found = _between(sort(rows).values, q, interpolation, skip_nan=name == "nanquantile")
    found = permute(found, found.ndim - 1, *range(found.ndim - 1))
    lead = getattr(q, "shape", ())
    return reshape(found, (*lead, *reduced(input._data.shape, dims, keepdim)))


def _between(ordered: Tensor, q: Any, interpolation: str, skip_nan: bool) -> Tensor:
    """Quantiles of the sorted last dimension, one per entry of ``q``."""
    n = ordered._data.shape[-1]
    valid = sum(logical_not(isnan(ordered)), -1, keepdim=True)
    last = clamp(valid - 1, min=0) if skip_nan else n - 1
    rank = (zeros_of(slice_dim(ordered, ordered.ndim - 1, slice(1))) + q) * last
    if not skip_nan:
        rank = where(lt(valid, n), n - 1, rank)  # where NaNs are sorted to
    low, high = (edge(rank) for edge in _BETWEEN[interpolation])
    below = gather(ordered, -1, cast(low, dt.int64))
    above = gather(ordered, -1, cast(high, dt.int64))
    weight = 0.5 if interpolation == "midpoint" else rank - low
    return lerp(below, above, weight)


def _check_quantile(name: str, input: Tensor, q: Any, interpolation: str) -> None:
    if input.dtype not in (dt.float32, dt.float64):
        raise DTypeError(
            f"{name}() input tensor must be either float or double dtype, got {input.dtype.name}"
        )
    if not input._data.size:
        raise ShapeError(f"{name}() input tensor must be non-empty")
    if interpolation not in _BETWEEN:
        known = ", ".join(_BETWEEN)
        raise ArgumentError(f"{name}() interpolation must be one of {known}, got {interpolation!r}")
    if hasattr(q, "_data"):
        if q.ndim > 1 or q.dtype is not input.dtype:
            raise ShapeError(f"{name}() q must be a number or 1-d tensor of the input's dtype")
    elif not 0 <= q <= 1:
        raise ArgumentError(f"{name}() q must be in the range [0, 1] but got {q}")
