"""Layers that drop activations while training."""

from __future__ import annotations

from ganglion import functional as F
from ganglion.errors import ArgumentError
from ganglion.nn.module import Module
from ganglion.tensor import Tensor


class Dropout(Module):
    """Zeroes elements with probability ``p`` while training (Srivastava et al. 2014).

    The rest is scaled by 1 / (1 - p), so inference needs no change.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ArgumentError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return F.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}, inplace={self.inplace}"
