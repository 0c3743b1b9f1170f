"""From graph nodes to work: which values are stored, and what computes each of them.

Every value of the graph is a function from an index to a scalar expression. Most are written into
the expressions of those who read them; the others are stored in buffers, each by a ``Statement``
(a loop over its elements), by a template (a product, a convolution, ...) or by a call of the
host. Views cost nothing: they are index arithmetic in the reader's expression.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Layout
from ganglion.compiler.templates import finished, template
from ganglion.errors import TraceError
from ganglion.graph import Graph, Node, Value, content
from ganglion.ops import scalar as sc
from ganglion.ops.join import CAT, STACK
from ganglion.ops.record import OPS, Op
from ganglion.ops.scalar import Scalar
from ganglion.shapes import Meta, Shape

CHEAP = 3  # instructions that are rather repeated than stored
LARGEST = 300  # instructions that one element may take
SPLIT_WORK = 1 << 14  # elements from which a reduction to few results is cut into parts
MOST_PARTS = 32
ENOUGH_RESULTS = 64  # to share the work without cutting it

Body = Callable[[Sequence[Scalar]], Scalar]


@dataclass(frozen=True)
class Part:
    """A value that no node has: an intermediate result of lowering."""

    of: Value
    number: int
    meta: Meta

    @property
    def shape(self) -> Shape:
        return self.meta.shape

    @property
    def dtype(self) -> dt.dtype:
        return self.meta.dtype


Stored = Value | Part


@dataclass(eq=False)
class Statement:
    """All elements of one stored value: ``value[index] = expression``."""

    value: Stored
    index: tuple[Scalar, ...]
    expression: Scalar

    def __post_init__(self) -> None:
        self.shape = self.value.shape
        self.loads = loads(self.expression)
        self.reads: dict[Stored, None] = dict.fromkeys(load.args[0] for load in self.loads)

    @property
    def reduction(self) -> bool:
        """Whether elements are sums, maxima, ... of many."""
        return self.expression.op == "reduce"

    @property
    def bound(self) -> tuple[Scalar, ...]:
        """The indexes that a reduction runs over."""
        return self.expression.args[1] if self.reduction else ()

    @property
    def size(self) -> int:
        """Elements computed or combined."""
        found: int = math.prod(self.shape) * math.prod(i.args[1] for i in self.bound)
        return found


@dataclass(frozen=True)
class Joined:
    """A stack or concatenation whose parts are written side by side by the call that makes them."""

    value: Value
    parts: tuple[Value, ...]
    dim: int

    def window(self, k: int, whole: Layout) -> Layout:
        """Where part ``k`` lies in the layout of the whole."""
        part = self.parts[k]
        strides = list(whole.strides)
        if len(part.shape) < len(whole.shape):
            start = k
            del strides[self.dim]
        else:
            start = sum(p.shape[self.dim] for p in self.parts[:k])
        offset = whole.offset + start * whole.strides[self.dim]
        return Layout(part.dtype, part.shape, tuple(strides), offset, whole.elements)


@dataclass(eq=False)
class Call:
    """A node that a template or the host computes; its operands are stored or views of such."""

    node: Node
    host: bool
    reads: dict[Stored, None] = field(default_factory=dict)
    joins: list[Joined] = field(default_factory=list)

    @property
    def makes(self) -> list[Value]:
        """The values it stores."""
        return [*self.node.values, *(j.value for j in self.joins)]


Work = Statement | Call


class Source:
    """A value as the ``element`` rule of its reader sees it."""

    def __init__(self, shape: Shape, dtype: dt.dtype, body: Body) -> None:
        self.shape, self.dtype, self.body = shape, dtype, body

    def __call__(self, *index: Scalar | int) -> Scalar:
        return self.body([sc.const(i, sc.INDEX) if isinstance(i, int) else i for i in index])


@dataclass
class Lowered:
    """What a graph has become: work in order, and how to read every value."""

    graph: Graph
    work: list[Work]
    sources: dict[Value, Source]
    users: dict[Node, list[Node]]


def lower(graph: Graph) -> Lowered:
    """Decide what is stored, and write the body of each statement."""
    return _Lowering(graph).run()


def loads(e: Scalar) -> list[Scalar]:
    """Every load in an expression, once."""
    if e.known is not None and "loads" in e.known:
        return e.known["loads"]  # type: ignore[no-any-return]
    return e.keep("loads", [found for found in nodes(e) if found.op == "load"])


def nodes(e: Scalar) -> list[Scalar]:
    """Every expression inside one, itself included, once."""
    seen, found, waiting = {e}, [], [e]
    while waiting:
        x = waiting.pop()
        found.append(x)
        for a in x.args:
            if type(a) is Scalar and a not in seen:
                seen.add(a)
                waiting.append(a)
    return found


_INDEX_ARITHMETIC = frozenset({"add", "sub", "mul", "quotient", "remainder"})


def replaced(e: Scalar, known: dict[Scalar, Scalar]) -> Scalar:
    """The expression with parts of it replaced; ``known`` collects what became of each part."""
    found = known.get(e)
    if found is not None:
        return found
    op, old = e.op, e.args
    if op in ("const", "index"):
        return e
    if op == "reduce":
        bound = tuple([known.get(i, i) for i in old[1]])
        found = Scalar(op, (old[0], bound, replaced(old[2], known)), e.dtype)
    else:
        args = [replaced(a, known) if type(a) is Scalar else a for a in old]
        if all(map(operator.is_, args, old)):
            found = e
        elif e.dtype is sc.INDEX and op in _INDEX_ARITHMETIC:
            found = sc.binary(op, *args)
        else:
            found = Scalar(op, tuple(args), e.dtype)
    known[e] = found
    return found


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.results = set(graph.results)
        self.sources: dict[Value, Source] = {}
        self.costs: dict[Value, int] = {}
        self.own: dict[Any, tuple[int, bool]] = {}
        self.work: list[Work] = []
        self.parts = 0

    def run(self) -> Lowered:
        for node in self.graph.topological():
            if node.op_name in ("input", "state"):
                self._store(node.values[0])
            elif node.op_name == "const":
                self._constant(node)
            else:
                self._op(node)
        return Lowered(self.graph, self.work, self.sources, self.users)

    # --- leaves and calls ---------------------------------------------------------------------

    def _store(self, value: Value) -> None:
        """From now on, readers load the value."""
        self.sources[value] = self._loaded(value)
        self.costs[value] = 0

    def _loaded(self, value: Stored) -> Source:
        def body(index: Sequence[Scalar]) -> Scalar:
            return Scalar("load", (value, *index), value.dtype)

        return Source(value.shape, value.dtype, body)

    def _constant(self, node: Node) -> None:
        value, held = node.values[0], content(node)
        if isinstance(held, bool | int | float):
            number = held
            self.sources[value] = Source(
                (), value.dtype, lambda index: sc.const(number, value.dtype)
            )
            self.costs[value] = 0
        else:
            self._store(value)

    def _op(self, node: Node) -> None:
        op = OPS[node.op_name]
        if not any(v.meta.numel for v in node.values):
            self._empty(node)
        elif self._joins(node):
            self._store(node.values[0])
        elif template(node) is not None:
            self._call(node, host=False)
        elif op.runs == "host":
            self._call(node, host=True)
        elif (op.scalar is not None or op.element is not None) and self._has_rule(node):
            for value in node.values:
                self._define(value, self._body(node, op, value))
        elif op.part is not None:
            source = self._operand(node.operands.__next__(), node)
            for value in node.values:
                self._define(value, _part_of(op, node, source, value))
        else:
            self._call(node, host=True)

    def _empty(self, node: Node) -> None:
        """There is nothing to compute."""
        for value in node.values:
            self.sources[value] = _nothing(value)
            self.costs[value] = 0

    def _has_rule(self, node: Node) -> bool:
        """Whether the rule of the node's op serves its params."""
        try:
            self._own_cost(node)
        except sc.NoRule:
            return False
        return True

    def _call(self, node: Node, host: bool) -> None:
        for value in node.operands:
            self._materialise(value, whole=host)
        call = Call(node, host)
        for value in node.operands:
            for load in loads(self.sources[value](*sc.indexes(value.shape))):
                call.reads[load.args[0]] = None
        self.work.append(call)
        for value in node.values:
            self._store(value)

    def _joins(self, node: Node) -> bool:
        """Whether a node only puts side by side what one call makes for it alone."""
        if node.op_name not in (STACK.name, CAT.name):
            return False
        parts = [v for v in node.inputs if v is not None]
        calls = [w for w in self.work if isinstance(w, Call) and w.node is parts[0].node]
        if not calls or calls[0].host or finished(parts[0].node) is not None:
            return False
        own = all(v.node is parts[0].node and v not in self.results for v in parts)
        alone = [n for n in self.users[parts[0].node] if any(v in n.inputs for v in parts)]
        if not own or len(set(parts)) < len(parts) or set(alone) != {node}:
            return False
        if node.values[0] in self.results:
            return False
        calls[0].joins.append(Joined(node.values[0], tuple(parts), node.kwargs["dim"]))
        return True

    def _materialise(self, value: Value, whole: bool) -> None:
        """Make sure that a value can be read as a buffer with strides, or as one of its own."""
        if value.node.op_name == "const" and self.sources[value].shape == ():
            body = self.sources[value].body
            self._statement(value, body)
            self._store(value)
            return
        index = sc.indexes(value.shape)
        found = self.sources[value](*index)
        place = None
        if found.op == "load":
            place = sc.affine(sc.flat(found.args[1:], found.args[0].shape))
        if (
            place is None
            or not set(place.terms) <= set(index)
            or (whole and found.args[0] != value)
        ):
            self._statement(value, self.sources[value].body)
            self._store(value)

    # --- values as expressions ----------------------------------------------------------------

    def _body(self, node: Node, op: Op, value: Value) -> Body:
        sources = [None if x is None else self._operand(x, node) for x in node.inputs]
        return _body_of(op, node, sources, value)

    def _operand(self, x: Value, node: Node) -> Source:
        """An input; a Python number takes the dtype in which the op computes."""
        source = self.sources[x]
        if not _is_number(x):
            return source
        keeps = OPS[node.op_name].keeps
        others = [
            v.dtype
            for i, v in enumerate(node.inputs)
            if v is not None and i not in keeps and not _is_number(v)
        ]
        if not others:  # numbers among themselves
            others = [max((v.dtype for v in node.operands), key=lambda d: (d.category, d.itemsize))]
        dtype = x.dtype if node.inputs.index(x) in keeps else others[0]
        if x.node.op_name == "const":
            number = x.node.kwargs["value"]
            return Source((), dtype, lambda index: sc.const(number, dtype))
        return Source((), dtype, lambda index: sc.cast(source(), dtype))

    def _define(self, value: Value, body: Body) -> None:
        """Store the value, or leave it to its readers to write its expression into theirs."""
        self.sources[value] = Source(value.shape, value.dtype, body)
        own, reduces = self._own_cost(value.node)
        cost = own + sum(self.costs[v] for v in value.node.operands)
        self.costs[value] = cost
        if reduces or value in self.results or self._is_shared(value, cost):
            self._statement(value, body)
            self._store(value)

    def _own_cost(self, node: Node) -> tuple[int, bool]:
        """Instructions that the node alone adds to an expression, and whether it reduces."""
        metas = tuple(None if v is None else (len(v.shape), v.dtype) for v in node.inputs)
        key = (node.op_name, node.spelling, metas)
        if key not in self.own:
            op = OPS[node.op_name]
            apart = [
                None if v is None else _stand_in(v, self._operand(v, node)) for v in node.inputs
            ]
            if op.part is not None:
                return 0, False
            body = _body_of(op, node, apart, node.values[0])
            found = nodes(body(sc.indexes(node.outputs[0].shape)))
            work = sum(1 for e in found if _is_work(e))
            self.own[key] = work, any(e.op == "reduce" for e in found)
        return self.own[key]

    def _is_shared(self, value: Value, cost: int) -> bool:
        if cost > LARGEST:
            return True
        readers = list(self._readers(value))
        if cost and not value.shape and any(v.shape for n in readers for v in n.values):
            return True  # computed once, not by every element
        if cost <= CHEAP:
            return False
        if len(readers) > 1:
            return True
        size = value.meta.numel
        return any(v.meta.numel > size for n in readers for v in n.values)

    def _readers(self, value: Value) -> Iterator[Node]:
        """The nodes that read a value, seen through views."""
        for node in self.users[value.node]:
            if value not in node.inputs:
                continue
            if OPS[node.op_name].view and node.values[0] not in self.results:
                yield from self._readers(node.values[0])
            else:
                yield node

    # --- statements ---------------------------------------------------------------------------

    def _statement(self, value: Stored, body: Body) -> None:
        index = sc.indexes(value.shape)
        expression = body(index)
        inside = expression.args[2] if expression.op == "reduce" else expression
        places = {e: self._separate(value, index, e) for e in _reductions(inside)}
        expression = replaced(expression, places) if places else expression
        if expression.op == "reduce":
            parts = _parts(value, expression)
            if parts > 1:
                expression = self._in_parts(value, index, expression, parts)
        self._append(value, index, expression)

    def _append(self, value: Stored, index: tuple[Scalar, ...], expression: Scalar) -> None:
        self.work.append(Statement(value, index, expression))

    def _new_part(self, value: Stored, meta: Meta) -> Part:
        self.parts += 1
        return Part(value.of if isinstance(value, Part) else value, self.parts, meta)

    def _separate(self, value: Stored, index: tuple[Scalar, ...], e: Scalar) -> Scalar:
        """Give a reduction inside an expression a value of its own; the load of it."""
        part = self._new_part(value, Meta(value.shape, e.dtype))
        own = sc.indexes(value.shape)
        moved = _moved(e, index, own)
        self._statement(part, lambda at: _moved(moved, own, at))
        return Scalar("load", (part, *index), part.dtype)

    def _in_parts(
        self, value: Stored, index: tuple[Scalar, ...], whole: Scalar, parts: int
    ) -> Scalar:
        """Cut a reduction's first loop; the reduction of the parts."""
        kind, bound, inner = whole.args
        part = self._new_part(value, Meta((parts, *value.shape), whole.dtype))
        own = sc.indexes(part.shape)
        share = bound[0].args[1] // parts
        new = sc.indexes((share,))[0]
        places = dict(zip(index, own[1:], strict=True))
        inner = replaced(inner, {**places, bound[0]: own[0] * share + new})
        rest = (*([new] if new.op == "index" else []), *bound[1:])
        sum_ = Scalar("reduce", (kind, rest, inner), whole.dtype) if rest else inner
        self._append(part, own, sum_)
        return sc.reduce(kind, (parts,), lambda p: Scalar("load", (part, p, *index), whole.dtype))


