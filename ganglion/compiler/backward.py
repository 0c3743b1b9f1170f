"""Gradients of a compiled function's results: its backward pass, a program of its own.

When a traced function returns tensors with a history, their gradients are traced as well, back to
parameters and arguments. The graph is then cut in two: what depends on the incoming gradients is
the backward program, and what it reads from the rest is saved by each call, as an array of its own
or, for parameters and arguments, by reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.autograd.tape import Node as TapeNode
from ganglion.autograd.tape import edge, new_order, versions
from ganglion.autograd.walk import grad
from ganglion.compiler.numbers import NUMBER
from ganglion.compiler.program import Array, Program, contiguous
from ganglion.errors import AutogradError, TraceError
from ganglion.graph import Graph, Node, Origin, Value, argument
from ganglion.ops.record import Saved
from ganglion.shapes import Meta
from ganglion.storage import Storage
from ganglion.tensor import Tensor, wrap

if TYPE_CHECKING:
    from ganglion.compiler.results import Results

Run = Callable[[Sequence[Array], Sequence[Array]], Sequence[Array]]  # of arguments and states


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """Where a gradient goes: a captured tensor, or the argument at ``given``."""

    tensor: Tensor | None
    given: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Save:
    """What the backward pass reads: an output of the forward one, a tensor or an argument."""

    output: int = -1
    tensor: Tensor | None = None
    given: int = -1

    def find(self, given: Sequence[Tensor], outputs: Sequence[Array]) -> tuple[Array, Storage]:
        """The array and the memory to watch for later writes."""
        if self.output >= 0:
            return outputs[self.output], _OWN
        x = given[self.given] if self.tensor is None else self.tensor
        return x._data, x._storage


_OWN = Storage()  # of arrays that nobody else can write to


@dataclass(frozen=True)
class _Rule:
    """What the walk asks of an op."""

    vjp: Callable[..., Sequence[Tensor | None]]
    outputs: int
    name: str = "CompiledBackward"
    vjp_takes_none = True


class Backward:
    """The history of a program's outputs; without a graph, one that is used up already.

    ``edges`` maps the number of a made tensor to its number here. ``compile`` makes the graph
    executable when it is first needed.
    """

    compile: Callable[[Program], Run]

    def __init__(self, edges: dict[int, int]) -> None:
        self.edges = edges
        self.leaves: list[Leaf] = []
        self.saves: list[Save] = []
        self.metas: list[Meta] = []
        self.program: Program | None = None
        self._run: Run | None = None
        self._rule = _Rule(self._vjp, len(edges))
        self._used = _tape_node(self._rule)  # says that its graph was used up
        self._used.outputs = [((), None)] * len(edges)

    @classmethod
    def traced(cls, results: Results, live: list[tuple[int, Tensor]]) -> Backward:
        """Trace the gradients of the live tensors; must be called while the tracer listens."""
        made = cls({i: n for n, (i, _) in enumerate(live)})
        outs = [x for _, x in live]
        made.metas = [Meta(x._data.shape, x.dtype) for x in outs]
        tracer = results.tracer
        first = len(tracer.given)
        pushed = [argument(first + n, meta) for n, meta in enumerate(made.metas)]
        targets = [x for x in _leaves(outs) if results._exists(x)]
        written, draws = set(tracer.written), tracer.draws
        tracer.unhooked += [(x, x._hooks) for x in targets]
        for x in targets:
            x._hooks = None  # they are called when the gradient arrives outside
        cotangents = [wrap(tracer.symbol(v)) for v in pushed]
        found = grad(outs, targets, cotangents, allow_unused=True) if targets else ()
        if (written, draws) != (set(tracer.written), tracer.draws):
            raise TraceError(
                "the gradient of a compiled function's result draws random numbers or writes to "
                "state; call backward() inside the function"
            )
        pairs = [(x, g) for x, g in zip(targets, found, strict=True) if g is not None]
        given = tracer.wrappers
        made.leaves = [Leaf(None, given[id(x)]) if id(x) in given else Leaf(x) for x, _ in pairs]
        made._split(results, pushed, [tracer.value(g) for _, g in pairs])
        return made

    def _split(self, results: Results, pushed: list[Value], wanted: list[Value]) -> None:
        """Cut out the graph that computes the wanted gradients from those pushed in."""
        cut = _Cut(pushed, wanted, results.tracer.origins)
        self.saves = [self._save(results, value) for value in cut.saved]
        self.program = cut.program()

    def _save(self, results: Results, value: Value) -> Save:
        tracer, node = results.tracer, value.node
        if node.op_name == "state":
            slot = node.kwargs["slot"]
            x = tracer.slots[slot]
            number = any(x is filled for filled, _ in tracer.numbers.filled)
            if slot not in tracer.written and not number:
                return Save(tensor=x)
        if node.op_name == "input":
            index = node.kwargs["position"]
            if all(i != index for i, _ in results._stores()):
                return Save(given=index)
        return Save(output=results.output(value))

    # --- at each call -------------------------------------------------------------------------

    def attach(
        self, made: Sequence[Tensor], given: Sequence[Tensor], outputs: Sequence[Array]
    ) -> None:
        """Give a call's results their history."""
        node = self._used if self.program is None else self._node(given, outputs)
        for i, n in self.edges.items():
            made[i]._edge = (node, n)

    def _node(self, given: Sequence[Tensor], outputs: Sequence[Array]) -> TapeNode:
        node = _tape_node(self._rule)
        leaves = self.leaves
        tensors = [given[x.given] if x.tensor is None else x.tensor for x in leaves]
        node.edges = [edge(x) for x in tensors]
        node.shapes = [x._data.shape for x in tensors]
        node.dtypes = [x._data.dtype for x in tensors]
        node.outputs = [(meta.shape, meta.dtype.numpy) for meta in self.metas]
        found = [save.find(given, outputs) for save in self.saves]
        node.saved, node.stores = [a for a, _ in found], [s for _, s in found]
        node.stamp = versions(node.stores)
        return node

    def _vjp(self, saved: Saved, *grads: Tensor | None) -> Sequence[Tensor | None]:
        """Run the backward program."""
        if saved._create:
            raise AutogradError(
                "a compiled function's results cannot be differentiated twice; compile the whole "
                "computation with both gradients in it, or call the function uncompiled"
            )
        assert self.program is not None
        if self._run is None:
            self._run = self.compile(self.program)
        pairs = zip(grads, self.metas, strict=True)
        arrays = [_array(g, meta) for g, meta in pairs]
        assert saved.node.saved is not None
        found = self._run([*arrays, *map(contiguous, saved.node.saved)], ())
        return [wrap(found[i]) for i in self.program.result]


