"""Initialization laws: the distributions PyTorch documents."""

import math

import numpy as np
import pytest

import ganglion as gg
from ganglion.nn import init

SHAPE = (200, 300)


def filled(name, *args, shape=SHAPE, **kwargs):
    gg.manual_seed(3)
    tensor = gg.empty(*shape)
    assert getattr(init, name)(tensor, *args, **kwargs) is tensor
    return tensor.numpy().astype("float64")


UNIFORM = [
    ("uniform_", (-2.0, 3.0), -2.0, 3.0),
    ("xavier_uniform_", (2.0,), -2 * math.sqrt(6 / 500), 2 * math.sqrt(6 / 500)),
    ("kaiming_uniform_", (), -math.sqrt(6 / 300), math.sqrt(6 / 300)),
    ("kaiming_uniform_", (math.sqrt(5),), -1 / math.sqrt(300), 1 / math.sqrt(300)),
]


@pytest.mark.parametrize(("name", "args", "low", "high"), UNIFORM)
def test_uniform_laws(name, args, low, high):
    found = filled(name, *args)
    assert low <= found.min() < low + 0.001 * (high - low)
    assert high - 0.001 * (high - low) < found.max() <= high
    assert found.mean() == pytest.approx((low + high) / 2, abs=0.01 * (high - low))
    assert found.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.01)


NORMAL = [
    ("normal_", (1.0, 2.0), {}, 1.0, 2.0),
    ("xavier_normal_", (), {}, 0.0, math.sqrt(2 / 500)),
    ("kaiming_normal_", (), {"nonlinearity": "relu"}, 0.0, math.sqrt(2 / 300)),
    ("kaiming_normal_", (), {"mode": "fan_out", "nonlinearity": "relu"}, 0.0, math.sqrt(2 / 200)),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "mean", "std"), NORMAL)
def test_normal_laws(name, args, kwargs, mean, std):
    found = (filled(name, *args, **kwargs) - mean) / std
    assert found.mean() == pytest.approx(0, abs=0.02)
    assert found.std() == pytest.approx(1, rel=0.01)
    assert (found**4).mean() == pytest.approx(3, rel=0.05)


def test_constants():
    assert (filled("constant_", 2.5) == 2.5).all()
    assert (filled("zeros_") == 0).all()
    assert (filled("ones_") == 1).all()
    assert np.array_equal(filled("eye_", shape=(3, 4)), np.eye(3, 4))


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (8, 4, 3, 3), (5, 5)])
def test_orthogonal_rows_or_columns(shape):
    flat = filled("orthogonal_", 2.0, shape=shape).reshape(shape[0], -1) / 2
    gram = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


def test_truncated_normal_stays_inside_and_keeps_its_shape():
    found = filled("trunc_normal_", 0.5, 2.0, -1.0, 2.0)
    assert found.min() >= -1
    assert found.max() <= 2
    density = math.exp(-0.5 * 0.75**2)  # at both bounds, each 0.75 std off
    assert found.mean() == pytest.approx(0.5, abs=0.02)
    share = math.erf(0.75 / math.sqrt(2))
    variance = 4 * (1 - 2 * 0.75 * density / math.sqrt(2 * math.pi) / share)
    assert found.var() == pytest.approx(variance, rel=0.02)


def test_dirac_keeps_channels():
    found = filled("dirac_", shape=(4, 3, 3))
    assert found.sum() == 3
    assert all(found[i, i, 1] == 1 for i in range(3))


def test_gains_equal_pytorch():
    torch = pytest.importorskip("torch")
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.2) == torch.nn.init.calculate_gain("leaky_relu", 0.2)


def test_initialization_leaves_no_history_and_follows_the_seed():
    layer = gg.nn.Linear(3, 4)
    init.kaiming_normal_(layer.weight)
    assert layer.weight.is_leaf
    assert filled("normal_").tolist() == filled("normal_").tolist()


def test_bad_arguments():
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.xavier_uniform_(gg.empty(3))
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        init.calculate_gain("sine")
    with pytest.raises(ValueError, match="Mode fan_both"):
        init.kaiming_normal_(gg.empty(3, 3), mode="fan_both")
