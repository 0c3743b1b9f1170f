"""Loop nests: the steps of a group arranged in loops, and the kernel they become.

A nest has outer loops, whose turns are the kernel's tasks, and inside them passes, one after the
other. A pass is one set of inner loops; its steps compute an element each, or combine elements.
One inner index runs along the lanes of vectors. A step that needs the result of a reduction, or
an element that another turn makes, stands in a later pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ganglion.compiler.fuse import Group, Layouts, place_of, real
from ganglion.compiler.lower import Statement, Stored, loads, replaced
from ganglion.ops import scalar as sc
from ganglion.ops.scalar import Affine, Scalar, affine
from ganglion.shapes import Shape

BLOCK = 4096  # elements of a task, where nothing else decides


@dataclass(eq=False)
class Step:
    """One statement in terms of the nest's loops; ``kind`` names its reduction, if it is one."""

    value: Stored
    index: tuple[Scalar, ...]
    expression: Scalar
    kind: str = ""


@dataclass(eq=False)
class Pass:
    """Inner loops, the outermost first; ``summed`` are those that reductions run over."""

    inner: list[Scalar]
    summed: frozenset[Scalar] = frozenset()
    steps: list[Step] = field(default_factory=list)
    lane: Scalar | None = None
    limit: Scalar | None = None  # turns of the lane index, where they are not the same always

    @property
    def reduces(self) -> bool:
        """Whether the pass combines elements."""
        return any(step.kind for step in self.steps)


@dataclass(eq=False)
class Nest:
    """Outer loops and passes; ``inner`` values live in a thread's scratch memory."""

    outer: list[Scalar]
    passes: list[Pass]

    @property
    def extents(self) -> Shape:
        return tuple(i.args[1] for i in self.outer)

    @property
    def steps(self) -> Iterator[Step]:
        """All steps in order."""
        for one in self.passes:
            yield from one.steps


def arrange(group: Group, layouts: Layouts) -> Nest:
    """The loops of a group."""
    nest = _flat(group) if group.flat else _Rows(group).nest()
    for one in nest.passes:
        _sort(one, layouts)
        _collapse(one, nest, layouts)
        one.lane = _lane(one, layouts)
    if group.flat:
        _cut(nest)
    return nest


def passes(group: Group) -> dict[Stored, int]:
    """In which pass of its nest a group makes each value."""
    if group.flat:
        return dict.fromkeys((s.value for s in group.statements), 0)
    nest = _Rows(group).nest()
    return {step.value: k for k, one in enumerate(nest.passes) for step in one.steps}


# --- passes ---------------------------------------------------------------------------------------


def _flat(group: Group) -> Nest:
    """One pass over all elements."""
    first = group.statements[0]
    one = Pass(list(real(first.index)))
    number = sc.flat(first.index, first.shape)
    for s in group.statements:
        own = first.index if s.shape == first.shape else sc.unflat(number, s.shape)
        places = {a: b for a, b in zip(s.index, own, strict=True) if a.op == "index"}
        expression = s.expression if s is first else replaced(s.expression, places)
        one.steps.append(Step(s.value, tuple(own), expression))
    return Nest([], [one])


