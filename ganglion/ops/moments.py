"""Variance, norms and log-sum-exp: reductions with a kernel of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from ganglion.ops.arithmetic import pow
from ganglion.ops.compare import eq, isfinite, ne
from ganglion.ops.elementwise import Array
from ganglion.ops.movement import cast, zeros_of
from ganglion.ops.record import Op, Saved, into
from ganglion.ops.reduce import (
    AMAX,
    AMIN,
    MEAN,
    SUM,
    Dims,
    count,
    each_element,
    grow,
    mean,
    smaller,
    total,
)
from ganglion.ops.scan import in_dtype
from ganglion.ops.select import where
from ganglion.ops.unary import abs, exp, log, sign, sqrt
from ganglion.shapes import Meta, Shape, normalize_dims, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Axes = tuple[int, ...]


# --- variance and standard deviation --------------------------------------------------------------


def _freedom(shape: Shape, dims: Axes, correction: float) -> float:
    return max(count(shape, dims) - correction, 0)


def _var_array(x: Array, dims: Axes, correction: float, keepdim: bool) -> Any:
    deviation = x - total(x, dims, keepdim=True) / count(x.shape, dims)
    np.square(deviation, out=deviation)
    return total(deviation, dims, keepdim) / _freedom(x.shape, dims, correction)


def _var_ops(x: Tensor, dims: Axes, correction: float, keepdim: bool) -> Any:
    deviation = x - MEAN(x, dims=dims, keepdim=True)
    squares = SUM(deviation * deviation, dims=dims, keepdim=keepdim)
    return squares / _freedom(x._data.shape, dims, correction)


def _var_rule(s: Saved, g: Tensor) -> Any:
    shape, dims = s.shapes[0], s["dims"]
    freedom = _freedom(shape, dims, s["correction"])
    deviation = s.x - MEAN(s.x, dims=dims, keepdim=True)
    return grow(g, shape, dims) * (deviation * (2 / freedom if freedom else math.inf))


def _std_rule(s: Saved, g: Tensor) -> Any:
    """Through the variance; a deviation of 0 passes no gradient."""
    return _var_rule(s, g / (2 * _or_inf(s.out)))


def _or_inf(x: Tensor) -> Any:
    """``x`` with inf for 0, so that dividing by it gives 0, in all orders."""
    return where(eq(x, 0), math.inf, x)


VAR = Op(
    "var",
    "reduce",
    _var_array,
    smaller,
    vjp=(_var_rule,),
    saves="x",
    decompose=_var_ops,
    flops=lambda x, **params: 4 * x.numel,
)
STD = Op(
    "std",
    "reduce",
    lambda x, **params: np.sqrt(_var_array(x, **params)),
    smaller,
    vjp=(_std_rule,),
    saves="xo",
    decompose=lambda x, **params: sqrt(_var_ops(x, **params)),
    flops=lambda x, **params: 4 * x.numel,
)


def _spread(
    op: Op, input: Tensor, dim: Any, unbiased: bool | None, keepdim: bool, correction: float | None
) -> Tensor:
    if not input.dtype.is_floating_point:
        raise DTypeError(
            f"std and var only support floating point dtypes, got {input.dtype.name}; convert the "
            "tensor first, e.g. with .float()"
        )
    if isinstance(dim, bool):  # PyTorch's older form: var(input, unbiased)
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise ArgumentTypeError("give either unbiased= or correction=, not both")
    if correction is None:
        correction = 0 if unbiased is False else 1
    dims = normalize_dims(dim, input.ndim)
    return op(input, dims=dims, correction=correction, keepdim=keepdim)  # type: ignore[no-any-return]


def var(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Variance over ``dim``: squared deviations from the mean, divided by ``n - correction``.

    ``correction`` is 1 unless given; ``unbiased=False`` means 0.
    """
    return into(out, _spread(VAR, input, dim, unbiased, keepdim, correction))


