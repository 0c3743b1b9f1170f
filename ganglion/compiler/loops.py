"""A loop nest as native code."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Kernel, Layout
from ganglion.compiler.lower import Stored, loads, nodes
from ganglion.compiler.nest import Nest, Pass, Step
from ganglion.compiler.scalars import REGISTER, Emitter, Place
from ganglion.compiler.text import LANES, Code, Index, Reg, const, first_lanes, vector
from ganglion.ops import scalar as sc
from ganglion.ops.scalar import Scalar

Combine = Callable[[Code, Reg, Reg], Reg]
HERE = sc.const(0, sc.INDEX)  # stands for the place where a value is made
UNROLL = 4  # vectors in flight where a reduction would wait for each sum


@dataclass(frozen=True)
class Memory:
    """Where a nest's values live: operands by number, the rest in scratch at a byte offset."""

    operands: dict[Stored, int]
    layouts: dict[Stored, Layout]
    scratch: dict[Stored, int]
    size: int


def nest_kernel(nest: Nest, memory: Memory, name: str) -> Kernel:
    """The kernel of a nest; operands are numbered by ``memory``."""
    writes = [memory.operands[s.value] for s in nest.steps if s.value in memory.operands]
    made = {s.value for s in nest.steps}
    reads = sorted(
        {
            memory.operands[load.args[0]]
            for s in nest.steps
            for load in loads(s.expression)
            if load.args[0] not in made
        }
    )
    order = sorted(memory.operands, key=memory.operands.__getitem__)
    layouts = tuple(memory.layouts[value] for value in order)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        _Writer(code, nest, memory, pointers, scratch).tasks(low, high)

    elements = math.prod(nest.extents) * sum(
        math.prod(i.args[1] for i in one.inner) * len(one.steps) for one in nest.passes
    )
    return Kernel(
        name,
        ("nest", layouts, spelled(nest, memory)),
        emit,
        layouts,
        tuple(reads),
        tuple(dict.fromkeys(writes)),
        math.prod(nest.extents),
        memory.size,
        elements,
        sum(layout.numel * layout.dtype.itemsize for layout in layouts),
    )


# --- what tells one nest's code from another's ----------------------------------------------------


def spelled(nest: Nest, memory: Memory) -> Hashable:
    """Equal for nests with equal code: indexes and values are numbered as they are met."""
    return Spelling(memory.operands, memory.scratch).nest(nest)


class Spelling:
    """Expressions as tuples in which indexes, values and shared parts are numbers."""

    def __init__(self, operands: Mapping[Stored, int], scratch: Mapping[Stored, int]) -> None:
        self.operands, self.scratch = operands, scratch
        self.numbers: dict[Any, int] = {}
        self.lines: list[Hashable] = []

    def nest(self, nest: Nest) -> Hashable:
        """All loops and steps."""
        for i in nest.outer:
            self.expression(i)
        for one in nest.passes:
            inner = tuple(self.expression(i) for i in one.inner)
            summed = tuple(i in one.summed for i in one.inner)
            lane = None if one.lane is None else one.inner.index(one.lane)
            limit = None if one.limit is None else self.expression(one.limit)
            self.lines.append(("pass", inner, summed, lane, limit))
            for step in one.steps:
                index = tuple(map(self.expression, step.index))
                found = self.expression(step.expression)
                self.lines.append((step.kind, index, found, self.value(step.value)))
        return tuple(self.lines)

    def value(self, value: Any) -> Hashable:
        """A value by where it lives."""
        if value in self.operands:
            return self.operands[value]
        if value in self.scratch:
            return ("scratch", self.scratch[value])
        return ("register", self.numbers.setdefault(value, len(self.numbers)))

    def expression(self, e: Scalar) -> int:
        """The number of an expression; its parts are numbered first."""
        found = self.numbers.get(e)
        if found is None:
            if e.op == "index":
                line: Hashable = ("index", e.args[1])
            elif e.op == "load":
                line = ("load", self.value(e.args[0]), *map(self.expression, e.args[1:]))
            elif e.op == "const":
                line = ("const", repr(e.args[0]), e.dtype.name)
            else:
                line = (e.op, e.dtype.name, *map(self.expression, e.args))
            self.lines.append(line)
            found = self.numbers[e] = len(self.numbers)
        return found


# --- code -----------------------------------------------------------------------------------------


