"""The direct gradient of a convolution for its weights: a product over all pixels.

A tile has rows of (tap, inner channel) and a few vectors of output channels; its sums run over the
pixels of a block of images, which caches hold. Images are cut into chunks, each with sums of its
own, and ``weights.finish`` adds the chunks in order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ganglion.compiler.kernel import Kernel, Layout
from ganglion.compiler.kernels.axes import Axes, each_block, share
from ganglion.compiler.kernels.direct import (
    TASKS,
    own_channels,
    picked,
    rectangle,
)
from ganglion.compiler.kernels.tile import (
    Registers,
    load_lanes,
    multiply_add,
    summed,
    tile,
)
from ganglion.compiler.kernels.weights import Gradient, lanes_for
from ganglion.compiler.target import Target
from ganglion.compiler.text import BYTES, Code, Index, Reg, const, vector
from ganglion.shapes import Shape

FEW_ROWS = 12  # rows of a tile that are too few
PIXELS = 512  # of a chunk, at least
BLOCK_BYTES = 1 << 18  # of inputs and gradients that one pass over all tiles reads
LARGEST = 1 << 21  # elements of all partial gradients


@dataclass(frozen=True)
class WeightConvolution:
    """x (N, C, D, H, W) with the zeros that windows read, g (N, OC, ...) with dense channels.

    ``mixed``: the output channels of a group, if several groups share a vector; else 0.
    """

    x: Layout
    g: Layout
    kernel: Shape
    axes: Axes
    groups: int
    mixed: int = 0

    @property
    def inner(self) -> int:
        """Input channels of a group."""
        return self.x.shape[1] // self.groups

    @property
    def pixels(self) -> int:
        """Windows of an image."""
        return math.prod(axis.count for axis in self.axes)

    @cached_property
    def gradient(self) -> Gradient:
        """The partial sums."""
        groups = 1 if self.mixed else self.groups
        channels, taps = self.g.shape[1] // groups, math.prod(self.kernel)
        images, size = self.x.shape[0], taps * self.inner * self.g.shape[1]
        most = min(TASKS, images * self.pixels // PIXELS, LARGEST // size)
        lanes = lanes_for(channels, self.g.stored)
        return Gradient(
            self.g.dtype, min(images, max(1, most)), groups, channels, self.inner, taps, taps, lanes
        )

    @cached_property
    def looped(self) -> int:
        """How many kernel dimensions are looped over; rows of tiles are made of the others."""
        runs = self.x.strides[1] == 1 and self.x.strides[4] == self.inner
        looped = 2 if runs and self.axes[2].spacing == 1 else 3
        return 0 if self.mixed or len(self._offsets(looped)) < FEW_ROWS else looped

    @cached_property
    def rows(self) -> list[int]:
        """The places in x of all rows that belong to a turn of the looped taps."""
        return self._offsets(self.looped)

    def _offsets(self, looped: int) -> list[int]:
        found = [0]
        spacings = [axis.spacing for axis in self.axes]
        steps = [s * t for s, t in zip(self.x.strides[2:], spacings, strict=True)]
        for taps, step in zip(self.kernel[looped:], steps[looped:], strict=True):
            found = [at + t * step for at in found for t in range(taps)]
        return [at + c * self.x.strides[1] for at in found for c in range(self.inner)]


def direct_weight(conv: WeightConvolution, target: Target) -> Kernel:
    """The kernel of partial gradients; a task is some images and some of the weights."""
    writer = _Plan(conv, target)
    operands = (conv.x, conv.g, conv.gradient.partial)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        code.loop(low, high, 1, (), lambda i: _Writer(code, pointers, writer).task(i))

    weights = conv.g.shape[1] * conv.inner * math.prod(conv.kernel)
    return Kernel(
        "conv_weight_direct", ("conv weight direct", conv, target), emit, operands, (0, 1), (2,),
        math.prod(writer.sizes), flops=2 * conv.x.shape[0] * conv.pixels * weights,
        bytes=sum(layout.numel * BYTES[layout.stored] for layout in operands),
    )  # fmt: skip


class _Plan:
    """Sizes of tiles, blocks and tasks."""

    def __init__(self, conv: WeightConvolution, target: Target) -> None:
        self.conv, self.gradient, self.target = conv, conv.gradient, target
        self.outer = math.prod(conv.kernel[: conv.looped])
        if conv.mixed:
            self.high, self.vectors = max(1, (target.sums - 1) // conv.inner) * conv.inner, 1
        else:
            size = len(conv.rows), self.gradient.channels, self.gradient.lanes
            _, self.high, self.vectors = rectangle(1, *size, target.sums)
        self.step = self.vectors * self.gradient.lanes
        self.panels = -(-self.gradient.channels // self.step)
        self.sizes = self._sizes()
        self.images, self.lines = self._block()

    def _sizes(self) -> tuple[int, int, int]:
        """Tasks: chunks of images, parts of (groups or else taps), parts of the channels."""
        wanted = -(-TASKS // max(1, self.gradient.chunks))
        channels = max(n for n in range(1, self.panels + 1) if self.panels % n == 0 and n <= wanted)
        outer = self.gradient.groups if self.gradient.groups > 1 else self.outer
        return self.gradient.chunks, outer if channels < wanted else 1, channels

    def _block(self) -> tuple[int, int]:
        """Images, or lines of one image, that a pass over all tiles reads."""
        conv = self.conv
        image = conv.pixels * (conv.x.shape[1] + conv.g.shape[1]) * BYTES[conv.x.stored]
        if image <= BLOCK_BYTES:
            return max(1, PIXELS // conv.pixels), 0
        depth, height, _ = (axis.count for axis in conv.axes)
        line = image // (depth * height)
        return 1, min(height, max(1, BLOCK_BYTES // line))


class _Pixels(NamedTuple):
    """A block of pixels: where it starts (n, d, h), how many of each, whether a chunk's first."""

    at: tuple[Index, Index, Index]
    counts: tuple[Index, Index, Index]
    first: Reg | bool


