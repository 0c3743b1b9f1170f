"""Pooling layers over one, two or three spatial dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ganglion.nn.module import Module
from ganglion.ops.adaptive import (
    OutputSize,
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)
from ganglion.ops.pool import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from ganglion.ops.windows import Sizes, spread
from ganglion.tensor import Tensor


class _Pool(Module):
    """Applies ``function`` with the module's attributes named in ``options``; shows some."""

    function: ClassVar[Callable[..., Any]]
    options: ClassVar[tuple[str, ...]]
    shown: ClassVar[tuple[str, ...]]

    def forward(self, input: Tensor) -> Any:
        """(N, C, *S) to (N, C, *P); N may be missing."""
        return type(self).function(input, **{name: getattr(self, name) for name in self.options})

    def extra_repr(self) -> str:
        """The sizes."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.shown)


class _MaxPool(_Pool):
    options = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode


class MaxPool1d(_MaxPool):
    """The largest element of each window of (N, C, L)."""

    function = max_pool1d


class MaxPool2d(_MaxPool):
    """The largest element of each window of (N, C, H, W); the stride is the kernel's by default.

    ``return_indices`` adds each maximum's position in the flattened plane.
    """

    function = max_pool2d


class MaxPool3d(_MaxPool):
    """The largest element of each window of (N, C, D, H, W)."""

    function = max_pool3d


class _AvgPool(_Pool):
    options: ClassVar[tuple[str, ...]] = (
        "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
    )  # fmt: skip
    shown = ("kernel_size", "stride", "padding")

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad


class AvgPool1d(_AvgPool):
    """The mean of each window of (N, C, L)."""

    function = avg_pool1d

    def extra_repr(self) -> str:
        """The sizes, as tuples."""
        return ", ".join(f"{name}={spread(name, getattr(self, name), 1)}" for name in self.shown)


class _Divided(_AvgPool):
    options = (*_AvgPool.options, "divisor_override")

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override


class AvgPool2d(_Divided):
    """The mean of each window of (N, C, H, W); the stride is the kernel's by default.

    Padding counts as zeros, or not at all without ``count_include_pad``.
    """

    function = avg_pool2d


class AvgPool3d(_Divided):
    """The mean of each window of (N, C, D, H, W)."""

    function = avg_pool3d


class _Adaptive(_Pool):
    options: ClassVar[tuple[str, ...]] = ("output_size",)
    shown = ("output_size",)

    def __init__(self, output_size: OutputSize) -> None:
        super().__init__()
        self.output_size = output_size


class AdaptiveAvgPool1d(_Adaptive):
    """Means of evenly spread windows: (N, C, L) to (N, C, output_size)."""

    function = adaptive_avg_pool1d


class AdaptiveAvgPool2d(_Adaptive):
    """Means of evenly spread windows: (N, C, H, W) to (N, C, *output_size); None keeps a size."""

    function = adaptive_avg_pool2d


class AdaptiveAvgPool3d(_Adaptive):
    """Means of evenly spread windows: (N, C, D, H, W) to (N, C, *output_size)."""

    function = adaptive_avg_pool3d


class _AdaptiveMax(_Adaptive):
    options = ("output_size", "return_indices")

    def __init__(self, output_size: OutputSize, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices


class AdaptiveMaxPool1d(_AdaptiveMax):
    """Maxima of evenly spread windows: (N, C, L) to (N, C, output_size)."""

    function = adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptiveMax):
    """Maxima of evenly spread windows: (N, C, H, W) to (N, C, *output_size); None keeps a size."""

    function = adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptiveMax):
    """Maxima of evenly spread windows: (N, C, D, H, W) to (N, C, *output_size)."""

    function = adaptive_max_pool3d