class _Writer:
    def __init__(
        self, code: Code, nest: Nest, memory: Memory, pointers: Sequence[Reg], scratch: Reg
    ) -> None:
        self.code, self.nest = code, nest
        self.sources: dict[Any, tuple[Reg, Layout]] = {
            value: (pointers[number], memory.layouts[value])
            for value, number in memory.operands.items()
        }
        for value, offset in memory.scratch.items():
            pointer = code.at_index(scratch, offset, "i8")
            self.sources[value] = (pointer, memory.layouts[value])

    def tasks(self, low: Reg, high: Reg) -> None:
        self.code.loop(low, high, 1, (), self._task)

    def _task(self, number: Index) -> None:
        at = self.code.split(number, self.nest.extents)
        places: dict[Scalar, Place] = {
            i: (0, x) if isinstance(x, int) else (x, 0)
            for i, x in zip(self.nest.outer, at, strict=True)
        }
        outer = Emitter(self.code, self.sources, places)
        for one in self.nest.passes:
            _PassWriter(self, one, outer).write()


class _PassWriter:
    """Writes one pass; ``outer`` is the emitter of what surrounds it."""

    def __init__(self, nest: _Writer, one: Pass, outer: Emitter) -> None:
        self.code, self.sources = nest.code, nest.sources
        self.one, self.outer = one, outer
        wide = any(dt.float64 is e.dtype for s in one.steps for e in nodes(s.expression))
        self.width = LANES // 2 if wide else LANES
        self.sums = [s for s in one.steps if s.kind]
        self.free = free_indexes(one.steps, one.inner)

    def write(self) -> None:
        one = self.one
        if one.lane is None:
            self._scalars()
            return
        rest = [i for i in one.inner if i is not one.lane]
        kept = [i for i in rest if i not in one.summed]
        summed = [i for i in rest if i in one.summed]
        outer = self._hoisted(self.outer, set(self.outer.places))
        if one.lane in one.summed:
            self._loops(kept, outer, [], lambda e, _: self._across(e, summed))
        else:
            self._loops(kept, outer, [], lambda e, _: self._along(e, summed))

    def _scalars(self) -> None:
        """A pass without loops: its values stay known for later ones."""
        for step in self.one.steps:
            found = self.outer.value(step.expression)
            self.outer.known[step.value] = found
        self._store_all(self.outer, self.one.steps)

    # --- loops --------------------------------------------------------------------------------

    def _loops(
        self,
        indexes: list[Scalar],
        emitter: Emitter,
        carried: Sequence[Reg],
        body: Callable[[Emitter, list[Reg]], Sequence[Reg] | None],
    ) -> list[Reg]:
        """Nested loops; what does not change inside is computed outside."""
        if not indexes:
            return list(body(emitter, list(carried)) or ())
        first, rest = indexes[0], indexes[1:]

        def turn(i: Index, *values: Reg) -> list[Reg]:
            place: Place = (0, i) if isinstance(i, int) else (i, 0)
            inside = self._at(emitter, {first: place})
            inside = self._hoisted(inside, set(inside.places))
            return self._loops(rest, inside, values, body)

        return self.code.loop(0, first.args[1], 1, carried, turn)

    def _at(
        self, emitter: Emitter, places: Mapping[Scalar, Place], width: int = 1,
        mask: Reg | None = None,
    ) -> Emitter:  # fmt: skip
        lane = self.one.lane if width > 1 else None
        known = emitter.known
        return Emitter(
            self.code, self.sources, {**emitter.places, **places}, lane, width, mask, known
        )

    def _hoisted(self, emitter: Emitter, available: set[Scalar]) -> Emitter:
        """Compute what depends on the ``available`` indexes alone."""
        found = self._at(emitter, {})
        for step in self.one.steps:
            hoist(found, step.expression, self.free, available)
        return found

    def _blocks(
        self,
        emitter: Emitter,
        unroll: int,
        carried: list[Reg],
        body: Callable[[list[Emitter], list[Reg]], list[Reg]],
    ) -> list[Reg]:
        """Run along the lanes: so many vectors at once, then one by one, then what is left.

        ``body`` gets an emitter for each vector and takes its part of the carried values.
        """
        lane, width = self.one.lane, self.width
        assert lane is not None
        share = len(carried) // unroll

        def vectors(count: int) -> Callable[..., list[Reg]]:
            def turn(i: Index, *values: Reg) -> list[Reg]:
                places: list[Place] = [
                    (0, i + k * width) if isinstance(i, int) else (i, k * width)
                    for k in range(count)
                ]
                found = [self._at(emitter, {lane: place}, width) for place in places]
                used = count * share
                return [*body(found, list(values[:used])), *values[used:]]

            return turn

        if self.one.limit is not None:
            return self._dynamic(emitter, carried, body, vectors(1))
        size = lane.args[1]
        many = size - size % (unroll * width)
        full = size - size % width
        if many:
            carried = self.code.loop(0, many, unroll * width, carried, vectors(unroll))
        if full > many:
            carried = self.code.loop(many, full, width, carried, vectors(1))
        if size > full:
            mask = first_lanes(size - full, width)
            last = self._at(emitter, {lane: (0, full)}, width, mask)
            carried = [*body([last], carried[:share]), *carried[share:]]
        return carried

    def _dynamic(
        self, emitter: Emitter, carried: list[Reg],
        body: Callable[[list[Emitter], list[Reg]], list[Reg]], turn: Callable[..., list[Reg]],
    ) -> list[Reg]:  # fmt: skip
        """Along a number of lanes known at run time; only for passes that carry nothing."""
        assert self.one.limit is not None
        assert not carried
        code, width = self.code, self.width
        size = emitter.value(self.one.limit)
        rest = code.pure("i64", f"and i64 {size.name}, {width - 1}")
        full = code.pure("i64", f"sub i64 {size.name}, {rest.name}")
        code.guarded_loop(0, full, width, lambda i: void(turn(i)))

        def last() -> None:
            numbers = code.iota("i64", width)
            mask = code.compare("slt", numbers, code.splat(rest, width))
            lane = self.one.lane
            assert lane is not None
            body([self._at(emitter, {lane: (full, 0)}, width, mask)], [])

        code.when(code.compare("sgt", rest, 0), last)
        return []

    # --- bodies -------------------------------------------------------------------------------

    def _along(self, emitter: Emitter, summed: list[Scalar]) -> list[Reg]:
        """Each lane is a result of its own."""
        unroll = UNROLL if self.sums else 1

        def body(vectors: list[Emitter], _: list[Reg]) -> list[Reg]:
            if not self.sums:
                self._steps(vectors[0], [])
                return []
            starts = [self._identity(s) for _ in vectors for s in self.sums]
            count = len(self.sums)

            def turn(_: Emitter, values: list[Reg]) -> list[Reg]:
                out: list[Reg] = []
                for k, v in enumerate(vectors):
                    inside = self._at(v, _.places, self.width, v.mask)
                    inside.places[self.one.lane] = v.places[self.one.lane]  # type: ignore[index]
                    out += self._steps(inside, values[k * count : (k + 1) * count])
                return out

            ends = self._loops(summed, emitter, starts, turn)
            for k, v in enumerate(vectors):
                for s, end in zip(self.sums, ends[k * count :], strict=False):
                    v.known[s.value] = end
                self._store_all(v, self.sums)
            return []

        return self._blocks(emitter, unroll, [], body)

    def _across(self, emitter: Emitter, summed: list[Scalar]) -> list[Reg]:
        """The lanes are combined to one result."""
        count = len(self.sums)
        starts = [self._identity(s) for _ in range(UNROLL) for s in self.sums]

        def body(vectors: list[Emitter], values: list[Reg]) -> list[Reg]:
            out: list[Reg] = []
            for k, v in enumerate(vectors):
                out += self._steps(v, values[k * count : (k + 1) * count])
            return out

        ends = self._loops(
            summed, emitter, starts, lambda e, values: self._blocks(e, UNROLL, values, body)
        )
        target = self.outer if summed_all(self.one) else emitter
        for k, s in enumerate(self.sums):
            target.known[s.value] = self._together(combining(s), ends[k::count])
        self._store_all(target, self.sums)
        return []

    def _together(self, how: Combine, parts: Sequence[Reg]) -> Reg:
        """Vectors combined to one number, pair by pair."""

        def combine(x: Reg, y: Reg) -> Reg:
            return how(self.code, x, y)

        while len(parts) > 1:
            parts = [combine(x, y) for x, y in zip(parts[::2], parts[1::2], strict=True)]
        return self.code.fold(combine, parts[0])

    def _steps(self, emitter: Emitter, sums: list[Reg]) -> list[Reg]:
        """One turn: every step's element; the sums with it."""
        out: list[Reg] = []
        for step in self.one.steps:
            found = emitter.value(step.expression)
            if not step.kind:
                emitter.known[step.value] = found
                continue
            found = emitter.wide(found)
            if emitter.mask is not None and self.one.lane in self.one.summed:
                found = self.code.select(emitter.mask, found, self._identity(step))
            out.append(combining(step)(self.code, sums[len(out)], found))
        self._store_all(emitter, [s for s in self.one.steps if not s.kind])
        return out

    def _identity(self, step: Step) -> Reg:
        type = vector(REGISTER[step.expression.dtype], self.width)
        return const(identity(step.kind, step.expression.dtype), type)

    def _store_all(self, emitter: Emitter, steps: Sequence[Step]) -> None:
        """Stores come last: what they overwrite may have been read in this turn."""
        for step in steps:
            if step.value in self.sources:
                emitter.store(step.value, step.index, emitter.known[step.value])


