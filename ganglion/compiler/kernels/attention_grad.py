"""The gradients of attention: weights are computed again from each row's log-sum-exp.

With many heads a task has one head: for every block of keys and chunk of query rows, the weights P
and their slopes S = P * (g v^T - means) are put into scratch, and then added to dq = S k,
dk = S^T q and dv = P^T g. With few heads, one kernel with tasks of query rows gives dq, another
with tasks of keys gives dk and dv, and P and S are computed in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ganglion.compiler.kernel import Layout, Plan
from ganglion.compiler.kernels.buffers import Named, Scratch, across, lane, padded
from ganglion.compiler.kernels.exponential import exp
from ganglion.compiler.kernels.heads import (
    KEYS,
    ROW_UNIT,
    TASKS,
    Heads,
    Problem,
    chunk_rows,
    evenly,
    finite,
    groups,
    kernel_of,
    maximum,
    problem,
    round_up,
)
from ganglion.compiler.kernels.tile import AVX512, Registers, tile
from ganglion.compiler.target import Target
from ganglion.compiler.text import Code, Index, Reg, const

WEIGHTS = 1 << 15  # most weights in scratch at a time
ALONE = 4  # from this many heads on, one task does all of a head


class Room:
    """How a gradient is cut into tasks, and where things stand in its scratch."""

    def __init__(self, it: Problem, dq: bool, dkv: bool) -> None:
        self.dq, self.dkv = dq, dkv
        wanted = -(-TASKS // max(it.heads, 1)) if not dq else 1
        self.block = min(padded(-(-it.keys // wanted), it.key_unit), key_limit(it))
        self.blocks = -(-it.keys // self.block)
        self.step = self.block + it.lanes  # not a power of two: rows would share cache sets
        most = max(WEIGHTS // self.step // ROW_UNIT, 4) * ROW_UNIT
        self.chunk = (
            chunk_rows(it, most) if not dkv else min(most, padded(max(it.queries, 1), ROW_UNIT))
        )
        self.chunks = -(-it.queries // self.chunk)
        self.deep, self.wide = padded(it.depth, it.lanes), padded(it.width, it.lanes)
        self.scratch = scratch = Scratch(it.element)
        self.key_panels = scratch.take(self.block * it.depth)
        self.value_panels = scratch.take(self.block * it.width)
        self.weights = scratch.take(self.chunk * self.step)
        self.slopes = scratch.take(self.chunk * self.step)
        if dq:
            self.keys = scratch.take(self.block * self.deep)
        if dkv:
            self.queries = scratch.take(self.chunk * self.deep)
            self.pushed = scratch.take(self.chunk * self.wide)

    @property
    def tasks(self) -> int:
        """Of one head."""
        return (self.chunks if not self.dkv else 1) * (self.blocks if not self.dq else 1)


def key_limit(it: Problem) -> int:
    """Most keys in a block: half the level 2 cache is left to weights."""
    fitting = (3 << 17) // (4 * (2 * it.depth + it.width + 1))
    return min(KEYS, max(fitting // it.key_unit, 1) * it.key_unit)


class Backward(Heads):
    """Emits dq, or dk and dv, or all three."""

    def __init__(self, code: Code, it: Problem, named: Named, scratch: Reg) -> None:
        super().__init__(code, it, named, scratch)
        self.room = Room(it, "dq" in named, "dk" in named)

    def task(self, task: Index) -> None:
        """One head, or one chunk of its query rows, or one block of its keys."""
        code, it, room = self.code, self.it, self.room
        head, part = code.divmod(task, room.tasks)
        part = evenly(code, part, room.tasks) if it.causal else part
        self.enter(head)
        if not room.dkv:
            start = code.mul(part, room.chunk)
            self.some_rows(start, code.minimum(code.add(start, room.chunk), it.queries))
        elif not room.dq:
            key = code.mul(part, room.block)
            self.some_keys(key, code.minimum(code.add(key, room.block), it.keys))
        else:
            self.clear("dq", 0, it.queries, room.blocks)
            self.each(0, it.keys, room.block, it.keys, self.some_keys)

    def each(
        self, low: Index, high: Index, step: int, total: int, body: Callable[[Index, Index], None]
    ) -> None:
        """``body(start, stop)`` for each part of ``total``; the last may be short."""
        code = self.code
        if step >= total:
            body(0, total)
            return
        code.guarded_loop(
            low, high, step, lambda at: body(at, code.minimum(code.add(at, step), total))
        )

    def clear(self, name: str, low: Index, high: Index, times: int = 2) -> None:
        """Zero rows of a result that is added to several times."""
        if times == 1:
            return
        zero, width = const(0, self.type), self.layout(name).shape[-1]

        def row(i: Index) -> None:
            for column in range(0, width, self.it.lanes):
                self.store(zero, name, i, column)

        self.code.guarded_loop(low, high, 1, row)

    def some_rows(self, start: Index, stop: Index) -> None:
        """A chunk of query rows and all their keys, for dq."""
        it, room = self.it, self.room
        self.clear("dq", start, stop, room.blocks)
        high = self.code.minimum(stop, it.keys) if it.causal else it.keys

        def block(key: Index, end: Index) -> None:
            self.pack_keys(key, end)
            self.chunk(start, stop, key, end)

        self.each(0, high, room.block, it.keys, block)

    def some_keys(self, key: Index, end: Index) -> None:
        """A block of keys and all rows that see them, for dk and dv."""
        it, room = self.it, self.room
        self.pack_keys(key, end)
        unseen = it.causal and it.keys > it.queries
        times = 2 if unseen else room.chunks
        self.clear("dk", key, end, times)
        self.clear("dv", key, end, times)
        low = self.code.mul(self.code.divmod(key, room.chunk)[0], room.chunk) if it.causal else 0

        def chunk(start: Index, stop: Index) -> None:
            self.chunk(start, stop, key, end)

        self.each(low, it.queries, room.chunk, it.queries, chunk)

    def pack_keys(self, key: Index, end: Index) -> None:
        room = self.room
        self.pack_panels("k", key, end, room.key_panels, self.it.scale)
        self.pack_panels("v", key, end, room.value_panels, 1)
        if room.dq:
            self.pack_rows("k", key, end, room.keys)

    # --- a chunk of query rows and a block of keys ----------------------------------------------

    def chunk(self, start: Index, stop: Index, key: Index, end: Index) -> None:
        """Weights and slopes, and what they add to the results."""
        it, room, code = self.it, self.room, self.code
        low = start
        if it.causal and room.blocks > 1:  # rows before the first key see nothing
            low = maximum(code, start, key)

        def rows(q: Index, count: int) -> None:
            self.look(start, q, count, key, end)
            if room.dq:
                self.add_rows(start, q, count, key, end)

        self.row_blocks(low, stop, it.queries, rows)
        if not room.dkv:
            return
        self.pack_rows("q", start, stop, room.queries)
        self.pack_rows("g", start, stop, room.pushed)
        last = code.minimum(end, round_up(code, stop, it.rows)) if it.causal else end
        self.row_blocks(
            key, last, it.keys, lambda k, count: self.add_keys(start, stop, low, key, k, count)
        )

    def look(self, start: Index, q: Index, rows: int, key: Index, end: Index) -> None:
        """Weights and slopes of a few rows into scratch."""
        code, it, room = self.code, self.it, self.room
        self.touch(q, rows)
        base = [finite(code, self.whole("lse", code.add(q, r))) for r in range(rows)]
        means = self.means(q, rows)
        first = code.mul(self.minus(q, start), room.step)

        def place(room: int, r: int, here: Index) -> Reg:
            return self.place(room + r * self.room.step, code.add(first, here))

        def panel(at: Index) -> None:
            for r, v, score in self.each_vector("q", q, rows, room.key_panels, at):
                here = code.add(at, v)
                score = self.masked(score, q, r, code.add(key, here))
                code.store(exp(code, code.fsub(score, base[r])), place(room.weights, r, here))
            for r, v, push in self.each_vector("g", q, rows, room.value_panels, at):
                here = code.add(at, v)
                weight = code.load(place(room.weights, r, here), self.type)
                push = self.kept(push, q, r, code.add(key, here))
                slope = code.fmul(weight, code.fsub(push, means[r]))
                code.store(slope, place(room.slopes, r, here))
                if it.keep is not None:
                    kept = self.kept(weight, q, r, code.add(key, here))
                    code.store(kept, place(room.weights, r, here))

        count = round_up(code, self.reach(q, rows, key, end), it.panel)
        code.guarded_loop(0, count, it.panel, panel)

    def each_vector(
        self, name: str, q: Index, rows: int, panels: int, at: Index
    ) -> Iterator[tuple[int, int, Reg]]:
        """A tile of rows times keys: (row, first key, vector)."""
        for r, row in enumerate(self.products(name, q, rows, panels, at)):
            for v, value in enumerate(row):
                yield r, v * self.it.lanes, value

    def means(self, q: Index, rows: int) -> list[Reg]:
        """The mean of each row's slopes under its weights: the sum of g * out."""
        code, it = self.code, self.it
        sums = [const(0, self.type)] * rows
        for column in range(0, it.width, it.lanes):
            for r in range(rows):
                g, out = (self.load(name, code.add(q, r), column) for name in ("g", "out"))
                sums[r] = code.fma(g, out, sums[r])
        total = across(code, sums, Code.fadd)
        return [lane(code, total, r) for r in range(rows)]

    def whole(self, name: str, row: Index) -> Reg:
        """One number of a row, in all lanes."""
        return self.code.broadcast(self.at(name, row), self.it.element, self.it.lanes)

    # --- adding to the results ------------------------------------------------------------------

    def add_rows(self, start: Index, q: Index, rows: int, key: Index, end: Index) -> None:
        """Slopes times keys to dq."""
        code, it, room = self.code, self.it, self.room
        first = code.mul(self.minus(q, start), room.step)
        for column, vectors in groups(it.depth, it.lanes, it.columns):
            sums = tile(
                code, [r * room.step for r in range(rows)], vectors,
                self.reach(q, rows, key, end),
                self.place(room.slopes, first), 1, self.place(room.keys + column), room.deep,
                element=it.element,
            )  # fmt: skip
            self.add("dq", q, column, sums, it.scale, room.blocks)

    def add_keys(
        self, start: Index, stop: Index, low: Index, key: Index, k: Index, count: int
    ) -> None:
        """Slopes times queries to dk, weights times what is pushed back to dv."""
        it, room, code = self.it, self.room, self.code
        low = maximum(code, low, k) if it.causal else low
        for name, scratch, packed, wide, factor in (
            ("dk", room.slopes, room.queries, room.deep, it.scale),
            ("dv", room.weights, room.pushed, room.wide, 1),
        ):
            rows = self.minus(low, start)
            left = self.place(scratch, code.add(code.mul(rows, room.step), self.minus(k, key)))
            right = self.place(packed, code.mul(rows, wide))
            for column, vectors in groups(self.layout(name).shape[-1], it.lanes, it.columns):
                sums = tile(
                    code, range(count), vectors, self.minus(stop, low), left, room.step,
                    code.at_index(right, column, it.element), wide, element=it.element,
                )  # fmt: skip
                self.add(name, k, column, sums, factor, room.chunks)

    def add(
        self, name: str, row: Index, column: int, sums: Registers, factor: float, times: int
    ) -> None:
        """A tile, times a factor, to a result; the first of ``times`` overwrites what is there."""
        code = self.code
        scale = const(factor, self.type)
        for r, vectors in enumerate(sums):
            for v, value in enumerate(vectors):
                at = column + v * self.it.lanes
                if times > 1:
                    value = code.fma(value, scale, self.load(name, code.add(row, r), at))
                elif factor != 1:
                    value = code.fmul(value, scale)
                self.store(value, name, code.add(row, r), at)


