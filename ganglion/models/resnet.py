"""Residual networks for small images (He et al. 2015, arXiv:1512.03385, section 4.2)."""

from __future__ import annotations

from ganglion import nn
from ganglion.errors import ArgumentError
from ganglion.nn import functional as F
from ganglion.nn import init
from ganglion.tensor import Tensor


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalization, around which the input is added.

    The shortcut has no parameters (option A): every ``stride``-th pixel, and zeros for channels
    that the input lacks.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.lacking = stride, channels - in_channels

    def shortcut(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.lacking)) if self.lacking else x

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """Images (N, C, H, W) to logits (N, num_classes).

    A 3x3 convolution, three stages of ``blocks`` blocks with 16, 32 and 64 channels, and a linear
    layer on the mean of the last pixels. Convolutions start from N(0, 2 / fan_in).
    """

    def __init__(self, blocks: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if blocks < 1:
            raise ArgumentError(f"a ResNet needs at least 1 block in each stage, got {blocks}")
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (BasicBlock(channels, channels) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(in_channels, channels, stride), *rest)


def resnet20(num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """The paper's network of 20 layers for CIFAR-10: 0.27 million parameters."""
    return ResNet(3, num_classes, in_channels)
