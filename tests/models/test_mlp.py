import pytest

import ganglion as gg
from ganglion.models import ACTIVATIONS, mlp


def test_layers_in_order():
    net = mlp((1, 28, 28), [128, 64], 10, dropout=0.1)
    names = [type(layer).__name__ for layer in net]
    assert names == ["Flatten", *["Linear", "ReLU", "Dropout"] * 2, "Linear"]
    assert net(gg.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_no_hidden_layer_is_a_linear_model():
    net = mlp((4,), [], 3)
    assert [type(layer).__name__ for layer in net] == ["Linear"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_by_name(name):
    assert mlp((4,), [8], 3, name)(gg.zeros(2, 4)).shape == (2, 3)


def test_bad_options_are_named():
    with pytest.raises(ValueError, match=r"unknown activation 'rellu'.*Did you mean 'relu'"):
        mlp((4,), [8], 3, "rellu")
    with pytest.raises(ValueError, match="at least 1"):
        mlp((4,), [8, 0], 3)
