"""The error function, its complement and its inverse, in NumPy and as expressions.

In NumPy, float64 follows the rational Chebyshev approximations of Cody 1969 (Math. Comp. 23,
631-637); float32 uses ``erf(x) = tanh(x p(x^2))`` with a polynomial fitted here, within 3e-7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.ops.elementwise import Array, of_one, unary
from ganglion.ops.scalar import (
    Scalar,
    absolute,
    cast,
    const,
    copysign,
    eq,
    fma,
    minimum,
    sqrt,
    where,
)
from ganglion.ops.transcendental import exp, expm1_in_units, horner, in_double, log

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


# --- compiled: polynomials fitted as those of ops/transcendental.py -------------------------------

_MINUS_LOG_ERFC = (  # -log(1 - erf a) / a - 1, for float32
    -9.385971679876093e-06, 0.00011884808918694034, -0.0006373304058797657, 0.001675638253800571,
    -0.00016948420670814812, -0.019147826358675957, 0.10277630388736725, 0.6366195678710938,
    0.12837916612625122,
)  # fmt: skip
_ERF_IS_1 = 3.93
_ERF = (  # erf(x) / x, of x^2 up to 1
    -7.59414888712303e-10, 1.3610160027017544e-08, -1.6182663172800565e-07,
    1.6444001413902785e-06, -1.4924455518315703e-05, 0.00012055280071118049,
    -0.0008548325474086922, 0.005223977596574647, -0.02686617064194706, 0.11283791670936917,
    -0.37612638903183343, 1.1283791670955126,
)  # fmt: skip
_ERFC = (  # erfc(a) exp(a^2) (1 + 2a), of (a - 4) / (a + 4)
    -8.369210700839012e-09, -7.984179865257968e-09, 1.0160276907887226e-07,
    5.5130096885605645e-08, -8.204305682532247e-07, 3.138090736674179e-07, 5.709547253811618e-06,
    -1.1234246284405406e-05, -2.440055973954247e-05, 0.00015062636505112011,
    -0.00019925591386288997, -0.0007577744329657149, 0.005031969766696897, -0.01619773388396549,
    0.03716751556808889, -0.0663303658276993, 0.0937328349960645, -0.10103906603559001,
    0.06809705425476753, 0.01537965210260671, -0.13962111684056322, 1.2329951186255526,
)  # fmt: skip
_ERFC_IS_0 = 27.3
# erfinv(x) / x: of w - 3.125, sqrt(w) - 3.25 and sqrt(w) - 5, where w = -log(1 - x^2)
_ERFINV = (
    (
        -7.541605461098252e-21, -1.6819266245014831e-19, 1.493030842437848e-18,
        1.1144771213160778e-17, -1.3806968786763023e-16, 2.1193378497581848e-17,
        6.699190909907379e-15, -4.054751485252429e-14, -8.201386726355245e-14,
        2.633516530509918e-12, -1.2972583877474499e-11, -5.415412145635413e-11,
        1.0512038439762992e-09, -4.112634081494323e-09, -2.907035260838446e-08,
        4.2347877865474465e-07, -1.365469220879478e-06, -1.3882523363355873e-05,
        0.0001867342080468157, -0.0007407025341659152, -0.006033670871433194,
        0.24015818242558956, 1.653654562683103,
    ),
    (
        8.973788210944733e-09, 9.020454300582915e-08, -2.920800197902579e-07,
        1.9493558975557247e-08, 1.5203370442992584e-06, -4.015032842166998e-06,
        2.9135806292679363e-06, 1.247587460627764e-05, -4.7315010906582485e-05,
        6.828469415186382e-05, 2.40304947005643e-05, -0.00035503749604677727,
        0.0009532894457794768, -0.0016882755579842924, 0.002491442092567011,
        -0.0037512085074998323, 0.005370914553662969, 1.0052589676941586, 3.0838856104922203,
    ),
    (
        -6.903763062807672e-12, -2.469651350179226e-10, 1.4275793188398056e-09,
        -3.8224804205418695e-09, 7.743871931615043e-09, -1.4909405105835273e-08,
        2.9041999002344404e-08, -6.77514105007332e-08, 2.2905279615529535e-07,
        -9.9296637195698e-07, 4.5260509887365615e-06, -1.9681781566631516e-05,
        7.599527837821076e-05, -0.00021503011898065877, -0.00013871931839388318,
        1.010300464864526, 4.849906401408584,
    ),
)  # fmt: skip


def erf_scalar(x: Scalar) -> Scalar:
    """The error function: ``1 - exp(log erfc)`` without cancellation, or two pieces for float64."""
    size = absolute(x)
    if x.dtype is dt.float32:
        size = minimum(size, _ERF_IS_1)
        exponent = fma(horner(size, _MINUS_LOG_ERFC), size, size)
        return copysign(expm1_in_units(-exponent, 0), x)
    near = x * horner(x * x, _ERF)
    return where(size < 1, near, copysign(1 - _erfc_positive(size), x))


def _erfc_positive(a: Scalar) -> Scalar:
    """``exp(-a^2)``, with the rounding error of the square, times a smooth function."""
    a = minimum(a, _ERFC_IS_0)
    square = a * a
    power = exp(-square)
    power = fma(-power, fma(a, a, -square), power)
    return power * (horner((a - 4) / (a + 4), _ERFC) / (a + a + 1))


def _erfc_scalar(x: Scalar) -> Scalar:
    wide = in_double(x)
    found = _erfc_positive(absolute(wide))
    return cast(where(wide < 0, 2 - found, found), x.dtype)


def _erfinv_scalar(x: Scalar) -> Scalar:
    wide = in_double(x)
    w = -log(fma(-wide, wide, const(1, dt.float64)))
    root = sqrt(w)
    near, middle, far = map(horner, (w - 3.125, root - 3.25, root - 5), _ERFINV)
    found = wide * where(w < 6.25, near, where(w < 16, middle, far))
    return cast(where(eq(absolute(wide), 1), wide * math.inf, found), x.dtype)


# --- records --------------------------------------------------------------------------------------


def _density(x: Any) -> Any:
    return (x * -x).exp() * _SLOPE


ERF = unary("erf", erf_array, lambda s, g: g * _density(s.x), "x", scalar=erf_scalar)
ERFC = unary("erfc", _erfc_array, lambda s, g: -g * _density(s.x), "x", scalar=_erfc_scalar)
ERFINV = unary(
    "erfinv",
    _erfinv_array,
    lambda s, g: g * (s.out * s.out).exp() * (1 / _SLOPE),
    "o",
    scalar=_erfinv_scalar,
)

erf = of_one(ERF, "The error function, ``2 / sqrt(pi)`` times the integral of ``exp(-t^2)``.")
erfc = of_one(ERFC, "``1 - erf(input)``, accurate where it is small.")
erfinv = of_one(ERFINV, "The inverse of ``erf``; NaN outside [-1, 1].")
