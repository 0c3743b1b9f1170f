"""Functions in the language of scalars: errors in ulp, special values, and native code."""

import math
from functools import cache

import numpy as np
import pytest

import ganglion.dtypes as dt
from ganglion.ops import gamma, powers, quotients, trigonometric
from ganglion.ops import scalar as sc
from ganglion.ops.record import OPS
from tests.ops.native import compiled

SINGLES = (np.float32, np.float64)
EXTENDED = np.finfo(np.longdouble).eps < 1e-18  # a reference for float64
every_single = pytest.mark.parametrize("dtype", SINGLES, ids=lambda d: d.__name__)


def vectorised(function):
    return np.vectorize(function, otypes=[np.float64])


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


# name: (reference, where it is dense, ulp allowed in float32 and float64)
FUNCTIONS = {
    "exp": (np.exp, -80, 88, 1, 1),
    "exp2": (np.exp2, -120, 127, 1, 1),
    "expm1": (np.expm1, -20, 80, 2, 2),
    "log": (np.log, 0.01, 20, 1, 1),
    "log2": (np.log2, 0.01, 20, 2, 2),
    "log10": (np.log10, 0.01, 20, 2, 2),
    "log1p": (np.log1p, -0.99, 20, 2, 2),
    "sigmoid": (_sigmoid, -80, 80, 2.5, 2.5),
    "tanh": (np.tanh, -10, 10, 2.5, 2.5),
    "sinh": (np.sinh, -80, 80, 2.5, 2.5),
    "cosh": (np.cosh, -80, 80, 2, 2),
    "asinh": (np.arcsinh, -20, 20, 2.5, 2.5),
    "acosh": (np.arccosh, 1, 20, 2.5, 2.5),
    "atanh": (np.arctanh, -1, 1, 2.5, 2.5),
    "sin": (np.sin, -1e4, 1e4, 2, 2.5),
    "cos": (np.cos, -1e4, 1e4, 2, 2.5),
    "tan": (np.tan, -1e4, 1e4, 4, 4),
    "asin": (np.arcsin, -1, 1, 2.5, 2.5),
    "acos": (np.arccos, -1, 1, 2, 2),
    "atan": (np.arctan, -20, 20, 2, 2),
}
# the same for functions that NumPy lacks; the reference is good to half a unit of float64
OTHERS = {
    "erf": (vectorised(math.erf), -6, 6, 2, 3),
    "erfc": (vectorised(math.erfc), -6, 9, 1, 5),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)
every_other = pytest.mark.parametrize("name", OTHERS)
SPECIAL = [0.0, -0.0, 1, -1, 0.5, 2, -2, 88.9, -88.9, 710, -750, math.inf, -math.inf, math.nan]
POINTS = 20_000


def evaluated(rule, *arrays):
    """A rule's values by NumPy."""
    operands = [sc.Scalar("operand", (i,), dt.of_numpy(a.dtype)) for i, a in enumerate(arrays)]
    found = sc.evaluate(rule(*operands), dict(zip(operands, arrays, strict=True)))
    return np.asarray(found)


