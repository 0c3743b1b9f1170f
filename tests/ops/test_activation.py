import numpy as np
import pytest

import ganglion
from ganglion.nn import functional as F
from ganglion.ops import activation
from ganglion.ops.activation import RELU_GRAD
from ganglion.ops.record import Op
from ganglion.tensor import wrap

PARAMS = {
    "leaky_relu": {"slope": 0.1},
    "elu": {"alpha": 0.7},
    "gelu": {"approximate": "none"},
    "softplus": {"beta": 2.0, "threshold": 5.0},
    "hardtanh": {"low": -1.0, "high": 0.5},
}
COMPOSITES = [op for op in vars(activation).values() if isinstance(op, Op) and op.decompose]


def inputs(op):
    rng = np.random.default_rng(0)
    count = 2 if op.name.endswith("_grad") else 1
    arrays = [rng.normal(size=(4, 5)) * 4 for _ in range(count)]
    return [wrap(a if op.name != "relu_grad" else np.maximum(a, 0)) for a in arrays]


@pytest.mark.parametrize("op", COMPOSITES, ids=lambda op: op.name)
def test_every_kernel_means_what_its_decomposition_says(op):
    params = PARAMS.get(op.name.removesuffix("_grad"), {})
    given = inputs(op)
    expected = op.decompose(*given, **params)
    np.testing.assert_allclose(op(*given, **params)._data, expected._data, 1e-11, 1e-12)


def test_the_tanh_form_of_gelu_means_what_its_decomposition_says():
    for op in (activation.GELU, activation.GELU_GRAD):
        given = inputs(op)
        expected = op.decompose(*given, approximate="tanh")
        found = op(*given, approximate="tanh")
        np.testing.assert_allclose(found._data, expected._data, 1e-11, 1e-12)


def test_gradients_through_dead_units_are_zero_even_when_infinite():
    out, g = wrap(np.array([0.0, -0.0, 2, np.nan])), wrap(np.array([np.inf, np.nan, 3, 4]))
    assert RELU_GRAD(out, g).tolist() == [0.0, 0.0, 3.0, 4.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_relu_has_no_gradient_at_zero(dtype):
    x = ganglion.tensor([0.0, -0.0, 1.0, -1.0], dtype=getattr(ganglion, dtype), requires_grad=True)
    F.relu(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("function", [F.relu, F.silu, F.elu, F.leaky_relu, F.mish, F.hardtanh])
def test_inplace_writes_into_its_input_and_keeps_the_gradient(function):
    x = ganglion.tensor([-1.5, 0.5, 2.0], requires_grad=True)
    expected = function(x)
    expected.sum().backward()
    right, x.grad = x.grad, None
    y = x * 1
    assert function(y, inplace=True) is y
    y.sum().backward()
    assert y.tolist() == expected.tolist()
    assert x.grad.tolist() == right.tolist()


def test_relu_passes_nan():
    assert np.isnan(F.relu(ganglion.tensor([float("nan")])).item())


def test_gelu_saturates_at_infinity():
    found = F.gelu(ganglion.tensor([float("inf"), 1e30, 20.0, -20.0]))
    assert found.tolist() == [float("inf"), pytest.approx(1e30), 20.0, 0.0]
