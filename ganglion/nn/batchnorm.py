"""Batch normalization layers."""

from __future__ import annotations

from typing import Any, ClassVar

import ganglion.dtypes as dt
from ganglion.creation import empty, ones, tensor, zeros
from ganglion.errors import ArgumentError
from ganglion.nn import init
from ganglion.nn.module import Module
from ganglion.nn.parameter import Parameter
from ganglion.ops.batchnorm import batch_norm
from ganglion.shapes import show
from ganglion.tensor import Tensor


class _BatchNorm(Module):
    """Each channel minus its mean, over its deviation; then scaled and shifted."""

    ranks: ClassVar[tuple[int, ...]]  # of the inputs it takes

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: dt.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        options = {"device": device, "dtype": dtype}
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            made = Parameter(empty(num_features, **options)) if wanted else None
            self.register_parameter(name, made)
        tracked = {
            "running_mean": zeros(num_features, **options),
            "running_var": ones(num_features, **options),
            "num_batches_tracked": tensor(0, dtype=dt.int64),
        }
        for name, value in tracked.items():
            self.register_buffer(name, value if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget all batches seen."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Scale by 1, shift by 0, and forget all batches seen."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Any shape to the same shape; dimension 1 counts channels."""
        if input.ndim not in self.ranks:
            ranks = " or ".join(f"{n}D" for n in self.ranks)
            raise ArgumentError(
                f"expected {ranks} input (got {input.ndim}D input of shape {show(input.shape)})"
            )
        mean, var = self._buffers["running_mean"], self._buffers["running_var"]
        momentum = self._count() if self.training else 0.0
        if self.training and not self.track_running_stats:
            mean = var = None
        by_batch = self.training or (mean is None and var is None)
        weight, bias = self._parameters["weight"], self._parameters["bias"]
        return batch_norm(input, mean, var, weight, bias, by_batch, momentum, self.eps)

    def _count(self) -> float | Tensor:
        """Count a batch; its share in the running moments, equal for all without a momentum."""
        count = self._buffers["num_batches_tracked"]
        if count is not None and self.track_running_stats:
            count.add_(1)
            if self.momentum is None:
                return 1 / count.to(dt.float64)
        return self.momentum or 0.0

    def extra_repr(self) -> str:
        """The options."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Normalizes each channel of (N, C) or (N, C, L) (Ioffe & Szegedy 2015, arXiv:1502.03167).

    In training by the batch's moments, which also move running ones by ``momentum`` (None: their
    mean over all batches); in inference by the running ones. Weight and bias have shape (C,).
    """

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalizes each channel of (N, C, H, W) (Ioffe & Szegedy 2015, arXiv:1502.03167).

    In training by the batch's moments, which also move running ones by ``momentum`` (None: their
    mean over all batches); in inference by the running ones. Weight and bias have shape (C,).
    """

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Normalizes each channel of (N, C, D, H, W), as ``BatchNorm2d``."""

    ranks = (5,)
