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

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Kernel, Layout, Plan, store_lanes
from ganglion.compiler.kernels.grid import Axis, Grid, Spot, cut
from ganglion.compiler.kernels.pack import copy
from ganglion.compiler.kernels.strip import (
    MOST_TASKS,
    RESULT,
    Sources,
    Strip,
    Strips,
    beside,
    inside,
    numbered,
    power,
)
from ganglion.compiler.kernels.tile import natural_lanes
from ganglion.compiler.scalars import Emitter
from ganglion.compiler.text import Code, Index, Reg, const, vector
from ganglion.ops import scalar as sc
from ganglion.ops.scalar import Affine, Scalar, affine
from ganglion.ops.sweep import Scatter
from ganglion.shapes import Shape

BASE = 0  # the number of the base among a node's operands
TASK = 1 << 13  # elements of a task at least, where there are as many
CLEARED = 4  # vectors stored together


def scattered(
    scatter: Scatter, key: Hashable, operands: Mapping[int, Layout], result: Layout
) -> Plan:
    """Plan operands: those given, in order, then the result."""
    if not result.numel:
        return Plan((), ())
    order = [*operands, RESULT]
    steps = [_first(scatter, operands, result)]
    if math.prod(scatter.over):
        steps.append(_second(scatter, key, operands, result))
    return Plan((), tuple((kernel, tuple(map(order.index, used))) for kernel, used in steps))


Step = tuple[Kernel, tuple[int, ...]]  # a kernel and the numbers of its operands


def _first(scatter: Scatter, operands: Mapping[int, Layout], result: Layout) -> Step:
    """What is there before all elements."""
    if scatter.base is None:
        return cleared(result), (RESULT,)
    return copy(operands[BASE], result), (BASE, RESULT)


def _second(
    scatter: Scatter, key: Hashable, operands: Mapping[int, Layout], result: Layout
) -> Step:
    """The elements."""
    moved = _as_copy(scatter, operands, result)
    if moved is not None:
        number, source, target = moved
        return copy(source, target), (number, RESULT)
    read = {k: x for k, x in operands.items() if k != BASE or scatter.base is None}
    return _kernel(scatter, key, read, result), (*read, RESULT)


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


# --- places known beforehand ----------------------------------------------------------------------


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


def _kernel(
    scatter: Scatter, key: Hashable, operands: Mapping[int, Layout], result: Layout
) -> Kernel:
    kept = _kept(scatter, result)
    run = _run(scatter.over, kept)
    outer = tuple(d for d in kept if d not in run)
    lanes = natural_lanes(result.stored)
    strips = Strips(scatter.over, outer, run, min(lanes, power(math.prod(_sizes(scatter, run)))))
    inner = tuple(d for d, n in enumerate(scatter.over) if n > 1 and d not in kept)
    grid = strips.grid(TASK)
    layouts = (*operands.values(), result)
    last = len(operands)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        sources = numbered([*operands], pointers, layouts)
        writer = _Writer(code, scatter, strips, inner, sources, scratch)
        grid.emit(code, low, high, lambda spot: writer.write(grid, spot))

    elements = math.prod(scatter.over)
    return Kernel(
        "scatter", ("scatter", key, strips, grid, tuple(operands), layouts), emit, layouts,
        tuple(range(last + 1)), (last,), grid.tasks, scratch=1, flops=elements,
        bytes=2 * elements * result.dtype.itemsize,
    )  # fmt: skip


def _sizes(scatter: Scatter, dims: Sequence[int]) -> list[int]:
    return [scatter.over[d] for d in dims]


def _kept(scatter: Scatter, result: Layout) -> dict[int, int]:
    """The dimensions that decide alone on a dimension of the result, and their steps in memory."""
    index = sc.indexes(scatter.over)
    places = [affine(place) for place in scatter.target(*index)]
    terms = [{} if place is None else place.terms for place in places]
    alone = {i for found in terms if len(found) == 1 for i in found}
    return {
        d: sum(found.get(i, 0) * step for found, step in zip(terms, result.strides, strict=True))
        for d, i in enumerate(index)
        if i in alone
    }


