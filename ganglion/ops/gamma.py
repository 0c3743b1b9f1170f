"""The logarithm of the gamma function and its derivatives, by recurrence and Stirling's series.

Abramowitz and Stegun 1964, 6.1.40, 6.3.18, 6.4.11 and 23.2.9 (Euler-Maclaurin).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.errors import ArgumentError
from ganglion.ops.elementwise import Array, of_one, unary
from ganglion.ops.error_function import polynomial
from ganglion.ops.powers import repeated
from ganglion.ops.record import Op, into
from ganglion.ops.scalar import Scalar, absolute, cast, const, eq, fma, rint, where
from ganglion.ops.transcendental import horner, in_double, log
from ganglion.ops.trigonometric import of_pi

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)  # B2, B4...
_LARGE = 10.0  # from here on the series are accurate
_AROUND = 0.25  # lgamma near its zeros 1 and 2 is a power series
_EULER = 0.57721566490153286


def _descending(terms: list[float]) -> list[float]:
    return terms[::-1]


_LGAMMA_SERIES = _descending([b / (2 * k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI, 1)])
_DIGAMMA_SERIES = _descending([b / (2 * k) for k, b in enumerate(_BERNOULLI, 1)])


def _in_double(kernel: Any) -> Any:
    """Compute in float64, whatever the dtype."""

    def wide(x: Array, **params: Any) -> Array:
        return np.asarray(kernel(x.astype(np.float64), **params)).astype(x.dtype)

    return wide


def _lgamma_positive(x: Array) -> Array:
    """Stirling's series after raising x to 10 or more; log of the product of what was passed."""
    passed = np.ones_like(x)
    for _ in range(int(_LARGE)):
        small = x < _LARGE
        passed = np.where(small, passed * x, passed)
        x = x + small
    series = polynomial(1 / (x * x), _LGAMMA_SERIES) / x
    return (x - 0.5) * np.log(x) - x + 0.5 * math.log(2 * math.pi) + series - np.log(passed)


@cache
def _lgamma_at_one() -> tuple[float, ...]:
    """Coefficients of lgamma(1 + e), highest power of e first."""
    terms = range(2, 28)
    zetas = _hurwitz(np.array(terms, float)[:, None], np.ones(1))[:, 0]
    powers = [(-1) ** k * float(z) / k for k, z in zip(terms, zetas, strict=True)]
    return (*reversed(powers), -_EULER, 0.0)


def _lgamma_near_zeros(x: Array) -> Array:
    e = np.where(x > 1.5, x - 2, x - 1)
    found = polynomial(e, _lgamma_at_one())
    return np.where(x > 1.5, found + np.log1p(e), found)


def _lgamma(x: Array) -> Array:
    reflected = x < 0.5
    y = np.where(reflected, 1 - x, x)
    near = (np.abs(y - 1) < _AROUND) | (np.abs(y - 2) < _AROUND)
    found = np.where(near, _lgamma_near_zeros(np.where(near, y, 1.0)), _lgamma_positive(y))
    found = np.where(np.isposinf(y), np.inf, found)
    if not np.any(reflected):
        return found
    sine = np.abs(np.sin(math.pi * (x - np.round(x))))
    mirrored = math.log(math.pi) - np.log(sine) - found
    return np.where(np.isneginf(x), np.inf, np.where(reflected, mirrored, found))


def _digamma(x: Array) -> Array:
    reflected = x < 0
    y = np.where(reflected, 1 - x, x)
    total = np.zeros_like(y)
    for _ in range(int(_LARGE)):
        small = y < _LARGE
        total = np.where(small, total - 1 / y, total)
        y = y + small
    inverse = 1 / (y * y)
    total = total + np.log(y) - 0.5 / y - inverse * polynomial(inverse, _DIGAMMA_SERIES)
    if not np.any(reflected):
        return total
    fraction = x - np.round(x)
    poles = np.where(fraction == 0, np.nan, math.pi / np.tan(math.pi * fraction))
    return np.where(reflected, total - poles, total)


