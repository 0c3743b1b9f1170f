"""Exponentials, logarithms and hyperbolic functions in the language of ``ops/scalar.py``.

float32 and float64 are computed in themselves: the argument is reduced (Cody and Waite 1980),
then a polynomial does the rest. The coefficients were fitted here, by Remez exchange with weights
that make the relative error even; they are rounded one after another and the others fitted again.
Tables list the highest power first. NaN passes through all functions; denormal arguments and
results are right where the processor keeps them, and nothing relies on them.
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
    maximum,
    minimum,
    scale,
    sqrt,
    where,
)

INF, NAN = math.inf, math.nan
LOG2_E, LOG10_E, LOG_2 = 1 / math.log(2), 1 / math.log(10), math.log(2)


class Format(NamedTuple):
    """How a float is stored: an integer of the same width, its mantissa's bits, its bias."""

    integer: dt.dtype
    digits: int
    bias: int

    @property
    def magic(self) -> float:
        """Added to a small number, it leaves no room for a fraction."""
        return 1.5 * 2.0**self.digits

    @property
    def normal(self) -> float:
        """The least number that is not denormal."""
        return 2.0 ** (1 - self.bias)

    @property
    def tiny(self) -> float:
        """Below it, x + x^2 is x."""
        return 2.0 ** -(self.digits + 2)


FORMATS = {dt.float32: Format(dt.int32, 23, 127), dt.float64: Format(dt.int64, 52, 1023)}


def horner(x: Scalar, coefficients: Sequence[float]) -> Scalar:
    """Horner's rule, highest power first."""
    found = const(coefficients[0], x.dtype)
    for c in coefficients[1:]:
        found = fma(found, x, c)
    return found


def limited(x: Scalar, low: float, high: float) -> Scalar:
    """``x`` within bounds; NaN stays."""
    return maximum(minimum(x, high), low)


def in_double(x: Scalar) -> Scalar:
    """As float64."""
    return cast(x, dt.float64)


# --- exponentials ---------------------------------------------------------------------------------

# ln 2 in two parts, the first so short that its multiples are exact
_LN_2 = {
    dt.float32: (0.69317626953125, -2.9088971132296138e-05),
    dt.float64: (0.6931471805598903, 5.497923018708371e-14),
}
_EXP = {
    dt.float32: (
        0.0013838530285283923, 0.00836918130517006, 0.04166810214519501, 0.16666516661643982,
        0.4999999403953552, 1.0, 1.0,
    ),
    dt.float64: (
        2.504311942888665e-08, 2.763115506434881e-07, 2.7557447377166412e-06,
        2.4801490704659027e-05, 0.00019841269665702365, 0.0013888888945698165,
        0.00833333333341927, 0.041666666666523806, 0.16666666666666533, 0.5000000000000011, 1.0,
        1.0,
    ),
}  # fmt: skip
EXP2 = {
    dt.float32: (
        0.0001533765171188861, 0.001339136273600161, 0.009618482552468777, 0.055503588169813156,
        0.24022647738456726, 0.6931471824645996, 1.0,
    ),
    dt.float64: (
        4.067226530742563e-10, 7.072657216682261e-09, 1.0180728542182595e-07,
        1.3215442166719433e-06, 1.5252727159230494e-05, 0.00015403530442588577,
        0.0013333558153731007, 0.009618129107606208, 0.05550410866478871, 0.240226506959101,
        0.6931471805599457, 1.0,
    ),
}  # fmt: skip
_EXPM1 = {  # (e^r - 1 - r) / r^2
    dt.float32: (
        0.0013836735161021352, 0.008367106318473816, 0.04166775196790695, 0.16666539013385773,
        0.4999999701976776,
    ),
    dt.float64: (
        2.0897312629610996e-09, 2.5108655275248226e-08, 2.7557318230431895e-07,
        2.7557245193549664e-06, 2.4801587291739283e-05, 0.0001984126988535593,
        0.0013888888888888451, 0.008333333333321773, 0.04166666666666669, 0.16666666666666677,
        0.5,
    ),
}  # fmt: skip
_EXP_RANGE = {dt.float32: (-104.0, 88.8), dt.float64: (-746.0, 710.0)}
_EXP2_RANGE = {dt.float32: (-151.0, 129.0), dt.float64: (-1076.0, 1025.0)}
_EXPM1_RANGE = {dt.float32: (-18.0, 89.0), dt.float64: (-40.0, 710.0)}
_SINH_IS_INFINITE = {dt.float32: 89.6, dt.float64: 710.7}
_TANH_IS_1 = {dt.float32: 9.02, dt.float64: 19.1}


class Exponent(NamedTuple):
    """``x = whole * ln 2 + rest``; ``integer`` has the whole number in its low bits."""

    rest: Scalar
    whole: Scalar
    integer: Scalar