def _tape_node(rule: _Rule) -> TapeNode:
    """A node without anything saved."""
    node = TapeNode()
    node.op, node.params, node.order, node.keys = rule, {}, new_order(), ()
    node.edges, node.shapes, node.dtypes, node.watch = [], [], [], None
    node.saved, node.stores, node.stamp = None, [], 0
    return node


def _array(grad: Tensor | None, meta: Meta) -> Array:
    if grad is None:
        return np.zeros(meta.shape, meta.dtype.numpy)
    return contiguous(grad._data)


class _Cut:
    """The part of a graph between incoming gradients and the wanted values."""

    def __init__(
        self, pushed: list[Value], wanted: list[Value], origins: dict[Node, Origin]
    ) -> None:
        self.pushed, self.origins = pushed, origins
        self.saved: dict[Value, int] = {}
        self.places = {value: i for i, value in enumerate(pushed)}
        self.new: dict[Node, Node] = {}
        inside = {value.node for value in pushed}
        for node in Graph((), (), tuple(wanted)).topological():
            if any(value.node in inside for value in node.operands):
                inside.add(node)
                self.new[node] = self._again(node)
        self.outputs = [self._moved(value) for value in wanted]

    def _again(self, node: Node) -> Node:
        inputs = [None if value is None else self._moved(value) for value in node.inputs]
        made = Node(node.op_name, inputs, node.params, node.outputs, node.unique)
        if node in self.origins:
            self.origins.setdefault(made, self.origins[node])
        return made

    def _moved(self, value: Value) -> Value:
        """A value as the backward graph knows it."""
        node = value.node
        if value in self.places:
            return argument(self.places[value], value.meta)
        if node in self.new:
            return Value(self.new[node], value.index)
        if node.op_name == NUMBER.name:
            return Value(self._again(node))
        if not node.inputs and node.op_name not in ("input", "state") and node.unique is None:
            return value  # a constant is made again
        self.saved.setdefault(value, len(self.pushed) + len(self.saved))
        return argument(self.saved[value], value.meta)

    def program(self) -> Program:
        """The backward program; its result says which output each wanted value is."""
        inputs = [*self.places.items(), *self.saved.items()]
        values = tuple(argument(i, value.meta) for value, i in inputs)
        outputs = tuple(dict.fromkeys(self.outputs))
        graph = Graph(values, (), outputs, (), self.origins)
        return Program(graph, result=tuple(map(outputs.index, self.outputs)))


def is_alive(tensors: Sequence[Tensor]) -> bool:
    """Whether the tape behind tensors still has what it saved."""
    return all(node.saved is not None for node in _nodes(tensors))


def _nodes(tensors: Sequence[Tensor]) -> list[Any]:
    waiting = [e[0] for e in map(edge, tensors) if isinstance(e, tuple)]
    seen = set(waiting)
    while waiting:
        for e in waiting.pop().edges:
            if isinstance(e, tuple) and e[0] not in seen:
                seen.add(e[0])
                waiting.append(e[0])
    return sorted(seen, key=lambda node: -node.order)


def _leaves(tensors: Sequence[Tensor]) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    for node in _nodes(tensors):
        for e in node.edges:
            if isinstance(e, Tensor):
                found.setdefault(id(e), e)
    return list(found.values())
