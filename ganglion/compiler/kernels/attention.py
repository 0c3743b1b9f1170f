"""Attention: softmax(scale * q k^T + mask) v and its gradients, without storing the scores.

A task has one head, or some query rows of one. A few query rows at a time see a whole block of
keys: their scores stay in scratch (and so in L1), become weights there, and are the left side of
the product with the values. Up to 512 keys are one block and the softmax is the plain one; more
keys are walked through block by block with a running maximum (Dao et al. 2022, arXiv:2205.14135).
Rows that see no key at all give zeros, and their log-sum-exp is minus infinity.
"""

from __future__ import annotations

from ganglion.compiler.kernel import Layout, Plan, store_lanes
from ganglion.compiler.kernels.buffers import Named, Scratch, across, lane, padded
from ganglion.compiler.kernels.exponential import apply, exp
from ganglion.compiler.kernels.heads import (
    INF,
    KEYS,
    Heads,
    Problem,
    chunk_rows,
    evenly,
    finite,
    greater,
    groups,
    kernel_of,
    maximum,
    problem,
    round_up,
)
from ganglion.compiler.kernels.tile import AVX512, Registers, tile
from ganglion.compiler.target import Target
from ganglion.compiler.text import Code, Index, Reg, const
from ganglion.ops.transcendental import log