def summed_all(one: Pass) -> bool:
    """Whether a pass leaves one result for each task."""
    return all(i in one.summed for i in one.inner)


def void(_: object) -> None:
    """Nothing, for a body whose value does not matter."""


def free_indexes(steps: Sequence[Step], own: Sequence[Scalar]) -> dict[Scalar, frozenset[Scalar]]:
    """The indexes that each expression depends on; values of the steps depend on their ``own``."""
    everywhere = frozenset([*own, HERE])
    made = {s.value for s in steps}
    found: dict[Scalar, frozenset[Scalar]] = {}

    def free(e: Scalar) -> frozenset[Scalar]:
        if e not in found:
            parts = [free(a) for a in e.args if isinstance(a, Scalar)]
            mine = frozenset([e]) if e.op == "index" else frozenset()
            if e.op == "load" and e.args[0] in made:
                mine = everywhere
            found[e] = mine.union(*parts)
        return found[e]

    for step in steps:
        free(step.expression)
    return found


def hoist(
    emitter: Emitter, e: Scalar, free: Mapping[Scalar, frozenset[Scalar]], available: set[Scalar]
) -> None:
    """Compute the parts of an expression that depend on the ``available`` indexes alone."""
    seen: set[Scalar] = set()
    waiting = [e]
    while waiting:
        x = waiting.pop()
        if x in seen or x in emitter.known or x.op in ("const", "index"):
            continue
        seen.add(x)
        if free[x] <= available:
            emitter.value(x)
            continue
        always = (x.args[0], x.args[2]) if x.op in ("rarely", "guarded") else x.args
        inside = [a for a in reversed(always) if isinstance(a, Scalar)]
        waiting += [a for a in inside if not (x.op == "load" and a.dtype is sc.INDEX)]


