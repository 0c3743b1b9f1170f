"""PyTorch's ``torch.utils``: ``ganglion.utils.data`` is ``ganglion.data`` under that path."""

import sys

from ganglion import data

sys.modules[f"{__name__}.data"] = data

__all__ = ["data"]
