"""Sines, tangents and their inverses in the language of ``ops/scalar.py``.

Angles are reduced by multiples of pi/2 in three parts (Cody and Waite 1980); very large ones by
the digits of 2/pi that matter (Payne and Hanek 1983), so that every angle has its right sine.
Polynomials are fitted as those of ``ops/transcendental.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    ne,
    rarely,
    sqrt,
    where,
)
from ganglion.ops.transcendental import FORMATS, INF, polynomial, whole_part

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
_LIMB = 32
_LOW = (1 << _LIMB) - 1
# 2/pi, and the first word of zeros for angles that are not so large
_TWO_OVER_PI = int(
    "A2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561B7246E3A424DD2E0"
)
_WORDS = 38


class Angle(NamedTuple):
    """``x = quarters * pi / 2 + rest``; only the lowest two bits of ``quarters`` mean something."""

    rest: Scalar
    quarters: Scalar


def _reduced(x: Scalar) -> Angle:
    first, second, third = _HALF_PI[x.dtype]
    whole, integer = whole_part(x, 2 / math.pi)
    rest = fma(whole, -third, fma(whole, -second, fma(whole, -first, x)))
    large = absolute(x) > _LARGE[x.dtype]
    far = _reduced_large(x)
    return Angle(rarely(large, far.rest, rest), rarely(large, far.quarters, integer))