def _reductions(e: Scalar) -> list[Scalar]:
    """The reductions in an expression that stand in no other."""
    found, seen, waiting = list[Scalar](), set[Scalar](), [e]
    while waiting:
        x = waiting.pop()
        if x in seen:
            continue
        seen.add(x)
        if x.op == "reduce":
            found.append(x)
        else:
            waiting += [a for a in x.args if isinstance(a, Scalar)]
    return found


def _moved(e: Scalar, old: Sequence[Scalar], new: Sequence[Scalar]) -> Scalar:
    """An expression at other indexes."""
    pairs = zip(old, new, strict=True)
    return replaced(e, {a: b for a, b in pairs if a.op == "index"})


def _parts(value: Stored, expression: Scalar) -> int:
    """Into how many parts to cut a reduction; 1 leaves it whole. By shapes alone."""
    bound = expression.args[1]
    results = math.prod(value.shape)
    work = results * math.prod(i.args[1] for i in bound)
    if work < SPLIT_WORK or results >= 1 << 14:
        return 1
    if results >= ENOUGH_RESULTS and (work // results < 256 or _along_rows(expression)):
        return 1
    first = bound[0].args[1]
    return max(p for p in range(1, MOST_PARTS + 1) if first % p == 0)


def _along_rows(reduction: Scalar) -> bool:
    """Whether what is combined are neighbours in memory: rows are quick to go through."""
    largest = max(loads(reduction), key=lambda x: math.prod(x.args[0].shape), default=None)
    return largest is not None and largest.args[-1] in reduction.args[1]


def _body_of(op: Op, node: Node, sources: Sequence[Source | None], value: Value) -> Body:
    """A value as a function from its index, by the rule of its op."""
    params, rule = node.kwargs, op.scalar
    narrow = op.in_float32 and any(s is not None and s.dtype in dt.HALVES for s in sources)
    if narrow:
        sources = [None if s is None else _widened(s) for s in sources]

    def body(index: Sequence[Scalar]) -> Scalar:
        if rule is not None:
            operands = [None if s is None else _broadcast(s, index) for s in sources]
            found = rule(*operands, **params)
        else:
            found = op.element(tuple(index), *sources, **params)  # type: ignore[misc]
        if isinstance(found, tuple):
            found = found[value.index]
        if found.dtype is not value.dtype and (narrow or value.dtype in dt.HALVES):
            found = sc.cast(found, value.dtype)
        return found  # type: ignore[no-any-return]

    return body


def _part_of(op: Op, node: Node, source: Source, value: Value) -> Body:
    """One output of a view with several, by the op that gives it alone."""
    assert op.part is not None
    alone, params = op.part(node.kwargs, value.index)
    assert alone.element is not None
    return lambda index: alone.element(tuple(index), source, **params)  # type: ignore[misc]


def _stand_in(value: Value, source: Source) -> Source:
    """A source that costs nothing, to count what its reader adds."""
    if _is_number(value):
        return source
    return Source(
        source.shape, source.dtype, lambda index: Scalar("load", (value, *index), source.dtype)
    )


def _nothing(value: Value) -> Source:
    """A source without elements."""
    zero = sc.const(0, value.dtype)
    return Source(value.shape, value.dtype, lambda index: zero)


def _is_number(x: Value) -> bool:
    """Whether a value stands for a Python number, which does not decide any dtype."""
    if x.node.op_name == "number":
        return True
    return x.node.op_name == "const" and not isinstance(x.node.kwargs["value"], tuple)


def _is_work(e: Scalar) -> bool:
    return e.op not in ("const", "index", "load") and e.dtype is not sc.INDEX


def _broadcast(source: Source, index: Sequence[Scalar]) -> Scalar:
    """The element that a broadcast operand contributes."""
    own = index[len(index) - len(source.shape) :]
    zero = sc.const(0, sc.INDEX)
    return source(*(zero if size == 1 else i for i, size in zip(own, source.shape, strict=True)))


def _widened(source: Source) -> Source:
    """A half-width source as float32, in which its op computes."""
    if source.dtype not in dt.HALVES:
        return source
    return Source(source.shape, dt.float32, lambda index: sc.cast(source.body(index), dt.float32))


def refuse(node: Node, graph: Graph, why: str) -> TraceError:
    """The error for a node without compiled form."""
    return TraceError(f"{graph.origins.get(node, '')}: '{node.op_name}' {why}")