def std(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Standard deviation over ``dim``, the root of ``var``."""
    return into(out, _spread(STD, input, dim, unbiased, keepdim, correction))


def var_mean(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """``(var, mean)`` over ``dim``."""
    spread = _spread(VAR, input, dim, unbiased, keepdim, correction)
    return spread, mean(input, None if isinstance(dim, bool) else dim, keepdim)


def std_mean(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """``(std, mean)`` over ``dim``."""
    spread = _spread(STD, input, dim, unbiased, keepdim, correction)
    return spread, mean(input, None if isinstance(dim, bool) else dim, keepdim)


# --- log of a sum of exponentials -----------------------------------------------------------------


def _logsumexp_array(x: Array, dims: Axes, keepdim: bool) -> Any:
    top = np.maximum.reduce(x, axis=dims, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, x.dtype.type(0))
    found = np.log(total(np.exp(x - top), dims, keepdim=True)) + top
    return found if keepdim else np.squeeze(found, axis=dims)


def _logsumexp_ops(x: Tensor, dims: Axes, keepdim: bool) -> Any:
    if 0 in x._data.shape:  # nothing has no largest element to subtract
        return log(SUM(exp(x), dims=dims, keepdim=keepdim))
    top = AMAX(x, dims=dims, keepdim=True).detach()
    top = where(isfinite(top), top, 0.0)
    found = log(SUM(exp(x - top), dims=dims, keepdim=True)) + top
    return found if keepdim else found.squeeze(dims)


LOGSUMEXP = Op(
    "logsumexp",
    "reduce",
    _logsumexp_array,
    smaller,
    vjp=(
        lambda s, g: (
            grow(g, s.shapes[0], s["dims"]) * exp(s.x - grow(s.out, s.shapes[0], s["dims"]))
        ),
    ),
    saves="xo",
    promote="float",
    decompose=_logsumexp_ops,
    flops=lambda x, **params: 4 * x.numel,
)


def logsumexp(
    input: Tensor, dim: Dims, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """``log(sum(exp(input)))`` over ``dim`` without overflow."""
    return into(out, LOGSUMEXP(input, dims=normalize_dims(dim, input.ndim), keepdim=keepdim))


# --- norms ----------------------------------------------------------------------------------------


def _norm_array(x: Array, p: float, dims: Axes, keepdim: bool) -> Any:
    known = _NORM_ARRAYS.get(p)
    if known:
        return known(x, dims, keepdim)
    return total(np.abs(x) ** p, dims, keepdim) ** (1 / p)


_NORM_ARRAYS: Mapping[float, Callable[[Array, Axes, Any], Array]] = {
    0: lambda x, dims, keep: total((x != 0).astype(x.dtype), dims, keep),
    1: lambda x, dims, keep: total(np.abs(x), dims, keep),
    2: lambda x, dims, keep: np.sqrt(total(np.square(x), dims, keep)),
    math.inf: lambda x, dims, keep: np.maximum.reduce(np.abs(x), axis=dims, keepdims=keep),
    -math.inf: lambda x, dims, keep: np.minimum.reduce(np.abs(x), axis=dims, keepdims=keep),
}


def _norm_ops(x: Tensor, p: float, dims: Axes, keepdim: bool) -> Tensor:
    if math.isinf(p):
        return (AMAX if p > 0 else AMIN)(abs(x), dims=dims, keepdim=keepdim)  # type: ignore[no-any-return]
    if p == 0:
        return cast(SUM(ne(x, 0), dims=dims, keepdim=keepdim), x.dtype)
    powers = abs(x) if p == 1 else x * x if p == 2 else pow(abs(x), p)
    found = SUM(powers, dims=dims, keepdim=keepdim)
    return found if p == 1 else sqrt(found) if p == 2 else pow(found, 1 / p)


def _norm_rule(s: Saved, g: Tensor) -> Any:
    """PyTorch's gradients: 0 at 0, and shared by all elements that attain a maximum norm."""
    x, p, shape, dims = s.x, s["p"], s.shapes[0], s["dims"]
    norm = grow(s.out, shape, dims)
    if p == 0:
        return zeros_of(x)
    if p == 2:
        return x * grow(g / _or_inf(s.out), shape, dims)
    if math.isinf(p):
        tied = eq(abs(x), norm)
        share = g / SUM(tied, dims=dims, keepdim=s["keepdim"])
        return sign(x) * tied * grow(share, shape, dims)
    g = sign(x) * grow(g, shape, dims)
    return g if p == 1 else g * pow(where(eq(x, 0), 1.0, abs(x) / norm), p - 1)


def _infer_norm(x: Meta, p: float, dims: Axes, keepdim: bool) -> Meta:
    if math.isinf(p) and 0 in [x.shape[d] for d in dims]:
        raise ShapeError(
            f"linalg.vector_norm cannot compute the {p} norm on an empty tensor of shape "
            f"{show(x.shape)} because the operation does not have an identity"
        )
    return smaller(x, dims, keepdim)


VECTOR_NORM = Op(
    "vector_norm",
    "reduce",
    _norm_array,
    _infer_norm,
    vjp=(_norm_rule,),
    saves="xo",
    decompose=_norm_ops,
    flops=each_element,
)


def vector_norm(
    input: Tensor,
    ord: float = 2,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: dt.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """``sum(abs(input) ** ord) ** (1 / ord)`` over ``dim``; also for ``ord`` 0, inf and -inf."""
    if not input.dtype.is_floating_point:
        raise DTypeError(
            "linalg.vector_norm: Expected a floating point tensor as input. Got "
            f"{input.dtype.name}; convert it first, e.g. with .float()"
        )
    dims = normalize_dims(dim, input.ndim)
    found = VECTOR_NORM(in_dtype(input, dtype), p=float(ord), dims=dims, keepdim=keepdim)
    return into(out, found)


def norm(
    input: Tensor,
    p: float | str | None = "fro",
    dim: Dims = None,
    keepdim: bool = False,
    out: Tensor | None = None,
    dtype: dt.dtype | None = None,
) -> Tensor:
    """The ``p``-norm of the elements over ``dim``; ``'fro'`` is the 2-norm."""
    if isinstance(p, str) and p != "fro":
        raise ArgumentError(f"norm takes a number or 'fro' for p, got {p!r}")
    order = p if isinstance(p, (int, float)) else 2
    return vector_norm(input, order, dim, keepdim, dtype=dtype, out=out)
