"""Graph to graph: composites without kernels of their own become the ops they consist of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ganglion.compiler.templates import template
from ganglion.compiler.trace import Symbol, Tracer
from ganglion.dispatch import listening
from ganglion.gradmode import no_grad
from ganglion.graph import Graph, Node, Origin, Value
from ganglion.ops.record import OPS
from ganglion.tensor import wrap

LEAVES = ("input", "state", "const")


def expand(graph: Graph) -> Graph:
    """Replace composites by their decompositions, until those that stay have compiled forms."""
    tracer = Tracer()
    origins: dict[Node, Origin] = dict(graph.origins)
    known: dict[Value, Value] = {}

    def visit(node: Node) -> None:
        if node.values[0] in known:
            return
        inputs = [None if v is None else known[v] for v in node.inputs]
        if not _is_composite(node):
            made = node
            if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
                made = Node(node.op_name, inputs, node.params, node.outputs, node.unique)
                origins.setdefault(made, origins.get(node, Origin("", 0)))
            known.update(zip(node.values, made.values, strict=True))
            return
        found = _decomposed(tracer, node, inputs)
        inner = Graph((), (), found).topological()
        for part in inner:
            origins.setdefault(part, origins.get(node, Origin("", 0)))
        for part in inner:
            visit(part)
        known.update(zip(node.values, (known[v] for v in found), strict=True))

    for node in graph.topological():
        visit(node)
    return Graph(
        graph.inputs,
        graph.states,
        tuple(known[v] for v in graph.outputs),
        tuple((slot, known[v]) for slot, v in graph.updates),
        origins,
    )


def _is_composite(node: Node) -> bool:
    if node.op_name in LEAVES:
        return False
    op = OPS[node.op_name]
    if op.decompose is None or template(node) is not None:
        return False
    return op.scalar is None and op.element is None


def _decomposed(tracer: Tracer, node: Node, inputs: list[Value | None]) -> tuple[Value, ...]:
    """The values that the decomposition gives, cast to the dtypes that the node promises."""
    op = OPS[node.op_name]
    decompose: Callable[..., Any] = op.decompose  # type: ignore[assignment]
    with listening(tracer), no_grad():
        found = decompose(*map(_operand, inputs), **node.kwargs)
        many = found if isinstance(found, tuple) else (found,)
        cast = [
            x if x.dtype is meta.dtype else x.to(meta.dtype)
            for x, meta in zip(many, node.outputs, strict=True)
        ]
        return tuple(tracer.value(x) for x in cast)


def _operand(value: Value | None) -> Any:
    """An input of a decomposition: numbers as numbers, the rest as tensors."""
    if value is None:
        return None
    if value.node.op_name == "const" and not isinstance(value.node.kwargs["value"], tuple):
        return value.node.kwargs["value"]
    return wrap(Symbol(value))
