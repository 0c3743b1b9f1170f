"""One head of attention in native code: what its forward and its gradients share.

A block of keys is turned around into panels (``[panel][depth][key]``), so that a register tile of
query rows times keys has keys in its lanes, and what is summed over keys or rows is copied into
rows without gaps. All of it stands in a thread's scratch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Kernel, Layout
from ganglion.compiler.kernels.buffers import Buffers, Named, gathered, load_strided, padded
from ganglion.compiler.kernels.tile import AVX512, Registers, natural_lanes, tile, transpose
from ganglion.compiler.target import Target
from ganglion.compiler.text import Code, Index, Reg, const, vector
from ganglion.shapes import Shape

KEYS = 512  # most keys in a block
ROW_UNIT = 8  # chunks of query rows are multiples of this, whatever the registers
TASKS = 16  # heads are cut further when there are fewer of them

INF = math.inf


@dataclass(frozen=True)
class Problem:
    """What decides the code: layouts with all batch dimensions, options, tile shape."""

    q: Layout
    k: Layout
    v: Layout
    mask: Layout | None
    keep: Layout | None
    causal: bool
    scale: float
    target: Target

    @cached_property
    def batch(self) -> Shape:
        return self.q.shape[:-2]

    @cached_property
    def heads(self) -> int:
        return math.prod(self.batch)

    @cached_property
    def queries(self) -> int:
        return self.q.shape[-2]

    @cached_property
    def keys(self) -> int:
        return self.k.shape[-2]

    @cached_property
    def depth(self) -> int:
        return self.q.shape[-1]

    @cached_property
    def width(self) -> int:
        return self.v.shape[-1]

    @cached_property
    def element(self) -> str:
        return self.q.stored

    @cached_property
    def lanes(self) -> int:
        return natural_lanes(self.element)

    @cached_property
    def rows(self) -> int:
        """Query rows in a register tile: a power of two."""
        most = self.target.sums * self.lanes // self.panel
        return min(ROW_UNIT, 1 << (most.bit_length() - 1))

    @cached_property
    def panel(self) -> int:
        """Keys in a register tile."""
        return self.lanes * (2 if self.target.sums >= AVX512.sums else 1)

    @cached_property
    def key_unit(self) -> int:
        """Blocks of keys are multiples of this, whatever the registers: bits depend on it."""
        return 2 * self.lanes

    @cached_property
    def columns(self) -> int:
        """Most vectors of columns in a register tile."""
        return 3 if self.target.sums >= AVX512.sums else 1

    @cached_property
    def inputs(self) -> dict[str, Layout]:
        """The operands that are read, in order."""
        given = {"q": self.q, "k": self.k, "v": self.v, "mask": self.mask, "keep": self.keep}
        return {name: layout for name, layout in given.items() if layout is not None}

    def pairs(self) -> int:
        """Scores to be computed, in all heads."""
        if not self.causal:
            return self.heads * self.queries * self.keys
        seen = min(self.queries, self.keys)
        return self.heads * (seen * (seen + 1) // 2 + (self.queries - seen) * self.keys)


def problem(
    q: Layout, k: Layout, v: Layout, mask: Layout | None, keep: Layout | None,
    causal: bool, scale: float | None, target: Target,
) -> Problem:  # fmt: skip
    """The problem, with every operand's batch dimensions brought to one shape."""
    batch = q.shape[:-2]
    scores = (*batch, q.shape[-2], k.shape[-2])
    return Problem(
        q,
        spread(k, (*batch, *k.shape[-2:])),
        spread(v, (*batch, *v.shape[-2:])),
        spread(mask, scores) if mask else None,
        spread(keep, scores) if keep else None,
        causal,
        1 / math.sqrt(q.shape[-1]) if scale is None else scale,
        target,
    )


def spread(layout: Layout, shape: Shape) -> Layout:
    """The layout broadcast to a larger shape: new and stretched dimensions do not move."""
    new = len(shape) - len(layout.shape)
    strides = [0] * new + [
        0 if size == 1 and wanted != 1 else stride
        for size, wanted, stride in zip(layout.shape, shape[new:], layout.strides, strict=True)
    ]
    return Layout(layout.dtype, shape, tuple(strides), layout.offset, layout.elements)


