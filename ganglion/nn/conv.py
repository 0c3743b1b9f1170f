"""Convolution layers over one, two or three spatial dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import ganglion.dtypes as dt
from ganglion.creation import empty
from ganglion.errors import ArgumentError
from ganglion.nn import init
from ganglion.nn.module import Module
from ganglion.nn.parameter import Parameter
from ganglion.ops.conv import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    same_padding,
)
from ganglion.ops.pad import pad
from ganglion.ops.windows import Sizes, reach, spread
from ganglion.shapes import Shape, show
from ganglion.tensor import Tensor

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What convolutions and their transposes share: options, parameters, their start, repr."""

    ndim: ClassVar[int]
    function: ClassVar[Callable[..., Tensor]]
    transposed: ClassVar[bool] = False

    kernel_size: Shape
    stride: Shape
    dilation: Shape

    def _set_up(
        self,
        in_channels: int,
        out_channels: int,
        sizes: dict[str, Any],
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: dt.dtype | None,
    ) -> None:
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.padding_mode = padding_mode
        for name, value in sizes.items():
            given = value if isinstance(value, str) else spread(name, value, self.ndim)
            setattr(self, name, given)
        self._check()
        ends = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (ends[0], ends[1] // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _check(self) -> None:
        if self.groups <= 0:
            raise ArgumentError(f"groups must be a positive integer, got {self.groups}")
        for name in ("in_channels", "out_channels"):
            count = getattr(self, name)
            if count % self.groups:
                raise ArgumentError(
                    f"{name} must be divisible by groups, got {count} and {self.groups}"
                )
        if isinstance(self.padding, str) and self.padding not in ("same", "valid"):
            raise ArgumentError(
                f"Invalid padding string {self.padding!r}, should be one of 'valid', 'same'"
            )
        if self.padding == "same" and max(self.stride) > 1:
            raise ArgumentError("padding='same' is not supported for strided convolutions")
        if self.padding_mode not in PADDING_MODES:
            raise ArgumentError(
                f"padding_mode must be one of {', '.join(PADDING_MODES)}, but got "
                f"padding_mode={self.padding_mode!r}"
            )

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(fan_in) if fan_in else 0
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """Channels, kernel and stride, and what else is not as by default."""
        zeros, ones = (0,) * self.ndim, (1,) * self.ndim
        parts = [f"{self.in_channels}, {self.out_channels}"]
        parts += [f"{name}={getattr(self, name)}" for name in ("kernel_size", "stride")]
        parts += [f"padding={self.padding}"] * (self.padding != zeros)
        parts += [f"dilation={self.dilation}"] * (self.dilation != ones)
        extra = getattr(self, "output_padding", zeros)
        parts += [f"output_padding={extra}"] * (extra != zeros)
        parts += [f"groups={self.groups}"] * (self.groups != 1)
        parts += ["bias=False"] * (self.bias is None)
        parts += [f"padding_mode={self.padding_mode}"] * (self.padding_mode != "zeros")
        return ", ".join(parts)


class _Conv(_Convolution):
    padding: Shape | str

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {
            "kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation,
        }  # fmt: skip
        self._set_up(in_channels, out_channels, sizes, groups, bias, padding_mode, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_channels, *S) to (N, out_channels, *P); N may be missing."""
        padding: Sizes | str = self.padding
        if self.padding_mode != "zeros":
            input, padding = pad(input, self._around(), mode=self.padding_mode), 0
        found = self._parameters
        return type(self).function(
            input, found["weight"], found["bias"], self.stride, padding, self.dilation, self.groups
        )

    def _around(self) -> list[int]:
        """The padding as ``pad`` takes it: last dimension first."""
        if self.padding == "same":
            pairs = same_padding(self.kernel_size, self.stride, self.dilation)
        else:
            given = (0,) * self.ndim if isinstance(self.padding, str) else self.padding
            pairs = tuple([(n, n) for n in given])
        return [n for pair in reversed(pairs) for n in pair]


class Conv1d(_Conv):
    """Convolution of (N, C, L); weight (out_channels, in_channels / groups, K).

    Weight and bias start from U(-k, k) with k = 1 / sqrt(in_channels / groups * K). ``padding``
    may be "same" or "valid", ``padding_mode`` zeros, reflect, replicate or circular.
    """

    ndim, function = 1, conv1d


class Conv2d(_Conv):
    """Convolution of (N, C, H, W); weight (out_channels, in_channels / groups, KH, KW).

    Weight and bias start from U(-k, k) with k = 1 / sqrt(in_channels / groups * KH * KW).
    ``padding`` may be "same" or "valid", ``padding_mode`` zeros, reflect, replicate or circular.
    """

    ndim, function = 2, conv2d


class Conv3d(_Conv):
    """Convolution of (N, C, D, H, W); weight (out_channels, in_channels / groups, KD, KH, KW).

    Start and options are those of ``Conv2d``.
    """

    ndim, function = 3, conv3d


class _ConvTranspose(_Convolution):
    transposed = True
    padding: Shape
    output_padding: Shape

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__()
        if padding_mode != "zeros":
            raise ArgumentError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        sizes = {
            "kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation,
            "output_padding": output_padding,
        }  # fmt: skip
        self._set_up(in_channels, out_channels, sizes, groups, bias, padding_mode, device, dtype)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """(N, in_channels, *S) to (N, out_channels, *P); N may be missing.

        ``output_size`` names P among the sizes that a stride allows.
        """
        extra = self.output_padding
        if output_size is not None:
            extra = self._extra(tuple(input._data.shape), tuple(output_size))
        return type(self).function(
            input, self._parameters["weight"], self._parameters["bias"], self.stride, self.padding,
            extra, self.groups, self.dilation,
        )  # fmt: skip

    def _extra(self, shape: Shape, wanted: Shape) -> Shape:
        """The output padding that makes the output's size ``wanted``."""
        size, given = shape[-self.ndim :], wanted
        if len(wanted) == len(shape):
            wanted = wanted[-self.ndim :]
        if len(wanted) != self.ndim:
            raise ArgumentError(
                f"{type(self).__name__}: for {len(shape)}D input, output_size must have "
                f"{self.ndim} or {len(shape)} elements (got {len(given)})"
            )
        reaches = reach(self.kernel_size, self.dilation)
        parts = zip(size, self.stride, self.padding, reaches, strict=True)
        least = [(n - 1) * s - 2 * p + r for n, s, p, r in parts]
        most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
        if any(not low <= n <= high for low, n, high in zip(least, wanted, most, strict=True)):
            raise ArgumentError(
                f"requested an output size of {show(given)}, but valid sizes range from {least} "
                f"to {most} (for an input of {show(size)})"
            )
        return tuple([n - low for n, low in zip(wanted, least, strict=True)])


class ConvTranspose1d(_ConvTranspose):
    """The transpose of ``Conv1d``; weight (in_channels, out_channels / groups, K).

    Weight and bias start from U(-k, k) with k = 1 / sqrt(out_channels / groups * K).
    """

    ndim, function = 1, conv_transpose1d


class ConvTranspose2d(_ConvTranspose):
    """The transpose of ``Conv2d``; weight (in_channels, out_channels / groups, KH, KW).

    Weight and bias start from U(-k, k) with k = 1 / sqrt(out_channels / groups * KH * KW).
    """

    ndim, function = 2, conv_transpose2d


class ConvTranspose3d(_ConvTranspose):
    """The transpose of ``Conv3d``; weight (in_channels, out_channels / groups, KD, KH, KW).

    Weight and bias start from U(-k, k) with k = 1 / sqrt(out_channels / groups * KD * KH * KW).
    """

    ndim, function = 3, conv_transpose3d
