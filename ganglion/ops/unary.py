"""Functions of one variable: roots, exponentials, logarithms, trigonometry, rounding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import DTypeError
from ganglion.ops import scalar, transcendental, trigonometric
from ganglion.ops.elementwise import Array, of_one, unary
from ganglion.ops.movement import zeros_of
from ganglion.ops.record import Op, Saved, into
from ganglion.ops.scalar import Scalar

if TYPE_CHECKING:
    from ganglion.tensor import Tensor


def _no_slope(s: Saved, g: Tensor) -> Tensor:
    return zeros_of(g)


# --- sign and size --------------------------------------------------------------------------------


def _sign(x: Array) -> Any:
    above, below = np.greater(x, 0), np.less(x, 0)
    return np.subtract(above.view(np.int8), below.view(np.int8)).astype(x.dtype)


def _sign_scalar(x: Scalar) -> Scalar:
    if x.dtype is dt.bool_:
        return x
    below = scalar.where(x < 0, -1, scalar.const(0, x.dtype)) if x.dtype.signed else 0
    return scalar.where(x > 0, scalar.const(1, x.dtype), below)


def _of_signed(function: Any) -> Any:
    """A rule that leaves bools and unsigned integers as they are."""
    return lambda x: function(x) if x.dtype.signed else x


def _of_floats(function: Any) -> Any:
    """A rule that leaves integers as they are."""
    return lambda x: function(x) if x.dtype.is_floating_point else x


ABS = unary(
    "abs",
    np.abs,
    lambda s, g: g * s.x.sign(),
    "x",
    promote="none",
    scalar=_of_signed(scalar.absolute),
)
SIGN = unary("sign", _sign, _no_slope, promote="none", scalar=_sign_scalar)

abs = absolute = of_one(ABS, "``|input|``.")
sign = of_one(SIGN, "-1, 0 or 1; 0 for NaN.")
sgn = sign


def positive(input: Tensor) -> Tensor:
    """``input`` itself."""
    if input.dtype is dt.bool_:
        raise DTypeError("The `+` operator, on a bool tensor is not supported.")
    return input


# --- roots and powers -----------------------------------------------------------------------------


def _rsqrt(x: Array) -> Any:
    out = np.empty_like(x)
    np.sqrt(x, out=out)
    return np.reciprocal(out, out=out)


SQUARE = unary(
    "square",
    np.square,
    lambda s, g: g * s.x * 2,
    "x",
    promote="none",
    scalar=lambda x: x if x.dtype is dt.bool_ else x * x,
)
SQRT = unary("sqrt", np.sqrt, lambda s, g: g / (s.out * 2), "o", scalar=scalar.sqrt)
RSQRT = unary(
    "rsqrt", _rsqrt, lambda s, g: g * s.out**3 * -0.5, "o", scalar=lambda x: 1 / scalar.sqrt(x)
)
RECIPROCAL = unary(
    "reciprocal", np.reciprocal, lambda s, g: -g * s.out * s.out, "o", scalar=lambda x: 1 / x
)

square = of_one(SQUARE, "``input ** 2``.")
sqrt = of_one(SQRT, "The square root; NaN below 0.")
rsqrt = of_one(RSQRT, "``1 / sqrt(input)``.")
reciprocal = of_one(RECIPROCAL, "``1 / input``.")


# --- exponentials and logarithms ------------------------------------------------------------------

EXP = unary("exp", np.exp, lambda s, g: g * s.out, "o", scalar=transcendental.exp)
EXP2 = unary("exp2", np.exp2, lambda s, g: g * s.out * math.log(2), "o", scalar=transcendental.exp2)
EXPM1 = unary("expm1", np.expm1, lambda s, g: g * (s.out + 1), "o", scalar=transcendental.expm1)
LOG = unary("log", np.log, lambda s, g: g / s.x, "x", scalar=transcendental.log)
LOG2 = unary("log2", np.log2, lambda s, g: g / (s.x * math.log(2)), "x", scalar=transcendental.log2)
LOG10 = unary(
    "log10", np.log10, lambda s, g: g / (s.x * math.log(10)), "x", scalar=transcendental.log10
)
LOG1P = unary("log1p", np.log1p, lambda s, g: g / (s.x + 1), "x", scalar=transcendental.log1p)

exp = of_one(EXP, "``e ** input``.")
exp2 = of_one(EXP2, "``2 ** input``.")
expm1 = of_one(EXPM1, "``e ** input - 1``, accurate near 0.")
log = of_one(LOG, "The natural logarithm.")
log2 = of_one(LOG2, "The logarithm to base 2.")
log10 = of_one(LOG10, "The logarithm to base 10.")
log1p = of_one(LOG1P, "``log(1 + input)``, accurate near 0.")


# --- trigonometry ---------------------------------------------------------------------------------

SIN = unary("sin", np.sin, lambda s, g: g * s.x.cos(), "x", scalar=trigonometric.sin)
COS = unary("cos", np.cos, lambda s, g: -g * s.x.sin(), "x", scalar=trigonometric.cos)
TAN = unary("tan", np.tan, lambda s, g: g * (s.out * s.out + 1), "o", scalar=trigonometric.tan)
ASIN = unary(
    "asin", np.arcsin, lambda s, g: g * (1 - s.x * s.x).rsqrt(), "x", scalar=trigonometric.asin
)
ACOS = unary(
    "acos", np.arccos, lambda s, g: -g * (1 - s.x * s.x).rsqrt(), "x", scalar=trigonometric.acos
)
ATAN = unary("atan", np.arctan, lambda s, g: g / (s.x * s.x + 1), "x", scalar=trigonometric.atan)
SINH = unary("sinh", np.sinh, lambda s, g: g * s.x.cosh(), "x", scalar=transcendental.sinh)
COSH = unary("cosh", np.cosh, lambda s, g: g * s.x.sinh(), "x", scalar=transcendental.cosh)
ASINH = unary(
    "asinh", np.arcsinh, lambda s, g: g * (s.x * s.x + 1).rsqrt(), "x", scalar=transcendental.asinh
)
ACOSH = unary(
    "acosh", np.arccosh, lambda s, g: g * (s.x * s.x - 1).rsqrt(), "x", scalar=transcendental.acosh
)
ATANH = unary(
    "atanh", np.arctanh, lambda s, g: g / (1 - s.x * s.x), "x", scalar=transcendental.atanh
)

sin = of_one(SIN, "The sine of radians.")
cos = of_one(COS, "The cosine of radians.")
tan = of_one(TAN, "The tangent of radians.")
asin = arcsin = of_one(ASIN, "The angle in [-pi/2, pi/2] of a sine.")
acos = arccos = of_one(ACOS, "The angle in [0, pi] of a cosine.")
atan = arctan = of_one(ATAN, "The angle in [-pi/2, pi/2] of a tangent.")
sinh = of_one(SINH, "The hyperbolic sine.")
cosh = of_one(COSH, "The hyperbolic cosine.")
asinh = arcsinh = of_one(ASINH, "The inverse of ``sinh``.")
acosh = arccosh = of_one(ACOSH, "The inverse of ``cosh``; NaN below 1.")
atanh = arctanh = of_one(ATANH, "The inverse of ``tanh``; NaN outside [-1, 1].")


def deg2rad(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Degrees as radians."""
    return into(out, input * (math.pi / 180))