def round_up(code: Code, x: Index, to: int) -> Index:
    """The next multiple of a power of two."""
    if isinstance(x, int):
        return -(-x // to) * to
    raised = code.add(x, to - 1)
    assert isinstance(raised, Reg)
    return code.op("and", raised, const(-to, "i64"))


class Heads(Buffers):
    """What forward and backward emission share: packing, scores, masks."""

    def __init__(self, code: Code, it: Problem, named: Named, scratch: Reg) -> None:
        super().__init__(code, named, it.lanes)
        self.it, self.scratch = it, scratch
        self.type = vector(it.element, it.lanes)
        self.bases: dict[str, Reg] = {}

    def enter(self, head: Index) -> None:
        """Point at one head of every operand."""
        place = self.code.split(head, self.it.batch)
        for name, (pointer, layout) in self.named.items():
            outer = layout.strides[: len(place)]
            start = self.code.dot(place, outer, layout.offset)
            self.bases[name] = self.code.at_index(pointer, start, layout.stored)

    def at(self, name: str, *index: Index) -> Reg:
        """The address of an element of this head."""
        layout = self.layout(name)
        inner = layout.strides[len(self.it.batch) :]
        start = self.code.dot(index, inner[: len(index)])
        return self.code.at_index(self.bases[name], start, layout.stored)

    def place(self, start: int, index: Index = 0) -> Reg:
        """An address in scratch."""
        element = self.it.element
        return self.code.at_index(self.code.at_index(self.scratch, start, element), index, element)

    def row_blocks(
        self, low: Index, high: Index, total: int, body: Callable[[Index, int], None]
    ) -> None:
        """``blocks`` as high as a register tile."""
        self.blocks(low, high, total, self.it.rows, body)

    # --- packing --------------------------------------------------------------------------------

    def pack_rows(self, name: str, low: Index, high: Index, start: int) -> None:
        """Rows low, ..., high - 1 into scratch, without gaps, each padded to whole vectors."""
        width = self.layout(name).shape[-1]
        step = padded(width, self.it.lanes)

        def row(i: Index) -> None:
            to = self.place(start, self.code.mul(self.minus(i, low), step))
            for column in range(0, width, self.it.lanes):
                value = self.load(name, i, column)
                self.code.store(value, self.code.at_index(to, column, self.it.element))

        self.code.guarded_loop(low, high, 1, row)

    def pack_panels(self, name: str, low: Index, high: Index, start: int, factor: float) -> None:
        """Rows low, ..., high - 1, times a factor, turned around: ``[panel][column][panel keys]``.

        ``low`` is a multiple of a panel; rows are packed in groups of as many as there are lanes.
        """
        total = self.layout(name).shape[-2]
        high = self.code.minimum(round_up(self.code, high, self.it.lanes), total)
        self.blocks(
            low, high, total, self.it.lanes,
            lambda i, count: self.pack_square(name, i, count, low, start, factor),
        )  # fmt: skip

    def pack_square(
        self, name: str, row: Index, count: int, low: Index, start: int, factor: float
    ) -> None:
        """``count`` rows, missing ones being zeros, into half a panel or a whole one."""
        code, lanes, panel = self.code, self.it.lanes, self.it.panel
        columns = self.layout(name).shape[-1]
        group, inside = code.divmod(self.minus(row, low), panel)
        to = self.place(start, code.add(code.mul(group, panel * columns), inside))
        times, zero = const(factor, self.type), const(0, self.type)

        def square(column: Index, wide: int = lanes) -> None:
            block = [self.load(name, code.add(row, i), column, count=wide) for i in range(count)]
            turned = transpose(code, [*block, *[zero] * (lanes - count)])
            for i, value in enumerate(turned[:wide]):
                scaled = code.fmul(value, times) if factor != 1 else value
                place = code.mul(code.add(column, i), panel)
                code.store(scaled, code.at_index(to, place, self.it.element))

        whole = columns - columns % lanes
        code.guarded_loop(0, whole, lanes, square)
        if whole < columns:
            square(whole, columns - whole)

    # --- scores ---------------------------------------------------------------------------------

    def reach(self, q: Index, rows: int, key: Index, stop: Index) -> Index:
        """How many of the block's keys, from ``key`` to ``stop``, these rows can see."""
        end = stop
        if self.it.causal:
            end = self.code.minimum(self.code.add(q, rows), stop)
        return self.minus(end, key)

    def products(self, name: str, q: Index, rows: int, panels: int, at: Index) -> Registers:
        """A tile of an operand's rows times the panel of keys at ``at``."""
        row, column = self.layout(name).strides[-2:]
        depth = self.layout(name).shape[-1]
        return tile(
            self.code, [r * row for r in range(rows)], self.it.panel // self.it.lanes, depth,
            self.at(name, q), column,
            self.place(panels, self.code.mul(at, depth)), self.it.panel,
            element=self.it.element,
        )  # fmt: skip

    def visible(self, q: Index, r: int, key: Index) -> Reg | None:
        """Which of the keys from ``key`` on exist and may be seen by row q + r; None: all."""
        it, code = self.it, self.code
        found = None
        if it.keys % it.panel:
            found = code.compare("slt", self.numbers(key), self.many(it.keys))
        if it.causal:
            before = code.compare("sle", self.numbers(key), self.many(code.add(q, r)))
            found = before if found is None else code.op("and", found, before)
        return found

    def numbers(self, start: Index) -> Reg:
        """start, start + 1, ..."""
        return self.code.op("add", self.many(start), self.code.iota("i32", self.it.lanes))

    def many(self, x: Index) -> Reg:
        """An index in all lanes."""
        if isinstance(x, int):
            return const(x, vector("i32", self.it.lanes))
        return self.code.splat(self.code.convert("trunc", x, "i32"), self.it.lanes)

    def touch(self, q: Index, rows: int) -> None:
        """Compute what ``visible`` needs of the rows here, outside a loop."""
        for r in range(rows if self.it.causal else 0):
            self.many(self.code.add(q, r))

    def masked(self, score: Reg, q: Index, r: int, key: Index) -> Reg:
        """A vector of scores after the mask; minus infinity where a key is not seen."""
        code = self.code
        seen = self.visible(q, r, key)
        if self.it.mask is not None:
            given = self.pairwise("mask", code.add(q, r), key, seen)
            if self.it.mask.dtype is dt.bool_:
                allowed = code.compare("ne", given, const(0, given.type))
                seen = allowed if seen is None else code.op("and", seen, allowed)
            else:
                score = code.fadd(score, code.convert("fpext", given, score.element))
        return score if seen is None else code.select(seen, score, const(-INF, score.type))

    def kept(self, weight: Reg, q: Index, r: int, key: Index) -> Reg:
        """Weights after dropout."""
        if self.it.keep is None:
            return weight
        times = self.pairwise("keep", self.code.add(q, r), key, self.visible(q, r, key))
        return self.code.fmul(weight, times)

    def pairwise(self, name: str, row: Index, key: Index, exist: Reg | None) -> Reg:
        """A vector along keys of an operand shaped like the scores."""
        layout = self.layout(name)
        type, step = vector(layout.stored, self.it.lanes), layout.strides[-1]
        pointer = self.at(name, row, key)
        if step == 0:
            return self.code.broadcast(pointer, layout.stored, self.it.lanes)
        if exist is None or not self.it.keys % self.it.panel:
            return load_strided(self.code, pointer, type, step, self.it.lanes)
        if step == 1:
            return self.code.masked_load(pointer, exist, const(0, type))
        return gathered(self.code, pointer, type, step, exist)


def maximum(code: Code, x: Index, y: Index) -> Index:
    """The greater of two indexes."""
    x, y = (Reg(str(i), "i64") if isinstance(i, int) else i for i in (x, y))
    return code.select(code.compare("sgt", x, y), x, y)


def finite(code: Code, top: Reg) -> Reg:
    """What scores are reduced by: their maximum, or 0 where nothing is seen."""
    nothing = code.compare("oeq", top, const(-INF, top.type))
    return code.select(nothing, const(0, top.type), top)


def greater(code: Code, x: Reg, y: Reg) -> Reg:
    """The greater of two; the second when the first is NaN."""
    return code.select(code.compare("ogt", x, y), x, y)


def groups(columns: int, lanes: int, most: int) -> list[tuple[int, int]]:
    """Whole vectors that cover columns, in even groups: (first column, vectors)."""
    vectors = -(-columns // lanes)
    count = -(-vectors // most)
    cuts = [vectors * i // count for i in range(count + 1)] if count else []
    return [(a * lanes, b - a) for a, b in itertools.pairwise(cuts)]


def evenly(code: Code, i: Index, count: int) -> Index:
    """0, n-1, 1, n-2, ...: neighbours together cost the same when costs rise evenly."""
    if count == 1:
        return 0
    half, odd = code.divmod(i, 2)
    assert isinstance(half, Reg)
    back = code.op("sub", const(count - 1, "i64"), half)
    return code.select(code.compare("eq", odd, 0), half, back)


def chunk_rows(it: Problem, most: int) -> int:
    """Query rows in a task: whole tiles, and few enough when there are few heads."""
    wanted = -(-TASKS // max(it.heads, 1))
    even = max(-(-it.queries // wanted), 4 * ROW_UNIT)
    return padded(max(min(even, most, it.queries), 1), ROW_UNIT)


def kernel_of(
    name: str, it: Problem, operands: dict[str, Layout], written: Sequence[str], tasks: int,
    scratch: int, flops: int, emission: Callable[..., Any],
) -> Kernel:  # fmt: skip
    """A kernel on named operands; those that are not written are read."""

    def emit(code: Code, pointers: Sequence[Reg], room: Reg, low: Reg, high: Reg) -> None:
        pairs = zip(pointers, operands.values(), strict=True)
        named = dict(zip(operands, pairs, strict=True))
        code.loop(low, high, 1, (), emission(code, it, named, room).task)

    layouts = tuple(operands.values())
    writes = tuple(i for i, n in enumerate(operands) if n in written)
    reads = tuple(i for i, n in enumerate(operands) if n not in written)
    nbytes = sum(x.numel * x.dtype.itemsize for x in layouts)
    return Kernel(
        name, (name, it, *layouts), emit, layouts, reads, writes, tasks, scratch, flops, nbytes
    )