def attention_grad(
    g: Layout, q: Layout, k: Layout, v: Layout, mask: Layout | None, keep: Layout | None,
    out: Layout, lse: Layout, dq: Layout, dk: Layout, dv: Layout, *,
    causal: bool = False, scale: float | None = None, target: Target = AVX512,
) -> Plan:  # fmt: skip
    """The gradients of queries, keys and values, which have the shapes of those.

    g: (..., L, V), the gradient of out; the others as for ``attention``. Caller's operands: those
    given, in this order.
    """
    it = problem(q, k, v, mask, keep, causal, scale, target)
    given = {"g": g, **it.inputs, "out": out, "lse": lse}
    names = [*given, "dq", "dk", "dv"]
    results = {"dq": dq, "dk": dk, "dv": dv}
    parts = [["dq", "dk", "dv"]] if it.heads >= ALONE else [["dq"], ["dk", "dv"]]
    steps = []
    for written in parts:
        operands = {**given, **{name: results[name] for name in written}}
        room = Room(it, "dq" in written, "dk" in written)
        products = 2 + ("dq" in written) + 2 * ("dk" in written)
        kernel = kernel_of(
            "_".join(["attention", *written]), it, operands, written, it.heads * room.tasks,
            room.scratch.bytes, products * it.pairs() * (it.depth + it.width), Backward,
        )  # fmt: skip
        if kernel.tasks:
            steps.append((kernel, tuple(names.index(name) for name in operands)))
    return Plan((), tuple(steps))