def rad2deg(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Radians as degrees."""
    return into(out, input * (180 / math.pi))


# --- rounding -------------------------------------------------------------------------------------


def _round(x: Array, decimals: int) -> Any:
    if x.dtype.kind != "f":
        return _rounded_integers(x, decimals)
    if decimals == 0:
        return np.rint(x)
    scale = x.dtype.type(10.0 ** np.abs(decimals))
    return np.rint(x * scale) / scale if decimals > 0 else np.rint(x / scale) * scale


def _rounded_integers(x: Array, decimals: int) -> Array:
    if decimals:
        raise DTypeError(
            f"round with decimals={decimals} is not implemented for {x.dtype.name}; "
            "it takes a floating dtype"
        )
    return x.copy()


def _round_scalar(x: Scalar, decimals: int) -> Scalar:
    if not x.dtype.is_floating_point:
        return x
    if decimals == 0:
        return scalar.rint(x)
    power = scalar.const(float(10.0 ** np.abs(decimals)), x.dtype)
    return scalar.rint(x * power) / power if decimals > 0 else scalar.rint(x / power) * power


def _frac(x: Array) -> Any:
    return x - np.trunc(x)


FLOOR = unary("floor", np.floor, _no_slope, promote="none", scalar=_of_floats(scalar.floor))
CEIL = unary("ceil", np.ceil, _no_slope, promote="none", scalar=_of_floats(scalar.ceil))
TRUNC = unary("trunc", np.trunc, _no_slope, promote="none", scalar=_of_floats(scalar.trunc))
FRAC = unary("frac", _frac, lambda s, g: g, scalar=lambda x: x - scalar.trunc(x))
ROUND = Op(
    "round",
    "elementwise",
    _round,
    lambda x, decimals: x,
    vjp=(_no_slope,),
    scalar=_round_scalar,
)

floor = of_one(FLOOR, "The largest integer not above.")
ceil = of_one(CEIL, "The smallest integer not below.")
trunc = of_one(TRUNC, "Rounded towards zero.")
fix = trunc
frac = of_one(FRAC, "What ``trunc`` leaves: ``input - trunc(input)``.")


def round(input: Tensor, *, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """The nearest multiple of ``10 ** -decimals``; halves go to the even one."""
    value = ROUND(input, decimals=decimals)
    return value if out is None else into(out, value)
