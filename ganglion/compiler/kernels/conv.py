"""Convolutions and their two gradients: which algorithm serves a shape, and its kernels in order.

Logical layouts are PyTorch's: x (N, C, *S), w (OC, C / groups, *K) without gaps, result (N, OC,
*P), with one to three spatial dimensions; strides of x, g and the result are free. The fast path
is channels-last, for direct convolutions with zeros around the spatial dimensions
(``preferred_layout``); anything else is copied first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Epilogue, Kernel, Layout, Plan
from ganglion.compiler.kernels.axes import (
    Axes,
    Pairs,
    Steps,
    Window,
    backward_axes,
    channels_last,
    forward_axes,
    halo_of_axes,
    narrowed_pairs,
    places,
    spatial,
    spatial_size,
    widened,
)
from ganglion.compiler.kernels.direct import Convolution
from ganglion.compiler.kernels.direct import direct as direct_kernel
from ganglion.compiler.kernels.direct_weight import WeightConvolution, direct_weight
from ganglion.compiler.kernels.halo import surrounded
from ganglion.compiler.kernels.tile import AVX512
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
    Tiles,
    Winograd,
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
from ganglion.compiler.target import Target
from ganglion.compiler.text import LANES
from ganglion.shapes import Shape

GROUP = 64  # channels of the result that Winograd's algorithm computes at once
FEW_CHANNELS = 12  # inputs with fewer may keep PyTorch's order
WORTH = 0.7  # Winograd's share of the products from which on its transforms do not pay
NO_HALO: Pairs = ((0, 0),) * 3

Kind = Literal["conv", "conv_input", "conv_weight"]


# --- the choice -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Problem:
    """A convolution over three spatial dimensions, ``rank`` of them its own, and its algorithm.

    ``mixed``: the result's channels of a group, if several groups share a vector; else 0.
    """

    rank: int
    window: Window
    groups: int
    phases: tuple[Axes, ...]
    winograd: bool
    mixed: int

    def halo(self, size: Shape) -> Pairs:
        """The zeros that are read around an image of ``size``."""
        if self.winograd:
            return NO_HALO
        return halo_of_axes(list(self.phases), size)


def _problem(
    kind: Kind, first: Layout, second: Layout, size: Shape, stride: Shape, padding: Pairs,
    dilation: Shape, groups: int, direct: bool,
) -> _Problem:  # fmt: skip
    kernel = tuple(size if kind == "conv_weight" else second.shape[2:])
    window = widened(Window(kernel, tuple(stride), tuple(padding), tuple(dilation)))
    seen = spatial_size(first.shape[2:])
    if kind == "conv_input":
        phases = backward_axes(spatial_size(size), window)
        channels, inner = second.shape[1], second.shape[0] // groups
    else:
        phases = [forward_axes(places(seen, window), window)]
        outs = second.shape[1] if kind == "conv_weight" else second.shape[0]
        channels, inner = outs // groups, first.shape[1] // groups
    rank = len(kernel)
    plain = rank == 2 and kernel == (3, 3) and max(*window.stride, *window.dilation, groups) == 1
    large = first.dtype is dt.float32 and min(channels, inner) >= LANES
    chosen = plain and large and not direct and _saves(phases[0])
    lanes = lanes_for(channels * groups, first.stored)
    shared = groups > 1 and channels < lanes and lanes % channels == 0 and inner <= 2 * channels
    return _Problem(rank, window, groups, tuple(phases), chosen, channels if shared else 0)


def _saves(axes: Axes) -> bool:
    """Whether tiles of 4x4, where the last reach over the edge, save enough products."""
    _, high, wide = (axis.count for axis in axes)
    tiles = Tiles(1, high, wide)
    return PLANES * tiles.down * tiles.across < WORTH * 9 * high * wide


def preferred_layout(
    kind: Kind, first: Layout, second: Layout, size: Shape = (), *, stride: Shape, padding: Pairs,
    dilation: Shape, groups: int, direct: bool = False,
) -> tuple[Layout, Layout]:  # fmt: skip
    """The layouts in which the operands of a convolution are not copied first.

    ``size`` is that of conv_input and conv_weight; weights are returned as given. More zeros
    around an operand do no harm: those of several convolutions are united by their maxima.
    """
    problem = _problem(kind, first, second, size, stride, padding, dilation, groups, direct)
    halo = narrowed_pairs(problem.halo(spatial_size(first.shape[2:])), problem.rank)
    found = channels_last(first.dtype, first.shape, halo)
    if kind != "conv_weight":
        return found, second
    return found, channels_last(second.dtype, second.shape)


# --- the plans ------------------------------------------------------------------------------------


def conv_forward(
    x: Layout, w: Layout, epilogue: Epilogue, *, stride: Shape, padding: Pairs, dilation: Shape,
    groups: int, direct: bool = False, target: Target = AVX512,
) -> Plan:  # fmt: skip
    """The convolution of operands (x, w); ``direct`` forbids Winograd's algorithm."""
    problem = _problem("conv", x, w, (), stride, padding, dilation, groups, direct)
    weights = forward_weights(w, 1 if problem.mixed else groups)
    return _convolution(Steps(2, epilogue), problem, spatial(x), w, weights, target)


