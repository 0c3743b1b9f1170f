"""What recurrent layers' kernels share: sizes, weights in panels, plans in the making.

A layer walks through time inside one kernel. A task has some rows of the batch from the first
step to the last, so threads never wait for each other. A thread does all its rows at every step:
a panel of weights then comes from the cache once for many rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import ganglion.dtypes as dt
from ganglion.compiler.kernel import STORED, Kernel, Layout, Plan, packed
from ganglion.compiler.kernels.buffers import Buffers, Named
from ganglion.compiler.kernels.cells import Cell
from ganglion.compiler.kernels.pack import copy, panels
from ganglion.compiler.kernels.tile import AVX512, natural_lanes
from ganglion.compiler.target import Target
from ganglion.compiler.text import Code, Index, Reg


@dataclass(frozen=True)
class Layer:
    """What decides the code of a layer, besides layouts.

    ``hidden``: units of the cell; ``out``: features of the state, fewer with a projection.
    """

    cell: Cell
    dtype: dt.dtype
    steps: int
    batch: int
    hidden: int
    out: int
    reverse: bool
    target: Target

    @property
    def element(self) -> str:
        return STORED[self.dtype]

    @property
    def lanes(self) -> int:
        return natural_lanes(self.element)

    @property
    def wide(self) -> int:
        """Vectors of units in a register tile: enough sums that none waits for another."""
        few = self.cell.sums * min(self.batch, 8) <= 8
        return 2 if few and self.target.sums >= AVX512.sums else 1

    @property
    def width(self) -> int:
        """Units in a register tile."""
        return self.wide * self.lanes

    @property
    def rows(self) -> int:
        """Rows of the batch in a register tile: even blocks, each a task."""
        most = max(1, 2 * self.target.sums // 3 // (self.cell.sums * self.wide))
        return even(self.batch, most)

    @property
    def back_rows(self) -> int:
        """The same on the way back, where a tile has the columns of one panel."""
        return even(self.batch, 8 if self.target.sums >= AVX512.sums else 4)

    @property
    def panel(self) -> int:
        """Columns in the register tiles of plain products."""
        return self.lanes * (2 if self.target.sums >= AVX512.sums else 1)


def even(total: int, most: int) -> int:
    """The size of equal blocks, of at most ``most``."""
    return max(1, -(-total // max(1, -(-total // most))))


def turned(matrix: Layout) -> Layout:
    """A matrix transposed."""
    return replace(
        matrix, shape=matrix.shape[::-1], strides=matrix.strides[::-1], size=matrix.elements
    )


@dataclass
class Draft:
    """A plan in the making. Buffers have names; those of the caller come first, in order."""

    operands: dict[str, Layout]
    temporaries: dict[str, Layout] = field(default_factory=dict)
    steps: list[tuple[Kernel, tuple[int, ...]]] = field(default_factory=list)

    def temporary(self, name: str, layout: Layout) -> None:
        self.temporaries[name] = layout

    def layouts(self, names: Sequence[str]) -> dict[str, Layout]:
        """Layouts of those of the names that are there."""
        known = {**self.operands, **self.temporaries}
        return {name: known[name] for name in names if name in known}

    def add(self, kernel: Kernel, *names: str) -> None:
        numbers = list(self.operands) + list(self.temporaries)
        self.steps.append((kernel, tuple(numbers.index(name) for name in names)))

    def plan(self) -> Plan:
        return Plan(tuple(self.temporaries.values()), tuple(self.steps))

    def pack(self, name: str, source: Layout, width: int, to: str) -> None:
        """Panels ``[n / width][k][width]`` of an operand seen as (k, n)."""
        target, copies = panels(source, width)
        self.temporary(to, target)
        for kernel in copies:
            self.add(kernel, name, to)


def pack_gates(draft: Draft, layer: Layer, inputs: int) -> None:
    """Both weights as ``[group of units][input or state][gate][unit]``."""
    gates, width, full = layer.cell.gates, layer.width, layer.hidden // layer.width
    rest = layer.hidden % width
    depth = inputs + layer.out
    draft.temporary("weights", packed(layer.dtype, (full + bool(rest), depth, gates, width)))
    whole = draft.temporaries["weights"]
    for name, first, count in (("w_ih", 0, inputs), ("w_hh", inputs, layer.out)):
        w = draft.operands[name]
        row, column = w.strides
        for start, groups, units in ((0, full, width), (full, 1, rest)):
            if groups * units * count == 0:
                continue
            source = replace(
                w,
                shape=(gates, groups, units, count),
                strides=(layer.hidden * row, width * row, row, column),
                offset=w.offset + start * width * row,
                size=w.elements,
            )
            group, at, gate, unit = whole.strides
            target = replace(
                whole,
                shape=source.shape,
                strides=(gate, group, unit, at),
                offset=start * group + first * at,
                size=whole.elements,
            )
            draft.add(copy(source, target), name, "weights")


class Walk(Buffers):
    """Emission that walks through time with some rows of the batch."""

    def __init__(self, code: Code, layer: Layer, named: Named, scratch: Reg) -> None:
        super().__init__(code, named, layer.lanes)
        self.layer, self.scratch = layer, scratch
        self.first: Index = 0
        self.last: Index = 0

    def run(self) -> None:
        """Write the code for the rows taken."""
        raise NotImplementedError

    def rows_of(self, low: Reg, high: Reg, rows: int) -> None:
        """Take the rows of some tasks."""
        self.first = self.code.mul(low, rows)
        self.last = self.code.minimum(self.code.mul(high, rows), self.layer.batch)

    def each_block(self, rows: int, body: Callable[[Index, int], None]) -> None:
        """``body(first row, number of rows)`` for blocks of the rows taken."""
        self.blocks(self.first, self.last, self.layer.batch, rows, body)

    def parts(self, total: int, width: int, body: Callable[[Index, int], None]) -> None:
        """``body(number, size)`` for parts of ``total``; the last may be smaller."""
        full, rest = divmod(total, width)
        self.code.guarded_loop(0, full, 1, lambda i: body(i, width))
        if rest:
            body(full, rest)

    def time(self, step: Index) -> Index:
        """Where a step stands in a sequence."""
        return self.minus(self.layer.steps - 1, step) if self.layer.reverse else step

    def unit(self, number: Index, column: int, gate: int = 0) -> Index:
        """The index of a unit of group ``number`` among the units of all gates."""
        start = self.code.mul(number, self.layer.width)
        return self.code.add(start, gate * self.layer.hidden + column)

    def copy_rows(self, row: Index, rows: int, source: str, target: str, *place: Index) -> None:
        """Some rows of one buffer into another."""
        lanes = self.layer.lanes
        width = min(self.layout(name).shape[-1] for name in (source, target))

        def one(r: Index) -> None:
            at = self.code.add(row, r)
            for column in range(0, width, lanes):
                count = min(lanes, width - column)
                value = self.load(source, at, column)
                self.store(value, target, *place, at, column, count=count)

        self.code.loop(0, rows, 1, (), one)


def walk_kernel(
    name: str, layer: Layer, draft: Draft, names: Sequence[str], writes: Sequence[str], rows: int,
    flops: int, emission: Callable[[Code, Layer, Named, Reg], Walk], scratch: int = 0,
) -> None:  # fmt: skip
    """Add the kernel that does ``emission.run`` for blocks of ``rows`` rows."""
    operands = draft.layouts(names)

    def emit(code: Code, pointers: Sequence[Reg], room: Reg, low: Reg, high: Reg) -> None:
        pairs = zip(pointers, operands.values(), strict=True)
        walk = emission(code, layer, dict(zip(operands, pairs, strict=True)), room)
        walk.rows_of(low, high, rows)
        walk.run()

    layouts = tuple(operands.values())
    kernel = Kernel(
        name, (name, layer, *operands.items()), emit, layouts,
        tuple(i for i, n in enumerate(operands) if n not in writes),
        tuple(i for i, n in enumerate(operands) if n in writes),
        -(-layer.batch // rows), scratch, flops,
        sum(x.numel * x.dtype.itemsize for x in layouts),
    )  # fmt: skip
    draft.add(kernel, *operands)
