"""The gradient of max pooling whose windows lie side by side: each is read once, written once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from ganglion.compiler.kernel import Epilogue, Kernel, Layout, Tile
from ganglion.compiler.kernels.axes import Window, each_block, narrowed, share
from ganglion.compiler.kernels.buffers import load_strided
from ganglion.compiler.kernels.weights import lanes_for
from ganglion.compiler.text import BYTES, Code, Index, Reg, const, vector
from ganglion.shapes import Shape

TASKS = 16  # at least, where the shape gives as many
ROWS = 16  # vectors of a result that are handed over at once


@dataclass(frozen=True)
class Unpooling:
    """Gradients of windows of a size, and positions in them, both (N, C, D, H, W).

    ``rank``: the spatial dimensions of the result.
    """

    g: Layout
    positions: Layout
    window: Shape
    rank: int

    @property
    def lanes(self) -> int:
        return lanes_for(self.g.shape[1], self.g.stored)

    @property
    def vectors(self) -> int:
        """Vectors of channels at once."""
        return max(1, ROWS // math.prod(self.window))

    @property
    def sliced(self) -> int:
        """The dimension along which tasks share an image: the first of several windows."""
        return next((d for d, n in enumerate(self.g.shape[2:]) if n > 1), 0)

    @property
    def slices(self) -> int:
        """Into how many parts an image is cut."""
        return min(self.g.shape[2 + self.sliced], -(-TASKS // self.g.shape[0]))


def side_by_side(size: Shape, places: Shape, window: Window) -> bool:
    """Whether few windows lie side by side and make up all of an image of ``size``."""
    kernel, stride, padding, dilation = window
    plain = kernel == stride and not any(map(any, padding)) and max(dilation) == 1
    pairs = zip(size, places, kernel, strict=True)
    return plain and math.prod(kernel) <= ROWS and all(n == p * k for n, p, k in pairs)


def unpooled(pooling: Unpooling, epilogue: Epilogue) -> Kernel:
    """The kernel of gradients that go to the positions, zeros elsewhere; a task is some windows."""
    operands = (pooling.g, pooling.positions, *epilogue.operands)
    samples, slices = pooling.g.shape[0], pooling.slices

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        writer = _Writer(code, pooling, pointers, epilogue)
        code.loop(low, high, 1, (), lambda i: writer.task(*code.split(i, (samples, slices))))

    return Kernel(
        "unpool", ("unpool", pooling, epilogue.key), emit, operands,
        (0, 1, *(i + 2 for i in epilogue.reads)), tuple(i + 2 for i in epilogue.writes),
        samples * slices, flops=pooling.g.numel * math.prod(pooling.window),
        bytes=sum(layout.numel * BYTES[layout.stored] for layout in operands),
    )  # fmt: skip


@dataclass
class _Writer:
    code: Code
    pooling: Unpooling
    pointers: Sequence[Reg]
    epilogue: Epilogue

    def task(self, n: Index, part: Index) -> None:
        """A part of an image."""
        code, pooling = self.code, self.pooling
        bounds: list[tuple[Index, Index]] = [(0, count) for count in pooling.g.shape[2:]]
        d = pooling.sliced
        bounds[d] = share(code, part, pooling.g.shape[2 + d], pooling.slices)
        rows, lines, line = bounds
        code.loop(*rows, 1, (), lambda d: code.loop(*lines, 1, (), lambda h: code.loop(
            *line, 1, (), lambda w: each_block(
                code, pooling.g.shape[1], pooling.vectors * pooling.lanes,
                lambda c, columns: self._window((n, c, d, h, w), columns),
            )
        )))  # fmt: skip

    def _window(self, at: tuple[Index, ...], columns: int) -> None:
        """All cells of a window, to the epilogue."""
        code, pooling = self.code, self.pooling
        pairs = list(zip(self._load(0, pooling.g, at, columns),
                         self._load(1, pooling.positions, at, columns), strict=True))  # fmt: skip
        cells = list(product(*map(range, pooling.window)))
        registers = [
            [
                code.select(code.compare("eq", at, const(k, at.type)), g, const(0, g.type))
                for g, at in pairs
            ]
            for k in range(len(cells))
        ]
        base = (*at[:2], *map(code.mul, at[2:], pooling.window))
        offsets = [narrowed((0, 0, *cell), pooling.rank) for cell in cells]
        tile = Tile(narrowed(base, pooling.rank), offsets, 1, columns, registers)
        self.epilogue.emit(code, self.pointers[2:], tile)

    def _load(self, which: int, layout: Layout, at: tuple[Index, ...], columns: int) -> list[Reg]:
        code, lanes, step = self.code, self.pooling.lanes, layout.strides[1]
        place = code.dot(at, layout.strides, layout.offset)
        start = code.at_index(self.pointers[which], place, layout.stored)
        return [
            load_strided(
                code, code.at_index(start, c * step, layout.stored),
                vector(layout.stored, lanes), step, columns - c,
            )
            for c in range(0, columns, lanes)
        ]  # fmt: skip
