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
from ganglion.compiler.kernels.axes import Axes, Axis, each_block, each_phase, narrowed, share
from ganglion.compiler.kernels.tile import (
    Registers,
    load_lanes,
    multiply_add,
    summed,
    tile,
    zeros,
)
from ganglion.compiler.kernels.weights import Weights
from ganglion.compiler.target import Target
from ganglion.compiler.text import BYTES, Code, Index, Reg, vector
from ganglion.shapes import Shape

TASKS = 16  # at least, where the shape gives as many
UNROLLED = 12  # steps of a sum that are written without a loop
KIND = 0.02  # of the time: what one more kind of tile may gain at least, since it is more code


@dataclass(frozen=True)
class Convolution:
    """What a direct convolution computes: each combination of axes is a part of the result.

    ``x`` is (N, C, D, H, W) with the zeros that its windows read; ``rank`` counts the result's own
    spatial dimensions. With ``mixed``, the channels of several groups stand in one vector, and
    that many of them belong to a group.
    """

    x: Layout
    weights: Weights
    kernel: Shape
    phases: tuple[Axes, ...]
    rank: int
    mixed: int = 0

    @property
    def flops(self) -> int:
        w = self.weights
        work = sum(math.prod(a.phases * a.count * a.taps for a in axes) for axes in self.phases)
        return 2 * self.x.shape[0] * work * w.inner * w.groups * w.channels


# --- the choice of tiles --------------------------------------------------------------------------