class _Part(NamedTuple):
    """A tile of the gradient: some channels of the result, and rows from ``row`` on.

    Their inputs stand at ``places`` after ``skipped``.
    """

    chunk: Index
    group: Index
    channel: Index
    columns: int
    row: Index
    skipped: Index
    places: Sequence[int]


@dataclass
class _Writer:
    code: Code
    pointers: Sequence[Reg]
    plan: _Plan

    @property
    def conv(self) -> WeightConvolution:
        return self.plan.conv

    def task(self, i: Index) -> None:
        code, plan = self.code, self.plan
        chunk, *parts = code.split(i, plan.sizes)
        low, high = share(code, chunk, self.conv.x.shape[0], plan.gradient.chunks)

        def images(n: Index) -> None:
            if plan.lines:
                self._lines(chunk, parts, n, low)
                return
            count = code.minimum(plan.images, code.add(high, code.mul(n, -1)))
            depth, height, _ = (axis.count for axis in self.conv.axes)
            first = _same(code, [(n, low)])
            self._pass(chunk, parts, _Pixels((n, 0, 0), (count, depth, height), first))

        code.loop(low, high, plan.images, (), images)

    def _lines(self, chunk: Index, parts: Sequence[Index], n: Index, low: Index) -> None:
        """An image, some lines at a time."""
        depth, height, _ = (axis.count for axis in self.conv.axes)

        def block(d: Index, h: Index, length: int) -> None:
            first = _same(self.code, [(n, low), (d, 0), (h, 0)])
            self._pass(chunk, parts, _Pixels((n, d, h), (1, 1, length), first))

        self.code.loop(0, depth, 1, (), lambda d: each_block(
            self.code, height, self.plan.lines, lambda h, length: block(d, h, length)
        ))  # fmt: skip

    def _pass(self, chunk: Index, parts: Sequence[Index], pixels: _Pixels) -> None:
        """Add a block of pixels to all sums of a task."""
        code, plan = self.code, self.plan
        groups = plan.gradient.groups
        some = share(code, parts[0], groups if groups > 1 else plan.outer, plan.sizes[1])
        group, taps = (some, (0, plan.outer)) if groups > 1 else ((0, 1), some)
        channels = share(code, parts[1], plan.panels, plan.sizes[2])

        def panel(g: Index, c: Index, columns: int) -> None:
            part = _Part(chunk, g, c, columns, 0, 0, ())
            code.loop(*taps, 1, (), lambda t: self._rows(part, t, pixels))

        code.loop(*group, 1, (), lambda g: each_block(
            code, plan.gradient.channels, plan.step, lambda c, columns: panel(g, c, columns),
            channels,
        ))  # fmt: skip

    def _rows(self, part: _Part, taps: Index, pixels: _Pixels) -> None:
        """All tiles of a panel at a turn of the looped taps."""
        code, conv, high = self.code, self.conv, self.plan.high
        rows = conv.rows
        which = code.split(taps, conv.kernel[: conv.looped])
        steps = [a.spacing * s for a, s in zip(conv.axes, conv.x.strides[2:], strict=True)]
        start = code.dot(which, steps[: conv.looped])

        def block(m: Index, places: Sequence[int], skipped: Index) -> None:
            row = code.add(code.mul(taps, len(rows)), m)
            self._tile(part._replace(row=row, skipped=skipped, places=places), pixels)

        if not conv.looped:
            for m in range(0, len(rows), high):
                block(m, rows[m : m + high], start)
            return
        step = conv.x.strides[1]  # rows follow each other evenly
        each_block(code, len(rows), high, lambda m, length: block(
            m, rows[:length], code.add(start, code.mul(m, step))
        ))  # fmt: skip

    def _tile(self, part: _Part, pixels: _Pixels) -> None:
        code, conv, gradient = self.code, self.conv, self.plan.gradient
        strides, lanes, element = gradient.partial.strides, gradient.lanes, conv.x.stored
        which, _ = code.divmod(part.channel, lanes)
        place = code.dot((part.chunk, part.group, which, part.row), strides[:4])
        out = code.at_index(self.pointers[2], place, element)
        vectors = range(0, -(-part.columns // lanes) * strides[2], strides[2])
        places = [
            [code.at_index(out, r * lanes + v, element) for v in vectors]
            for r in range(len(part.places))
        ]
        sums = self._sums(part, pixels, self._initial(places, pixels.first))
        for line, values in zip(places, sums, strict=True):
            for at, value in zip(line, values, strict=True):
                code.store(value, at)

    def _initial(self, places: Sequence[Sequence[Reg]], first: Reg | bool) -> Registers:
        """Zeros for the first block of a chunk, then what has been summed."""
        type = vector(self.conv.x.stored, self.plan.gradient.lanes)
        nothing = const(0, type)
        if isinstance(first, bool):
            return [[nothing] * len(line) for line in places]
        return [
            [self.code.select(first, nothing, self.code.load(at, type)) for at in line]
            for line in places
        ]

    def _sums(self, part: _Part, pixels: _Pixels, initial: Registers) -> Registers:
        """A tile's sums over a block of pixels."""
        code, conv, gradient = self.code, self.conv, self.plan.gradient
        x, g = conv.x, conv.g
        inner = code.mul(part.group, conv.inner)
        if conv.mixed:
            inner = code.mul(code.divmod(part.channel, conv.mixed)[0], conv.inner)
        channel = code.add(code.mul(part.group, gradient.channels), part.channel)
        n, *at = pixels.at
        place = code.add(part.skipped, code.dot((n, inner), x.strides[:2], x.offset))
        there = code.dot((n, channel, *at), g.strides[:4], g.offset)
        moves = [a.move * s for a, s in zip(conv.axes, x.strides[2:], strict=True)]
        place = code.dot((*at, 0), moves, place)
        place = code.dot([a.offset for a in conv.axes], x.strides[2:], place)
        steps = [(x.strides[0], g.strides[0]), *zip(moves, g.strides[2:], strict=True)]
        levels = [(k, *step) for k, step in zip(pixels.counts, steps, strict=False)]
        source = code.at_index(self.pointers[0], place, x.stored)
        there = code.at_index(self.pointers[1], there, g.stored)
        return self._over(levels, (source, there), steps[-1], part, initial)

    def _over(
        self, levels: Sequence[tuple[Index, int, int]], sources: tuple[Reg, Reg],
        step: tuple[int, int], part: _Part, sums: Registers,
    ) -> Registers:  # fmt: skip
        """Sums over loops (how many, step in x, step in g), then along lines."""
        if not levels:
            return self._line(sources, step, part, sums)
        code, element, (count, *steps) = self.code, self.conv.x.stored, levels[0]

        def once(i: Index, sums: Registers) -> Registers:
            x, g = (
                code.at_index(p, code.mul(i, s), element)
                for p, s in zip(sources, steps, strict=True)
            )
            return self._over(levels[1:], (x, g), step, part, sums)

        return summed(code, count, sums, once)

    def _line(
        self, sources: tuple[Reg, Reg], step: tuple[int, int], part: _Part, sums: Registers
    ) -> Registers:
        """Sums along a line of pixels."""
        size, conv, lanes = len(sums) * len(sums[0]), self.conv, self.plan.gradient.lanes
        width = conv.axes[2].count
        unroll = width if width * size <= 4 * self.plan.target.sums else 1
        if conv.mixed:
            return summed(
                self.code, width, sums,
                lambda i, sums: self._own_channels(i, sources, step, part, sums), unroll=unroll,
            )  # fmt: skip
        return tile(
            self.code, part.places, len(sums[0]), width, sources[0], step[0], sources[1], step[1],
            initial=sums, columns=part.columns, element=conv.x.stored, lanes=lanes, unroll=unroll,
        )  # fmt: skip

    def _own_channels(
        self, i: Index, sources: tuple[Reg, Reg], step: tuple[int, int], part: _Part,
        sums: Registers,
    ) -> Registers:  # fmt: skip
        """Add a pixel: each lane's gradient times the inner channels of its own group."""
        code, conv, lanes = self.code, self.conv, self.plan.gradient.lanes
        element, picks = conv.x.stored, own_channels(lanes, conv.mixed, conv.inner)
        type, count = vector(element, lanes), part.columns // conv.mixed * conv.inner
        x, g = (
            code.at_index(p, code.mul(i, s), element) for p, s in zip(sources, step, strict=True)
        )
        gradient, result = load_lanes(code, g, type, part.columns), []
        for tap in range(0, len(sums), conv.inner):
            place = code.at_index(x, part.places[tap], element)
            loaded = [
                load_lanes(code, code.at_index(place, j, element), type, count - j)
                for j in range(0, 1 + max(picks[-1]), lanes)
            ]
            for k, pick in enumerate(picks):
                value = picked(code, loaded, pick)
                result.append([multiply_add(code, value, gradient, sums[tap + k][0])])
        return result


def _same(code: Code, pairs: Sequence[tuple[Index, Index]]) -> Reg | bool:
    """Whether all pairs are equal; True where that is known."""
    tests = [code.compare("eq", x, y) for x, y in pairs if x is not y and x != y]
    if not tests:
        return True
    found = tests[0]
    for test in tests[1:]:
        found = code.op("and", found, test)
    return found