def conv_input(
    g: Layout, w: Layout, epilogue: Epilogue, size: Shape, *, stride: Shape, padding: Pairs,
    dilation: Shape, groups: int, direct: bool = False, target: Target = AVX512,
) -> Plan:  # fmt: skip
    """The gradient for an input of spatial ``size``, of operands (g, w); transposed convolution.

    ``direct`` forbids Winograd's algorithm.
    """
    problem = _problem("conv_input", g, w, size, stride, padding, dilation, groups, direct)
    make = mixed_backward_weights if problem.mixed else backward_weights
    return _convolution(Steps(2, epilogue), problem, spatial(g), w, make(w, groups), target)


def _convolution(
    steps: Steps, problem: _Problem, x: Layout, w: Layout, weights: Weights, target: Target
) -> Plan:
    counts = [axis.count for axes in problem.phases for axis in axes]
    if not counts or min(x.shape[0], weights.channels, *counts) < 1:
        return steps.plan()
    channels = problem.winograd or problem.mixed > 0 or weights.inner >= FEW_CHANNELS
    source, x = surrounded(steps, 0, x, problem.halo(x.shape[2:]), channels)
    if problem.winograd:
        packed = steps.temporary(transformed(weights))
        steps.add(transform_weights(w, weights), 1, packed)
        kernel = _winograd(problem, x, weights, steps.end, target)
    else:
        packed = steps.temporary(weights.packed)
        steps.add(pack(w, weights), 1, packed)
        conv = Convolution(
            x, weights, problem.window.kernel, problem.phases, problem.rank, problem.mixed
        )
        kernel = direct_kernel(conv, steps.end, target)
    steps.add(kernel, source, packed, *steps.epilogue)
    return steps.plan()


def _winograd(
    problem: _Problem, x: Layout, weights: Weights, epilogue: Epilogue, target: Target
) -> Kernel:
    group = min(rounded(weights.channels), GROUP)
    axes = problem.phases[0]
    rows = task_rows(Tiles(x.shape[0], axes[1].count, axes[2].count), weights.inner, group)
    return winograd(Winograd(x, weights, axes, rows, group), epilogue, target)


def conv_weight(
    x: Layout, g: Layout, epilogue: Epilogue, size: Shape, *, stride: Shape, padding: Pairs,
    dilation: Shape, groups: int, direct: bool = False, target: Target = AVX512,
) -> Plan:  # fmt: skip
    """The gradient for weights of kernel ``size``, of operands (x, g).

    The epilogue sees the result as a matrix (OC, C / groups * kernel cells), which is how
    PyTorch's weights lie in memory. ``direct`` forbids Winograd's algorithm.
    """
    problem = _problem("conv_weight", x, g, size, stride, padding, dilation, groups, direct)
    steps, x, g = Steps(2, epilogue), spatial(x), spatial(g)
    if 0 in (g.shape[1], x.shape[1]):
        return steps.plan()
    fast = problem.winograd and x.shape[0] > 0
    channels = fast or problem.mixed > 0 or x.shape[1] // groups >= FEW_CHANNELS
    source, x = surrounded(steps, 0, x, problem.halo(x.shape[2:]), channels)
    gradient, g = surrounded(steps, 1, g, NO_HALO, True)
    axes = problem.phases[0]
    conv: WinogradWeight | WeightConvolution
    if fast:
        conv, taps = WinogradWeight(x, g, axes), winograd_taps
        kernel = winograd_weight(conv, target)
    else:
        conv = WeightConvolution(x, g, problem.window.kernel, axes, groups, problem.mixed)
        kernel, taps = direct_weight(conv, target), None
    partial = steps.temporary(conv.gradient.partial)
    steps.add(kernel, source, gradient, partial)
    steps.add(finish(conv.gradient, taps, epilogue), partial, *steps.epilogue)
    return steps.plan()