class Forward(Heads):
    """Emits attention, for all keys at once or block by block."""

    def __init__(self, code: Code, it: Problem, named: Named, scratch: Reg) -> None:
        super().__init__(code, it, named, scratch)
        self.room = ForwardRoom(it)

    def task(self, task: Index) -> None:
        """The query rows of one chunk of one head."""
        code, it, room = self.code, self.it, self.room
        head, chunk = code.divmod(task, room.chunks)
        self.enter(head)
        start = code.mul(evenly(code, chunk, room.chunks) if it.causal else chunk, room.chunk)
        stop = code.minimum(code.add(start, room.chunk), it.queries)
        end = code.minimum(stop, it.keys) if it.causal else it.keys
        if it.keys <= KEYS:
            self.pack(0, end)
            self.row_blocks(start, stop, it.queries, lambda q, rows: self.at_once(q, rows, end))
            return
        self.row_blocks(start, stop, it.queries, lambda q, rows: self.clear(start, q, rows))
        code.guarded_loop(0, end, KEYS, lambda key: self.block(start, stop, key, end))
        self.row_blocks(start, stop, it.queries, lambda q, rows: self.close(start, q, rows))

    def pack(self, key: Index, end: Index) -> None:
        self.pack_panels("k", key, end, self.room.panels, self.it.scale)
        self.pack_rows("v", key, end, self.room.values)

    def at_once(self, q: Index, rows: int, end: Index) -> None:
        """A few rows see all their keys."""
        count = self.reach(q, rows, 0, end)
        top = self.scores(q, rows, 0, count)
        total = self.weigh(q, rows, 0, count, finite(self.code, top))
        inverse = self.inverse(total)
        for column, vectors in self.room.groups:
            self.put_tile(q, column, self.mixed(rows, count, column, vectors), inverse)
        self.sum_up(q, rows, top, total)

    # --- several blocks of keys -----------------------------------------------------------------

    def clear(self, start: Index, q: Index, rows: int) -> None:
        """Rows that have seen nothing yet."""
        code, room = self.code, self.room
        slot = self.slot(start, q)
        code.store(const(-INF, self.type), self.place(room.tops, slot))
        code.store(const(0, self.type), self.place(room.totals, slot))
        for column, vectors in room.groups:
            for row in self.sums(start, q, rows, column, vectors):
                for place in row:
                    code.store(const(0, self.type), place)

    def block(self, start: Index, stop: Index, key: Index, end: Index) -> None:
        """All rows of a chunk see one block of keys."""
        code, it = self.code, self.it
        end = code.minimum(code.add(key, KEYS), end)
        self.pack(key, end)
        low = maximum(code, start, key) if it.causal else start  # earlier rows see none of these
        self.row_blocks(low, stop, it.queries, lambda q, rows: self.again(start, q, rows, key, end))

    def again(self, start: Index, q: Index, rows: int, key: Index, end: Index) -> None:
        """A few rows see one more block; what they had shrinks when the maximum grows."""
        code, room = self.code, self.room
        slot = self.slot(start, q)
        count = self.reach(q, rows, key, end)
        before = code.load(self.place(room.tops, slot), self.type)
        top = greater(code, before, self.scores(q, rows, key, count))
        base = finite(code, top)
        shrunk = exp(code, code.fsub(before, base))
        total = self.weigh(q, rows, key, count, base)
        total = code.fma(code.load(self.place(room.totals, slot), self.type), shrunk, total)
        code.store(top, self.place(room.tops, slot))
        code.store(total, self.place(room.totals, slot))
        for column, vectors in room.groups:
            places = self.sums(start, q, rows, column, vectors)
            had = [
                [code.fmul(code.load(p, self.type), lane(code, shrunk, r)) for p in row]
                for r, row in enumerate(places)
            ]
            for row, to in zip(self.mixed(rows, count, column, vectors, had), places, strict=True):
                for value, place in zip(row, to, strict=True):
                    code.store(value, place)

    def close(self, start: Index, q: Index, rows: int) -> None:
        """Rows that have seen everything."""
        code, room = self.code, self.room
        slot = self.slot(start, q)
        top = code.load(self.place(room.tops, slot), self.type)
        total = code.load(self.place(room.totals, slot), self.type)
        inverse = self.inverse(total)
        for column, vectors in room.groups:
            places = self.sums(start, q, rows, column, vectors)
            loaded = [[code.load(place, self.type) for place in row] for row in places]
            self.put_tile(q, column, loaded, inverse)
        self.sum_up(q, rows, top, total)

    def slot(self, start: Index, q: Index) -> Index:
        """Where the vector of a tile's rows stands."""
        tiles, _ = self.code.divmod(self.minus(q, start), self.it.rows)
        return self.code.mul(tiles, self.it.lanes)

    def sums(self, start: Index, q: Index, rows: int, column: int, vectors: int) -> list[list[Reg]]:
        """Where the mixed values of a tile's rows stand."""
        code, it, wide = self.code, self.it, self.room.wide
        first = self.place(self.room.sums, code.mul(self.minus(q, start), wide))
        offsets = [column + v * it.lanes for v in range(vectors)]
        return [
            [code.at_index(first, r * wide + offset, it.element) for offset in offsets]
            for r in range(rows)
        ]

    # --- a few rows and a block of keys ---------------------------------------------------------

    def scores(self, q: Index, rows: int, key: Index, count: Index) -> Reg:
        """Scores into scratch; the greatest of row r in lane r."""
        code, it, room = self.code, self.it, self.room
        self.touch(q, rows)

        def panel(at: Index, *tops: Reg) -> list[Reg]:
            found = list(tops)
            for r, row in enumerate(self.products("q", q, rows, room.panels, at)):
                for v, score in enumerate(row):
                    here = code.add(at, v * it.lanes)
                    score = self.masked(score, q, r, code.add(key, here))
                    code.store(score, self.place(room.scores + r * room.step, here))
                    found[r] = greater(code, score, found[r])
            return found

        none = [const(-INF, self.type)] * rows
        tops = code.loop(0, round_up(code, count, it.panel), it.panel, none, panel)
        return across(code, tops, greater)

    def weigh(self, q: Index, rows: int, key: Index, count: Index, base: Reg) -> Reg:
        """Scores become weights, not yet divided by their sums; the sum of row r in lane r."""
        code, it, room = self.code, self.it, self.room
        bases = [lane(code, base, r) for r in range(rows)]

        def some(at: Index, *totals: Reg) -> list[Reg]:
            found = []
            for r, total in enumerate(totals):
                place = self.place(room.scores + r * room.step, at)
                weight = exp(code, code.fsub(code.load(place, self.type), bases[r]))
                code.store(self.kept(weight, q, r, code.add(key, at)), place)
                found.append(code.fadd(total, weight))
            return found

        none = [const(0, self.type)] * rows
        totals = code.loop(0, round_up(code, count, it.lanes), it.lanes, none, some)
        return across(code, totals, Code.fadd)

    def mixed(
        self, rows: int, count: Index, column: int, vectors: int, had: Registers | None = None
    ) -> Registers:
        """Weights times values, for some of the columns."""
        room = self.room
        return tile(
            self.code, [r * room.step for r in range(rows)], vectors, count,
            self.place(room.scores), 1, self.place(room.values + column), room.wide,
            initial=had, element=self.it.element,
        )  # fmt: skip

    # --- results --------------------------------------------------------------------------------

    def inverse(self, total: Reg) -> Reg:
        """What mixed values are multiplied by; rows without keys stay 0."""
        code = self.code
        found = code.fdiv(const(1, self.type), total)
        empty = code.compare("oeq", total, const(0, self.type))
        return code.select(empty, const(0, self.type), found)

    def put_tile(self, q: Index, column: int, tile: Registers, inverse: Reg) -> None:
        for r, row in enumerate(tile):
            for v, value in enumerate(row):
                scaled = self.code.fmul(value, lane(self.code, inverse, r))
                self.store(scaled, "out", self.code.add(q, r), column + v * self.it.lanes)

    def sum_up(self, q: Index, rows: int, top: Reg, total: Reg) -> None:
        """The log-sum-exp of each row."""
        code = self.code
        found = code.fadd(apply(code, log, total), top)
        stride = self.layout("lse").strides[-1]
        store_lanes(code, found, self.at("lse", q), stride, rows)


