"""Epilogues: statements computed on the tiles of a product while these are in registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        _finisher(index, steps, {v: (k, layouts[v]) for v, k in operands.items()}),
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


def _finisher(
    index: Sequence[Scalar], steps: Sequence[Step], operands: Mapping[Stored, tuple[int, Layout]]
) -> Callable[[Code, Sequence[Reg], Tile], None]:
    """The code of an epilogue: each step on every vector of a tile."""
    free = free_indexes(steps, [i for i in index if i.op == "index"])

    def emit(code: Code, pointers: Sequence[Reg], tile: Tile) -> None:
        sources = {v: (pointers[k], layout) for v, (k, layout) in operands.items()}
        everywhere = Emitter(code, sources, {})
        for step in steps[1:]:
            hoist(everywhere, step.expression, free, set())
        for v, column in enumerate(zip(*tile.registers, strict=True)):
            if tile.columns > v * column[0].lanes:
                _column(everywhere, tile, v, column)

    def _column(everywhere: Emitter, tile: Tile, v: int, column: Sequence[Reg]) -> None:
        """One vector of each row; what is the same in all rows is computed once."""
        code, width = everywhere.code, column[0].lanes
        lane = index[tile.lane_dim] if index[tile.lane_dim].op == "index" else None
        left = tile.columns - v * width
        mask = first_lanes(left, width) if left < width and lane is not None else None
        shared = everywhere
        if lane is not None and len({offset[tile.lane_dim] for offset in tile.offsets}) == 1:
            places = _standing(tile, tile.offsets[0], v * width)
            shared = _beside(everywhere, {lane: places[lane]}, lane, width, mask)
            for step in steps[1:]:
                hoist(shared, step.expression, free, {lane})
        for offset, register in zip(tile.offsets, column, strict=True):
            places = _standing(tile, offset, v * width)
            if lane is None:  # a dimension of one element: it is in the first lane
                found = _beside(everywhere, places, None, 1, None)
                found.known[steps[0].value] = code.extract(register, 0)
            else:
                found = _beside(shared, places, lane, width, mask)
                found.known[steps[0].value] = register
            _finish(found, steps)

    def _standing(tile: Tile, offset: Sequence[int], shift: int) -> dict[Scalar, Place]:
        """Where each index of the result stands for a row's vector."""
        places: dict[Scalar, Place] = {}
        for dim, i in enumerate(index):
            moving, known = tile.base[dim], offset[dim]
            known += shift if dim == tile.lane_dim else 0
            if i.op == "index":
                places[i] = (0, moving + known) if isinstance(moving, int) else (moving, known)
        return places

    return emit


def _beside(
    emitter: Emitter, places: Mapping[Scalar, Place], lane: Scalar | None, width: int,
    mask: Reg | None,
) -> Emitter:  # fmt: skip
    """An emitter that knows what another one does."""
    return Emitter(emitter.code, emitter.sources, places, lane, width, mask, emitter.known)


def _finish(emitter: Emitter, steps: Sequence[Step]) -> None:
    for step in steps[1:]:
        emitter.known[step.value] = emitter.value(step.expression)
    for step in steps:
        if step.value in emitter.sources:
            emitter.store(step.value, step.index, emitter.known[step.value])