def _run(over: Shape, kept: Mapping[int, int]) -> tuple[int, ...]:
    """The last kept dimensions, as far as they are neighbours in the result."""
    run: list[int] = []
    size = 1
    for d in reversed(range(len(over))):
        if kept.get(d) == size:
            run.insert(0, d)
            size *= over[d]
        elif over[d] > 1 and run:
            break
    return tuple(run)


class _Writer:
    """Writes the elements of a strip of the kept dimensions.

    ``inner``: the other dimensions. ``flag``: a byte of scratch memory, set if an element has no
    place.
    """

    def __init__(
        self, code: Code, scatter: Scatter, strips: Strips, inner: Sequence[int],
        sources: Sources, flag: Reg,
    ) -> None:  # fmt: skip
        self.code, self.flag, self.result = code, flag, sources[RESULT][1]
        self.strip = Strip(code, strips, sources)
        index = self.strip.index
        self.inner = [index[d] for d in inner]
        self.target = tuple(scatter.target(*index))
        old = Scalar("load", (RESULT, *self.target), self.result.dtype)
        self.new = combined(scatter.kind, old, scatter.value(*index))
        checks = _unchecked(self.target, self.result.shape)
        self.exists = functools.reduce(operator.and_, checks) if checks else None
        self.loud = bool(checks) and self.result.dtype.is_floating_point

    def write(self, grid: Grid, spot: Spot) -> None:
        """Every element of a strip, in order."""
        vectors = self.strip.vectors(grid, spot)
        if self.loud:
            self.code.store(const(0, "i8"), self.flag)
        _nested(self.code, self.inner, vectors, self._elements)
        if self.loud:
            missing = self.code.compare("ne", self.code.load(self.flag, "i8"), const(0, "i8"))
            self.code.when(missing, lambda: self._spoil(vectors))

    def _elements(self, vectors: Sequence[Emitter]) -> None:
        """One element of every lane, where its place exists."""
        code, vectors = self.code, [beside(e) for e in vectors]
        if self.exists is None:
            self._store(vectors)
            return
        exists = vectors[0].value(self.exists)
        if exists.lanes == 1:  # the same for all lanes, and so for all vectors
            same = {x: r for x, r in vectors[0].known.items() if r.lanes == 1}
            for e in vectors:
                e.known |= same
            code.when(exists, lambda: self._store(vectors))
            self._note(exists)
            return
        for e in vectors:
            exists = e.value(self.exists)
            self._note(exists)
            e.mask = exists if e.mask is None else code.op("and", exists, e.mask)
        self._store(vectors)

    def _store(self, vectors: Sequence[Emitter]) -> None:
        for e in vectors:
            own = beside(e)
            own.store(RESULT, self.target, own.value(self.new))

    def _note(self, exists: Reg) -> None:
        """Remember if a lane has no place."""
        if self.loud:
            bits = f"i{exists.lanes}"
            lanes = self.code.pure(bits, f"bitcast {exists} to {bits}")
            absent = self.code.compare("ne", lanes, const(-1, bits))
            self.code.when(absent, lambda: self.code.store(const(1, "i8"), self.flag))

    def _spoil(self, vectors: Sequence[Emitter]) -> None:
        """NaN in all that a strip could have written."""
        kept = {self.strip.lane, *self.strip.outer}
        fixed = [_follows(place, kept) for place in self.target]
        places = [
            place if known else sc.index(size)
            for place, known, size in zip(self.target, fixed, self.result.shape, strict=True)
        ]
        others = [i for i, known in zip(places, fixed, strict=True) if not known]
        nan = sc.const(math.nan, self.result.dtype)

        def store(vectors: Sequence[Emitter]) -> None:
            for e in vectors:
                e.store(RESULT, places, e.lanes(nan))

        _nested(self.code, others, vectors, store)


def _nested(
    code: Code, loops: Sequence[Scalar], vectors: Sequence[Emitter],
    body: Callable[[Sequence[Emitter]], None],
) -> None:  # fmt: skip
    """Loops over indexes, the first one outermost."""
    if not loops:
        body(vectors)
        return
    first, *rest = loops

    def turn(i: Index) -> None:
        _nested(code, rest, [inside(e, first, i, e.known) for e in vectors], body)

    code.loop(0, first.args[1], 1, (), turn)


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
