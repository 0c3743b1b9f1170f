"""From graph nodes to work: which values are stored, and what computes each of them.

Every value of the graph is a function from an index to a scalar expression. Most are written into
the expressions of those who read them; the others are stored in buffers, each by a ``Statement``
(a loop over its elements), by a template (a product, a convolution, ...) or by a call of the
host. Views cost nothing: they are index arithmetic in the reader's expression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ganglion.dtypes as dt
from ganglion.compiler.templates import template
from ganglion.errors import TraceError
from ganglion.graph import Graph, Node, Value, content
from ganglion.ops import scalar as sc
from ganglion.ops.record import OPS, Op
from ganglion.ops.scalar import Scalar
from ganglion.shapes import Meta, Shape

CHEAP = 3  # instructions that are rather repeated than stored
LARGEST = 300  # instructions that one element may take
SPLIT_WORK = 1 << 14  # elements from which a reduction to few results is cut into parts
MOST_PARTS = 32

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
    reads: dict[Stored, None] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        return self.value.shape

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
        return math.prod(self.shape) * math.prod(i.args[1] for i in self.bound)


@dataclass(eq=False)
class Call:
    """A node that a template or the host computes; ``operands`` are stored or views of such."""

    node: Node
    host: bool
    reads: dict[Stored, None] = field(default_factory=dict)


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


def loads(e: Scalar) -> Iterator[Scalar]:
    """Every load in an expression, once."""
    for found in nodes(e):
        if found.op == "load":
            yield found


def nodes(e: Scalar) -> Iterator[Scalar]:
    """Every expression inside one, itself included, once."""
    seen: set[Scalar] = set()
    waiting = [e]
    while waiting:
        x = waiting.pop()
        if x in seen:
            continue
        seen.add(x)
        yield x
        args = x.args[2:] if x.op == "reduce" else x.args
        waiting += [a for a in args if isinstance(a, Scalar)]


def replaced(e: Scalar, known: dict[Scalar, Scalar]) -> Scalar:
    """The expression with parts of it replaced."""
    found = known.get(e)
    if found is not None:
        return found
    if e.op in ("const", "index"):
        return e
    args = tuple(replaced(a, known) if isinstance(a, Scalar) else a for a in e.args)
    if e.op == "reduce":
        args = (e.args[0], tuple(known.get(i, i) for i in e.args[1]), args[2])
    if all(a is b for a, b in zip(args, e.args, strict=True)):
        found = e
    elif e.dtype is sc.INDEX and e.op in ("add", "sub", "mul", "quotient", "remainder"):
        found = sc.binary(e.op, *args)
    else:
        found = Scalar(e.op, args, e.dtype)
    known[e] = found
    return found


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.results = set(graph.results)
        self.sources: dict[Value, Source] = {}
        self.costs: dict[Value, int] = {}
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
        if template(node) is not None:
            self._call(node, host=False)
        elif op.runs == "host":
            self._call(node, host=True)
        elif op.scalar is not None or op.element is not None:
            for value in node.values:
                self._define(value, self._body(node, op, value))
        else:
            self._call(node, host=True)

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

    def _materialise(self, value: Value, whole: bool) -> None:
        """Make sure that a value can be read as a buffer with strides, or as one of its own."""
        if value.node.op_name == "const" and self.sources[value].shape == ():
            body = self.sources[value].body
            self._statement(value, body)
            self._store(value)
            return
        found = self.sources[value](*sc.indexes(value.shape))
        plain = found.op == "load" and all(sc.affine(i) is not None for i in found.args[1:])
        if not plain or (whole and found.args[0] != value):
            self._statement(value, self.sources[value].body)
            self._store(value)

    # --- values as expressions ----------------------------------------------------------------

    def _body(self, node: Node, op: Op, value: Value) -> Body:
        params = node.kwargs
        sources = [None if x is None else self._operand(x, node) for x in node.inputs]
        narrow = op.in_float32 and any(
            s is not None and s.dtype in dt.HALVES for s in sources
        )
        if narrow:
            sources = [None if s is None else _widened(s) for s in sources]
        rule = op.scalar

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
        expression = body(sc.indexes(value.shape))
        self.sources[value] = Source(value.shape, value.dtype, body)
        self.costs[value] = cost = sum(1 for e in nodes(expression) if _is_work(e))
        reduces = any(e.op == "reduce" for e in nodes(expression))
        if reduces or value in self.results or self._is_shared(value, cost):
            self._statement(value, body)
            self._store(value)

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
        return any(v.meta.numel > value.meta.numel for n in readers for v in n.values)

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
        if expression.op == "reduce":
            parts = _parts(value, expression)
            if parts > 1:
                expression = self._in_parts(value, index, expression, parts)
        else:
            inner = [e for e in nodes(expression) if e.op == "reduce"]
            places = {e: self._separate(value, index, e) for e in inner}
            expression = replaced(expression, places) if inner else expression
        self._append(value, index, expression)

    def _append(self, value: Stored, index: tuple[Scalar, ...], expression: Scalar) -> None:
        reads = dict.fromkeys(load.args[0] for load in loads(expression))
        self.work.append(Statement(value, index, expression, reads))

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


def _moved(e: Scalar, old: Sequence[Scalar], new: Sequence[Scalar]) -> Scalar:
    """An expression at other indexes."""
    pairs = zip(old, new, strict=True)
    return replaced(e, {a: b for a, b in pairs if a.op == "index"})


def _parts(value: Stored, expression: Scalar) -> int:
    """Into how many parts to cut a reduction; 1 leaves it whole. By shapes alone."""
    bound = expression.args[1]
    results = math.prod(value.shape)
    work = results * math.prod(i.args[1] for i in bound)
    if work < SPLIT_WORK or results >= 1 << 14 or (results >= 64 and work // results < 256):
        return 1
    first = bound[0].args[1]
    return max(p for p in range(1, MOST_PARTS + 1) if first % p == 0)


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
    return Source(
        source.shape, dt.float32, lambda index: sc.cast(source.body(index), dt.float32)
    )


def refuse(node: Node, graph: Graph, why: str) -> TraceError:
    """The error for a node without compiled form."""
    return TraceError(f"{graph.origins.get(node, '')}: '{node.op_name}' {why}")