def points(dtype, low, high, count=POINTS):
    """Dense in a range, at all magnitudes, and random bits."""
    rng = np.random.default_rng(1)
    word = np.uint32 if dtype is np.float32 else np.uint64
    wild = rng.integers(0, np.iinfo(word).max, count // 2, word).view(dtype)
    small = np.geomspace(1e-30, max(abs(low), abs(high)), count // 4)
    with np.errstate(over="ignore"):
        parts = [rng.uniform(low, high, count), small, -small, SPECIAL]
        return np.concatenate([np.concatenate(parts).astype(dtype), wild])


def errors(found, exact):
    """The distance to the exact value, in units of the last place of the right result."""
    with np.errstate(all="ignore"):
        right = exact.astype(found.dtype)
        same = (found == right) | (np.isnan(found) & np.isnan(right))
        fits = np.isfinite(right) & np.isfinite(found)
        unit = np.spacing(np.abs(np.where(fits, right, 1))).astype(exact.dtype)
        unit = np.maximum(unit, np.finfo(found.dtype).smallest_subnormal)
        apart = np.abs(found.astype(exact.dtype) - exact) / unit
    return np.where(same, 0, np.where(fits, apart, np.inf))


def assert_ulp(name, x, found, exact, most):
    apart = errors(found, exact)
    worst = int(apart.argmax())
    assert apart[worst] <= most, f"{name}({x[worst]!r}): {found[worst]!r}, not {exact[worst]!r}"


def without_denormal_results(name, x):
    """``sigmoid`` flushes results that are denormal, as the eager kernel does."""
    edge = {np.float32: -87, np.float64: -708}[x.dtype.type]
    return x[~(x < edge) | (x == -np.inf)] if name == "sigmoid" else x


# --- accuracy -------------------------------------------------------------------------------------


@cache
def rule(name):
    return OPS[name].scalar


@every_single
@every_function
def test_values_are_right_to_a_few_ulp(name, dtype):
    reference, low, high, single, double = FUNCTIONS[name]
    if dtype is np.float64 and not EXTENDED:
        pytest.skip("NumPy's long double is no longer than float64 here")
    x = without_denormal_results(name, points(dtype, low, high))
    wide = np.float64 if dtype is np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        exact = reference(x.astype(wide))
    assert_ulp(name, x, evaluated(rule(name), x), exact, single if wide is np.float64 else double)


@every_single
@every_other
def test_values_of_special_functions_are_right_to_a_few_ulp(name, dtype):
    reference, low, high, single, double = OTHERS[name]
    x = np.random.default_rng(2).uniform(low, high, 3000).astype(dtype)
    exact = reference(x.astype(np.float64))
    assert_ulp(name, x, evaluated(rule(name), x), exact, single if dtype is np.float32 else double)


@every_single
def test_powers_are_right_to_the_last_bit_but_one(dtype):
    if dtype is np.float64 and not EXTENDED:
        pytest.skip("NumPy's long double is no longer than float64 here")
    rng = np.random.default_rng(3)
    edges = np.array([*SPECIAL, 3, -3, 2.5, 1e10, 1e-10, 2.0**53 - 1], dtype)
    x = np.concatenate([np.exp(rng.normal(0, 3, POINTS)), np.repeat(edges, len(edges))])
    y = np.concatenate([rng.normal(0, 20, POINTS), np.tile(edges, len(edges))])
    x, y = x.astype(dtype), y.astype(dtype)
    wide = np.float64 if dtype is np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(wide), y.astype(wide))
    found = evaluated(powers.power, x, y)
    assert_ulp("pow", x, found, exact, 1)
    defined = ~np.isnan(found)
    np.testing.assert_array_equal(np.signbit(found[defined]), np.signbit(exact[defined]))


@every_single
def test_angles_of_points_have_the_right_quadrant(dtype):
    edges = np.array([*SPECIAL, 1e30, -1e-30], dtype)
    y, x = np.repeat(edges, len(edges)), np.tile(edges, len(edges))
    found, exact = evaluated(trigonometric.atan2, y, x), np.arctan2(y, x)
    np.testing.assert_allclose(found, exact, rtol=4 * np.finfo(dtype).eps)
    defined = ~np.isnan(exact)
    np.testing.assert_array_equal(np.signbit(found[defined]), np.signbit(exact[defined]))


def test_the_hardest_angles_are_reduced_exactly():
    """The doubles and floats nearest to multiples of pi/2."""
    double, single = np.array([5.319372648326541e255]), np.array([16367173 * 2.0**72], np.float32)
    found = evaluated(trigonometric.cos, double)
    np.testing.assert_allclose(found, -4.68716592425462761112e-19, rtol=1e-15)
    found = evaluated(trigonometric.cos, single)
    np.testing.assert_allclose(found, np.cos(single.astype(float)), rtol=2e-7)


@every_single
def test_inverse_error_function_undoes_it(dtype):
    x = np.concatenate([np.linspace(-0.999, 0.999, 999), 1 - np.geomspace(1e-6, 1e-3, 99)])
    x = x.astype(dtype)
    y = evaluated(rule("erfinv"), x).astype(np.float64)
    tail = 1 - np.abs(x.astype(np.float64))
    back = np.array([math.erfc(abs(v)) for v in y])
    np.testing.assert_allclose(back, tail, rtol=40 * np.finfo(dtype).eps)
    edges = evaluated(rule("erfinv"), np.array([1, -1, 0, 1.5, np.nan], dtype))
    np.testing.assert_array_equal(edges, [np.inf, -np.inf, 0, np.nan, np.nan])


@every_single
def test_lgamma_climbs_by_logarithms(dtype):
    x = np.linspace(-7.9, 30, 3000).astype(dtype)
    exact = vectorised(math.lgamma)(x)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(evaluated(rule("lgamma"), x), exact, rtol=40 * eps, atol=20 * eps)
    near = np.array([-1e-3, 1e-7, 1e-3, 0.2]).astype(dtype)  # around its zeros 1 and 2
    for zero in (1, 2):
        at = (zero + near).astype(np.float64)
        up, down = evaluated(rule("lgamma"), at + 1), evaluated(rule("lgamma"), at)
        np.testing.assert_allclose(up - down, np.log(at), rtol=1e-8)


@pytest.mark.parametrize("n", range(5))
def test_polygamma_is_the_slope_of_the_one_before(n):
    x, step = np.array([0.3, 1.7, 4.5, 12.0, -0.6, -3.3]), 1e-6

    def value(at, order):
        return evaluated(lambda v: gamma.POLYGAMMA.scalar(v, n=order), at)

    slope = (value(x + step, n) - value(x - step, n)) / (2 * step)
    np.testing.assert_allclose(value(x, n + 1), slope, rtol=1e-5, atol=1e-5)


# --- NaN and signs --------------------------------------------------------------------------------


@every_single
@pytest.mark.parametrize("name", [*FUNCTIONS, *OTHERS, "erfinv", "digamma", "relu", "gelu"])
def test_nan_stays_nan(name, dtype):
    params = {"approximate": "none"} if name == "gelu" else {}
    found = evaluated(lambda x: rule(name)(x, **params), np.array([np.nan], dtype))
    assert np.isnan(found[0])


@every_single
@pytest.mark.parametrize("name", "expm1 log1p tanh sinh asinh atanh sin tan asin atan erf".split())
def test_zeros_keep_their_sign(name, dtype):
    found = evaluated(rule(name), np.array([0.0, -0.0], dtype))
    np.testing.assert_array_equal(found, 0)
    np.testing.assert_array_equal(np.signbit(found), [False, True])


# --- remainders -----------------------------------------------------------------------------------


@every_single
def test_float_remainders_are_exact(dtype):
    rng = np.random.default_rng(4)
    word = np.uint32 if dtype is np.float32 else np.uint64
    edges = np.array([*SPECIAL, 1e30, 1e-30, 0.1, np.finfo(dtype).max], dtype)
    wild = rng.integers(0, np.iinfo(word).max, (2, POINTS), word).view(dtype)
    x = np.concatenate([wild[0], np.repeat(edges, len(edges))])
    y = np.concatenate([wild[1], np.tile(edges, len(edges))])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(evaluated(quotients.fmod, x, y), np.fmod(x, y))
        np.testing.assert_array_equal(evaluated(quotients.remainder, x, y), np.remainder(x, y))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
def test_integer_quotients_round_as_they_should(dtype):
    limits = np.iinfo(dtype)
    some = [0, 1, 2, 3, 7, limits.max, limits.min, limits.min + 1]
    edges = np.array(some + ([-1, -2, -7] if limits.min else []), dtype)
    x, y = np.repeat(edges, len(edges)), np.tile(edges, len(edges))
    x, y = x[y != 0], y[y != 0]
    with np.errstate(all="ignore"):
        for rule_, kernel in (
            (quotients.floor_divide, np.floor_divide),
            (quotients.remainder, np.remainder),
            (quotients.fmod, np.fmod),
        ):
            np.testing.assert_array_equal(evaluated(rule_, x, y), kernel(x, y))


# --- native code ----------------------------------------------------------------------------------


@every_single
@pytest.mark.parametrize("name", [*FUNCTIONS, *OTHERS, "erfinv", "digamma"])
def test_native_code_gives_the_evaluated_values(name, dtype):
    """Up to roundings that NumPy's emulation of a fused product and sum does twice."""
    x = points(dtype, *FUNCTIONS.get(name, OTHERS.get(name, (None, -1, 5)))[1:3], count=2000)
    native = compiled(rule(name), [dt.of_numpy(x.dtype)])
    exact = evaluated(rule(name), x)
    most = 1 if dtype is np.float32 else 0
    assert errors(native(x), exact.astype(np.longdouble)).max() <= most


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("name", ["floor_divide", "trunc_divide", "remainder", "fmod"])
def test_native_division_of_integers_stops_nothing(name, dtype):
    limits = np.iinfo(dtype)
    edges = np.array([0, 1, limits.max, limits.min, *([-1] if limits.min else [])], dtype)
    x, y = np.repeat(edges, len(edges)), np.tile(edges, len(edges))
    native = compiled(OPS[name].scalar, [dt.of_numpy(x.dtype)] * 2)
    found = native(x, y)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found[y != 0], evaluated(rule(name), x, y)[y != 0])


