import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from ganglion.models import resnet20
from ganglion.models.resnet import BasicBlock, ResNet


def test_twenty_layers_and_the_papers_number_of_parameters():
    net = resnet20()
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 20
    assert sum(p.numel() for p in net.parameters()) == 269_722
    assert net(gg.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert resnet20(5, in_channels=1)(gg.zeros(2, 1, 28, 28)).shape == (2, 5)


def test_a_block_without_weights_passes_its_input_on():
    block = BasicBlock(2, 5, stride=2)
    nn.init.zeros_(block.conv2.weight)
    x = gg.rand(1, 2, 6, 6)
    found = block.eval()(x)
    assert found.shape == (1, 5, 3, 3)
    assert (found[:, :2] == x[:, :, ::2, ::2]).all()
    assert (found[:, 2:] == 0).all()


def test_convolutions_start_from_hes_law():
    gg.manual_seed(0)
    weight = resnet20().layer3[0].conv2.weight.detach().numpy()
    assert weight.std() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_outputs_and_gradients_equal_pytorchs():
    """The paper's network of 8 layers, written with PyTorch's functions on the same weights."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    gg.manual_seed(0)
    net = ResNet(1, 4).double()
    w = {k: torch.tensor(v.numpy()) for k, v in net.state_dict().items()}
    weights = {k: w[k].requires_grad_() for k, _ in net.named_parameters()}
    images = np.random.default_rng(0).normal(size=(3, 3, 8, 8))

    def norm(x, at):
        moments = w[f"{at}.running_mean"], w[f"{at}.running_var"]
        return F.batch_norm(x, *moments, w[f"{at}.weight"], w[f"{at}.bias"], training=True)

    x = torch.relu(norm(F.conv2d(torch.tensor(images), w["conv1.weight"], padding=1), "bn1"))
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        at = f"layer{stage}.0"
        y = F.conv2d(x, w[f"{at}.conv1.weight"], stride=stride, padding=1)
        y = F.conv2d(torch.relu(norm(y, f"{at}.bn1")), w[f"{at}.conv2.weight"], padding=1)
        x = x[:, :, ::stride, ::stride]
        x = torch.cat([x, torch.zeros_like(x)], 1) if stride > 1 else x
        x = torch.relu(norm(y, f"{at}.bn2") + x)
    expected = F.linear(x.mean((2, 3)), w["fc.weight"], w["fc.bias"])
    found = net(gg.tensor(images))
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-9)
    found.square().sum().backward()
    expected.square().sum().backward()
    for name, p in net.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), weights[name].grad.numpy(), 1e-7, 1e-9)
    for name, b in net.named_buffers():
        if b.is_floating_point():
            np.testing.assert_allclose(b.numpy(), w[name].numpy(), rtol=1e-9)


def test_it_learns():
    gg.manual_seed(0)
    net = ResNet(1, 2, in_channels=1)
    x, y = gg.randn(16, 1, 8, 8), gg.arange(16) % 2
    optimizer = gg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(30):
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_a_network_needs_blocks():
    with pytest.raises(ValueError, match="at least 1 block"):
        ResNet(0)
