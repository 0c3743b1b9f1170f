import math

import numpy as np
import pytest

from ganglion.ops.error_function import erf, erfc, erfinv
from ganglion.tensor import wrap

WIDE = np.concatenate(
    [np.linspace(-7, 7, 3001), np.linspace(-27, 27, 3001), 10.0 ** -np.arange(99)]
)


def relative_error(function, exact, x):
    found = function(wrap(x))._data.astype(np.float64)
    right = np.array([exact(float(v)) for v in x])
    normal = np.abs(right) > np.finfo(x.dtype).tiny
    return np.max(np.abs(found[normal] / right[normal] - 1))


@pytest.mark.parametrize(("function", "exact"), [(erf, math.erf), (erfc, math.erfc)])
def test_double_precision_is_accurate_to_the_last_digits(function, exact):
    assert relative_error(function, exact, WIDE) < 2e-15


def test_single_precision_is_accurate_to_four_ulp():
    x = WIDE.astype(np.float32)
    assert relative_error(erf, math.erf, x) < 3e-7
    assert relative_error(erfc, math.erfc, x) < 1.2e-7


def test_erfinv_is_the_inverse():
    near_one = 1 - 10.0 ** -np.arange(1, 16, 0.5)
    x = np.concatenate([np.linspace(-0.999, 0.999, 2001), near_one, 10.0 ** -np.arange(1, 99)])
    y = erfinv(wrap(x))._data
    back = np.array([math.erf(v) if abs(v) < 1 else 1 - math.erfc(v) for v in y])
    np.testing.assert_allclose(back, x, rtol=1e-15, atol=0)


def test_special_points():
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan])
    assert np.array_equal(erf(wrap(x))._data, [0, 0, 1, -1, np.nan], equal_nan=True)
    assert np.array_equal(erfc(wrap(x))._data, [1, 1, 0, 2, np.nan], equal_nan=True)
    ends = erfinv(wrap(np.array([0.0, 1, -1, 1.5, np.nan])))._data
    assert np.array_equal(ends, [0, np.inf, -np.inf, np.nan, np.nan], equal_nan=True)
