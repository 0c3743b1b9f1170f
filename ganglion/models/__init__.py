"""Ready-made networks."""

from ganglion.models.mlp import ACTIVATIONS, mlp

__all__ = ["ACTIVATIONS", "mlp"]
