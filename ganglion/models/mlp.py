"""Multilayer perceptrons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from ganglion import nn
from ganglion.errors import ArgumentError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def find_activation(name: str) -> Callable[[], nn.Module]:
    """The layer of an activation by name; ``ArgumentError`` for an unknown one."""
    if name not in ACTIVATIONS:
        close = get_close_matches(name, ACTIVATIONS, 1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ArgumentError(f"unknown activation '{name}'; known: {', '.join(ACTIVATIONS)}.{hint}")
    return ACTIVATIONS[name]


def mlp(
    feature_shape: Sequence[int],
    hidden: Sequence[int],
    outputs: int,
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Sequential:
    """``Linear``, activation and dropout for each hidden size, then ``Linear`` to ``outputs``.

    Inputs (N, *feature_shape) are flattened first; outputs are (N, outputs), logits or numbers.
    """
    act = find_activation(activation)
    if any(size < 1 for size in hidden):
        raise ArgumentError(f"hidden sizes must be at least 1, got {tuple(hidden)}")
    layers: list[nn.Module] = [nn.Flatten()] if len(feature_shape) > 1 else []
    size = math.prod(feature_shape)
    for width in hidden:
        layers += [nn.Linear(size, width), act()]
        layers += [nn.Dropout(dropout)] if dropout else []
        size = width
    return nn.Sequential(*layers, nn.Linear(size, outputs))
