"""Pooling layers against PyTorch's."""

import pytest

import ganglion as gg
from ganglion import nn
from tests.nn.twins import assert_twins_agree, twins

OPTIONS = [
    ("MaxPool1d", (2,), {}, (2, 3, 9)),
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1, "return_indices": True}, (2, 3, 9)),
    ("MaxPool2d", (2,), {}, (2, 3, 7, 6)),
    ("MaxPool2d", ((3, 2), 1), {"dilation": (1, 2), "ceil_mode": True}, (3, 7, 6)),
    ("MaxPool3d", ((1, 2, 3),), {"stride": 1, "return_indices": True}, (1, 2, 3, 4, 5)),
    ("AvgPool1d", (2,), {"padding": 1}, (2, 3, 9)),
    ("AvgPool2d", (2,), {"ceil_mode": True, "count_include_pad": False}, (2, 3, 7, 5)),
    ("AvgPool2d", ((3, 2), 1), {"divisor_override": 5}, (2, 3, 7, 5)),
    ("AvgPool3d", (2,), {"stride": (1, 2, 2)}, (2, 3, 4, 5)),
    ("AdaptiveAvgPool1d", (4,), {}, (2, 3, 9)),
    ("AdaptiveAvgPool2d", ((None, 3),), {}, (2, 3, 7, 5)),
    ("AdaptiveAvgPool2d", (1,), {}, (2, 3, 7, 5)),
    ("AdaptiveAvgPool3d", (2,), {}, (2, 3, 7, 5)),
    ("AdaptiveMaxPool1d", (4,), {"return_indices": True}, (2, 3, 9)),
    ("AdaptiveMaxPool2d", ((None, 3),), {}, (2, 3, 7, 5)),
    ("AdaptiveMaxPool3d", (2,), {"return_indices": True}, (2, 3, 7, 5)),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), OPTIONS, ids=str)
def test_layers_equal_pytorchs(name, args, kwargs, shape):
    assert_twins_agree(*twins(name, *args, **kwargs), *shape)


def test_what_cannot_be_pooled_is_located():
    net = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2))
    with pytest.raises(RuntimeError, match=r"Calculated output size: \(3x0x0\)") as caught:
        net(gg.zeros(1, 3, 2, 2))
    assert "'1' of Sequential" in caught.value.__notes__[0]
