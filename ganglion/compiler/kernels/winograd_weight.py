"""Winograd's gradient for 3x3 weights: both operands transformed, multiplied plane by plane.

Images are cut into chunks. A task transforms some rows of tiles of its chunk at a time, so that
they stay in its cache, and adds their products to sums of its own; ``weights.finish`` adds the
chunks in order and transforms what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ganglion.compiler.kernel import Kernel, Layout
from ganglion.compiler.kernels.axes import Axes, apart, each_block, share
from ganglion.compiler.kernels.direct import rectangle
from ganglion.compiler.kernels.tile import tile
from ganglion.compiler.kernels.weights import Gradient
from ganglion.compiler.kernels.winograd import (
    CACHE,
    PATCH,
    PLANES,
    SIDE,
    Patches,
    Tiles,
    plane,
    rounded,
)
from ganglion.compiler.kernels.winograd_transforms import VECTOR, both_ways, products_to_weights
from ganglion.compiler.target import Target
from ganglion.compiler.text import LANES, Code, Index, Reg, const

GROUP = 64  # channels whose sums fit a cache, beside those of as many others
MANY_TILES, FEW_TILES = 256, 64  # of a chunk; less only for more than one task, and no less
CHUNKS = 8
NOTHING = const(0, VECTOR)


@dataclass(frozen=True)
class WinogradWeight:
    """x (N, C, 1, H, W) and g (N, OC, 1, H', W') with dense channels."""

    x: Layout
    g: Layout
    axes: Axes

    @property
    def tiles(self) -> Tiles:
        return Tiles(self.x.shape[0], self.axes[1].count, self.axes[2].count)

    @cached_property
    def groups(self) -> tuple[int, int]:
        """Input and output channels of a task."""
        return min(self.x.shape[1], GROUP), min(self.g.shape[1], GROUP)

    @cached_property
    def gradient(self) -> Gradient:
        """The partial sums: a plane for each product."""
        inner, outs = self.x.shape[1], self.g.shape[1]
        tiles, parts = self.tiles.rows * self.tiles.wide, math.prod(self.parts)
        wanted = max(tiles // MANY_TILES, min(4, tiles // FEW_TILES))
        chunks = max(1, min(wanted, -(-CHUNKS // parts), self.tiles.images))
        return Gradient(self.x.dtype, chunks, 1, outs, inner, 9, PLANES, LANES)

    @property
    def parts(self) -> tuple[int, int]:
        """Groups of input and of output channels."""
        inner, outs = self.groups
        return -(-self.x.shape[1] // inner), -(-self.g.shape[1] // outs)

    @cached_property
    def rows(self) -> int:
        """Rows of tiles that are transformed at a time."""
        tiles = CACHE // (4 * PLANES * sum(map(rounded, self.groups)))
        each = -(-self.tiles.rows // self.gradient.chunks)
        most = max(1, min(each, tiles // self.tiles.wide))
        even = max(n for n in range(1, most + 1) if each % n == 0)
        return even if 2 * even > most else most

    @property
    def most(self) -> int:
        """Tiles that are transformed at a time."""
        return self.rows * self.tiles.wide

    def sides(self, inner: int, outs: int) -> tuple[Patches, Patches]:
        """What is transformed of both operands, of that many channels."""
        corner = self.axes[1].offset, self.axes[2].offset
        return (
            Patches(self.x, self.tiles, corner, PATCH, inner, self.most),
            Patches(self.g, self.tiles, (0, 0), SIDE, outs, self.most),
        )


def winograd_weight(conv: WinogradWeight, target: Target) -> Kernel:
    """The kernel of partial gradients; a task is a chunk for some channels."""
    inner, outs = conv.groups
    sides = conv.sides(inner, outs)
    middle, end = (PLANES * sum(side.plane for side in sides[:n]) for n in (1, 2))
    columns = max(side.scratch for side in sides)
    sizes = (conv.gradient.chunks, *conv.parts)
    operands = (conv.x, conv.g, conv.gradient.partial)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        slopes, columns = (code.at_index(scratch, n, "float") for n in (middle, end))
        writer = _Writer(code, conv, pointers, target, scratch, slopes, columns)

        def task(i: Index) -> None:
            chunk, *parts = code.split(i, sizes)
            bounds = [(part, code.add(part, 1)) for part in parts]
            each_block(code, conv.x.shape[1], inner, lambda c, ins: each_block(
                code, conv.g.shape[1], outs, lambda o, outs: writer.chunk(
                    chunk, (c, ins), (o, outs)
                ), bounds[1]
            ), bounds[0])  # fmt: skip

        code.loop(low, high, 1, (), task)

    tiles = conv.tiles.rows * conv.tiles.wide
    return Kernel(
        "conv_weight_winograd", ("conv weight winograd", conv, target), emit, operands, (0, 1),
        (2,), math.prod(sizes), 4 * (end + columns),
        flops=2 * PLANES * tiles * conv.x.shape[1] * conv.g.shape[1],
        bytes=4 * sum(layout.numel for layout in operands),
    )  # fmt: skip


@dataclass
class _Writer:
    code: Code
    conv: WinogradWeight
    pointers: Sequence[Reg]
    target: Target
    values: Reg  # planes of transformed inputs
    slopes: Reg  # planes of transformed gradients
    columns: Reg  # on the way there

    def chunk(self, chunk: Index, ins: tuple[Index, int], outs: tuple[Index, int]) -> None:
        """The sums of a chunk for some channels (first, how many)."""
        code, conv = self.code, self.conv
        low, high = share(code, chunk, conv.tiles.rows, conv.gradient.chunks)
        places = zip(self.pointers, (self.values, self.slopes), (ins[0], outs[0]), strict=False)
        sides = list(zip(conv.sides(ins[1], outs[1]), places, strict=True))

        def block(q: Index) -> None:
            count = code.minimum(conv.rows, code.add(high, code.mul(q, -1)))
            for side, (source, out, channel) in sides:
                side.write(code, source, out, self.columns, (q, count), channel)
            tiles = code.mul(count, conv.tiles.wide)
            first = code.compare("eq", q, low)
            apart(code, "sums", (self.pointers[2], self.values, self.slopes, chunk, tiles, first,
                                 *ins, *outs), self._add)  # fmt: skip

        code.loop(low, high, conv.rows, (), block)

    def _add(
        self, code: Code, partial: Reg, values: Reg, slopes: Reg, chunk: Index, tiles: Index,
        first: Reg, in_: Index, ins: int, out: Index, outs: int,
    ) -> None:  # fmt: skip
        """Add the products of all planes of some tiles to the sums of a chunk."""
        strides, inner = self.conv.gradient.partial.strides, self.conv.gradient.inner
        _, high, vectors = rectangle(1, ins, outs, LANES, self.target.sums)
        most = self.conv.most

        def part(s: Index, c: Index, count: int, o: Index, length: int) -> None:
            a = code.at_index(values, code.dot((s,), (plane(most, ins),), c), "float")
            b = code.at_index(slopes, code.dot((s,), (plane(most, outs),), o), "float")
            which, _ = code.divmod(code.add(out, o), LANES)
            row = code.add(code.dot((s,), (inner,), in_), c)
            place = code.dot((chunk, which, row), (strides[0], strides[2], strides[3]))
            start = code.at_index(partial, place, "float")
            places = [
                [
                    code.at_index(start, r * LANES + v * strides[2], "float")
                    for v in range(-(-length // LANES))
                ]
                for r in range(count)
            ]
            before = [
                [code.select(first, NOTHING, code.load(at, VECTOR)) for at in line]
                for line in places
            ]
            sums = tile(
                code, range(count), len(places[0]), tiles, a, rounded(ins), b, rounded(outs),
                initial=before,
            )  # fmt: skip
            for line, values_ in zip(places, sums, strict=True):
                for at, value in zip(line, values_, strict=True):
                    code.store(value, at)

        code.loop(0, PLANES, 1, (), lambda s: each_block(
            code, outs, vectors * LANES, lambda o, length: each_block(
                code, ins, high, lambda c, count: part(s, c, count, o, length)
            )
        ))  # fmt: skip


def winograd_taps(code: Code, planes: Sequence[Reg]) -> list[Reg]:
    """The 9 weights' gradients from those of 36 products."""
    grid = [list(planes[i : i + PATCH]) for i in range(0, PLANES, PATCH)]
    return [value for row in both_ways(code, grid, products_to_weights) for value in row]