def test_native_shifts_beyond_the_width_leave_nothing():
    x = np.array([-5, 5, -5, 5, 5], np.int32)
    by = np.array([40, 40, -1, -1, 2], np.int32)
    left = compiled(OPS["bitwise_left_shift"].scalar, [dt.int32] * 2)
    right = compiled(OPS["bitwise_right_shift"].scalar, [dt.int32] * 2)
    np.testing.assert_array_equal(left(x, by), [0, 0, 0, 0, 20])
    np.testing.assert_array_equal(right(x, by), [-1, 0, -1, 0, 1])


def test_native_bfloats_round_to_the_nearest():
    pytest.importorskip("ml_dtypes")
    x = np.array([1.0, 1.00390625, 1.01171875, np.inf, np.nan, 3.4e38, -1e-40], np.float32)
    native = compiled(lambda x: sc.cast(x, dt.bfloat16), [dt.float32])
    expected = x.astype(dt.bfloat16.numpy).astype(np.float32)
    np.testing.assert_array_equal(native(x).astype(np.float32), expected)


def test_native_doubles_become_halves_in_one_rounding():
    halves = np.arange(0, 31744, 7, np.uint16).view(np.float16)
    middle = halves.astype(float) + np.spacing(halves) / 2
    x = np.concatenate([middle, middle * (1 + 2**-50), middle * (1 - 2**-50)])
    native = compiled(lambda x: sc.cast(x, dt.float16), [dt.float64], width=8)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(native(x), x.astype(np.float16))