class _Rows:
    """Steps that share outer loops, put into as few passes as they allow."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.outer = [sc.index(size) for size in group.outer]
        self.passes: list[Pass] = []
        self.made: dict[Stored, tuple[int, Step]] = {}

    def nest(self) -> Nest:
        for s in self.group.statements:
            self._add(s)
        return Nest(self.outer, self.passes)

    def _add(self, s: Statement) -> None:
        own = real(s.index)
        places: dict[Scalar, Scalar] = dict(zip(own, self.outer, strict=False))
        kind, bound, expression = s.expression.args if s.reduction else ("", (), s.expression)
        free = [*own[len(self.outer) :], *bound]
        expression = replaced(expression, dict(places))
        number, unified = self._find(expression, free, frozenset(bound), bool(kind))
        if unified is None:
            number = len(self.passes)
            self.passes.append(Pass(free, frozenset(bound) if kind else frozenset()))
            unified = {i: i for i in free}
        one = self.passes[number]
        if kind and not one.reduces:
            one.summed = frozenset(unified[i] for i in bound)
        places.update(unified)
        index = tuple(places.get(i, i) for i in s.index)
        step = Step(s.value, index, replaced(expression, dict(unified)), kind)
        one.steps.append(step)
        self.made[s.value] = (number, step)

    def _find(
        self, expression: Scalar, free: list[Scalar], bound: frozenset[Scalar], reduces: bool
    ) -> tuple[int, dict[Scalar, Scalar] | None]:
        """The earliest pass that can take a step, and what its indexes are called there."""
        earliest, forced = 0, None
        for load in loads(expression):
            if load.args[0] not in self.made:
                continue
            number, maker = self.made[load.args[0]]
            names = None if maker.kind else self._same(load, maker, free)
            if names is None or not self._takes(self.passes[number], names, bound, reduces):
                number, names = number + 1, None
            if number > earliest or (number == earliest and names is not None):
                if number == earliest and forced is not None and forced != names:
                    number, names = number + 1, None
                earliest, forced = number, names
        if forced is not None:
            return earliest, forced
        for number in range(earliest, len(self.passes)):
            names = self._by_size(self.passes[number], free)
            if names is not None and self._takes(self.passes[number], names, bound, reduces):
                return number, names
        return len(self.passes), None

    def _same(self, load: Scalar, maker: Step, free: list[Scalar]) -> dict[Scalar, Scalar] | None:
        """Names for a step's indexes under which it reads what the maker computes in this turn."""
        names: dict[Scalar, Scalar] = {}
        for mine, theirs in zip(load.args[1:], maker.index, strict=True):
            if theirs.op != "index" or theirs in self.outer:
                if theirs.op == "index" and mine is not theirs:
                    return None
                continue
            if mine.op != "index" or mine in self.outer or names.get(mine, theirs) is not theirs:
                return None
            if mine.args[1] != theirs.args[1]:
                return None
            names[mine] = theirs
        return names if set(names) == set(free) else None

    def _by_size(self, one: Pass, free: list[Scalar]) -> dict[Scalar, Scalar] | None:
        sizes = [i.args[1] for i in free]
        if sizes != [i.args[1] for i in one.inner]:
            return None
        return dict(zip(free, one.inner, strict=True))

    def _takes(
        self, one: Pass, names: dict[Scalar, Scalar], bound: frozenset[Scalar], reduces: bool
    ) -> bool:
        if not reduces or not one.reduces:
            return not reduces or set(names.values()) == set(one.inner)
        return one.summed == frozenset(names[i] for i in bound)


# --- the order of loops ---------------------------------------------------------------------------


def _places(one: Pass, layouts: Layouts) -> Iterator[Affine | None]:
    """Where each load and store of a pass stands; None where that depends on data."""
    for step in one.steps:
        for load in loads(step.expression):
            if load.args[0] in layouts:
                yield place_of(load, layouts[load.args[0]])
        if step.value in layouts:
            store = Scalar("load", (step.value, *step.index), step.value.dtype)
            yield place_of(store, layouts[step.value])


def _sort(one: Pass, layouts: Layouts) -> None:
    """Loops over distant elements outside, over neighbours inside."""
    weight = dict.fromkeys(one.inner, 0)
    for place in _places(one, layouts):
        for i, step in place.terms.items() if place is not None else ():
            if i in weight:
                weight[i] += abs(step)
    one.inner.sort(key=lambda i: -weight[i])  # stable: equal ones stay in order


