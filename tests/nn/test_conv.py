"""Convolution layers against PyTorch's."""

import math

import pytest

import ganglion as gg
from ganglion import nn
from tests.nn.twins import assert_twins_agree, close, twins

OPTIONS = [
    ("Conv1d", (3, 4, 3), {}, (2, 3, 9)),
    ("Conv1d", (3, 4, 3), {"padding": "same", "bias": False}, (3, 9)),
    ("Conv2d", (3, 6, (3, 2)), {"stride": 2, "padding": (1, 0), "groups": 3}, (2, 3, 7, 6)),
    ("Conv2d", (4, 4, 3), {"dilation": 2, "padding": "valid", "groups": 4}, (2, 4, 7, 6)),
    ("Conv2d", (2, 5, 1), {"bias": False}, (2, 2, 4, 3)),
    ("Conv3d", (2, 3, 2), {"stride": (1, 2, 1), "padding": 1}, (1, 2, 3, 4, 3)),
    ("ConvTranspose1d", (3, 4, 3), {"stride": 2, "output_padding": 1}, (2, 3, 5)),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 4, 3)),
    ("ConvTranspose2d", (2, 3, 3), {"dilation": 2, "bias": False}, (2, 4, 3)),
    ("ConvTranspose3d", (2, 3, 2), {"stride": 2, "padding": (0, 1, 0)}, (1, 2, 3, 2, 3)),
    *(
        (f"Conv{n}d", (2, 3, 3), {"padding": p, "padding_mode": mode}, (2, 2, 5, 6, 4)[: n + 2])
        for mode in ("reflect", "replicate", "circular")
        for n, p in ((1, 2), (2, (1, 2)), (2, "same"), (3, 1), (2, "valid"))
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), OPTIONS, ids=str)
def test_layers_equal_pytorchs(name, args, kwargs, shape):
    assert_twins_agree(*twins(name, *args, **kwargs), *shape)


@pytest.mark.parametrize("size", [(9, 10), [10, 9], (1, 4, 10, 10)])
def test_an_output_size_among_those_a_stride_allows(size):
    mine, other = twins("ConvTranspose2d", 3, 4, 3, stride=2)
    x = gg.randn(1, 3, 4, 4)
    close(mine(x, output_size=size), other(_torch(x), output_size=list(size)))


def _torch(x):
    return pytest.importorskip("torch").tensor(x.numpy())


@pytest.mark.parametrize(
    ("size", "message"), [((12, 10), "valid sizes range from"), ((1,), "2 or 4 elements")]
)
def test_no_other_output_size(size, message):
    with pytest.raises(ValueError, match=message):
        nn.ConvTranspose2d(3, 4, 3, stride=2)(gg.randn(1, 3, 4, 4), output_size=size)


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda: nn.Conv2d(8, 64, 5, groups=2), 4 * 25),
        (lambda: nn.Conv1d(30, 200, 3), 90),
        (lambda: nn.ConvTranspose2d(64, 8, 5, groups=2), 4 * 25),
    ],
)
def test_parameters_start_from_pytorchs_law(layer, fan_in):
    gg.manual_seed(0)
    made, bound = layer(), 1 / math.sqrt(fan_in)
    weight = made.weight.detach().numpy()
    assert abs(weight).max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert abs(made.bias.detach().numpy()).max() <= bound
    gg.manual_seed(0)
    assert (layer().weight == made.weight).all()


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "message"),
    [
        ("Conv2d", (3, 6, 3), {"groups": 2}, "in_channels must be divisible by groups"),
        ("Conv2d", (4, 6, 3), {"groups": 4}, "out_channels must be divisible by groups"),
        ("Conv2d", (4, 6, 3), {"groups": 0}, "groups must be a positive integer"),
        ("Conv2d", (4, 6, 3), {"padding": "wide"}, "Invalid padding string 'wide'"),
        ("Conv2d", (4, 6, 3), {"padding": "same", "stride": 2}, "not supported for strided"),
        ("Conv2d", (4, 6, 3), {"padding_mode": "mirror"}, "padding_mode must be one of zeros"),
        ("ConvTranspose2d", (4, 6, 3), {"padding_mode": "reflect"}, 'Only "zeros" padding mode'),
    ],
)
def test_options_that_cannot_be_meant(name, args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        getattr(nn, name)(*args, **kwargs)
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError):  # noqa: PT011 - its wording is its own
        getattr(torch.nn, name)(*args, **kwargs)


def test_wrong_channels_are_named_with_the_layers_path():
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(RuntimeError, match="3 channels, but got 2 channels") as caught:
        net(gg.zeros(1, 2, 5, 5))
    assert "'0' of Sequential" in caught.value.__notes__[0]


def test_dtype_and_double():
    assert nn.Conv2d(1, 2, 3, dtype=gg.float64).weight.dtype is gg.float64
    assert nn.Conv2d(1, 2, 3).double()(gg.zeros(1, 1, 4, 4, dtype=gg.float64)).dtype is gg.float64
