"""Ready-made networks."""

from ganglion.models.cnn import cnn
from ganglion.models.gpt import gpt
from ganglion.models.mlp import ACTIVATIONS, mlp
from ganglion.models.resnet import resnet20

__all__ = ["ACTIVATIONS", "cnn", "gpt", "mlp", "resnet20"]
