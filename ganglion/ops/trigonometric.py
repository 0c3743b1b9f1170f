"""Sines, tangents and their inverses in the language of ``ops/scalar.py``.

Angles are reduced by multiples of pi/2 in three parts (Cody and Waite 1980); very large ones by
the digits of 2/pi that matter (Payne and Hanek 1983), so that every angle has its right sine.
Polynomials are fitted as those of ``ops/transcendental.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import ganglion.dtypes as dt
from ganglion.ops.scalar import (
    Scalar,
    absolute,
    bits,
    cast,
    const,
    copysign,
    eq,
    fma,
    lshr,
    maximum,
    ne,
    rarely,
    rint,
    sqrt,
    where,
)
from ganglion.ops.transcendental import FORMATS, horner, whole_part

_SIN = {  # (sin r - r) / r^3, of r^2
    dt.float32: (-0.00019507882825564593, 0.008332106284797192, -0.16666653752326965),
    dt.float64: (
        1.589530362756054e-10, -2.505073235708364e-08, 2.7557313527190344e-06,
        -0.00019841269829332317, 0.00833333333332182, -0.1666666666666663,
    ),
}  # fmt: skip
_COS = {  # (cos r - 1 + r^2 / 2) / r^4, of r^2
    dt.float32: (2.4431876227026805e-05, -0.001388730714097619, 0.04166664555668831),
    dt.float64: (
        -1.1357336720022083e-11, 2.087567808489476e-09, -2.755731401512358e-07,
        2.4801587288295393e-05, -0.0013888888888872186, 0.04166666666666659,
    ),
}  # fmt: skip
_ATAN = {  # (atan x - x) / x^3, of x^2 up to 1
    dt.float32: (
        0.0029193612281233072, -0.016363011673092842, 0.04320453852415085, -0.07551651448011398,
        0.10665767639875412, -0.14211001992225647, 0.19993767142295837, -0.33333152532577515,
    ),
    dt.float64: (
        -2.024451457054849e-05, 0.00022289240934063068, -0.0011635187782455634,
        0.003854542960741128, -0.009182038275965245, 0.016974844603273406, -0.025823801115119123,
        0.03406569186484262, -0.04092524610146802, 0.04673903575858349, -0.05239219075657314,
        0.05877304699302966, -0.06665859889239652, 0.07692212883236449, -0.09090901232849016,
        0.11111110678725791, -0.14285714271338998, 0.19999999999755186, -0.3333333333333186,
    ),
}  # fmt: skip
_ASIN = {  # (asin x - x) / x^3, of x^2 up to 1/4
    dt.float32: (
        0.04216643050312996, 0.02418076992034912, 0.045469772070646286, 0.07495306432247162,
        0.16666752099990845,
    ),
    dt.float64: (
        0.03193450700566075, -0.0162560924271418, 0.019548153297420205, 0.006520863021227375,
        0.012170817961781105, 0.013884997080275656, 0.017359728203048177, 0.02237175654754068,
        0.030381959197193782, 0.04464285682693805, 0.07500000000338593, 0.16666666666665403,
    ),
}  # fmt: skip

_HALF_PI = {  # in parts; with float64 the products of the first two are exact
    dt.float32: (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    dt.float64: (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21),
}
_NEAREST_PI = {
    dt.float32: (3.1415927410125732, -8.742277657347586e-08),
    dt.float64: (math.pi, 1.2246467991473532e-16),
}


# --- reduction ------------------------------------------------------------------------------------

_LARGE = {dt.float32: 2.0**15, dt.float64: 2.0**20}
_TWO_OVER_PI = int(
    "A2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561B7246E3A424DD2E006492EEA09D1"
    "921CFE1DEB1CB129A73EE88235F52EBB4484E99C7026B45F7E413991D639835339F49C845F8BBDF9283B1FF897FF"
    "DE05980FEF2F118B5A0A6D1F6D367ECF27CB09B74F463F669E5FEA2D7527BAC7EBE5F17B3D0739F78A5292EA6BFB"
    "5FB11F8D5D0856033046FC7B6BAB",
    16,
)
_BITS = 1216  # of 2/pi behind the point
_LIMB = 28  # bits of a digit, so that sums of products of two fit 64
_MASK = (1 << _LIMB) - 1
_ZEROS = 2  # digits of 0 in front, for angles that are not so large
_KEPT = {dt.float32: 4, dt.float64: 7}  # digits that make a difference


class Angle(NamedTuple):
    """``x = quarters * pi / 2 + rest``; only the lowest two bits of ``quarters`` mean something."""

    rest: Scalar
    quarters: Scalar


def _reduced(x: Scalar) -> Angle:
    first, second, third = _HALF_PI[x.dtype]
    whole, integer = whole_part(x, 2 / math.pi)
    return Angle(fma(whole, -third, fma(whole, -second, fma(whole, -first, x))), integer)


def _of_angle(x: Scalar, function: Callable[[Angle], Scalar]) -> Scalar:
    large = absolute(x) > _LARGE[x.dtype]
    return rarely(large, function(_reduced_large(x)), function(_reduced(x)))


def _digit(number: int) -> int:
    """Digit ``number`` of 2/pi to base 2**28, zeros first."""
    behind = _BITS - (number - _ZEROS + 1) * _LIMB
    return _TWO_OVER_PI >> behind & _MASK if number >= _ZEROS and behind >= 0 else 0


def _reduced_large(x: Scalar) -> Angle:
    """Payne and Hanek: the mantissa times those digits of 2/pi that fractions come from."""
    form = FORMATS[x.dtype]
    number = cast(bits(absolute(x), form.integer), dt.int64)
    mantissa = number & ((1 << form.digits) - 1) | 1 << form.digits
    skipped = _ZEROS * _LIMB - form.bias - form.digits - 2
    place = maximum(lshr(number, form.digits) + skipped, 0)  # of the first bit that matters
    digits = _window(place, form.bias + 1 + form.bias + skipped, _KEPT[x.dtype])
    return _as_angle(x, _product(digits, mantissa))


def _window(place: Scalar, last: int, count: int) -> list[Scalar]:
    """``count`` digits of 2/pi from bit ``place`` on, which is at most ``last``."""
    skip = place * 2341 >> 16  # whole digits: place // 28
    left = place - skip * _LIMB
    levels = (last // _LIMB).bit_length()
    found = [const(_digit(i), dt.int64) for i in range(count + (1 << levels))]
    for step in (1 << level for level in reversed(range(levels))):
        far = ne(skip & step, 0)
        pairs = zip(found, found[step : count + 2 * step], strict=False)
        found = [where(far, later, here) for here, later in pairs]
    return [lshr((a << _LIMB | b) << left, _LIMB) & _MASK for a, b in pairwise(found)]


def _product(digits: list[Scalar], mantissa: Scalar) -> list[Scalar]:
    """The lowest digits of a product, as many as there are in the first factor."""
    low, high = mantissa & _MASK, lshr(mantissa, _LIMB)
    found: list[Scalar] = []
    carry, before = const(0, dt.int64), const(0, dt.int64)
    for digit in reversed(digits):
        total = digit * low + before * high + carry
        found.insert(0, total & _MASK)
        carry, before = lshr(total, _LIMB), digit
    return found


def _as_angle(x: Scalar, digits: list[Scalar]) -> Angle:
    """The angle whose number of right angles, modulo 4, has these digits: 2 bits are whole."""
    top, *rest = digits[:5]
    point = _LIMB - 2
    quarters = top + (1 << point - 1) >> point
    upper = (top - (quarters << point) << _LIMB) + rest[0]
    lower = (rest[1] << _LIMB) + rest[2]
    carry = lower + (1 << 2 * _LIMB - 1) >> 2 * _LIMB
    lower = lower - (carry << 2 * _LIMB)
    fine = cast(lower, x.dtype) * 2.0 ** -(point + 3 * _LIMB)
    for digit in rest[3:]:
        fine = fma(cast(digit, x.dtype), 2.0 ** -(point + 4 * _LIMB), fine)
    turns = fma(cast(upper + carry, x.dtype), 2.0 ** -(point + _LIMB), fine)
    high, low = (part / 2 for part in _NEAREST_PI[x.dtype])
    angle = fma(turns, high, turns * low) + (x - x)  # NaN for infinity
    quarters = cast(quarters, FORMATS[x.dtype].integer)
    return Angle(where(x < 0, -angle, angle), where(x < 0, -quarters, quarters))


# --- sines ----------------------------------------------------------------------------------------


def _sine(r: Scalar) -> Scalar:
    """The sine of at most 45 degrees."""
    z = r * r
    return fma(horner(z, _SIN[r.dtype]), z * r, r)


def _cosine(r: Scalar) -> Scalar:
    """The cosine of at most 45 degrees."""
    z = r * r
    return fma(horner(z, _COS[r.dtype]), z * z, fma(z, -0.5, const(1, r.dtype)))


def _turned(angle: Angle, quarters: int) -> Scalar:
    """The sine of an angle and so many right angles."""
    at = angle.quarters + quarters if quarters else angle.quarters
    found = where(ne(at & 1, 0), _cosine(angle.rest), _sine(angle.rest))
    return where(ne(at & 2, 0), -found, found)


def sin(x: Scalar) -> Scalar:
    """The sine of radians."""
    found = _of_angle(x, lambda angle: _turned(angle, 0))
    return where(absolute(x) < FORMATS[x.dtype].tiny, x, found)


def cos(x: Scalar) -> Scalar:
    """The cosine of radians."""
    return _of_angle(x, lambda angle: _turned(angle, 1))


def _slope(angle: Angle) -> Scalar:
    sine, cosine = _sine(angle.rest), _cosine(angle.rest)
    odd = ne(angle.quarters & 1, 0)
    return where(odd, -cosine, sine) / where(odd, sine, cosine)


def tan(x: Scalar) -> Scalar:
    """The tangent of radians."""
    return where(absolute(x) < FORMATS[x.dtype].tiny, x, _of_angle(x, _slope))


def of_pi(x: Scalar) -> tuple[Scalar, Scalar]:
    """``sin(pi x)`` and ``cos(pi x)`` of at most 1/2, exact where they are 0 or 1."""
    whole, integer = whole_part(x, 2)
    angle = Angle(fma(whole, -0.5, x) * math.pi, integer)
    return _turned(angle, 0), _turned(angle, 1)


def sinc(x: Scalar) -> Scalar:
    """``sin(pi x) / (pi x)``; 1 at 0."""
    whole = rint(x)
    sine, _ = of_pi(x - whole)
    odd = ne(rint(whole * 0.5) * 2, whole)
    return where(eq(x, 0), 1.0, where(odd, -sine, sine) / (x * math.pi))


# --- inverses -------------------------------------------------------------------------------------


def _odd(x: Scalar, coefficients: Sequence[float]) -> Scalar:
    """``x + x^3 p(x^2)``."""
    z = x * x
    return fma(horner(z, coefficients), z * x, x)


def atan(x: Scalar) -> Scalar:
    """The angle in [-pi/2, pi/2] of a tangent."""
    size = absolute(x)
    steep = size > 1
    angle = _odd(where(steep, 1 / size, size), _ATAN[x.dtype])
    return copysign(where(steep, _right_angle(x.dtype, -angle), angle), x)


def _right_angle(dtype: dt.dtype, plus: Scalar) -> Scalar:
    high, low = _NEAREST_PI[dtype]
    return plus + low / 2 + high / 2


def atan2(y: Scalar, x: Scalar) -> Scalar:
    """The angle of the point (x, y), in [-pi, pi]."""
    across, up = absolute(x), absolute(y)
    steep = up > across
    longer, shorter = where(steep, up, across), where(steep, across, up)
    slope = shorter / where(eq(longer, 0), 1.0, longer)
    slope = where(eq(shorter, longer) & ne(longer, 0), 1.0, slope)  # infinities too
    angle = _odd(slope, _ATAN[x.dtype])
    angle = where(steep, _right_angle(x.dtype, -angle), angle)
    high, low = _NEAREST_PI[x.dtype]
    behind = bits(x, FORMATS[x.dtype].integer) < 0
    return copysign(where(behind, low - angle + high, angle), y)


def _small_or_mirrored(size: Scalar) -> tuple[Scalar, Scalar]:
    """Whether a sine is above 1/2, and the angle of it, or then half of the one left to 90."""
    steep = size > 0.5
    return steep, _odd(where(steep, sqrt((1 - size) * 0.5), size), _ASIN[size.dtype])


def asin(x: Scalar) -> Scalar:
    """The angle in [-pi/2, pi/2] of a sine; NaN outside [-1, 1]."""
    steep, angle = _small_or_mirrored(absolute(x))
    return copysign(where(steep, _right_angle(x.dtype, angle * -2), angle), x)


def acos(x: Scalar) -> Scalar:
    """The angle in [0, pi] of a cosine; NaN outside [-1, 1]."""
    steep, angle = _small_or_mirrored(absolute(x))
    high, low = _NEAREST_PI[x.dtype]
    double = angle + angle
    near_ends = where(x < 0, low - double + high, double)
    return where(steep, near_ends, _right_angle(x.dtype, -copysign(angle, x)))