def _hurwitz(s: Any, q: Array) -> Any:
    """``zeta(s, q)``, the sum of ``(q + k) ** -s``: the first terms, then Euler-Maclaurin."""
    total = np.zeros(np.broadcast(s, q).shape)
    while np.any(small := q < _LARGE):
        total = np.where(small, total + q**-s, total)
        q = q + small
    total = total + q ** (1 - s) / (s - 1) + 0.5 * q**-s
    factor = s * q ** (-s - 1) / 2
    for k, b in enumerate(_BERNOULLI, 1):
        total = total + b * factor
        rising = (s + 2 * k - 1) * (s + 2 * k)
        factor = factor * rising / ((2 * k + 1) * (2 * k + 2) * q * q)
    return total


def _polygamma(x: Array, n: int) -> Any:
    if n == 0:
        return _digamma(x)
    if n == 1:
        return _trigamma(x)
    pole = (x <= 0) & (x == np.floor(x))
    found = _hurwitz(float(n + 1), np.where(pole | ~np.isfinite(x), 1.0, x))
    found = np.where(pole, np.inf, np.where(np.isfinite(x), found, np.where(x > 0, 0.0, np.nan)))
    return (-1) ** (n + 1) * math.factorial(n) * found


def _trigamma(x: Array) -> Any:
    reflected = x < 0.5
    found = _hurwitz(2.0, np.where(np.isfinite(x), np.where(reflected, 1 - x, x), 1.0))
    found = np.where(np.isposinf(x), 0.0, np.where(np.isfinite(x), found, np.nan))
    sine = np.sin(math.pi * (x - np.round(x)))
    return np.where(reflected, (math.pi / sine) ** 2 - found, found)


# --- compiled -------------------------------------------------------------------------------------


_LGAMMA_NEAR_1 = (  # lgamma(1 + e) / e for |e| <= 1/2, fitted as in ops/transcendental.py
    0.20595438244946315, -0.22514757600246968, -0.12877957970001172, 0.15357399211629316,
    0.12519685404228015, -0.14548021523801785, 0.01992534359293836, -0.01430188506361612,
    0.055111682221866874, -0.0599054504477852, 0.054871285295128344, -0.05772728236178774,
    0.06256136478627147, -0.06678398959357805, 0.07142965845390378, -0.07692413192971606,
    0.08335392734360314, -0.09095442886228078, 0.10009945820926268, -0.11133425282541876,
    0.12550966940820305, -0.14404989701558985, 0.1695571770004027, -0.20738555102624515,
    0.27058080842775617, -0.4006856343865408, 0.8224670334241133, -0.5772156649015329,
)  # fmt: skip
_STIRLING = 8.5  # from here on Stirling's series


def _scalar_in_double(rule: Callable[..., Scalar]) -> Callable[..., Scalar]:
    def wide(x: Scalar, **params: Any) -> Scalar:
        return cast(rule(in_double(x), **params), x.dtype)

    return wide


def _lgamma_small(x: Scalar) -> Scalar:
    """From 1/2 to 8.5: in steps of one down to 1; the log of the product of what was passed."""
    passed = const(1, x.dtype)
    for _ in range(int(_STIRLING - 0.5)):
        above = x > 1.5
        x = where(above, x - 1, x)
        passed = where(above, passed * x, passed)
    e = x - 1
    return fma(horner(e, _LGAMMA_NEAR_1), e, log(passed))


def _lgamma_large(x: Scalar) -> Scalar:
    series = horner(1 / (x * x), _LGAMMA_SERIES) / x
    found = (x - 0.5) * log(x) - x + 0.5 * math.log(2 * math.pi) + series
    return where(eq(x, math.inf), x, found)


def _lgamma_scalar(x: Scalar) -> Scalar:
    """Below 1/2 by reflection."""
    reflected = x < 0.5
    y = where(reflected, 1 - x, x)
    found = where(y < _STIRLING, _lgamma_small(y), _lgamma_large(y))
    sine, _ = of_pi(x - rint(x))
    mirrored = math.log(math.pi) - log(absolute(sine)) - found
    return where(eq(x, -math.inf), math.inf, where(reflected, mirrored, found))