def whole_part(x: Scalar, per: float = 1.0) -> tuple[Scalar, Scalar]:
    """The whole number nearest to ``x * per``, as a float and in the low bits of an integer."""
    form = FORMATS[x.dtype]
    shifted = fma(x, per, form.magic) if per != 1 else x + form.magic
    return shifted - form.magic, bits(shifted, form.integer)


def _by_ln_2(x: Scalar) -> Exponent:
    high, low = _LN_2[x.dtype]
    whole, integer = whole_part(x, LOG2_E)
    return Exponent(fma(whole, -low, fma(whole, -high, x)), whole, integer)


def _power_of_2(n: Scalar, dtype: dt.dtype) -> Scalar:
    """``2 ** n``, a normal number, for the number in the low bits of an integer."""
    form = FORMATS[dtype]
    return bits((n + form.bias) << form.digits, dtype)


def times_power_of_2(x: Scalar, whole: Scalar, integer: Scalar) -> Scalar:
    """``x * 2 ** whole``, in two steps, for a power may be too large or small by itself."""
    half = lshr(integer, 1)
    product = x * _power_of_2(half, x.dtype) * _power_of_2(integer - half, x.dtype)
    return scale(x, whole, product)


def exp(x: Scalar) -> Scalar:
    """``e ** x``."""
    part = _by_ln_2(limited(x, *_EXP_RANGE[x.dtype]))
    return times_power_of_2(horner(part.rest, _EXP[x.dtype]), part.whole, part.integer)


def exp2(x: Scalar) -> Scalar:
    """``2 ** x``."""
    x = limited(x, *_EXP2_RANGE[x.dtype])
    whole, integer = whole_part(x)
    return times_power_of_2(horner(x - whole, EXP2[x.dtype]), whole, integer)


def _expm1_of_rest(r: Scalar) -> Scalar:
    return fma(horner(r, _EXPM1[r.dtype]), r * r, r)


def expm1_in_units(x: Scalar, shift: int) -> Scalar:
    """``(e ** x - 1) / 2 ** shift``; with a shift, nothing overflows before the result does."""
    part = _by_ln_2(x)
    power = _power_of_2(part.integer - shift if shift else part.integer, x.dtype)
    return fma(_expm1_of_rest(part.rest), power, power - 2.0**-shift)


def expm1(x: Scalar) -> Scalar:
    """``e ** x - 1``, accurate near 0."""
    found = expm1_in_units(limited(x, *_EXPM1_RANGE[x.dtype]), 1) * 2
    return where(absolute(x) < FORMATS[x.dtype].tiny, x, found)


def sigmoid(x: Scalar) -> Scalar:
    """``1 / (1 + e ** -x)``."""
    return 1 / (exp(-x) + 1)


def tanh(x: Scalar) -> Scalar:
    """The hyperbolic tangent."""
    size = minimum(absolute(x), _TANH_IS_1[x.dtype])
    grown = expm1_in_units(size + size, 0)
    return copysign(grown / (grown + 2), x)


def sinh(x: Scalar) -> Scalar:
    """The hyperbolic sine."""
    size = absolute(x)
    half = expm1_in_units(minimum(size, _SINH_IS_INFINITE[x.dtype]), 2) * 2
    few = minimum(half, 2.0 ** (2 * FORMATS[x.dtype].digits))
    found = copysign(half + few / (few + few + 1), x)
    return where(size < FORMATS[x.dtype].tiny, x, found)


def cosh(x: Scalar) -> Scalar:
    """The hyperbolic cosine."""
    part = _by_ln_2(minimum(absolute(x), _SINH_IS_INFINITE[x.dtype]))
    power = horner(part.rest, _EXP[x.dtype])
    half = times_power_of_2(power, part.whole - 1, part.integer - 1)
    return half + 0.25 / half


# --- logarithms -----------------------------------------------------------------------------------

_LOG1P = (  # (log(1 + f) - f + f^2 / 2) / f^3
    -0.07644747197628021, 0.12768462300300598, -0.13159731030464172, 0.14200839400291443,
    -0.1662331372499466, 0.20001262426376343, -0.250008225440979, 0.3333333134651184,
)  # fmt: skip
_LOG_RATIO = (  # (log((1 + s) / (1 - s)) / s - 2) / s^2, of s^2
    0.1479574913115786, 0.15314074417226411, 0.18183563208591433, 0.22222198599291787,
    0.28571428742071237, 0.39999999999416525, 0.6666666666666734,
)  # fmt: skip
_LOG2_E = {  # constants in two parts
    dt.float32: (1.4426950216293335, 1.925963033500011e-08),
    dt.float64: (1.4426950408889634, 2.0355273740931033e-17),
}
_LOG10_E = {
    dt.float32: (0.4342944920063019, -1.0103049952192578e-08),
    dt.float64: (0.4342944819032518, 1.098319650216765e-17),
}
_LOG10_2 = {  # the first part short, as for ln 2
    dt.float32: (0.301025390625, 4.605039066518657e-06),
    dt.float64: (0.30102999566395283, 2.8363394551044964e-14),
}
_ROOT_HALF = {dt.float32: 0x3F3504F3, dt.float64: 0x3FE6A09E667F3BCD}


