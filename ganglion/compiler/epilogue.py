"""Epilogues: statements computed on the tiles of a product while these are in registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganglion.compiler.kernel import Epilogue, Layout, Tile
from ganglion.compiler.loops import Spelling, free_indexes, hoist
from ganglion.compiler.lower import Stored, loads
from ganglion.compiler.nest import Step
from ganglion.compiler.scalars import Emitter, Place
from ganglion.compiler.text import Code, Reg, first_lanes
from ganglion.ops.scalar import Scalar


def epilogue_of(
    index: Sequence[Scalar], steps: Sequence[Step], layouts: Mapping[Stored, Layout],
    results: int = 1,
) -> tuple[Epilogue, list[Stored]]:  # fmt: skip
    """The epilogue of steps over results at ``index``, and the values of its operands, in order.

    The first steps are the results themselves. ``layouts``: of the values that have memory.
    """
    operands: dict[Stored, int] = {}
    for step in steps:
        for value in (*(load.args[0] for load in loads(step.expression)), step.value):
            if value in layouts:
                operands.setdefault(value, len(operands))
    held = tuple(layouts[v] for v in operands)
    written = {step.value for step in steps}
    epilogue = Epilogue(
        ("epilogue", _spelling(operands, index, steps), held),
        held,
        tuple(k for v, k in operands.items() if v not in written),
        tuple(k for v, k in operands.items() if v in written),
        _Finisher(index, steps, {v: (k, layouts[v]) for v, k in operands.items()}, results).emit,
    )
    return epilogue, list(operands)


def _spelling(
    operands: Mapping[Stored, int], index: Sequence[Scalar], steps: Sequence[Step]
) -> tuple[Any, ...]:
    spelling = Spelling(operands, {})
    spelling.value(steps[0].value)
    for i in index:
        spelling.expression(i)
    for step in steps:
        at = tuple(map(spelling.expression, step.index))
        found = spelling.expression(step.expression)
        spelling.lines.append((at, found, spelling.value(step.value)))
    return tuple(spelling.lines)


class _Finisher:
    """The code of an epilogue: each step on every vector of a tile."""

    def __init__(
        self, index: Sequence[Scalar], steps: Sequence[Step],
        operands: Mapping[Stored, tuple[int, Layout]], results: int,
    ) -> None:  # fmt: skip
        self.index, self.results, self.steps = index, steps[:results], steps[results:]
        self.operands = operands
        self.free = free_indexes(steps, [i for i in index if i.op == "index"])

    def emit(self, code: Code, pointers: Sequence[Reg], tile: Tile) -> list[list[Reg]]:
        """Write it for one tile; what is the same everywhere is computed once."""
        sources = {v: (pointers[k], layout) for v, (k, layout) in self.operands.items()}
        everywhere = Emitter(code, sources, {})
        self._hoist(everywhere, set())
        columns = [
            self._column(everywhere, tile, v)
            for v, first in enumerate(tile.registers[0])
            if tile.columns > v * first.lanes
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def _hoist(self, emitter: Emitter, available: set[Scalar]) -> None:
        for step in self.steps:
            hoist(emitter, step.expression, self.free, available)

    def _column(self, everywhere: Emitter, tile: Tile, v: int) -> list[Reg]:
        """One vector of each row; what is the same in all rows is computed once."""
        lane, code = self.index[tile.lane_dim], everywhere.code
        rows = [[row[v] for row in line] for line in zip(tile.registers, *tile.more, strict=True)]
        width = rows[0][0].lanes
        shift = v * width
        if lane.op != "index":  # a dimension of one element: it is in the first lane
            return [
                self._finish(
                    _beside(everywhere, self._standing(tile, offset, shift), None, 1, None),
                    [code.extract(register, 0) for register in row],
                )
                for offset, row in zip(tile.offsets, rows, strict=True)
            ]
        left = tile.columns - shift
        mask = first_lanes(left, width) if left < width else None
        shared = everywhere
        if len({offset[tile.lane_dim] for offset in tile.offsets}) == 1:
            places = self._standing(tile, tile.offsets[0], shift)
            shared = _beside(everywhere, {lane: places[lane]}, lane, width, mask)
            self._hoist(shared, {lane})
        return [
            self._finish(
                _beside(shared, self._standing(tile, offset, shift), lane, width, mask), row
            )
            for offset, row in zip(tile.offsets, rows, strict=True)
        ]

    def _standing(self, tile: Tile, offset: Sequence[int], shift: int) -> dict[Scalar, Place]:
        """Where each index of the result stands for a row's vector."""
        places: dict[Scalar, Place] = {}
        for dim, i in enumerate(self.index):
            moving, known = tile.base[dim], offset[dim]
            known += shift if dim == tile.lane_dim else 0
            if i.op == "index":
                places[i] = (0, moving + known) if isinstance(moving, int) else (moving, known)
        return places

    def _finish(self, emitter: Emitter, registers: Sequence[Reg]) -> Reg:
        """All steps in one place, and the last one's value."""
        for step, register in zip(self.results, registers, strict=True):
            emitter.known[step.value] = register
        for step in self.steps:
            emitter.known[step.value] = emitter.value(step.expression)
        for step in (*self.results, *self.steps):
            if step.value in emitter.sources:
                emitter.store(step.value, step.index, emitter.known[step.value])
        return emitter.wide(emitter.known[step.value])


def _beside(
    emitter: Emitter, places: Mapping[Scalar, Place], lane: Scalar | None, width: int,
    mask: Reg | None,
) -> Emitter:  # fmt: skip
    """An emitter that knows what another one does."""
    return Emitter(emitter.code, emitter.sources, places, lane, width, mask, emitter.known)
