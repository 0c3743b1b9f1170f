import pytest

import ganglion as gg
from ganglion.models import ACTIVATIONS, cnn


def names(net):
    return [type(layer).__name__ for layer in net]


def test_layers_in_order():
    net = cnn((1, 28, 28), [128], 10, dropout=0.1)
    block = ["Conv2d", "ReLU", "MaxPool2d"]
    assert names(net) == [*block * 2, "Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    assert [tuple(p.shape) for p in net.parameters() if p.ndim > 1] == [
        (32, 1, 3, 3), (64, 32, 3, 3), (128, 3136), (10, 128),
    ]  # fmt: skip
    assert net(gg.zeros(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (2, 7, 5), (1, 1, 9), (4, 3, 2)])
def test_any_size_and_number_of_channels(shape):
    assert cnn(shape, [8], 5)(gg.zeros(2, *shape)).shape == (2, 5)


def test_channels_and_activation_by_name():
    net = cnn((1, 8, 8), [], 3, "gelu", channels=(4,))
    assert names(net) == ["Conv2d", "GELU", "MaxPool2d", "Flatten", "Linear"]
    for name in ACTIVATIONS:
        assert cnn((1, 4, 4), [4], 3, name)(gg.zeros(1, 1, 4, 4)).shape == (1, 3)


def test_what_is_no_image_is_refused():
    with pytest.raises(
        ValueError, match=r"takes images .* got samples of shape \(4,\); use an mlp"
    ):
        cnn((4,), [8], 3)
    with pytest.raises(ValueError, match="unknown activation 'rellu'"):
        cnn((1, 4, 4), [8], 3, "rellu")
