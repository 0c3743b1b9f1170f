"""The error function, its complement and its inverse, in NumPy alone.

float64 follows the rational Chebyshev approximations of Cody 1969 (Math. Comp. 23, 631-637);
float32 uses ``erf(x) = tanh(x p(x^2))`` with a polynomial fitted here, within 3e-7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ganglion.ops.elementwise import Array, of_one, unary

_SLOPE = 2 / math.sqrt(math.pi)  # of erf at 0
_ROOT_PI = 1 / math.sqrt(math.pi)

# Cody's coefficients, highest power first, numerator over denominator
_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
     3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
     2.84423683343917062e3),
)  # fmt: skip
_MIDDLE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
     2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
     1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
     1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3,
     1.23033935480374942e3),
)  # fmt: skip
_FAR = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
     1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1,
     6.05183413124413191e-2, 2.33520497626869185e-3),
)  # fmt: skip
_ODD = (
    1.4185260212017627e-07, -5.668482767910138e-06, 8.763737497030494e-05, -0.0006197847968322738,
    -0.00019183062766169758, 0.10276905570839215, 1.128379274316371,
)  # fmt: skip


def polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    """Horner's rule, highest power first."""
    out = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        np.multiply(out, x, out=out)
        np.add(out, c, out=out)
    return out


def _ratio(x: Array, pair: tuple[Sequence[float], Sequence[float]]) -> Any:
    return polynomial(x, pair[0]) / polynomial(x, pair[1])


def _exp_minus_square(y: Array) -> Any:
    """``exp(-y^2)``, squaring 4-bit fractions exactly so that large y keep their accuracy."""
    coarse = np.trunc(y * 16) / 16
    return np.exp(-coarse * coarse) * np.exp(-(y - coarse) * (y + coarse))


def _erfc_middle(y: Array) -> Any:
    return _exp_minus_square(y) * _ratio(y, _MIDDLE)


def _erfc_far(y: Array) -> Any:
    y = np.minimum(y, 30)  # erfc is 0 there already
    inverse = 1 / (y * y)
    tail = (_ROOT_PI - inverse * _ratio(inverse, _FAR)) / y
    return _exp_minus_square(y) * tail


def _erf_near(x: Array) -> Any:
    return x * _ratio(x * x, _NEAR)


def _pieces(x: Array) -> tuple[Array, Array, Array]:
    """Erf where |x| is small, and erfc(|x|) elsewhere, with the mask of the small ones."""
    x = np.atleast_1d(x)
    y = np.abs(x)
    near, far = y <= 0.46875, y > 4
    middle = ~(near | far)  # NaN stands here
    out = np.empty_like(y)
    out[near] = _erf_near(x[near])
    out[middle] = _erfc_middle(y[middle])
    out[far] = _erfc_far(y[far])
    return x, out, near


def _erf_double(x: Array) -> Array:
    x1, out, near = _pieces(x)
    return np.where(near, out, np.copysign(1 - out, x1)).reshape(x.shape)


def _erfc_double(x: Array) -> Array:
    x1, out, near = _pieces(x)
    return np.where(near, 1 - out, np.where(x1 < 0, 2 - out, out)).reshape(x.shape)


def erf_array(x: Array, out: Array | None = None) -> Array:
    """The error function of float32 or float64 arrays; ``out`` may be ``x`` itself."""
    out = np.empty_like(x) if out is None else out
    if x.dtype == np.float64:
        out[...] = _erf_double(x)
        return out
    power = polynomial(np.square(x, out=np.empty_like(x)), _ODD)
    np.multiply(power, x, out=out)
    return np.tanh(out, out=out)


def _erfc_array(x: Array) -> Array:
    return _erfc_double(x.astype(np.float64)).astype(x.dtype)


def _erfinv_array(x: Array) -> Array:
    """A closed-form guess (Winitzki 2008) and three Newton-Halley steps, on the tail's scale."""
    wide = x.astype(np.float64)
    size = np.abs(wide)
    log = np.log1p(-size) + np.log1p(size)
    half = _SLOPE / 0.147 / math.sqrt(math.pi) + log / 2
    y = np.sqrt(np.sqrt(half * half - log / 0.147) - half)
    for _ in range(3):
        error = np.where(size < 0.5, size - _erf_double(y), _erfc_double(y) - (1 - size))
        step = error / (_SLOPE * np.exp(-y * y))
        y = y + step / (1 - y * step)
    y = np.where(size == 1, np.inf, np.where(size == 0, 0, y))
    return np.copysign(y, wide).astype(x.dtype)


def _density(x: Any) -> Any:
    return (x * -x).exp() * _SLOPE


ERF = unary("erf", erf_array, lambda s, g: g * _density(s.x), "x")
ERFC = unary("erfc", _erfc_array, lambda s, g: -g * _density(s.x), "x")
ERFINV = unary("erfinv", _erfinv_array, lambda s, g: g * (s.out * s.out).exp() * (1 / _SLOPE), "o")

erf = of_one(ERF, "The error function, ``2 / sqrt(pi)`` times the integral of ``exp(-t^2)``.")
erfc = of_one(ERFC, "``1 - erf(input)``, accurate where it is small.")
erfinv = of_one(ERFINV, "The inverse of ``erf``; NaN outside [-1, 1].")
