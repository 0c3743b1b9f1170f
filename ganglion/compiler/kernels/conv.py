"""Convolutions and their two gradients: which algorithm serves a shape, and its kernels in order.

Logical layouts are PyTorch's: x (N, C, *S), w (OC, C / groups, *K), result (N, OC, *P), with one
to three spatial dimensions; strides are free. The fast path is channels-last with zeros around
the spatial dimensions (``preferred_layout``); anything else is copied first.
"""

from __future__ import annotations

from typing import NamedTuple

import ganglion.dtypes as dt
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
from ganglion.compiler.kernels.direct_weight import WeightConvolution, direct_weight
from ganglion.compiler.kernels.halo import prepared, surrounded
from ganglion.compiler.kernels.tile import AVX512, Target
from ganglion.compiler.kernels.weights import (
    Weights,
    backward_weights,
    finish,
    forward_weights,
    lanes_for,
    mixed_backward_weights,
    pack,
)
from ganglion.compiler.kernels.winograd import (
    PLANES,
    SIDE,
    Tiles,
    Winograd,
    halo_of_tiles,
    rounded,
    task_rows,
    transform_weights,
    transformed,
    winograd,
)
from ganglion.compiler.kernels.winograd_weight import (
    WinogradWeight,
    winograd_taps,
    winograd_weight,
)
from ganglion.compiler.text import LANES
from ganglion.shapes import Shape

GROUP = 64  # channels of the result that Winograd's algorithm computes at once
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
    if not direct and _suits_winograd(x, w.shape[0], w.shape[1], axes, sizes):
        return _winograd(steps, x, w, forward_weights(w, 1), axes[0], target)
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
    if not direct and _suits_winograd(g, w.shape[0], w.shape[1], axes, sizes):
        return _winograd(steps, g, w, backward_weights(w, 1), axes[0], target)
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


def _suits_winograd(
    x: Layout, outs: int, ins: int, axes: list[Axes], sizes: _Sizes
) -> bool:  # fmt: skip
    """Whether tiles of 4x4 save enough of the products, and channels fill vectors."""
    window = sizes.window
    plain = window.kernel == (1, 3, 3) and max(*window.stride, *window.dilation, sizes.groups) == 1
    if not plain or x.dtype is not dt.float32 or min(outs, ins) < LANES or sizes.rank != 2:
        return False
    _, high, wide = (axis.count for axis in axes[0])
    tiles = Tiles(1, high, wide)
    return PLANES * tiles.high * tiles.wide < 0.7 * 9 * high * wide


def _winograd(
    steps: Steps, x: Layout, w: Layout, weights: Weights, axes: Axes, target: Target
) -> Plan:
    source, x = surrounded(steps, 0, x, halo_of_tiles(axes, x.shape[2:]), True)
    products = steps.temporary(transformed(weights))
    steps.add(transform_weights(w, weights), 1, products)
    group = min(rounded(weights.channels), GROUP)
    tiles = Tiles(x.shape[0], axes[1].count, axes[2].count)
    conv = Winograd(x, weights, axes, task_rows(tiles, weights.inner, group), group)
    steps.add(winograd(conv, steps.end, target), source, products, *steps.epilogue)
    return steps.plan()


def conv_weight(
    x: Layout, g: Layout, epilogue: Epilogue, size: Shape, *, stride: Shape, padding: Pairs,
    dilation: Shape, groups: int, direct: bool = False, target: Target = AVX512,
) -> Plan:  # fmt: skip
    """The gradient for weights of kernel ``size``, of operands (x, g).

    The epilogue sees the result as a matrix (OC, C / groups * kernel cells), as PyTorch's weights
    lie in memory.
    """
    sizes = _sizes(size, stride, padding, dilation, groups)
    steps, x, g = Steps(2, epilogue), spatial(x), spatial(g)
    inner = x.shape[1] // groups
    if 0 in (g.shape[1], inner):
        return steps.plan()
    axes = forward_axes(g.shape[2:], sizes.window)
    if not direct and x.shape[0] and _suits_winograd(x, g.shape[1], x.shape[1], [axes], sizes):
        return _winograd_weight(steps, x, g, axes, target)
    mixed = _mixed(g.shape[1] // groups, inner, g.shape[1], groups, g)
    source, x = prepared(steps, 0, x, [axes], bool(mixed) or inner >= FEW_CHANNELS)
    gradient, g = surrounded(steps, 1, g, ((0, 0),) * 3, True)
    conv = WeightConvolution(x, g, sizes.window.kernel, axes, groups, mixed)
    partial = steps.temporary(conv.gradient.partial)
    steps.add(direct_weight(conv, target), source, gradient, partial)
    steps.add(finish(conv.gradient, None, epilogue), partial, *steps.epilogue)
    return steps.plan()


def _winograd_weight(steps: Steps, x: Layout, g: Layout, axes: Axes, target: Target) -> Plan:
    source, x = surrounded(steps, 0, x, halo_of_tiles(axes, x.shape[2:]), True)
    whole = [(0, -size % SIDE) for size in g.shape[2:]]
    gradient, g = surrounded(steps, 1, g, ((0, 0), *whole[1:]), True)
    conv = WinogradWeight(x, g, axes)
    partial = steps.temporary(conv.gradient.partial)
    steps.add(winograd_weight(conv, target), source, gradient, partial)
    steps.add(finish(conv.gradient, winograd_taps, steps.end), partial, *steps.epilogue)
    return steps.plan()
