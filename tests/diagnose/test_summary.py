"""The summary counts what a model has and what one forward pass costs."""

import ganglion as gg
from ganglion import nn
from ganglion.diagnose import summary


def model():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def test_parameters_shapes_and_flops_of_an_mlp():
    found = summary(model(), (32, 1, 28, 28))
    assert found.parameters == 784 * 128 + 128 + 128 * 10 + 10
    assert found.parameter_bytes == 4 * found.parameters
    linear = [layer for layer in found.layers if layer.type == "Linear"]
    assert [layer.output for layer in linear] == [((32, 128),), ((32, 10),)]
    assert [layer.flops for layer in linear] == [
        2 * 32 * 784 * 128,
        2 * 32 * 128 * 10,
    ]
    relu = next(layer for layer in found.layers if layer.type == "ReLU")
    assert relu.flops == 32 * 128
    assert relu.activation_bytes == 4 * 32 * 128
    assert found.flops == sum(layer.flops for layer in found.layers)


def test_frozen_parameters_are_told_apart():
    net = model()
    net[1].requires_grad_(False)
    found = summary(net, (1, 784))
    assert found.trainable == 128 * 10 + 10
    assert "100,480 frozen" in str(found)


def test_the_model_is_left_as_it_was():
    net = model()
    net[2].eval()
    summary(net, (1, 784))
    assert net.training
    assert not net[2].training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_text_names_every_layer_and_the_totals():
    text = str(summary(model(), (1, 784)))
    for word in ("Sequential", "Flatten", "Linear", "ReLU", "(1, 128)", "100,480", "397.5 KiB"):
        assert word in text


def test_integer_inputs_take_their_dtype():
    class Lookup(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(gg.zeros(5, 3))

        def forward(self, index):
            return self.table[index]

    assert summary(Lookup(), (4,), dtypes=[gg.int64]).layers[0].output == ((4, 3),)
