"""Ready-made networks; the larger ones load when first named."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ganglion.models.cnn import cnn
from ganglion.models.mlp import ACTIVATIONS, mlp

if TYPE_CHECKING:
    from ganglion.models.resnet import resnet20 as resnet20
    from ganglion.models.transformer import gpt as gpt

_WHERE = {"gpt": "transformer", "resnet20": "resnet"}

__all__ = ["ACTIVATIONS", "cnn", "gpt", "mlp", "resnet20"]


def __getattr__(name: str) -> Any:
    """Load a network's file."""
    if name not in _WHERE:
        raise AttributeError(f"ganglion.models has no {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"ganglion.models.{_WHERE[name]}"), name)
