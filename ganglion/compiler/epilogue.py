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
    index: Sequence[Scalar], steps: Sequence[Step], layouts: Mapping[Stored, Layout]
) -> tuple[Epilogue, list[Stored]]:
    """The epilogue of steps over a result at ``index``, and the values of its operands, in order.

    The first step is the result itself. ``layouts``: of the values that have memory.
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
        _Finisher(index, steps, {v: (k, layouts[v]) for v, k in operands.items()}).emit,
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
        operands: Mapping[Stored, tuple[int, Layout]],
    ) -> None:  # fmt: skip
        self.index, self.result, self.steps = index, steps[0], steps[1:]
        self.operands = operands
        self.free = free_indexes(steps, [i for i in index if i.op == "index"])

    def emit(self, code: Code, pointers: Sequence[Reg], tile: Tile) -> None:
        """Write it for one tile; what is the same everywhere is computed once."""
        sources = {v: (pointers[k], layout) for v, (k, layout) in self.operands.items()}
        everywhere = Emitter(code, sources, {})
        self._hoist(everywhere, set())
        for v, column in enumerate(zip(*tile.registers, strict=True)):
            if tile.columns > v * column[0].lanes:
                self._column(everywhere, tile, v, column)

    def _hoist(self, emitter: Emitter, available: set[Scalar]) -> None:
        for step in self.steps:
            hoist(emitter, step.expression, self.free, available)

    def _column(self, everywhere: Emitter, tile: Tile, v: int, column: Sequence[Reg]) -> None:
        """One vector of each row; what is the same in all rows is computed once."""
        lane = self.index[tile.lane_dim]
        shift = v * column[0].lanes
        if lane.op != "index":  # a dimension of one element: it is in the first lane
            for offset, register in zip(tile.offsets, column, strict=True):
                found = _beside(everywhere, self._standing(tile, offset, shift), None, 1, None)
                self._finish(found, everywhere.code.extract(register, 0))
            return
        width = column[0].lanes
        left = tile.columns - shift
        mask = first_lanes(left, width) if left < width else None
        shared = everywhere
        if len({offset[tile.lane_dim] for offset in tile.offsets}) == 1:
            places = self._standing(tile, tile.offsets[0], shift)
            shared = _beside(everywhere, {lane: places[lane]}, lane, width, mask)
            self._hoist(shared, {lane})
        for offset, register in zip(tile.offsets, column, strict=True):
            places = self._standing(tile, offset, shift)
            self._finish(_beside(shared, places, lane, width, mask), register)

    def _standing(self, tile: Tile, offset: Sequence[int], shift: int) -> dict[Scalar, Place]:
        """Where each index of the result stands for a row's vector."""
        places: dict[Scalar, Place] = {}
        for dim, i in enumerate(self.index):
            moving, known = tile.base[dim], offset[dim]
            known += shift if dim == tile.lane_dim else 0
            if i.op == "index":
                places[i] = (0, moving + known) if isinstance(moving, int) else (moving, known)
        return places

    def _finish(self, emitter: Emitter, register: Reg) -> None:
        emitter.known[self.result.value] = register
        for step in self.steps:
            emitter.known[step.value] = emitter.value(step.expression)
        for step in (self.result, *self.steps):
            if step.value in emitter.sources:
                emitter.store(step.value, step.index, emitter.known[step.value])


def _beside(
    emitter: Emitter, places: Mapping[Scalar, Place], lane: Scalar | None, width: int,
    mask: Reg | None,
) -> Emitter:  # fmt: skip
    """An emitter that knows what another one does."""
    return Emitter(emitter.code, emitter.sources, places, lane, width, mask, emitter.known)