class ForwardRoom:
    """How forward is cut into tasks, and where things stand in its scratch."""

    def __init__(self, it: Problem) -> None:
        block = padded(min(it.keys, KEYS), it.panel)
        self.chunk = chunk_rows(it, it.queries if it.keys <= KEYS else 128)
        self.chunks = -(-it.queries // self.chunk)
        self.step = block + it.lanes  # not a power of two: rows would share cache sets
        self.wide = padded(it.width, it.lanes)
        self.groups = groups(it.width, it.lanes, it.columns)
        self.scratch = scratch = Scratch(it.element)
        self.panels = scratch.take(block * it.depth)
        self.values = scratch.take(block * self.wide)
        self.scores = scratch.take(it.rows * self.step)
        if it.keys > KEYS:
            tiles = self.chunk // it.rows
            self.tops = scratch.take(tiles * it.lanes)
            self.totals = scratch.take(tiles * it.lanes)
            self.sums = scratch.take(self.chunk * self.wide)


def attention(
    q: Layout, k: Layout, v: Layout, mask: Layout | None, keep: Layout | None, out: Layout,
    lse: Layout, *, causal: bool = False, scale: float | None = None,
    target: Target = AVX512,
) -> Plan:  # fmt: skip
    """``out = keep * softmax(scale * q k^T + mask) v`` and each row's log-sum-exp.

    q: (..., L, E), k: (..., S, E), v: (..., S, V), out: (..., L, V), lse: (..., L), any strides.
    mask: bools (True: may be seen) or numbers to add to scores, keep: numbers to multiply weights
    by; both broadcast to (..., L, S). ``causal``: row i sees keys 0 to i. ``scale``: 1/sqrt(E)
    unless given. Caller's operands: those given, in this order.
    """
    it = problem(q, k, v, mask, keep, causal, scale, target)
    operands = {**it.inputs, "out": out, "lse": lse}
    room = ForwardRoom(it)
    kernel = kernel_of(
        "attention", it, operands, ("out", "lse"), it.heads * room.chunks, room.scratch.bytes,
        2 * it.pairs() * (it.depth + it.width), Forward,
    )  # fmt: skip
    return Plan((), ((kernel, tuple(range(len(operands)))),) if kernel.tasks else ())
