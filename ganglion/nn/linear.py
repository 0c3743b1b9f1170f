"""Fully connected layers, and the layers that only reshape."""

from __future__ import annotations

import math
from typing import Any

import ganglion.dtypes as dt
from ganglion.creation import empty
from ganglion.errors import ArgumentError, ShapeError
from ganglion.nn import init
from ganglion.nn.module import Module
from ganglion.nn.parameter import Parameter
from ganglion.ops.matmul import linear
from ganglion.shapes import Size, show
from ganglion.tensor import Tensor


class Identity(Module):
    """Returns its input; arguments are accepted and ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """``input``."""
        return input


class Linear(Module):
    """``y = x W^T + b``: x (..., in_features), W (out_features, in_features).

    W and b start from U(-k, k) with k = 1 / sqrt(in_features).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("in_features", in_features), ("out_features", out_features)):
            if size < 0:
                raise ArgumentError(f"Linear {name} must be at least 0, got {size}")
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(empty(out_features, in_features, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        weight: Parameter = self._parameters["weight"]  # type: ignore[assignment]
        if input._data.shape[-1:] != weight._data.shape[1:]:
            raise ShapeError(
                f"Linear expects input (..., {self.in_features}) but got {show(input.shape)} "
                f"(mat1 and mat2 shapes cannot be multiplied). Use Linear({_last(input)}, "
                f"{self.out_features}), or flatten the input first."
            )
        return linear(input, weight, self._parameters["bias"])

    def extra_repr(self) -> str:
        """Sizes and whether there is a bias."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


def _last(input: Tensor) -> int:
    return input.shape[-1] if input.ndim else 1


class Flatten(Module):
    """Dimensions ``start_dim`` to ``end_dim`` merged into one; keeps the batch by default."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C*H*W) by default."""
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """The dimensions."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One dimension split into several."""

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, Size(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        """``input.unflatten(dim, unflattened_size)``."""
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """The dimension and its sizes."""
        return f"dim={self.dim}, unflattened_size={tuple(self.unflattened_size)}"
