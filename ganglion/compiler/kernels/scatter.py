"""Scatters: a copy of a base, into which elements are combined one after the other.

Dimensions of the elements that decide alone on a dimension of the result are *kept*: elements
that differ there never meet, so that tasks and lanes run along them. All others are loops inside
a task, in order. So every sum is added up in one order, whatever the number of threads.

Elements whose place does not exist are left out; where that happens, what the task would have
written becomes NaN, for floats.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Kernel, Layout, Plan, store_lanes
from ganglion.compiler.kernels.grid import Axis, Grid, Spot, cut
from ganglion.compiler.kernels.pack import copy
from ganglion.compiler.kernels.tile import natural_lanes
from ganglion.compiler.scalars import Emitter, Place
from ganglion.compiler.text import Code, Index, Reg, const, first_lanes, vector
from ganglion.ops import scalar as sc
from ganglion.ops.scalar import Affine, Scalar, affine
from ganglion.ops.sweep import Scatter
from ganglion.shapes import Shape

VECTORS = 4  # side by side, for one position read
TASK = 1 << 13  # elements of a task at least, where there are as many
ENOUGH_TASKS, MOST_TASKS = 16, 64
CLEARED = 4  # vectors stored together

RESULT = -1  # the number of the result among the operands


def scattered(
    scatter: Scatter, key: Hashable, operands: Mapping[int, Layout], result: Layout
) -> Plan:
    """Plan operands: those given, in order, then the result."""
    last = len(operands)
    if not result.numel:
        return Plan((), ())
    order = list(operands)
    if scatter.base is None:
        steps: list[tuple[Kernel, tuple[int, ...]]] = [(cleared(result), (last,))]
    else:
        place = order.index(BASE)
        steps = [(copy(operands[BASE], result), (place, last))]
    if math.prod(scatter.over):
        moved = _as_copy(scatter, operands, result)
        if moved is None:
            read = {k: x for k, x in operands.items() if k != BASE or scatter.base is None}
            kernel = _kernel(scatter, key, read, result)
            steps.append((kernel, (*map(order.index, read), last)))
        else:
            k, source, target = moved
            steps.append((copy(source, target), (order.index(k), last)))
    return Plan((), tuple(steps))


BASE = 0  # the number of the base among a node's inputs


# --- zeros ----------------------------------------------------------------------------------------


def cleared(target: Layout) -> Kernel:
    """Zeros in all elements; what lies between them stays as it is."""
    dims = sorted((d for d, n in enumerate(target.shape) if n > 1), key=target.strides.__getitem__)
    sizes, steps = [1], [1]
    for d in dims:
        if target.strides[d] == sizes[0] * steps[0]:
            sizes[0] *= target.shape[d]
        else:
            sizes.insert(0, target.shape[d])
            steps.insert(0, target.strides[d])
    lanes = natural_lanes(target.stored)
    whole = CLEARED * lanes
    axes = [*(Axis(n) for n in sizes[:-1]), Axis(sizes[-1], whole)]
    grid = Grid(cut(axes, min(MOST_TASKS, max(1, target.numel // TASK))))

    def emit(code: Code, pointers: Sequence[Reg], _: Reg, low: Reg, high: Reg) -> None:
        def tile(spot: Spot) -> None:
            place = code.dot(spot.starts(code, grid.axes), steps, target.offset)
            for v in range(0, spot.sizes[-1], lanes):
                at = code.at_index(pointers[0], code.add(place, v * steps[-1]), target.stored)
                zero = const(0, vector(target.stored, lanes))
                store_lanes(code, zero, at, steps[-1], spot.sizes[-1] - v)

        grid.emit(code, low, high, tile)

    return Kernel(
        "clear", ("clear", target), emit, (target,), (), (0,), grid.tasks,
        bytes=target.numel * target.dtype.itemsize,
    )  # fmt: skip


# --- elements at places known beforehand ------------------------------------------------------------


def _as_copy(
    scatter: Scatter, operands: Mapping[int, Layout], result: Layout
) -> tuple[int, Layout, Layout] | None:
    """The operand that is copied, and both layouts, where strides say all that happens."""
    index = sc.indexes(scatter.over)
    target, value = tuple(scatter.target(*index)), scatter.value(*index)
    if scatter.kind != "set" or value.op != "load" or _unchecked(target, result.shape):
        return None
    number, *places = value.args
    to, origin = _place(target, result), _place(places, operands[number])
    if to is None or origin is None or not _apart(to) or not set(origin.terms) <= set(index):
        return None
    return number, _seen(operands[number], origin, index), _seen(result, to, index)


def _place(index: Sequence[Scalar], layout: Layout) -> Affine | None:
    """Where an element stands in its buffer."""
    found = Affine(layout.offset, {})
    for i, stride in zip(index, layout.strides, strict=True):
        term = affine(i)
        if term is None:
            return None
        found = found.plus(term, stride)
    return found


def _seen(layout: Layout, place: Affine, index: Sequence[Scalar]) -> Layout:
    shape = tuple(i.args[1] if i.op == "index" else 1 for i in index)
    strides = tuple(place.terms.get(i, 0) for i in index)
    return Layout(layout.dtype, shape, strides, place.constant, layout.elements)


def _apart(place: Affine) -> bool:
    """Whether no two elements meet."""
    reach = 0
    for i, step in sorted(place.terms.items(), key=lambda term: abs(term[1])):
        if i.op != "index" or abs(step) <= reach:
            return False
        reach += abs(step) * (i.args[1] - 1)
    return True


def _unchecked(target: Sequence[Scalar], shape: Shape) -> list[Scalar]:
    """What must hold for a place to exist, as far as that is not known."""
    found = []
    for place, size in zip(target, shape, strict=True):
        known = affine(place)
        if known is None or known.low < 0 or known.high >= size:
            found += [place >= 0, place < size]
    return found


# --- any elements ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Loops:
    """How the box of elements is gone through."""

    over: Shape
    tasks: tuple[int, ...]  # dimensions cut into tasks
    inner: tuple[int, ...]  # loops inside a task, in order
    run: tuple[int, ...]  # dimensions along which the lanes go, as one
    lanes: int

    @property
    def neighbours(self) -> int:
        return math.prod(self.over[d] for d in self.run)

    @property
    def grid(self) -> Grid:
        outer = math.prod(self.over[d] for d in self.tasks)
        vectors = outer * self.neighbours // (ENOUGH_TASKS * self.lanes)
        step = self.lanes * min(VECTORS, max(1, vectors))
        axes = [*(Axis(self.over[d]) for d in self.tasks), Axis(self.neighbours, step)]
        return Grid(cut(axes, min(MOST_TASKS, max(1, math.prod(self.over) // TASK))))


def _loops(scatter: Scatter, result: Layout) -> _Loops:
    index = sc.indexes(scatter.over)
    target = scatter.target(*index)
    terms = [found.terms for place in target if (found := affine(place)) is not None]
    alone = {i for found in terms if len(found) == 1 for i in found}
    steps: dict[int, int] = {}
    for d, i in enumerate(index):
        if i in alone:
            own = [(found or {}).get(i, 0) for found in map(_terms, target)]
            steps[d] = sum(c * s for c, s in zip(own, result.strides, strict=True))
    run: list[int] = []
    size = 1
    for d in reversed(range(len(index))):
        if steps.get(d) == size:
            run.insert(0, d)
            size *= scatter.over[d]
        elif scatter.over[d] > 1 and run:
            break
    tasks = [d for d in steps if d not in run]
    inner = [d for d, i in enumerate(index) if i.op == "index" and d not in steps]
    lanes = min(natural_lanes(result.stored), 1 << (size - 1).bit_length())
    return _Loops(scatter.over, tuple(tasks), tuple(inner), tuple(run), lanes)


def _terms(place: Scalar) -> Mapping[Scalar, int] | None:
    found = affine(place)
    return None if found is None else found.terms


def _kernel(
    scatter: Scatter, key: Hashable, operands: Mapping[int, Layout], result: Layout
) -> Kernel:
    loops = _loops(scatter, result)
    layouts = (*operands.values(), result)
    last = len(operands)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        pairs = zip(pointers, layouts, strict=True)
        sources = dict(zip([*operands, RESULT], pairs, strict=True))
        writer = _Writer(code, scatter, loops, sources, scratch)
        loops.grid.emit(code, low, high, writer.write)

    elements = math.prod(scatter.over)
    return Kernel(
        "scatter", ("scatter", key, loops, tuple(operands), layouts), emit, layouts,
        tuple(range(last + 1)), (last,), loops.grid.tasks, scratch=1, flops=elements,
        bytes=2 * elements * result.dtype.itemsize,
    )  # fmt: skip


class _Writer:
    """Writes the elements of one tile of the kept dimensions.

    ``flag`` is a byte of scratch memory: whether an element had no place.
    """

    def __init__(
        self, code: Code, scatter: Scatter, loops: _Loops,
        sources: Mapping[int, tuple[Reg, Layout]], flag: Reg,
    ) -> None:  # fmt: skip
        self.code, self.loops, self.sources, self.flag = code, loops, sources, flag
        self.result = sources[RESULT][1]
        self.lane = sc.index(loops.neighbours)
        self.index = list(sc.indexes(loops.over))
        along = sc.unflat(self.lane, tuple(loops.over[d] for d in loops.run))
        for d, i in zip(loops.run, along, strict=False):
            self.index[d] = i
        self.target = tuple(scatter.target(*self.index))
        old = Scalar("load", (RESULT, *self.target), self.result.dtype)
        self.new = combined(scatter.kind, old, scatter.value(*self.index))
        checks = _unchecked(self.target, self.result.shape)
        self.exists = functools.reduce(operator.and_, checks) if checks else None

    def write(self, spot: Spot) -> None:
        """Every element of a tile, in order."""
        *outer, start = spot.starts(self.code, self.loops.grid.axes)
        kept = (self.index[d] for d in self.loops.tasks)
        places = {i: _standing(x) for i, x in zip(kept, outer, strict=True)}
        lanes, size = self.loops.lanes, spot.sizes[-1]
        vectors = [
            self._emitter(places, start, v, min(lanes, size - v)) for v in range(0, size, lanes)
        ]
        loud = self.exists is not None and self.result.dtype.is_floating_point
        if loud:
            self.code.store(const(0, "i8"), self.flag)
        self._turns([self.index[d] for d in self.loops.inner], vectors, loud)
        if loud:
            missing = self.code.compare("ne", self.code.load(self.flag, "i8"), const(0, "i8"))
            self.code.when(missing, lambda: self._spoil(vectors))

    def _emitter(
        self, places: Mapping[Scalar, Place], start: Index, v: int, count: int
    ) -> Emitter:
        lanes = self.loops.lanes
        at: Place = (0, start + v) if isinstance(start, int) else (start, v)
        mask = first_lanes(count, lanes) if count < lanes else None
        return Emitter(self.code, self.sources, {**places, self.lane: at}, self.lane, lanes, mask)

    def _turns(self, inner: Sequence[Scalar], vectors: Sequence[Emitter], loud: bool) -> None:
        """The loops inside a task."""
        if not inner:
            self._elements(vectors, loud)
            return
        first, *rest = inner

        def turn(i: Index) -> None:
            self._turns(rest, [_at(e, {first: _standing(i)}) for e in vectors], loud)

        self.code.loop(0, first.args[1], 1, (), turn)

    def _elements(self, vectors: Sequence[Emitter], loud: bool) -> None:
        """One element of every lane, where its place exists."""
        code, vectors = self.code, [_at(e, {}) for e in vectors]
        if self.exists is None:
            self._store(vectors)
            return
        first = vectors[0]
        exists = first.value(self.exists)
        if exists.lanes == 1:  # the same for all lanes, and so for all vectors
            same = {x: r for x, r in first.known.items() if r.lanes == 1}
            for e in vectors:
                e.known |= same
            code.when(exists, lambda: self._store(vectors))
            self._note(exists, loud)
            return
        for e in vectors:
            exists = e.value(self.exists)
            self._note(exists, loud)
            e.mask = exists if e.mask is None else code.op("and", exists, e.mask)
        self._store(vectors)

    def _store(self, vectors: Sequence[Emitter]) -> None:
        for e in vectors:
            inside = _at(e, {})
            inside.store(RESULT, self.target, inside.value(self.new))

    def _note(self, exists: Reg, loud: bool) -> None:
        """Remember that an element has no place."""
        if loud:
            every = self.code.pure(f"i{exists.lanes}", f"bitcast {exists} to i{exists.lanes}")
            absent = self.code.compare("ne", every, const(-1, every.type))
            self.code.when(absent, lambda: self.code.store(const(1, "i8"), self.flag))

    def _spoil(self, vectors: Sequence[Emitter]) -> None:
        """NaN in all that a tile could have written."""
        kept = {self.lane, *(self.index[d] for d in self.loops.tasks)}
        places = list(self.target)
        inner: list[Scalar] = []
        for d, place in enumerate(places):
            if not _follows(place, kept):
                places[d] = sc.index(self.result.shape[d])
                inner.append(places[d])
        nan = sc.const(math.nan, self.result.dtype)

        def nest(left: Sequence[Scalar], vectors: Sequence[Emitter]) -> None:
            if left:
                turn = functools.partial(_turned, left, vectors, nest)
                self.code.loop(0, left[0].args[1], 1, (), turn)
                return
            for e in vectors:
                e.store(RESULT, places, e.lanes(nan))

        nest(inner, vectors)


def _turned(
    left: Sequence[Scalar], vectors: Sequence[Emitter], nest: Callable[..., None], i: Index
) -> None:
    nest(left[1:], [_at(e, {left[0]: _standing(i)}) for e in vectors])


def _at(e: Emitter, places: Mapping[Scalar, Place]) -> Emitter:
    """An emitter beside another one, with some loops around it."""
    return Emitter(
        e.code, e.sources, {**e.places, **places}, e.lane, e.width, e.mask, e.known
    )


def _standing(i: Index) -> Place:
    return (0, i) if isinstance(i, int) else (i, 0)


def _follows(e: Scalar, known: set[Scalar]) -> bool:
    """Whether an expression depends on the known indexes alone."""
    if e.op in ("index", "load"):
        return e in known
    return all(_follows(a, known) for a in e.args if isinstance(a, Scalar))


def combined(kind: str, old: Scalar, new: Scalar) -> Scalar:
    """What becomes of an element when another one is combined with it."""
    if kind == "set":
        return new
    if old.dtype is dt.bool_:
        return old | new if kind in ("sum", "max") else old & new
    return COMBINED[kind](old, new)


COMBINED: Mapping[str, Callable[[Scalar, Scalar], Scalar]] = {
    "sum": operator.add, "prod": operator.mul, "max": sc.maximum, "min": sc.minimum
}  # fmt: skip
