"""Convolutions and their two gradients: which algorithm serves a shape, and its kernels in order.

Logical layouts are PyTorch's: x (N, C, *S), w (OC, C / groups, *K), result (N, OC, *P), with one
to three spatial dimensions; strides are free. The fast path is channels-last with zeros around
the spatial dimensions (``preferred_layout``); anything else is copied first.
"""

from __future__ import annotations

from typing import NamedTuple

from ganglion.compiler.kernel import Epilogue, Layout, Plan
from ganglion.compiler.kernels.axes import (
    Axes,
    Pairs,
    Steps,
    Window,
    backward_axes,
    forward_axes,
    spatial,
    widened,
)
from ganglion.compiler.kernels.direct import Convolution, direct as direct_kernel
from ganglion.compiler.kernels.halo import prepared
from ganglion.compiler.kernels.tile import AVX512, Target
from ganglion.compiler.kernels.weights import (
    Weights,
    backward_weights,
    forward_weights,
    lanes_for,
    mixed_backward_weights,
    pack,
)
from ganglion.shapes import Shape

FEW_CHANNELS = 12  # inputs with fewer may keep PyTorch's order


class _Sizes(NamedTuple):
    """A convolution over three spatial dimensions; ``rank`` are its own."""

    rank: int
    window: Window
    groups: int


def conv_forward(
    x: Layout, w: Layout, epilogue: Epilogue, *, stride: Shape, padding: Pairs, dilation: Shape,
    groups: int, direct: bool = False, target: Target = AVX512,
) -> Plan:  # fmt: skip
    """The convolution of operands (x, w); ``direct`` forbids Winograd's algorithm."""
    sizes = _sizes(w.shape[2:], stride, padding, dilation, groups)
    steps, x = Steps(2, epilogue), spatial(x)
    out = _places(x.shape[2:], sizes.window)
    if 0 in (x.shape[0], w.shape[0], *out):
        return steps.plan()
    axes = [forward_axes(out, sizes.window)]
    mixed = _mixed(w.shape[0] // groups, w.shape[1], w.shape[0], groups, w)
    weights = forward_weights(w, 1 if mixed else groups)
    return _direct(steps, x, w, weights, axes, sizes, mixed, target)


def conv_input(
    g: Layout, w: Layout, epilogue: Epilogue, size: Shape, *, stride: Shape, padding: Pairs,
    dilation: Shape, groups: int, direct: bool = False, target: Target = AVX512,
) -> Plan:  # fmt: skip
    """The gradient for an input of spatial ``size``, of operands (g, w); transposed convolution.

    ``direct`` forbids Winograd's algorithm.
    """
    sizes = _sizes(w.shape[2:], stride, padding, dilation, groups)
    steps, g = Steps(2, epilogue), spatial(g)
    if 0 in (g.shape[0], w.shape[1], *size):
        return steps.plan()
    axes = backward_axes((1,) * (3 - len(size)) + tuple(size), sizes.window)
    mixed = _mixed(w.shape[1], w.shape[0] // groups, w.shape[1] * groups, groups, w)
    weights = mixed_backward_weights(w, groups) if mixed else backward_weights(w, groups)
    return _direct(steps, g, w, weights, axes, sizes, mixed, target)


def _sizes(
    kernel: Shape, stride: Shape, padding: Pairs, dilation: Shape, groups: int
) -> _Sizes:
    window = Window(tuple(kernel), tuple(stride), tuple(padding), tuple(dilation))
    return _Sizes(len(kernel), widened(window), groups)


def _places(size: Shape, window: Window) -> Shape:
    """How many windows fit along each dimension."""
    parts = zip(size, *window, strict=True)
    return tuple([(n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in parts])


def _mixed(channels: int, inner: int, total: int, groups: int, w: Layout) -> int:
    """The result's channels of a group, if several groups share a vector; else 0."""
    lanes = lanes_for(total, w.stored)
    fits = channels < lanes and lanes % channels == 0 and inner <= 2 * channels
    return channels if groups > 1 and fits else 0


def _direct(
    steps: Steps, x: Layout, w: Layout, weights: Weights, axes: list[Axes], sizes: _Sizes,
    mixed: int, target: Target,
) -> Plan:  # fmt: skip
    channels = bool(mixed) or weights.inner >= FEW_CHANNELS
    source, x = prepared(steps, 0, x, axes, channels)
    packed = steps.temporary(weights.packed)
    steps.add(pack(w, weights), 1, packed)
    conv = Convolution(x, weights, sizes.window.kernel, tuple(axes), sizes.rank, mixed)
    steps.add(direct_kernel(conv, steps.end, target), source, packed, *steps.epilogue)
    return steps.plan()
