"""Winograd's F(4x4, 3x3): 16 pixels from a patch of 36 numbers with 36 products instead of 144.

Lavin and Gray 2015, arXiv:1509.09308, with the points 0, ±3/4, ±3/2 and infinity, whose errors are
a quarter of those of 0, ±1, ±2. Three transforms, each applied to columns and then to rows, lead
from 6 inputs, 3 weights and 6 products to what is multiplied, and to 4 results; the transposed
ones serve the gradient for the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ganglion.compiler.kernel import Epilogue, Kernel, Layout, Tile, row_major
from ganglion.compiler.kernels.axes import Axes, apart, each_block
from ganglion.compiler.kernels.direct import TASKS, rectangle
from ganglion.compiler.kernels.tile import load_lanes, tile
from ganglion.compiler.kernels.weights import Weights, weight_lanes
from ganglion.compiler.kernels.winograd_transforms import (
    VECTOR,
    Grid,
    Transform,
    both_ways,
    inputs_to_products,
    products_to_results,
    results_to_products,
    weights_to_products,
)
from ganglion.compiler.target import Target
from ganglion.compiler.text import BYTES, LANES, Code, Index, Reg, const, void

SIDE, PATCH, PLANES = 4, 6, 36
WIDEST = 24  # tiles in a row
CACHE = 400 << 10  # bytes of transformed inputs and products that stay in the second level

# --- geometry -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tiles:
    """The 4x4 tiles of ``images`` results, in rows; across wide images there are several rows."""

    images: int
    height: int
    width: int

    @property
    def across(self) -> int:
        """Tiles across an image."""
        return -(-self.width // SIDE)

    @property
    def down(self) -> int:
        """Tiles down an image."""
        return -(-self.height // SIDE)

    @property
    def wide(self) -> int:
        """Tiles in a row."""
        return max(n for n in range(1, WIDEST + 1) if self.across % n == 0)

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return self.images * self.down * self.across // self.wide

    def place(self, code: Code, row: Index) -> tuple[Index, Index, Index]:
        """The image, how far down and how far across a row begins, in tiles."""
        n, down, part = code.split(row, (self.images, self.down, self.across // self.wide))
        return n, down, code.mul(part, self.wide)


def rounded(channels: int) -> int:
    """Channels in whole vectors."""
    return -(-channels // LANES) * LANES


def plane(tiles: int, channels: int) -> int:
    """Elements from a plane to the next; 64 bytes more, or planes would meet in the cache."""
    return tiles * rounded(channels) + LANES


@dataclass(frozen=True)
class Patches:
    """The patches under tiles: transformed into planes (36, tile, channel), ``most`` tiles at once.

    The patch of the first tile starts ``corner`` pixels from the first pixel; what lies outside of
    the image is zero. The columns under a row of tiles come first: neighbours share them.
    """

    layout: Layout
    tiles: Tiles
    corner: tuple[int, int]
    side: int
    channels: int
    most: int

    @property
    def plane(self) -> int:
        return plane(self.most, self.channels)

    @property
    def step(self) -> int:
        """Elements from a pixel to the next in scratch memory."""
        return rounded(self.channels)

    @property
    def wide(self) -> int:
        """Pixels across a row of tiles."""
        return SIDE * (self.tiles.wide - 1) + self.side

    @property
    def line(self) -> int:
        """Elements of a row of pixels."""
        return self.wide * self.step

    @property
    def one(self) -> Transform:
        """The transform of a column or a row."""
        return inputs_to_products if self.side == PATCH else results_to_products

    @property
    def scratch(self) -> int:
        """Elements: transformed columns, and a pixel of zeros."""
        return PATCH * self.line + self.step

    def write(
        self, code: Code, source: Reg, out: Reg, scratch: Reg, rows: tuple[Index, Index],
        channel: Index,
    ) -> None:  # fmt: skip
        """Transform ``rows`` (first, how many) of tiles, ``channels`` from ``channel`` on."""
        apart(code, "patches", (source, out, scratch, *rows, channel), self._rows)

    def _rows(
        self, code: Code, source: Reg, out: Reg, columns: Reg, first: Index, count: Index,
        channel: Index,
    ) -> None:  # fmt: skip
        start = code.at_index(source, code.add(channel, self.layout.offset), "float")
        nothing = code.at_index(columns, PATCH * self.line, "float")
        _clear(code, nothing, self.step)

        def row(q: Index) -> None:
            n, *at = self.tiles.place(code, code.add(first, q))
            y, x = (code.add(code.mul(i, SIDE), c) for i, c in zip(at, self.corner, strict=True))
            self._columns(code, (start, columns, nothing), n, y, x)
            target = code.at_index(out, code.mul(q, self.tiles.wide * self.step), "float")
            code.loop(0, PATCH, 1, (), lambda i: self._row(code, columns, target, i))

        code.loop(0, count, 1, (), row)

    def _columns(
        self, code: Code, places: tuple[Reg, Reg, Reg], n: Index, y: Index, x: Index
    ) -> None:
        """Transform the columns of an image from pixel (y, x) on."""
        source, columns, nothing = places
        _, _, _, height, width = self.layout.shape
        samples, _, _, *steps = self.layout.strides
        low, end = (_bounded(code, code.add(n, code.mul(x, -1)), self.wide) for n in (0, width))
        rows = [code.add(y, i) for i in range(self.side)]
        inside = [code.compare("ult", row, height) for row in rows]
        starts = [code.dot((n, row, x), (samples, *steps)) for row in rows]
        lines = [code.at_index(source, start, "float") for start in starts]

        def pixel(p: Index) -> None:
            there = code.at_index(columns, code.mul(p, self.step), "float")
            step = code.mul(p, steps[1])
            here = [
                code.select(test, code.at_index(line, step, "float"), nothing)
                for test, line in zip(inside, lines, strict=True)
            ]
            each_block(code, self.channels, LANES, lambda c, length: self._column(
                code, [code.at_index(place, c, "float") for place in here],
                code.at_index(there, c, "float"), length,
            ))  # fmt: skip

        for i in range(PATCH):
            line = code.at_index(columns, i * self.line, "float")
            _clear(code, line, code.mul(low, self.step))
            after = code.mul(end, self.step)
            left = code.add(self.line, code.mul(after, -1))
            _clear(code, code.at_index(line, after, "float"), left)
        code.guarded_loop(low, end, 1, pixel)

    def _column(self, code: Code, source: Sequence[Reg], target: Reg, length: int) -> None:
        values = [load_lanes(code, place, VECTOR, length) for place in source]
        store_apart(code, self.one(code, values), target, self.line)

    def _row(self, code: Code, columns: Reg, out: Reg, i: Index) -> None:
        """Transform one row of all patches: six planes are written from beginning to end."""
        line = code.at_index(columns, code.mul(i, self.line), "float")
        planes = code.at_index(out, code.mul(i, PATCH * self.plane), "float")

        def patch(t: Index, c: Index) -> None:
            start = code.at_index(line, code.dot((t, c), (SIDE * self.step, 1)), "float")
            places = [code.at_index(start, j * self.step, "float") for j in range(self.side)]
            values = self.one(code, [code.load(place, VECTOR) for place in places])
            place = code.at_index(planes, code.dot((t, c), (self.step, 1)), "float")
            store_apart(code, values, place, self.plane)

        code.loop(0, self.tiles.wide, 1, (), lambda t: void(
            code.loop(0, self.step, LANES, (), lambda c: patch(t, c))
        ))  # fmt: skip


def _bounded(code: Code, x: Index, most: int) -> Index:
    """The number from 0 to ``most`` nearest to ``x``."""
    above = code.minimum(code.mul(x, -1), 0)
    return code.minimum(code.mul(above, -1), most)


def _clear(code: Code, place: Reg, count: Index) -> None:
    """Zeros, in whole vectors."""
    code.guarded_loop(0, count, LANES, lambda i: code.store(
        const(0, VECTOR), code.at_index(place, i, "float")
    ))  # fmt: skip


def store_apart(code: Code, values: Sequence[Reg], place: Reg, step: int) -> None:
    """Values ``step`` elements apart."""
    for i, value in enumerate(values):
        code.store(value, code.at_index(place, i * step, "float"))


def store_planes(code: Code, grid: Grid, place: Reg, step: int) -> None:
    """Each number of a grid into its plane."""
    store_apart(code, [value for row in grid for value in row], place, step)


# --- weights --------------------------------------------------------------------------------------


def transformed(weights: Weights) -> Layout:
    """The weights to multiply with: (planes, vectors, inner channels, lanes)."""
    shape = (PLANES, weights.vectors, weights.inner, LANES)
    step = plane(weights.inner, LANES * weights.vectors)
    return Layout(weights.dtype, shape, (step, *row_major(shape)[1:]), 0, PLANES * step)


def transform_weights(w: Layout, weights: Weights) -> Kernel:
    """The kernel that transforms weights; a task is an inner channel of a vector."""
    target = transformed(weights)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        def task(i: Index) -> None:
            v, k = code.split(i, (weights.vectors, weights.inner))
            steps = weights.vector_step, weights.inner_step
            x = code.at_index(pointers[0], code.dot((v, k), steps, weights.start), "float")
            y = code.at_index(pointers[1], code.mul(i, LANES), "float")

            def one(_: Index, length: int) -> None:
                places = [code.at_index(x, t * weights.tap_step, "float") for t in range(9)]
                taps = [weight_lanes(code, p, weights, length, "float") for p in places]
                grid = both_ways(code, [taps[:3], taps[3:6], taps[6:]], weights_to_products)
                store_planes(code, grid, y, target.strides[0])

            each_block(code, weights.channels, LANES, one, (v, code.add(v, 1)))

        code.loop(low, high, 1, (), task)

    return Kernel(
        "winograd_weights", ("winograd weights", w, weights), emit, (w, target), (0,), (1,),
        weights.vectors * weights.inner, flops=60 * target.numel // PLANES,
        bytes=(w.numel + target.numel) * 4,
    )  # fmt: skip


# --- the convolution ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Winograd:
    """A 3x3 convolution of x (N, C, 1, H, W) with dense channels.

    ``rows`` of tiles make a task; ``group`` channels of the result are computed at once.
    """

    x: Layout
    weights: Weights
    axes: Axes
    rows: int
    group: int

    @property
    def tiles(self) -> Tiles:
        return Tiles(self.x.shape[0], self.axes[1].count, self.axes[2].count)

    @property
    def most(self) -> int:
        """Tiles of a task."""
        return self.rows * self.tiles.wide


def task_rows(tiles: Tiles, inner: int, group: int) -> int:
    """Rows of tiles in a task: what caches hold, but as many tasks as can be."""
    most = CACHE // (PLANES * 4 * (rounded(inner) + group)) // tiles.wide
    few = -(-8 // tiles.wide)  # fewer tiles do not fill the pipeline
    return max(1, min(most, -(-16 // tiles.wide), max(few, tiles.rows // TASKS)))


def winograd(conv: Winograd, epilogue: Epilogue, target: Target) -> Kernel:
    """The kernel of a convolution; a task is some rows of tiles."""
    products = plane(conv.most, conv.group)
    corner = conv.axes[1].offset, conv.axes[2].offset
    patches = Patches(conv.x, conv.tiles, corner, PATCH, conv.weights.inner, conv.most)
    operands = (conv.x, transformed(conv.weights), *epilogue.operands)
    rows = conv.tiles.rows

    writer = _Writer(conv, epilogue, target)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        x, weights, *others = pointers
        after = code.at_index(scratch, PLANES * patches.plane, "float")

        def task(i: Index) -> None:
            first = code.mul(i, conv.rows)
            count = code.minimum(conv.rows, code.add(rows, code.mul(first, -1)))
            patches.write(code, x, scratch, after, (first, count), 0)

            def group(c: Index, length: int) -> None:
                apart(code, "products", (scratch, weights, after, c, length), writer.multiply)
                values = (after, first, count, c, length, *others)
                apart(code, "results", values, writer.finish)

            each_block(code, conv.weights.channels, conv.group, group)

        code.loop(low, high, 1, (), task)

    size = sum(layout.numel * BYTES[layout.stored] for layout in operands)
    flops = 2 * PLANES * conv.tiles.rows * conv.tiles.wide * conv.weights.inner
    return Kernel(
        "conv_winograd", ("conv winograd", conv, epilogue.key, target), emit, operands,
        (0, 1, *(i + 2 for i in epilogue.reads)), tuple(i + 2 for i in epilogue.writes),
        -(-rows // conv.rows),
        4 * (PLANES * patches.plane + max(PLANES * products, patches.scratch)),
        flops=flops * conv.weights.channels, bytes=size,
    )  # fmt: skip


@dataclass
class _Writer:
    conv: Winograd
    epilogue: Epilogue
    target: Target

    @property
    def plane(self) -> int:
        return plane(self.conv.most, self.conv.group)

    def multiply(
        self, code: Code, values: Reg, weights: Reg, products: Reg, channel: Index, channels: int
    ) -> None:
        """All planes of products of some channels (first, how many)."""
        conv, inner = self.conv, self.conv.weights.inner
        step, wide = rounded(inner), rounded(conv.group)
        _, high, vectors = rectangle(1, conv.most, channels, LANES, self.target.sums)
        strides = transformed(conv.weights).strides

        def block(s: Index, c: Index, length: int, m: Index, count: int) -> None:
            which, _ = code.divmod(code.add(channel, c), LANES)
            place = code.dot((s, m), (plane(conv.most, inner), step))
            a = code.at_index(values, place, "float")
            b = code.at_index(weights, code.dot((s, which), strides[:2]), "float")
            panel = range(0, -(-length // LANES) * strides[1], strides[1])
            sums = tile(code, range(0, count * step, step), panel, inner, a, 1, b, LANES)
            place = code.dot((s, m, c), (self.plane, wide, 1))
            out = code.at_index(products, place, "float")
            for r, line in enumerate(sums):
                for v, value in enumerate(line):
                    code.store(value, code.at_index(out, r * wide + v * LANES, "float"))

        code.loop(0, PLANES, 1, (), lambda s: each_block(
            code, channels, vectors * LANES, lambda c, length: each_block(
                code, conv.most, high, lambda m, count: block(s, c, length, m, count)
            )
        ))  # fmt: skip

    def finish(
        self, code: Code, products: Reg, first: Index, count: Index, channel: Index, channels: int,
        *pointers: Reg,
    ) -> None:  # fmt: skip
        """The pixels of some rows of tiles (first, how many), to the epilogue."""
        tiles, size = self.conv.tiles, rounded(self.conv.group)

        def row(q: Index) -> None:
            n, down, across = tiles.place(code, code.add(first, q))
            start = code.mul(q, tiles.wide * size)

            def one(u: Index) -> None:
                place = code.at_index(products, code.dot((u,), (size,), start), "float")
                each_block(code, channels, LANES, lambda c, length: self._tile(
                    code, code.at_index(place, c, "float"),
                    (n, code.add(channel, c), down, code.add(across, u)), length, pointers,
                ))  # fmt: skip

            code.loop(0, tiles.wide, 1, (), one)

        code.loop(0, count, 1, (), row)

    def _tile(
        self, code: Code, place: Reg, at: tuple[Index, ...], columns: int, pointers: Sequence[Reg]
    ) -> None:
        """16 pixels, or fewer at the edge, of tile (n, channel, row, column)."""
        loaded = [
            code.load(code.at_index(place, p * self.plane, "float"), VECTOR) for p in range(PLANES)
        ]
        grid = [loaded[i : i + PATCH] for i in range(0, PLANES, PATCH)]
        found = both_ways(code, grid, products_to_results)
        base = (*at[:2], code.mul(at[2], SIDE), code.mul(at[3], SIDE))

        def hand(high: int, wide: int) -> None:
            offsets = [(0, 0, i, j) for i in range(high) for j in range(wide)]
            registers = [[found[i][j]] for _, _, i, j in offsets]
            self.epilogue.emit(code, pointers, Tile(base, offsets, 1, columns, registers))

        tiles = self.conv.tiles
        _by_kind(code, at[2], tiles.down, tiles.height, lambda high: _by_kind(
            code, at[3], tiles.across, tiles.width, lambda wide: hand(high, wide)
        ))  # fmt: skip


def _by_kind(code: Code, at: Index, tiles: int, size: int, body: Callable[[int], None]) -> None:
    """``body`` with how many pixels of a tile are inside the result along a dimension."""
    rest = size % SIDE
    if not rest or tiles == 1:
        body(rest or SIDE)
        return
    code.when(code.compare("slt", at, tiles - 1), lambda: body(SIDE))
    code.when(code.compare("sge", at, tiles - 1), lambda: body(rest))