def _raised(
    x: Scalar, combine: Callable[[Scalar, Scalar], Scalar], start: float
) -> tuple[Scalar, Scalar]:
    """``x`` in steps of one to 10 or more, and what ``combine`` makes of the numbers passed."""
    found = const(start, x.dtype)
    for _ in range(int(_LARGE)):
        small = x < _LARGE
        found = where(small, combine(found, x), found)
        x = where(small, x + 1, x)
    return x, found


def _digamma_positive_scalar(x: Scalar) -> Scalar:
    x, total = _raised(x, lambda total, at: total - 1 / at, 0.0)
    inverse = 1 / (x * x)
    return total + log(x) - 0.5 / x - inverse * horner(inverse, _DIGAMMA_SERIES)


def _hurwitz_scalar(s: int, q: Scalar) -> Scalar:
    q, total = _raised(q, lambda total, at: total + 1 / repeated(at, s), 0.0)
    power = 1 / repeated(q, s)
    total = total + q * power / (s - 1) + power * 0.5
    factor = power * (s / 2) / q
    for k, b in enumerate(_BERNOULLI, 1):
        total = total + factor * b
        rising = (s + 2 * k - 1) * (s + 2 * k) / ((2 * k + 1) * (2 * k + 2))
        factor = factor * rising / (q * q)
    return where(eq(q, math.inf), 0.0, total)


@cache
def _cotangent_slopes(n: int) -> tuple[float, ...]:
    """The ``n``-th derivative of cot as a polynomial in cot, highest power first."""
    powers = [0, 1]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(powers)][1:]
        powers = [-a - b for a, b in zip([*slope, 0, 0], [0, 0, *slope], strict=True)]
    return tuple(float(c) for c in reversed(powers))


def _polygamma_scalar(x: Scalar, n: int) -> Scalar:
    """Below 0 by reflection (Abramowitz and Stegun 6.4.7)."""
    negative = x < 0
    y = where(negative, 1 - x, x)
    sine, cosine = of_pi(x - rint(x))
    slopes = horner(cosine / sine, _cotangent_slopes(n)) * math.pi ** (n + 1)
    if n == 0:
        found = _digamma_positive_scalar(y)
        mirrored = where(eq(rint(x), x), math.nan, found - slopes)
        return where(negative, mirrored, found)
    found = _hurwitz_scalar(n + 1, y) * math.factorial(n)
    sign = (-1.0) ** (n + 1)
    is_pole = eq(rint(x), x) & (x <= 0)
    if n == 1:  # as in PyTorch, minus infinity is none
        is_pole = is_pole & (x > -math.inf)
    return where(is_pole, sign * math.inf, where(negative, -slopes - found, found * sign))


# --- records --------------------------------------------------------------------------------------

POLYGAMMA: Op = unary(
    "polygamma",
    _in_double(_polygamma),
    lambda s, g: g * POLYGAMMA(s.x, n=s["n"] + 1),
    "x",
    scalar=_scalar_in_double(_polygamma_scalar),
)
DIGAMMA = unary(
    "digamma",
    _in_double(_digamma),
    lambda s, g: g * POLYGAMMA(s.x, n=1),
    "x",
    scalar=_scalar_in_double(lambda x: _polygamma_scalar(x, 0)),
)
LGAMMA = unary(
    "lgamma",
    _in_double(_lgamma),
    lambda s, g: g * DIGAMMA(s.x),
    "x",
    scalar=_scalar_in_double(_lgamma_scalar),
)

lgamma = of_one(LGAMMA, "The logarithm of ``|gamma(input)|``.")
digamma = of_one(DIGAMMA, "The derivative of ``lgamma``.")


def polygamma(n: int, input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The ``n``-th derivative of ``digamma``."""
    if n < 0:
        raise ArgumentError(f"polygamma(n, x) does not support negative n, got {n}")
    return into(out, POLYGAMMA(input, n=n))
