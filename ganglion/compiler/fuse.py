"""Which statements are computed together.

A ``Group`` becomes one kernel: a nest of loops over what its statements have in common, or a
template whose result the statements finish in registers. Statements join the group whose values
they read where the same element (or the same row) is at hand, unless that would make two groups
wait for each other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ganglion.compiler.kernel import Layout
from ganglion.compiler.lower import Call, Statement, Stored, Work
from ganglion.compiler.templates import finished, template
from ganglion.graph import Value
from ganglion.ops import scalar as sc
from ganglion.ops.scalar import Affine, Scalar, affine
from ganglion.shapes import Shape

SERIAL = 1 << 13  # elements that one thread may work on alone
NEIGHBOURS = 12  # groups that are looked at for one with the same loops
ENOUGH_TASKS = 16

Layouts = Mapping[Stored, Layout]


@dataclass(eq=False)
class Group:
    """Statements of one kernel; ``call`` is the template they finish, if any.

    ``pool``: a pooling of what the first ``early`` of them make; the others finish its results.

    ``outer``: sizes of the leading loops that all statements share.
    ``flat``: all statements compute the same number of elements, one from another.
    """

    number: int
    call: Call | None = None
    statements: list[Statement] = field(default_factory=list)
    outer: Shape = ()
    flat: bool = True
    work: int = 0
    before: int = 0  # the groups that must run earlier, one bit each
    pool: Call | None = None
    early: int = 0

    @property
    def makes(self) -> list[Stored]:
        """The values that the group computes."""
        called = [v for call in self.calls for v in call.makes]
        return [*called, *(s.value for s in self.statements)]

    @property
    def calls(self) -> list[Call]:
        """The templates."""
        return [call for call in (self.call, self.pool) if call is not None]

    @property
    def reads(self) -> dict[Stored, None]:
        """The values that it reads from others."""
        own = set(self.makes)
        members: list[Work] = [*self.statements, *self.calls]
        return {v: None for member in members for v in member.reads if v not in own}


def fuse(work: Sequence[Work], layouts: Layouts, results: Collection[Stored] = ()) -> list[Group]:
    """Groups of all the work, each after those it reads from; ``results`` are stored anyway."""
    fusion = _Fusion(layouts, Counter([*results, *(v for item in work for v in item.reads)]))
    for item in work:
        fusion.place(item)
    return _ordered(fusion.groups)


def real(index: Sequence[Scalar]) -> tuple[Scalar, ...]:
    """The indexes that take a loop."""
    return tuple(i for i in index if i.op == "index")


def sizes(index: Sequence[Scalar]) -> Shape:
    """How many values indexes take."""
    return tuple(i.args[1] for i in index)


def same_element(load: Scalar, s: Statement) -> bool:
    """Whether a load reads, in row-major order, the element that the statement computes."""
    value, *index = load.args
    if math.prod(value.shape) != math.prod(s.shape):
        return False
    here, there = affine(sc.flat(s.index, s.shape)), affine(sc.flat(index, value.shape))
    if here is None or there is None:
        return False
    return here.constant == there.constant and here.terms == there.terms


def place_of(load: Scalar, layout: Layout) -> Affine | None:
    """Where a load reads, counted in elements of the buffer."""
    found = Affine(layout.offset, {})
    for i, stride in zip(load.args[1:], layout.strides, strict=True):
        term = affine(i)
        if term is None:
            return None
        found = found.plus(term, stride)
    return found


class _Fusion:
    def __init__(self, layouts: Layouts, readers: Mapping[Stored, int]) -> None:
        self.layouts, self.readers = layouts, readers
        self.groups: list[Group] = []
        self.maker: dict[Stored, Group] = {}

    def place(self, work: Work) -> None:
        if isinstance(work, Call):
            if not self._pooled(work):
                self._add(Group(len(self.groups), call=work), work)
            return
        limit = self._limit(work)
        for group in self._candidates(work):
            shared = self._shared(group, work, limit)
            if shared is not None and not self._would_wait(group, work):
                self._join(group, work, *shared)
                return
        first = Group(len(self.groups), None, [work], limit, not work.reduction, work.size)
        self._add(first, work)

    def _pooled(self, call: Call) -> bool:
        """Let the group that makes its operand compute a pooling, if its tiles can be used."""
        found = template(call.node)
        if found is None or not found.window(call.node):
            return False
        operand = next(call.node.operands)
        group = self.maker.get(operand)
        if group is None or group.call is None or group.pool or self.readers[operand] != 1:
            return False
        maker = template(group.call.node)
        tiled = maker is not None and maker.tiled(group.call.node)
        if not tiled or operand.shape != _result(group).shape:
            return False
        group.pool, group.early = call, len(group.statements)
        self.maker.update(dict.fromkeys(call.makes, group))
        return True

    def _limit(self, s: Statement) -> Shape:
        """The leading sizes that may become outer loops of the statement."""
        found = sizes(real(s.index))
        return found[:-1] if s.reduction and found and self._runs_along_results(s) else found

    def _runs_along_results(self, s: Statement) -> bool:
        """Whether neighbours among the results read neighbouring elements."""
        last, votes = real(s.index)[-1], 0
        for load in s.loads:
            place = place_of(load, self.layouts[load.args[0]])
            if place is not None and any(i in place.terms for i in s.bound):
                votes += place.terms.get(last) == 1
                votes -= any(place.terms.get(i) == 1 for i in s.bound)
        return votes > 0

    def _candidates(self, s: Statement) -> Iterator[Group]:
        """Makers of what the statement reads, the largest value's first; then neighbours."""
        makers: dict[Group, int] = {}
        for v in s.reads:
            if v in self.maker:
                group = self.maker[v]
                makers[group] = max(makers.get(group, 0), math.prod(v.shape))
        yield from sorted(makers, key=lambda g: (-makers[g], -g.number))
        for group in reversed(self.groups[-NEIGHBOURS:]):
            if group in makers or group.call is not None:
                continue
            if any(v in m.reads for m in group.statements for v in s.reads):
                yield group

    def _shared(self, group: Group, s: Statement, limit: Shape) -> tuple[Shape, bool] | None:
        """The outer loops if the statement joined, and whether the group stays flat; or None."""
        own = set(group.makes)
        inside = [load for load in s.loads if load.args[0] in own]
        if group.call is not None:
            fits = not s.reduction and inside and finished(group.call.node) is not None
            fits = fits and math.prod(s.shape) == _result(group).meta.numel
            late = {*(group.pool.makes if group.pool else own),
                    *(x.value for x in group.statements[group.early :])}  # fmt: skip
            fits = fits and all(x.args[0] in late for x in inside)
            return ((), False) if fits and all(same_element(x, s) for x in inside) else None
        outer = _prefix(group.outer, limit)
        flat = group.flat and not s.reduction and self._same_size(group, s)
        if flat and all(same_element(load, s) for load in inside):
            return outer, True
        if group.work + s.size > SERIAL:
            enough = min(ENOUGH_TASKS, math.prod(group.outer), math.prod(limit))
            if not outer or math.prod(outer) < enough:
                return None
        if not all(_same_row(load, s, len(outer)) for load in inside):
            return None
        return outer, False

    def _same_size(self, group: Group, s: Statement) -> bool:
        first = group.statements[0]
        return s.size == first.size and (s.shape == first.shape or not _inside_none(group, s))

    def _would_wait(self, group: Group, s: Statement) -> bool:
        """Whether something the statement reads waits for the group itself."""
        bit = 1 << group.number
        makers = (self.maker[v] for v in s.reads if v in self.maker)
        return any(maker is not group and maker.before & bit for maker in makers)

    def _join(self, group: Group, s: Statement, outer: Shape, flat: bool) -> None:
        group.outer, group.flat, group.work = outer, flat, group.work + s.size
        group.statements.append(s)
        self.maker[s.value] = group
        self._wait(group, s)
        bit = 1 << group.number
        for other in self.groups:
            if other.before & bit:
                other.before |= group.before

    def _add(self, group: Group, work: Work) -> None:
        self.groups.append(group)
        self._wait(group, work)
        for value in group.makes:
            self.maker[value] = group

    def _wait(self, group: Group, work: Work) -> None:
        for value in work.reads:
            maker = self.maker.get(value)
            if maker is not None and maker is not group:
                group.before |= maker.before | 1 << maker.number


def _result(group: Group) -> Value:
    """The result that a group's statements finish."""
    head = group.pool or group.call
    assert head is not None
    return head.node.values[0]


def _inside_none(group: Group, s: Statement) -> bool:
    """Whether the statement reads nothing that the group makes."""
    return not any(v in s.reads for v in group.makes)


def _same_row(load: Scalar, s: Statement, count: int) -> bool:
    """Whether a load's first ``count`` indexes are those of the statement."""
    value, *index = load.args
    used = [i for i, size in zip(index, value.shape, strict=True) if size != 1]
    mine = real(s.index)[:count]
    return len(used) >= count and all(a is b for a, b in zip(used, mine, strict=False))


def _prefix(a: Shape, b: Shape) -> Shape:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return a[:count]


def _ordered(groups: list[Group]) -> list[Group]:
    """Every group after those it waits for; otherwise as they were made."""
    done, order, waiting = 0, [], list(groups)
    while waiting:
        group = next(g for g in waiting if not g.before & ~done)
        order.append(group)
        done |= 1 << group.number
        waiting.remove(group)
    return order
