"""Direct convolution: implicit products of windows and weights, tile by tile.

A tile is a rectangle of pixels of one image by a few vectors of channels of the result. Its sums
stay in registers while taps and inner channels go by. The same kernel serves the gradient for the
input, which is a convolution too (``backward_axes``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from ganglion.compiler.kernel import Epilogue, Kernel, Layout, Tile
from ganglion.compiler.kernels.axes import Axes, Axis, each_block, narrowed, share
from ganglion.compiler.kernels.tile import (
    Registers,
    Target,
    load_lanes,
    multiply_add,
    summed,
    tile,
    zeros,
)
from ganglion.compiler.kernels.weights import Weights
from ganglion.compiler.text import BYTES, Code, Index, Reg, vector

TASKS = 16  # at least, where the shape gives as many
UNROLLED = 36  # steps of a sum that are written without a loop


@dataclass(frozen=True)
class Convolution:
    """What a direct convolution computes: each combination of axes is a part of the result.

    ``x`` is (N, C, D, H, W) with the zeros that its windows read; ``rank`` counts the result's own
    spatial dimensions. With ``mixed``, the channels of several groups stand in one vector, and
    that many of them belong to a group.
    """

    x: Layout
    weights: Weights
    phases: tuple[Axes, ...]
    rank: int
    mixed: int = 0

    @property
    def flops(self) -> int:
        w = self.weights
        work = sum(math.prod(a.count * a.taps for a in axes) for axes in self.phases)
        return 2 * self.x.shape[0] * work * w.inner * w.groups * w.channels


# --- the choice of tiles --------------------------------------------------------------------------


def most_sums(target: Target) -> int:
    """Vectors of sums in a tile; 32 registers hold a few more than products use."""
    return 28 if target.sums >= 24 else target.sums


@cache
def rectangle(rows: int, width: int, channels: int, lanes: int, most: int) -> tuple[int, int, int]:
    """Rows, width and vectors of the tiles that cover ``rows`` * ``width`` pixels in least time."""
    sizes = [
        (h, w, v)
        for v in (2, 3, 1)
        for w in range(min(width, most // v), 0, -1)
        for h in range(1, min(rows, most // (v * w)) + 1)
        if v == 1 or (v - 1) * lanes < channels
    ]
    return min(sizes, key=lambda size: _time(rows, width, channels, lanes, size))


def _time(
    rows: int, width: int, channels: int, lanes: int, size: tuple[int, int, int]
) -> tuple[float, int]:
    """Half cycles for one step of all sums, and the number of different tiles."""
    total, kinds = 0.0, 0
    for h, high in _counts(rows, size[0]):
        for w, wide in _counts(width, size[1]):
            for c, many in _counts(-(-channels // lanes), size[2]):
                pixels = high * wide
                # two loads or products a cycle; a product takes four; the loop takes one
                total += h * w * c * (max(pixels * many, pixels + many, 8) + 1)
                kinds += 1
    return total, kinds


def _counts(size: int, step: int) -> Iterator[tuple[int, int]]:
    """(how many, how long) blocks of ``step`` there are in ``size``."""
    if size >= step:
        yield size // step, step
    if size % step:
        yield 1, size % step


# --- the kernel -----------------------------------------------------------------------------------


def direct(conv: Convolution, epilogue: Epilogue, target: Target) -> Kernel:
    """The kernel of a convolution; a task is an image or a part of one."""
    slices = _slices(conv)
    operands = (conv.x, conv.weights.packed, *epilogue.operands)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        writer = _Writer(code, conv, epilogue, pointers, target)

        def task(i: Index) -> None:
            n, *part = code.split(i, (conv.x.shape[0], *slices))
            for axes in conv.phases:
                writer.phase(axes, n, part, slices)

        code.loop(low, high, 1, (), task)

    size = sum(layout.numel * BYTES[layout.stored] for layout in operands)
    return Kernel(
        "conv_direct", ("conv direct", conv, epilogue.key, target), emit, operands,
        (0, 1, *(i + 2 for i in epilogue.reads)), tuple(i + 2 for i in epilogue.writes),
        conv.x.shape[0] * math.prod(slices), flops=conv.flops, bytes=size,
    )  # fmt: skip


def _slices(conv: Convolution) -> tuple[int, int]:
    """Into how many parts the places and the channels of an image are cut."""
    places = min(max(axes[0].count, axes[1].count) for axes in conv.phases)
    places = min(places, -(-TASKS // conv.x.shape[0]))
    channels = conv.weights.groups if conv.weights.groups > 1 else conv.weights.vectors
    return places, min(channels, -(-TASKS // (conv.x.shape[0] * places)))


@dataclass
class _Writer:
    code: Code
    conv: Convolution
    epilogue: Epilogue
    pointers: Sequence[Reg]
    target: Target
