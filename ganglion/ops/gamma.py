"""The logarithm of the gamma function and its derivatives, by recurrence and Stirling's series.

Abramowitz and Stegun 1964, 6.1.40, 6.3.18, 6.4.11 and 23.2.9 (Euler-Maclaurin).
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.errors import ArgumentError
from ganglion.ops.elementwise import Array, of_one, unary
from ganglion.ops.error_function import polynomial
from ganglion.ops.record import Op, into

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


POLYGAMMA: Op = unary(
    "polygamma", _in_double(_polygamma), lambda s, g: g * POLYGAMMA(s.x, n=s["n"] + 1), "x"
)
DIGAMMA = unary("digamma", _in_double(_digamma), lambda s, g: g * POLYGAMMA(s.x, n=1), "x")
LGAMMA = unary("lgamma", _in_double(_lgamma), lambda s, g: g * DIGAMMA(s.x), "x")

lgamma = of_one(LGAMMA, "The logarithm of ``|gamma(input)|``.")
digamma = of_one(DIGAMMA, "The derivative of ``lgamma``.")


def polygamma(n: int, input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The ``n``-th derivative of ``digamma``."""
    if n < 0:
        raise ArgumentError(f"polygamma(n, x) does not support negative n, got {n}")
    return into(out, POLYGAMMA(input, n=n))
