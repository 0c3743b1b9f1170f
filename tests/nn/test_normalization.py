"""Normalization layers against PyTorch's."""

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from tests.nn.twins import assert_twins_agree, close, twins

OPTIONS = [
    ("LayerNorm", (5,), {}, (3, 5)),
    ("LayerNorm", ((4, 5),), {"eps": 0.1}, (2, 3, 4, 5)),
    ("LayerNorm", ([4, 5],), {"bias": False}, (3, 4, 5)),
    ("LayerNorm", (5,), {"elementwise_affine": False}, (3, 5)),
    ("RMSNorm", (5,), {}, (3, 5)),
    ("RMSNorm", ((4, 5),), {"eps": 0.1}, (3, 4, 5)),
    ("RMSNorm", (5,), {"elementwise_affine": False}, (3, 5)),
    ("GroupNorm", (2, 6), {}, (3, 6, 4)),
    ("GroupNorm", (3, 6), {"eps": 0.1}, (3, 6)),
    ("GroupNorm", (6, 6), {"bias": False}, (3, 6, 2, 2)),
    ("GroupNorm", (1, 6), {"affine": False}, (3, 6, 4)),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), OPTIONS, ids=str)
def test_layers_equal_pytorchs(name, args, kwargs, shape):
    assert_twins_agree(*twins(name, *args, **kwargs), *shape)


@pytest.mark.parametrize("layer", [nn.LayerNorm(3), nn.RMSNorm(3), nn.GroupNorm(1, 3)], ids=repr)
def test_weights_start_as_one_and_biases_as_zero(layer):
    for name, parameter in layer.named_parameters():
        parameter.data.fill_(7)
        layer.reset_parameters()
        assert parameter.tolist() == [0 if name == "bias" else 1] * 3


@pytest.mark.parametrize("groups", [0, 4])
def test_channels_must_divide_into_groups(groups):
    with pytest.raises(ValueError, match=rf"\(6\) must be divisible by num_groups \({groups}\)"):
        nn.GroupNorm(groups, 6)


def test_a_normalized_activation_may_be_overwritten():
    """Backward reads the input and its moments, not the result."""
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).normal(size=(3, 5)).astype("f")
    x, y = gg.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    mine, other = twins("LayerNorm", 5)
    gg.relu_(mine(x)).sum().backward()
    torch.relu_(other(y)).sum().backward()
    close(x.grad, y.grad)


def test_half_precision_inputs_and_single_precision_weights():
    x = gg.randn(4, 8).to(gg.bfloat16).requires_grad_()
    layer = nn.LayerNorm(8)
    out = layer(x)
    out.sum().backward()
    assert out.dtype is x.grad.dtype is gg.bfloat16
    assert layer.weight.grad.dtype is gg.float32
    close(layer.weight.grad, layer(x.detach().float()).sum(0), "unrounded")