# --- ways to combine ------------------------------------------------------------------------------


def identity(kind: str, dtype: dt.dtype) -> float:
    """What changes nothing when it is combined."""
    if kind in ("sum", "or"):
        return 0
    if kind in ("prod", "and"):
        return 1
    if dtype.is_floating_point:
        return -math.inf if kind == "max" else math.inf
    bits = 8 * dtype.itemsize - dtype.is_signed
    if kind == "max":
        return -(1 << bits) if dtype.is_signed else 0
    return (1 << bits) - 1


def _plus(code: Code, x: Reg, y: Reg) -> Reg:
    return code.fadd(x, y) if x.element in ("float", "double") else code.op("add", x, y)


def _times(code: Code, x: Reg, y: Reg) -> Reg:
    return code.fmul(x, y) if x.element in ("float", "double") else code.op("mul", x, y)


def _extreme(how: str, integers: str = "s") -> Combine:
    def combine(code: Code, x: Reg, y: Reg) -> Reg:
        if x.element not in ("float", "double"):
            return code.select(code.compare(f"{integers}{how}", y, x), y, x)
        better = code.op("or", code.compare(f"o{how}", y, x), code.compare("uno", y, y))
        return code.select(better, y, x)

    return combine


COMBINE: dict[str, Combine] = {
    "sum": _plus, "prod": _times, "max": _extreme("gt"), "min": _extreme("lt"),
    "or": lambda code, x, y: code.op("or", x, y), "and": lambda code, x, y: code.op("and", x, y),
}  # fmt: skip
COMBINE_UNSIGNED: dict[str, Combine] = {
    **COMBINE, "max": _extreme("gt", "u"), "min": _extreme("lt", "u"),
}  # fmt: skip


def combining(step: Step) -> Combine:
    """How the elements of a reduction are combined."""
    return (COMBINE if step.expression.dtype.is_signed else COMBINE_UNSIGNED)[step.kind]
