"""Small convolutional networks for images."""

from __future__ import annotations

from collections.abc import Sequence

from ganglion import nn
from ganglion.errors import ArgumentError
from ganglion.models.mlp import find_activation, mlp


def cnn(
    feature_shape: Sequence[int],
    hidden: Sequence[int],
    outputs: int,
    activation: str = "relu",
    dropout: float = 0.0,
    channels: Sequence[int] = (32, 64),
) -> nn.Sequential:
    """3x3 convolution, activation and 2x2 max pooling for each of ``channels``, then an ``mlp``.

    Inputs are images (N, *feature_shape) of (C, H, W); pooling stops at a side of one pixel.
    ``hidden`` and ``dropout`` are those of the fully connected part.
    """
    if len(feature_shape) != 3:
        raise ArgumentError(
            "a cnn takes images (channels, height, width), got samples of shape "
            f"{tuple(feature_shape)}; use an mlp"
        )
    size, height, width = feature_shape
    act = find_activation(activation)
    layers: list[nn.Module] = []
    for count in channels:
        layers += [nn.Conv2d(size, count, 3, padding=1), act()]
        if min(height, width) > 1:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        size = count
    return nn.Sequential(*layers, *mlp((size, height, width), hidden, outputs, activation, dropout))
