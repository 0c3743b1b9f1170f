"""Max pooling of a convolution's tiles while these are in registers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from ganglion.compiler.kernel import Epilogue, Tile
from ganglion.compiler.text import Code, Reg, const, vector
from ganglion.shapes import Shape

Offset = tuple[int, ...]


def max_pooled(first: Epilogue, window: Shape, second: Epilogue) -> Epilogue:
    """An epilogue that hands the largest elements of windows, and their positions, to another one.

    The windows are of what ``first`` makes of a tile, and do not overlap.
    """
    count = len(first.operands)

    def emit(code: Code, pointers: Sequence[Reg], tile: Tile) -> None:
        made = first.emit(code, pointers[:count], tile)
        corners = list(_windows(tile, window))
        if corners:
            second.emit(code, pointers[count:], _pooled(code, tile, made, window, corners))

    return Epilogue(
        ("max pooled", first.key, window, second.key), (*first.operands, *second.operands),
        (*first.reads, *(k + count for k in second.reads)),
        (*first.writes, *(k + count for k in second.writes)), emit, window,
    )  # fmt: skip


def _windows(tile: Tile, window: Shape) -> Sequence[tuple[Offset, list[int]]]:
    """The first cell of each whole window in a tile, and the rows of all its cells."""
    rows = {offset: r for r, offset in enumerate(tile.offsets)}
    lead, found = len(tile.base) - len(window), []
    for offset in tile.offsets:
        cells = [
            (*offset[:lead], *[a + b for a, b in zip(offset[lead:], cell, strict=True)])
            for cell in product(*map(range, window))
        ]
        starts = all(a % size == 0 for a, size in zip(offset[lead:], window, strict=True))
        if starts and all(cell in rows for cell in cells):
            found.append((offset, [rows[cell] for cell in cells]))
    return found


def _pooled(
    code: Code, tile: Tile, made: Sequence[Sequence[Reg]], window: Shape,
    windows: Sequence[tuple[Offset, list[int]]],
) -> Tile:  # fmt: skip
    steps = (1,) * (len(tile.base) - len(window)) + window
    base = tuple(code.divmod(i, step)[0] for i, step in zip(tile.base, steps, strict=True))
    offsets = [
        tuple(i // step for i, step in zip(offset, steps, strict=True)) for offset, _ in windows
    ]
    largest = [
        [_largest(code, cells) for cells in zip(*[made[r] for r in rows], strict=True)]
        for _, rows in windows
    ]
    values, positions = ([[pair[k] for pair in row] for row in largest] for k in (0, 1))
    return Tile(base, offsets, tile.lane_dim, tile.columns, values, (positions,))


def _largest(code: Code, cells: Sequence[Reg]) -> tuple[Reg, Reg]:
    """The largest of some vectors and which it is; NaN is largest, the last of several."""
    best, type = cells[0], vector("i8", cells[0].lanes)
    position = const(0, type)
    for k, x in enumerate(cells[1:], 1):
        better = code.op("or", code.compare("ogt", x, best), code.compare("uno", x, x))
        best = code.select(better, x, best)
        position = code.select(better, const(k, type), position)
    return best, position