def _collapse(one: Pass, nest: Nest, layouts: Layouts) -> None:
    """Join loops over elements that follow each other."""
    k = len(one.inner) - 2
    while k >= 0:
        outside, inside = one.inner[k : k + 2]
        if _joinable(one, outside, inside, layouts):
            size = inside.args[1]
            joined = sc.index(outside.args[1] * size)
            names = {outside: joined // size, inside: joined % size}
            for step in one.steps:
                step.expression = replaced(step.expression, dict(names))
                step.index = tuple(replaced(i, dict(names)) for i in step.index)
            if outside in one.summed:
                one.summed = one.summed - {outside, inside} | {joined}
            one.inner[k : k + 2] = [joined]
        k -= 1


def _joinable(one: Pass, outside: Scalar, inside: Scalar, layouts: Layouts) -> bool:
    if (outside in one.summed) != (inside in one.summed):
        return False
    size = inside.args[1]
    for place in _places(one, layouts):
        if place is None or any(_mentions(i, (outside, inside)) for i in place.terms):
            return False
        if place.terms.get(outside, 0) != size * place.terms.get(inside, 0):
            return False
    return not any(_counts(step.expression, (outside, inside)) for step in one.steps)


def _mentions(e: Scalar, among: Sequence[Scalar]) -> bool:
    """Whether a quotient or remainder is of one of the indexes."""
    if e.op == "index":
        return False
    number = affine(e.args[0])
    return number is None or any(i in among or _mentions(i, among) for i in number.terms)


def _counts(e: Scalar, among: Sequence[Scalar]) -> bool:
    """Whether an index is used as a number, not only to say where an element stands."""
    seen: set[Scalar] = set()
    waiting = [e]
    while waiting:
        x = waiting.pop()
        if x in among:
            return True
        if x in seen or x.op == "load":
            continue
        seen.add(x)
        waiting += [a for a in x.args if isinstance(a, Scalar)]
    return False


def _lane(one: Pass, layouts: Layouts) -> Scalar | None:
    """The index that runs along the lanes: the one that most often meets neighbours."""
    votes = dict.fromkeys(one.inner, 0.0)
    for place in _places(one, layouts):
        for i in votes:
            step = 0 if place is None else place.terms.get(i, 0)
            loose = place is not None and any(_mentions(t, (i,)) for t in place.terms)
            votes[i] += 1 if step == 1 else -1 if step or loose else 0
    for i in votes:
        votes[i] += min(i.args[1], 64) / 1000
    return max(reversed(one.inner), key=lambda i: votes[i], default=None)


def _cut(nest: Nest) -> None:
    """Make tasks of a flat nest: its leading loops, or blocks of its only one."""
    one = nest.passes[0]
    while len(one.inner) > 1 and one.inner[0] is not one.lane:
        rest = math.prod(i.args[1] for i in one.inner[1:])
        if rest * one.inner[0].args[1] <= BLOCK and not nest.outer:
            return
        nest.outer.append(one.inner.pop(0))
        if rest <= BLOCK and math.prod(nest.extents) >= 64:
            return
    if len(one.inner) == 1 and one.inner[0].args[1] > BLOCK:
        _cut_lane(nest, one)


def _cut_lane(nest: Nest, one: Pass) -> None:
    whole = one.inner[0]
    size = whole.args[1]
    even = [b for b in range(512, BLOCK + 1, 16) if size % b == 0]
    block = max(even, default=BLOCK)
    number, inside = sc.index(-(-size // block)), sc.index(block)
    at = number * block + inside
    for step in one.steps:
        step.expression = replaced(step.expression, {whole: at})
        step.index = tuple(replaced(i, {whole: at}) for i in step.index)
    nest.outer.append(number)
    one.inner = [inside]
    one.lane = inside
    if not even:
        left = sc.const(size, sc.INDEX) - number * block
        one.limit = sc.where(left < block, left, sc.const(block, sc.INDEX))


def inside_loads(nest: Nest) -> Iterator[tuple[int, Scalar, Step]]:
    """Loads of values that the nest itself makes, with the number of their pass."""
    made = {step.value: step for step in nest.steps}
    for number, one in enumerate(nest.passes):
        for step in one.steps:
            for load in loads(step.expression):
                if load.args[0] in made:
                    yield number, load, made[load.args[0]]