@cache
def rectangle(
    rows: int, width: int, channels: int, lanes: int, most: int, window: Shape = ()
) -> tuple[int, int, int]:
    """Rows, width and vectors of the tiles that cover ``rows`` * ``width`` pixels in least time.

    They consist of whole windows.
    """
    high, wide = window or (1, 1)
    sizes = [
        (h, w, v)
        for v in (2, 3, 1)
        for w in range(min(width, most // v), 0, -1)
        for h in range(1, min(rows, most // (v * w)) + 1)
        if (v == 1 or (v - 1) * lanes < channels) and h % high == w % wide == 0
    ]
    sizes = sizes or [(high, wide, 1)]  # few registers
    return min(sizes, key=lambda size: time(rows, width, channels, lanes, size))


def time(
    rows: int, width: int, channels: int, lanes: int, size: tuple[int, int, int]
) -> tuple[float, int]:
    """Half cycles for one step of all sums and something for code, and how many different tiles."""
    total, kinds = 0.0, 0
    for h, high in _counts(rows, size[0]):
        for w, wide in _counts(width, size[1]):
            for c, many in _counts(-(-channels // lanes), size[2]):
                pixels = high * wide
                # two loads or products a cycle; a product takes four; the loop takes one
                total += h * w * c * (max(pixels * many, pixels + many, 8) + 1)
                kinds += 1
    return total * (1 + KIND * kinds), kinds


def _counts(size: int, step: int) -> Iterator[tuple[int, int]]:
    """(how many, how long) blocks of ``step`` there are in ``size``."""
    if size >= step:
        yield size // step, step
    if size % step:
        yield 1, size % step


# --- the kernel -----------------------------------------------------------------------------------


def direct(conv: Convolution, epilogue: Epilogue, target: Target) -> Kernel:
    """The kernel of a convolution; a task is an image or a part of one."""
    slices = _slices(conv, epilogue.window, target)
    operands = (conv.x, conv.weights.packed, *epilogue.operands)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        def task(i: Index) -> None:
            n, places, channels = code.split(i, (conv.x.shape[0], *slices))
            for axes in conv.phases:
                each_phase(code, axes, lambda axes: _Phase(
                    code, conv, axes, epilogue, pointers, target
                ).write(n, (places, slices[0]), (channels, slices[1])))  # fmt: skip

        code.loop(low, high, 1, (), task)

    size = sum(layout.numel * BYTES[layout.stored] for layout in operands)
    return Kernel(
        "conv_direct", ("conv direct", conv, epilogue.key, target), emit, operands,
        (0, 1, *(i + 2 for i in epilogue.reads)), tuple(i + 2 for i in epilogue.writes),
        conv.x.shape[0] * math.prod(slices), flops=conv.flops, bytes=size,
    )  # fmt: skip


def _slices(conv: Convolution, window: Shape, target: Target) -> tuple[int, int]:
    """Into how many parts the places and the channels of an image are cut."""
    images, weights = conv.x.shape[0], conv.weights
    tiles = [rectangle_of(axes, weights, window, target) for axes in conv.phases]
    rows = min(_rows(axes, t)[1] for axes, t in zip(conv.phases, tiles, strict=True))
    rows = min(rows, -(-TASKS // images))
    most = min(-(-weights.channels // (t[2] * weights.lanes)) for t in tiles)
    channels = weights.groups if weights.groups > 1 else most
    return rows, min(channels, -(-TASKS // (images * rows)))


def rectangle_of(
    axes: Axes, weights: Weights, window: Shape, target: Target
) -> tuple[int, int, int]:
    """The tile for a part of the result."""
    sizes = axes[1].count, axes[2].count, weights.channels, weights.lanes
    return rectangle(*sizes, target.sums, window)


def _rows(axes: Axes, tile: tuple[int, int, int]) -> tuple[int, int]:
    """The first dimension with several blocks, and how many it has."""
    counts = [-(-a.count // step) for a, step in zip(axes, (1, *tile[:2]), strict=True)]
    return next(((d, n) for d, n in enumerate(counts) if n > 1), (0, 1))


@dataclass
class _Phase:
    """One part of the result being written."""

    code: Code
    conv: Convolution
    axes: Axes
    epilogue: Epilogue
    pointers: Sequence[Reg]
    target: Target

    def write(self, n: Index, places: tuple[Index, int], channels: tuple[Index, int]) -> None:
        """The part of an image that belongs to a task; shares are (which, of how many)."""
        w = self.conv.weights
        tile = rectangle_of(self.axes, w, self.epilogue.window, self.target)
        steps = (1, tile[2] * w.lanes, 1, *tile[:2])
        sizes = (w.groups, w.channels, *[axis.count for axis in self.axes])
        shares = {2 + _rows(self.axes, tile)[0]: places, int(w.groups == 1): channels}
        blocks = []
        for i, (size, step) in enumerate(zip(sizes, steps, strict=True)):
            part, parts = shares.get(i, (0, 1))
            blocks.append((size, step, share(self.code, part, -(-size // step), parts)))
        self._over(n, blocks, [])

    def _over(
        self, n: Index, blocks: Sequence[tuple[int, int, tuple[Index, Index]]],
        found: list[tuple[Index, int]],
    ) -> None:  # fmt: skip
        if not blocks:
            self._tile(n, *found)
            return
        size, step, bounds = blocks[0]
        each_block(
            self.code, size, step,
            lambda at, length: self._over(n, blocks[1:], [*found, (at, length)]), bounds,
        )  # fmt: skip

    def _tile(
        self, n: Index, group: tuple[Index, int], channel: tuple[Index, int],
        *places: tuple[Index, int],
    ) -> None:  # fmt: skip
        code, weights = self.code, self.conv.weights
        (_, high), (_, wide) = places[1:]
        pixels = [(i, j) for i in range(high) for j in range(wide)]
        at = [place for place, _ in places]
        sums = self._sums(n, group[0], channel, at, pixels)
        pairs = zip(at, self.axes, strict=True)
        starts = [code.add(code.mul(i, axis.step), axis.start) for i, axis in pairs]
        base = n, code.dot((group[0], channel[0]), (weights.channels, 1)), *starts
        steps = [axis.step for axis in self.axes]
        offsets = [(0, 0, 0, i * steps[1], j * steps[2]) for i, j in pixels]
        rank = self.conv.rank
        found = Tile(
            narrowed(base, rank), [narrowed(o, rank) for o in offsets], 1, channel[1], sums
        )
        self.epilogue.emit(code, self.pointers[2:], found)

    def _sums(
        self, n: Index, group: Index, channel: tuple[Index, int], at: Sequence[Index],
        pixels: Sequence[tuple[int, int]],
    ) -> Registers:  # fmt: skip
        """The sums of a tile: of ``pixels`` from ``at`` on, for (first channel, how many)."""
        code, x, weights = self.code, self.conv.x, self.conv.weights
        vectors = -(-channel[1] // weights.lanes)
        initial = zeros(len(pixels), vectors, vector(x.stored, weights.lanes))
        if not all(axis.taps for axis in self.axes):
            return initial
        first = code.mul(group, weights.inner)
        if self.conv.mixed:
            first = code.mul(code.divmod(channel[0], self.conv.mixed)[0], weights.inner)
        place = code.dot((n, first), x.strides[:2], x.offset)
        for i, axis, stride in zip(at, self.axes, x.strides[2:], strict=True):
            place = code.dot((i, axis.offset), (axis.move * stride, stride), place)
        which, _ = code.divmod(channel[0], weights.lanes)
        packed = code.dot((group, which), weights.packed.strides[:2])
        rows = [
            i * self.axes[1].move * x.strides[3] + j * self.axes[2].move * x.strides[4]
            for i, j in pixels
        ]
        source = code.at_index(self.pointers[0], place, x.stored)
        panel = code.at_index(self.pointers[1], packed, x.stored)
        return self._over_taps(0, (source, panel), rows, channel[1], initial)

    def _over_taps(
        self, dim: int, sources: tuple[Reg, Reg], rows: Sequence[int], columns: int, sums: Registers
    ) -> Registers:
        """Add the products of all taps from spatial dimension ``dim`` on."""
        code, weights, element = self.code, self.conv.weights, self.conv.x.stored
        if dim == len(self.axes):
            return self._inner(sources, rows, columns, weights.inner, sums)
        axis, stride = self.axes[dim], self.conv.x.strides[2 + dim]
        step = math.prod(self.conv.kernel[dim + 1 :]) * weights.inner * weights.lanes
        if dim == len(self.axes) - 1 and self._runs(axis):
            return self._inner(sources, rows, columns, axis.taps * weights.inner, sums)

        def once(t: Index, sums: Registers) -> Registers:
            here = code.at_index(sources[0], code.mul(t, axis.spacing * stride), element)
            which = code.add(code.mul(t, axis.skip), axis.first)
            there = code.at_index(sources[1], code.mul(which, step), element)
            return self._over_taps(dim + 1, (here, there), rows, columns, sums)

        unroll = axis.taps if self._steps(dim) <= UNROLLED else 1
        return summed(code, axis.taps, sums, once, unroll=unroll)

    def _steps(self, dim: int) -> int:
        """Terms of a sum over the taps from spatial dimension ``dim`` on."""
        return math.prod(axis.taps for axis in self.axes[dim:]) * self.conv.weights.inner

    def _runs(self, axis: Axis) -> bool:
        """Whether taps and inner channels follow each other in both operands."""
        x, inner = self.conv.x, self.conv.weights.inner
        dense = x.strides[1] == 1 and x.strides[4] == inner
        return not self.conv.mixed and dense and axis.spacing == axis.skip == 1 and axis.first == 0

    def _inner(
        self, sources: tuple[Reg, Reg], rows: Sequence[int], columns: int, k: int, sums: Registers
    ) -> Registers:
        """Add the products of ``k`` channels that follow each other."""
        if self.conv.mixed:
            return self._own_channels(sources, rows, columns, sums)
        weights, element = self.conv.weights, self.conv.x.stored
        vectors = range(0, len(sums[0]) * weights.vector, weights.vector)
        unroll = k if k <= UNROLLED else 1
        return tile(
            self.code, rows, vectors, k, sources[0], self.conv.x.strides[1], sources[1],
            weights.lanes, initial=sums, element=element, lanes=weights.lanes, unroll=unroll,
        )  # fmt: skip

    def _own_channels(
        self, sources: tuple[Reg, Reg], rows: Sequence[int], columns: int, sums: Registers
    ) -> Registers:
        """Add the products of each lane with the inner channels of its own group."""
        code, weights, mixed = self.code, self.conv.weights, self.conv.mixed
        lanes, inner, element = weights.lanes, weights.inner, self.conv.x.stored
        type, result = vector(element, lanes), [list(row) for row in sums]
        for v in range(len(sums[0])):
            channels = own_channels(lanes, mixed, inner)
            skipped, count = v * lanes // mixed * inner, columns // mixed * inner
            panel = code.at_index(sources[1], v * weights.vector, element)
            ws = [code.load(code.at_index(panel, k * lanes, element), type) for k in range(inner)]
            for r, row in enumerate(rows):
                place = code.at_index(sources[0], row + skipped, element)
                loaded = [
                    load_lanes(code, code.at_index(place, i, element), type, count - skipped - i)
                    for i in range(0, 1 + max(channels[-1]), lanes)
                ]
                for picks, w in zip(channels, ws, strict=True):
                    x = picked(code, loaded, picks)
                    result[r][v] = multiply_add(code, x, w, result[r][v])
        return result


def own_channels(lanes: int, mixed: int, inner: int) -> list[list[int]]:
    """For each inner channel, where each lane finds it among the channels of a vector's groups."""
    return [[i // mixed * inner + k for i in range(lanes)] for k in range(inner)]


def picked(code: Code, loaded: Sequence[Reg], picks: Sequence[int]) -> Reg:
    """Lanes picked from one or two vectors."""
    if len(loaded) == 1 and list(picks) == list(range(len(picks))):
        return loaded[0]
    return code.shuffle(loaded[0], loaded[1] if len(loaded) > 1 else None, picks)
