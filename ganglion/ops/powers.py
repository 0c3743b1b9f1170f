"""Powers and roots of sums of squares in the language of ``ops/scalar.py``."""

from __future__ import annotations

from collections.abc import Callable

import ganglion.dtypes as dt
from ganglion.ops.scalar import (
    Scalar,
    absolute,
    bits,
    cast,
    const,
    eq,
    floor,
    fma,
    maximum,
    ne,
    sqrt,
    trunc,
    where,
)
from ganglion.ops.transcendental import (
    EXP2,
    FORMATS,
    INF,
    NAN,
    exp2,
    horner,
    in_double,
    limited,
    log2,
    octaves,
    outside,
    times_power_of_2,
    whole_part,
)

# (log((1 + s) / (1 - s)) / s - 2 - 2/3 s^2) / s^4 / ln 2, of s^2; and 2 / ln 2 with its third
_LOG2_RATIO = (
    0.17282104621063268, 0.16845111219444986, 0.1924013395248469, 0.22195226998088854,
    0.26230819866231087, 0.32059889791275875, 0.4121985831113458, 0.5770780163555851,
)  # fmt: skip
_LOG2_FIRST = (2.8853900817779268, 4.0710547481862066e-17)
_LOG2_THIRD = (0.9617966939259756, 5.0577616648125907e-17)


def _log2_in_two(x: Scalar) -> tuple[Scalar, Scalar]:
    """``log2`` of positive float64 to some 64 bits, as the sum of two numbers."""
    count, f, _ = octaves(x)
    sum_ = f + 2
    lost = f - (sum_ - 2)
    s = f / sum_
    s_low = (fma(-s, sum_, f) - s * lost) / sum_
    z = s * s
    z_low = fma(s, s, -z) + 2 * s * s_low
    rest = z * horner(z, _LOG2_RATIO)
    third = rest + _LOG2_THIRD[0]
    third_low = (_LOG2_THIRD[0] - third) + rest + _LOG2_THIRD[1]
    square = z * third
    square_low = fma(z, third, -square) + z * third_low + z_low * third
    first = square + _LOG2_FIRST[0]
    first_low = (_LOG2_FIRST[0] - first) + square + (square_low + _LOG2_FIRST[1])
    high = s * first
    low = fma(s, first, -high) + s * first_low + s_low * first
    total = count + high
    return total, (count - total) + high + low


def _positive_power(x: Scalar, y: Scalar) -> Scalar:
    """``x ** y`` in float64 for positive ``x``, to the last bit but one."""
    high, low = _log2_in_two(x)
    high = outside(x, high)
    product = y * high
    far = absolute(product) > 1100
    product_low = where(far, 0.0, fma(y, high, -product) + y * low)
    product = limited(product, -1100.0, 1100.0)
    whole, integer = whole_part(product)
    power = horner(product - whole + product_low, EXP2[dt.float64])
    return times_power_of_2(power, whole, integer)


def _magnitude(x: Scalar, y: Scalar) -> Scalar:
    """``|x| ** y``."""
    size = absolute(x)
    if x.dtype is dt.float64:
        found = _positive_power(size, y)
    else:
        found = cast(exp2(log2(in_double(size)) * in_double(y)), x.dtype)
    return where(eq(size, 1) & eq(y, y), 1.0, found)


def _float_power(x: Scalar, y: Scalar) -> Scalar:
    """C's rules for signs, zeros, infinities and NaN."""
    found = _magnitude(x, y)
    half = y * 0.5
    is_whole = eq(trunc(y), y)
    is_odd = is_whole & ne(floor(half), half)
    negative = bits(x, FORMATS[x.dtype].integer) < 0
    found = where(negative & is_odd, -found, found)
    found = where((x < 0) & (x > -INF) & ~is_whole, NAN, found)
    return where(eq(x, 1) | eq(y, 0), 1.0, found)


def repeated(x: Scalar, n: int) -> Scalar:
    """``x * x * ...``, ``n`` times, by squaring."""
    found = None
    while n:
        if n & 1:
            found = x if found is None else found * x
        n >>= 1
        x = x * x if n else x
    return const(1, x.dtype) if found is None else found


def _integer_power(x: Scalar, y: Scalar) -> Scalar:
    """Wrapping around; below 0, what rounds to an integer: 1 or -1, else 0."""
    found, square, left = const(1, x.dtype), x, y
    for _ in range(8 * x.dtype.itemsize - x.dtype.signed):
        found = where(eq(left & 1, 1), found * square, found)
        square, left = square * square, left >> 1
    if not x.dtype.signed:
        return found
    sign = where(eq(y & 1, 1), x, 1)
    is_unit = eq(x, 1) | eq(x, -1)
    return where(y < 0, where(is_unit, sign, 0), found)


_INVERSES: dict[float, Callable[[Scalar], Scalar]] = {
    0.5: sqrt, -0.5: lambda x: 1 / sqrt(x), -1: lambda x: 1 / x, -2: lambda x: 1 / (x * x),
}  # fmt: skip
_MOST_FACTORS = 8  # of floats, so that rounding errors stay small


def power(x: Scalar, y: Scalar) -> Scalar:
    """``x ** y``; small constant exponents by multiplication."""
    exponent = float(y.args[0]) if y.op == "const" else NAN
    if not x.dtype.is_floating_point:
        return repeated(x, y.args[0]) if exponent >= 0 else _integer_power(x, y)
    if exponent in _INVERSES:
        return _INVERSES[exponent](x)
    if exponent in range(_MOST_FACTORS + 1):
        return repeated(x, int(exponent))
    return exp2(y) if x.op == "const" and x.args[0] == 2 else _float_power(x, y)


def hypot(x: Scalar, y: Scalar) -> Scalar:
    """``sqrt(x^2 + y^2)`` without overflow; infinite if either is, NaN or not."""
    if x.dtype is dt.float32:
        a, b = in_double(x), in_double(y)
        found = cast(sqrt(fma(a, a, b * b)), x.dtype)
    else:
        top = maximum(absolute(x), absolute(y))
        unit = where(top > 2.0**500, 2.0**-600, where(top < 2.0**-500, const(2.0**600, x.dtype), 1))
        a, b = x * unit, y * unit
        found = sqrt(fma(a, a, b * b)) / unit
    infinite = eq(absolute(x), INF) | eq(absolute(y), INF)
    return where(infinite, INF, found)
