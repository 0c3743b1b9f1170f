import math

import numpy as np
import pytest

from ganglion.ops.gamma import digamma, lgamma, polygamma
from ganglion.tensor import wrap

EULER = 0.57721566490153286061


def at(function, *x):
    return function(wrap(np.array(x, np.float64)))._data


def test_lgamma_equals_pythons():
    x = np.concatenate([np.linspace(-20.03, 30, 3001), 10.0 ** np.linspace(-300, 300, 301)])
    right = np.array([math.lgamma(v) for v in x])
    assert np.max(np.abs(at(lgamma, *x) - right) / (1 + np.abs(right))) < 1e-14


def test_lgamma_near_its_zeros_keeps_its_digits():
    e = 10.0 ** -np.arange(5, 15)
    steps = (1 + e) - 1  # what is left of e beside 1
    right = -EULER * steps + math.pi**2 / 12 * steps**2 - 1.2020569031595943 / 3 * steps**3
    np.testing.assert_allclose(at(lgamma, *(1 + e)), right, rtol=1e-14)
    assert at(lgamma, 1.0, 2.0).tolist() == [0.0, 0.0]


def test_known_values():
    digammas = [-EULER, -EULER - 2 * math.log(2), 1 - EULER, math.pi - EULER - 3 * math.log(2)]
    np.testing.assert_allclose(at(digamma, 1, 0.5, 2)[:3], digammas[:3], rtol=2e-15)
    reflected = -EULER - 3 * math.log(2) + math.pi / 2
    np.testing.assert_allclose(at(digamma, 0.75), reflected, rtol=2e-15)
    trigammas = at(lambda x: polygamma(1, x), 1, 0.5, 2)
    np.testing.assert_allclose(
        trigammas, [math.pi**2 / 6, math.pi**2 / 2, math.pi**2 / 6 - 1], rtol=2e-15
    )
    assert at(lambda x: polygamma(2, x), 1)[0] == pytest.approx(-2.4041138063191886, rel=1e-15)
    assert at(lambda x: polygamma(3, x), 1)[0] == pytest.approx(math.pi**4 / 15, rel=1e-15)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_recurrence(n):
    x = np.linspace(-5.3, 12, 200)
    step = (-1) ** n * math.factorial(n) / x ** (n + 1)
    here, there = at(lambda v: polygamma(n, v), *x), at(lambda v: polygamma(n, v), *(x + 1))
    scale = np.abs(here) + np.abs(step) + 1
    assert np.max(np.abs(there - here - step) / scale) < 3e-13


def test_poles_and_infinities():
    x = [0.0, -0.0, -1.0, -2.0, np.inf, np.nan]
    assert np.array_equal(at(lgamma, *x), [np.inf] * 5 + [np.nan], equal_nan=True)
    expected = [-np.inf, np.inf, np.nan, np.nan, np.inf, np.nan]
    assert np.array_equal(at(digamma, *x), expected, equal_nan=True)
    assert np.array_equal(
        at(lambda v: polygamma(2, v), *x), [-np.inf] * 4 + [0, np.nan], equal_nan=True
    )
