"""Running sums, products and extremes along a dimension."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import DTypeError, ShapeError
from ganglion.ops import places, sweep
from ganglion.ops.arithmetic import sub
from ganglion.ops.compare import eq, ne
from ganglion.ops.elementwise import Array
from ganglion.ops.join import cat
from ganglion.ops.movement import cast, clone, slice_dim
from ganglion.ops.pick import Pair, Picked, picked
from ganglion.ops.record import Op, Saved, into
from ganglion.ops.select import where
from ganglion.ops.unary import exp
from ganglion.shapes import Meta, normalize_dim

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Kernel = Callable[..., Array]


def along(kernel: Kernel) -> Kernel:
    """A kernel that works along ``dim``, made to take 0-d arrays too."""

    @functools.wraps(kernel)
    def run(x: Array, *others: Any, **params: Any) -> Array:
        if x.ndim:
            return kernel(x, *others, **params)
        lifted = (y[None] for y in (x, *others))
        return kernel(*lifted, **params)[0]  # type: ignore[no-any-return]

    return run


def same(x: Meta, *others: Meta, **params: Any) -> Meta:
    return x


def widened(d: dt.dtype) -> dt.dtype:
    """The dtype of sums and products: integers and bools are added up as int64."""
    return d if d.is_floating_point else dt.int64


def in_dtype(x: Tensor, dtype: dt.dtype | None) -> Tensor:
    """Serve ``dtype=``: ``x`` itself when it has that dtype or none is asked for."""
    if dtype is None or x.dtype is dt.as_dtype(dtype):
        return x
    return cast(x, dt.as_dtype(dtype))


# --- neighbours and recurrences: what the gradients of products are made of -----------------------


@along
def _shift_array(x: Array, dim: int, by: int, fill: float) -> Array:
    out = np.full_like(x, fill)
    to, source = np.moveaxis(out, dim, 0), np.moveaxis(x, dim, 0)
    if by > 0:
        to[by:] = source[:-by]
    else:
        to[:by] = source[-by:]
    return out


# elements moved ``by`` places towards the end; ``fill`` comes in where they left
SHIFT: Op = Op(
    "shift",
    "movement",
    _shift_array,
    same,
    vjp=(lambda s, g: SHIFT(g, dim=s["dim"], by=-s["by"], fill=0),),
    in_float32=False,
    element=places.shifted,
)


def _step(s: Saved) -> int:
    return -1 if s["reverse"] else 1


@along
def _linear_scan_array(a: Array, b: Array, dim: int, reverse: bool) -> Array:
    out = b.copy()
    y, a = np.moveaxis(out, dim, 0), np.moveaxis(a, dim, 0)
    if reverse:
        y, a = y[::-1], a[::-1]
    for i in range(1, len(y)):
        y[i] += a[i] * y[i - 1]
    return out


def _linear_scan_rule(s: Saved, g: Tensor) -> Sequence[Tensor]:
    a, dim, step = s.x, s["dim"], _step(s)
    after = SHIFT(a, dim=dim, by=-step, fill=0)
    to_b = LINEAR_SCAN(after, g, dim=dim, reverse=not s["reverse"])
    return to_b * SHIFT(s.out, dim=dim, by=step, fill=0), to_b


# y[i] = a[i] * y[i - 1] + b[i]; from the end, with y[i + 1], when ``reverse``
LINEAR_SCAN = Op(
    "linear_scan",
    "scan",
    _linear_scan_array,
    same,
    vjp=_linear_scan_rule,
    saves="xo",
    sweep=sweep.linear_scan,
)


# --- sums and products ----------------------------------------------------------------------------


@along
def _accumulate(x: Array, dim: int, reverse: bool, step: np.ufunc) -> Array:
    """``step`` over all elements up to each; in float64 or int64, as PyTorch does."""
    real = x.dtype.kind == "f"
    y = np.flip(x, dim) if reverse else x
    y = step.accumulate(y, axis=dim, dtype=np.float64 if real else np.int64)
    y = np.flip(y, dim) if reverse else y
    return y.astype(x.dtype if real else np.int64, copy=False)


def _running(
    name: str, step: np.ufunc, rule: Callable[[Saved, Tensor], Any], saves: str, meaning: Any
) -> Op:
    return Op(
        name,
        "scan",
        functools.partial(_accumulate, step=step),
        lambda x, dim, reverse: Meta(x.shape, widened(x.dtype)),
        vjp=(rule,),
        saves=saves,
        sweep=meaning,
    )


def _cumprod_rule(s: Saved, g: Tensor) -> Any:
    """What came before times a scan over what comes after: zeros are not divided by."""
    dim, step = s["dim"], _step(s)
    after = SHIFT(s.x, dim=dim, by=-step, fill=0)
    before = SHIFT(s.out, dim=dim, by=step, fill=1)
    return before * LINEAR_SCAN(after, g, dim=dim, reverse=not s["reverse"])


def _logcumsumexp_rule(s: Saved, g: Tensor) -> Any:
    """Sums of ``g * exp(x[i] - y[k])`` over k >= i, as a scan whose factors are at most 1."""
    dim, y, nothing = s["dim"], s.out, eq(s.out, -math.inf)
    after = SHIFT(y, dim=dim, by=-_step(s), fill=math.inf)
    decay = where(nothing, 0.0, exp(y - after))
    later = LINEAR_SCAN(decay, g, dim=dim, reverse=not s["reverse"])
    return where(nothing, 0.0, exp(s.x - y)) * later


CUMSUM: Op = _running(
    "cumsum",
    np.add,
    lambda s, g: CUMSUM(g, dim=s["dim"], reverse=not s["reverse"]),
    "",
    sweep.cumsum,
)
CUMPROD = _running("cumprod", np.multiply, _cumprod_rule, "xo", sweep.cumprod)
LOGCUMSUMEXP = _running("logcumsumexp", np.logaddexp, _logcumsumexp_rule, "xo", sweep.logcumsumexp)


def cumsum(
    input: Tensor, dim: int, *, dtype: dt.dtype | None = None, out: Tensor | None = None
) -> Tensor:
    """Sums of the elements up to each along ``dim``; integers are summed as int64."""
    found = CUMSUM(in_dtype(input, dtype), dim=normalize_dim(dim, input.ndim), reverse=False)
    return into(out, in_dtype(found, dtype))


def cumprod(
    input: Tensor, dim: int, *, dtype: dt.dtype | None = None, out: Tensor | None = None
) -> Tensor:
    """Products of the elements up to each along ``dim``; integers multiply as int64."""
    found = CUMPROD(in_dtype(input, dtype), dim=normalize_dim(dim, input.ndim), reverse=False)
    return into(out, in_dtype(found, dtype))


def logcumsumexp(input: Tensor, dim: int, *, out: Tensor | None = None) -> Tensor:
    """``log(cumsum(exp(input)))`` without overflow."""
    if not input.dtype.is_floating_point:
        raise DTypeError(f"logcumsumexp expects a floating dtype, got {input.dtype.name}")
    return into(out, LOGCUMSUMEXP(input, dim=normalize_dim(dim, input.ndim), reverse=False))


def product_of_others(x: Tensor, dim: int) -> Tensor:
    """For each element, the product of all others along ``dim``."""
    before = CUMPROD(SHIFT(x, dim=dim, by=1, fill=1), dim=dim, reverse=False)
    after = CUMPROD(SHIFT(x, dim=dim, by=-1, fill=1), dim=dim, reverse=True)
    return before * after  # type: ignore[no-any-return]


# --- extremes -------------------------------------------------------------------------------------


def _record_holders(name: str, extreme: np.ufunc, meaning: Any) -> Op:
    """Where the largest (or smallest) element so far stands: the last of equals, the last NaN."""

    @along
    def kernel(x: Array, dim: int) -> Array:
        rows = np.moveaxis(x, dim, -1)
        is_record = (rows == extreme.accumulate(rows, axis=-1)) | np.isnan(rows)
        found = np.where(is_record, np.arange(rows.shape[-1]), 0)
        return np.moveaxis(np.maximum.accumulate(found, axis=-1), -1, dim)

    return Op(name, "scan", kernel, lambda x, dim: Meta(x.shape, dt.int64), sweep=meaning)


CUMMAX = _record_holders("cummax", np.maximum, sweep.cummax)
CUMMIN = _record_holders("cummin", np.minimum, sweep.cummin)


def cummax(input: Tensor, dim: int, *, out: Pair | None = None) -> Picked:
    """The largest element up to each along ``dim``, and where it stands."""
    dim = normalize_dim(dim, input.ndim)
    return picked(input, dim, CUMMAX(input, dim=dim), out=out)


def cummin(input: Tensor, dim: int, *, out: Pair | None = None) -> Picked:
    """The smallest element up to each along ``dim``, and where it stands."""
    dim = normalize_dim(dim, input.ndim)
    return picked(input, dim, CUMMIN(input, dim=dim), out=out)


# --- differences ----------------------------------------------------------------------------------


def diff(
    input: Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """``input[i + 1] - input[i]`` along ``dim``, ``n`` times; for bools, whether they differ."""
    if not input.ndim:
        raise ShapeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise ShapeError(f"order must be non-negative but got {n}")
    dim = normalize_dim(dim, input.ndim)
    x = _joined(input, prepend, append, dim) if n else clone(input)
    minus = ne if x.dtype is dt.bool_ else sub
    for _ in range(n):
        x = minus(slice_dim(x, dim, slice(1, None)), slice_dim(x, dim, slice(-1)))
    return into(out, x)


def _joined(input: Tensor, prepend: Tensor | None, append: Tensor | None, dim: int) -> Tensor:
    pieces = [x for x in (prepend, input, append) if x is not None]
    return cat(pieces, dim) if len(pieces) > 1 else input