class Octaves(NamedTuple):
    """``x = 2 ** number * (1 + f)``; also the biased exponent as an integer."""

    number: Scalar
    f: Scalar
    exponent: Scalar


def octaves(x: Scalar) -> Octaves:
    """A positive number as a power of 2 times a factor in [sqrt(1/2), sqrt(2))."""
    form, root = FORMATS[x.dtype], _ROOT_HALF[x.dtype]
    one = form.bias << form.digits
    denormal = x < form.normal
    number = bits(where(denormal, x * 2.0**form.digits, x), form.integer) + (one - root)
    exponent = lshr(number, form.digits)
    shifted = 2.0**form.digits
    as_float = bits(exponent | (form.bias + form.digits) << form.digits, x.dtype)
    none = where(denormal, const(shifted + form.bias + form.digits, x.dtype), shifted + form.bias)
    factor = bits((number & ((1 << form.digits) - 1)) + root, x.dtype)
    return Octaves(as_float - none, factor - 1, exponent)


def _beyond(f: Scalar) -> Scalar:
    """``log(1 + f) - f``."""
    if f.dtype is dt.float32:
        return f * f * fma(horner(f, _LOG1P), f, -0.5)
    s = f / (f + 2)
    z = s * s
    half = f * f * 0.5
    return fma(s, fma(horner(z, _LOG_RATIO), z, half), -half)


def outside(x: Scalar, found: Scalar) -> Scalar:
    """Logarithms of 0, infinity and negative numbers."""
    found = where(x < INF, found, x)
    return where(x > 0, found, where(eq(x, 0), const(-INF, x.dtype), NAN))


def _natural(count: Scalar, f: Scalar) -> Scalar:
    high, low = _LN_2[f.dtype]
    return fma(count, high, f + fma(count, low, _beyond(f)))


def log(x: Scalar) -> Scalar:
    """The natural logarithm."""
    count, f, _ = octaves(x)
    return outside(x, _natural(count, f))


def log2(x: Scalar) -> Scalar:
    """The logarithm to base 2."""
    count, f, _ = octaves(x)
    high, low = _LOG2_E[x.dtype]
    natural = f + _beyond(f)
    return outside(x, fma(natural, high, fma(natural, low, count)))


def log10(x: Scalar) -> Scalar:
    """The logarithm to base 10."""
    count, f, _ = octaves(x)
    (high, low), (octave, rest) = _LOG10_E[x.dtype], _LOG10_2[x.dtype]
    natural = f + _beyond(f)
    whole = fma(count, octave, fma(natural, low, count * rest))
    return outside(x, fma(natural, high, whole))


def log1p(x: Scalar) -> Scalar:
    """``log(1 + x)``, accurate near 0."""
    form = FORMATS[x.dtype]
    total = x + 1
    lost = x - (total - 1)  # by rounding the sum
    count, f, exponent = octaves(total)
    inverse = bits((2 * form.bias + 1 - exponent) << form.digits, x.dtype)  # 2 ** (1 - count)
    found = _natural(count, fma(lost * inverse, 0.5, f))
    return where(absolute(x) < form.tiny, x, outside(total, found))


def logaddexp(x: Scalar, y: Scalar) -> Scalar:
    """``log(e ** x + e ** y)``."""
    found = maximum(x, y) + log1p(exp(-absolute(x - y)))
    return where(eq(x, y), x + LOG_2, found)


def logaddexp2(x: Scalar, y: Scalar) -> Scalar:
    """``log2(2 ** x + 2 ** y)``."""
    found = maximum(x, y) + log1p(exp2(-absolute(x - y))) * LOG2_E
    return where(eq(x, y), x + 1, found)


def asinh(x: Scalar) -> Scalar:
    """The inverse of ``sinh``."""
    size = absolute(x)
    large = size > 2.0 ** (FORMATS[x.dtype].digits + 5)
    square = size * size
    near = log1p(where(large, size, size + square / (sqrt(square + 1) + 1)))
    return copysign(where(large, near + LOG_2, near), x)


def acosh(x: Scalar) -> Scalar:
    """The inverse of ``cosh``; NaN below 1."""
    above = x - 1
    large = x > 2.0 ** (FORMATS[x.dtype].digits + 5)
    near = log1p(where(large, above, above + sqrt(above * (above + 2))))
    return where(x < 1, NAN, where(large, near + LOG_2, near))


def atanh(x: Scalar) -> Scalar:
    """The inverse of ``tanh``; NaN outside [-1, 1]."""
    size = absolute(x)
    return copysign(log1p((size + size) / (1 - size)) * 0.5, x)
