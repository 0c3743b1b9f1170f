"""Batch normalization layers against PyTorch's, over several batches."""

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from ganglion.compiler import interpret, trace
from tests.nn.twins import assert_twins_agree, close, twins

SHAPES = {"BatchNorm1d": (6, 3), "BatchNorm2d": (4, 3, 2, 5), "BatchNorm3d": (2, 3, 2, 3, 2)}
OPTIONS = [
    {},
    {"affine": False},
    {"bias": False},
    {"momentum": None},
    {"momentum": 0.5, "eps": 0.01},
    {"track_running_stats": False},
    {"affine": False, "momentum": None},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_training_and_then_inference_equal_pytorchs(name, options):
    mine, other = twins(name, 3, **options)
    for _ in range(3):
        mine.zero_grad()
        other.zero_grad()
        assert_twins_agree(mine, other, *SHAPES[name])
    mine.zero_grad()
    other.zero_grad()
    assert_twins_agree(mine.eval(), other.eval(), *SHAPES[name])


def test_signals_of_one_dimension():
    assert_twins_agree(*twins("BatchNorm1d", 3), 2, 3, 5)


def test_the_running_moments_of_several_different_batches():
    torch = pytest.importorskip("torch")
    for momentum in (0.1, None):
        mine, other = twins("BatchNorm2d", 3, momentum=momentum)
        for seed in range(5):
            x = np.random.default_rng(seed).normal(seed, 1 + seed, (4, 3, 2, 2)).astype("f")
            mine(gg.tensor(x))
            other(torch.tensor(x))
        assert mine.num_batches_tracked.item() == 5
        assert mine.num_batches_tracked.dtype is gg.int64
        close(mine.running_mean, other.running_mean)
        close(mine.running_var, other.running_var)


def test_running_moments_can_be_forgotten():
    layer = nn.BatchNorm1d(2)
    layer(gg.randn(5, 2))
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0, 0]
    assert layer.running_var.tolist() == [1, 1]
    assert layer.num_batches_tracked.item() == 0


def test_running_moments_take_no_gradient_and_keep_their_tensors():
    layer = nn.BatchNorm1d(2)
    before = layer.running_mean
    layer(gg.randn(5, 2, requires_grad=True)).sum().backward()
    assert layer.running_mean is before
    assert not before.requires_grad
    assert before.tolist() != [0, 0]


def test_two_batches_may_be_backpropagated_together():
    layer = nn.BatchNorm1d(2)
    x = gg.randn(5, 2, requires_grad=True)
    (layer(x) * layer(x * 2)).sum().backward()
    assert x.grad.isfinite().all()


def test_an_overwriting_activation_may_follow():
    gg.manual_seed(0)
    x = gg.randn(6, 3)
    found = []
    for inplace in (False, True):
        net = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(inplace=inplace))
        net(x).square().sum().backward()
        found.append(net[0].weight.grad)
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("name", SHAPES)
def test_inputs_of_other_ranks_are_refused(name):
    for shape in {(3,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5, 6)}:
        layer = getattr(nn, name)(3)
        if len(shape) in layer.ranks:
            assert layer(gg.randn(*shape)).shape == shape
        else:
            with pytest.raises(ValueError, match=r"expected .*D input"):
                layer(gg.randn(*shape))


def test_one_value_per_channel_has_no_variance():
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        nn.BatchNorm1d(3)(gg.randn(1, 3))
    assert nn.BatchNorm1d(3).eval()(gg.randn(1, 3)).shape == (1, 3)


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(RuntimeError, match="running_mean should contain 4 elements not 3"):
        nn.BatchNorm2d(3)(gg.randn(2, 4, 2, 2))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_traced_step_counts_and_moves_as_an_eager_one(momentum):
    batches = [gg.tensor(np.random.default_rng(i).normal(i, 2, (6, 3))) for i in range(3)]

    def made():
        layer = nn.BatchNorm1d(3, momentum=momentum, dtype=gg.float64)
        return layer, lambda x: layer(x).square()

    eager, step = made()
    expected = [step(x) for x in batches]
    traced, step = made()
    program = trace.trace(step, batches[0])
    for x, y in zip(batches, expected, strict=True):
        assert (interpret.run(program, x) == y).all()
    for name, value in eager.state_dict().items():
        assert (traced.state_dict()[name] == value).all(), name
