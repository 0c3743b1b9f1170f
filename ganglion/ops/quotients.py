"""Quotients and remainders, rounded down or towards zero, in the language of ``ops/scalar.py``.

Integers divided by zero give something, but nothing that stops the program. Floats have exact
remainders, however large the quotient.
"""

from __future__ import annotations

import math

import ganglion.dtypes as dt
from ganglion.ops.scalar import (
    Scalar,
    absolute,
    bits,
    cast,
    const,
    copysign,
    eq,
    floor,
    fma,
    ne,
    rarely,
    rint,
    trunc,
    where,
)
from ganglion.ops.transcendental import FORMATS, in_double

# --- integers -------------------------------------------------------------------------------------


def _divided(x: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
    """Quotient towards zero and remainder; the processor never divides by 0 or -1."""
    if y.op == "const" and y.args[0] not in (0, -1):
        return x // y, x % y
    if not x.dtype.signed:
        safe = where(eq(y, 0), 1, y)
        return x // safe, x % safe
    minus = eq(y, -1)
    safe = where(eq(y, 0) | minus, 1, y)
    quotient = x // safe
    return where(minus, -quotient, quotient), x % safe


def _is_mixed(rest: Scalar, y: Scalar) -> Scalar:
    """Whether a remainder has the other sign than the divisor."""
    return ne(rest, 0) & ((rest < 0) ^ (y < 0))


# --- floats ---------------------------------------------------------------------------------------

_MANY = 2.0**51  # a quotient that may be wrong by more than one
_FORM = FORMATS[dt.float64]
_LIFT = 128  # powers of two by which small divisors are multiplied
_SQUARINGS = 6


def _small_remainder(a: Scalar, b: Scalar, quotient: Scalar) -> Scalar:
    rest = fma(-trunc(quotient), b, a)
    rest = where(rest < 0, rest + b, rest)
    return where(eq(b, math.inf), a, rest)


def _modulo(x: Scalar, m: Scalar) -> Scalar:
    """The remainder of at most ``m`` nearest to zero."""
    return where(x > m * 0.5, x - m, where(x < m * -0.5, x + m, x))


def _times_modulo(x: Scalar, y: Scalar, m: Scalar) -> Scalar:
    """``x * y`` modulo ``m`` below 2**53, all of them whole and the factors at most half of it."""
    product = x * y
    low = fma(x, y, -product)
    return _modulo(fma(-rint(product / m), m, product) + low, m)


def _power_modulo(n: Scalar, m: Scalar) -> Scalar:
    """``2 ** n`` modulo ``m``, by squaring."""
    found = bits(((n >> _SQUARINGS) + _FORM.bias) << _FORM.digits, dt.float64)
    for level in reversed(range(_SQUARINGS)):
        found = _times_modulo(found, found, m)
        found = where(ne(n & (1 << level), 0), _modulo(found + found, m), found)
    return found


def _large_remainder(a: Scalar, b: Scalar) -> Scalar:
    """Mantissas as whole numbers, and the powers of two between them modulo the divisor's."""
    small = b < 2.0**-_LIFT
    lifted = where(small, b * 2.0**_LIFT, b)
    above, below = bits(a, dt.int64), bits(lifted, dt.int64)
    exponent = (below >> _FORM.digits) - where(small, const(_LIFT, dt.int64), 0)
    x, m = _mantissa(above), _mantissa(below)
    power = _power_modulo((above >> _FORM.digits) - exponent, m)
    rest = _times_modulo(fma(-rint(x / m), m, x), power, m)
    return _shifted(where(rest < 0, rest + m, rest), exponent - (_FORM.bias + _FORM.digits))


def _mantissa(number: Scalar) -> Scalar:
    inside = number & ((1 << _FORM.digits) - 1)
    return bits(inside | (_FORM.bias + _FORM.digits) << _FORM.digits, dt.float64)


def _shifted(x: Scalar, n: Scalar) -> Scalar:
    """``x * 2 ** n`` in two steps."""
    half = n >> 1
    powers = (bits((k + _FORM.bias) << _FORM.digits, dt.float64) for k in (half, n - half))
    return x * next(powers) * next(powers)


def _float_remainder(x: Scalar, y: Scalar) -> Scalar:
    """Of float64, with the sign of ``x``; NaN of infinity and by zero."""
    a, b = absolute(x), absolute(y)
    quotient = a / b
    small = _small_remainder(a, b, quotient)
    found = rarely(quotient > _MANY, _large_remainder(a, b), small)
    found = where(eq(a, math.inf) | eq(b, 0), math.nan, found)
    return copysign(found, x)


def _down(x: Scalar, y: Scalar) -> Scalar:
    """The quotient of float64 rounded down, free of the rounding of ``x / y``."""
    rest = _float_remainder(x, y)
    quotient = (x - rest) / y
    quotient = where(_is_mixed(rest, y), quotient - 1, quotient)
    whole = floor(quotient)
    whole = where(quotient - whole > 0.5, whole + 1, whole)
    found = where(eq(whole, 0), copysign(whole, x / y), whole)
    return where(eq(y, 0), x / y, found)


# --- the four ops ---------------------------------------------------------------------------------


def floor_divide(x: Scalar, y: Scalar) -> Scalar:
    """``x / y`` rounded down."""
    if x.dtype.is_floating_point:
        return cast(_down(in_double(x), in_double(y)), x.dtype)
    quotient, rest = _divided(x, y)
    return where(_is_mixed(rest, y), quotient - 1, quotient) if x.dtype.signed else quotient


def trunc_divide(x: Scalar, y: Scalar) -> Scalar:
    """``x / y`` rounded towards zero."""
    return trunc(x / y) if x.dtype.is_floating_point else _divided(x, y)[0]


def fmod(x: Scalar, y: Scalar) -> Scalar:
    """The remainder with the sign of ``x``."""
    if x.dtype.is_floating_point:
        return cast(_float_remainder(in_double(x), in_double(y)), x.dtype)
    return _divided(x, y)[1]


def remainder(x: Scalar, y: Scalar) -> Scalar:
    """The remainder with the sign of ``y``."""
    rest = fmod(x, y)
    if not x.dtype.signed:
        return rest
    found = where(_is_mixed(rest, y), rest + y, rest)
    return where(eq(found, 0), copysign(found, y), found) if x.dtype.is_floating_point else found
