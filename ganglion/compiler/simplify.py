"""Graph to graph: composites without kernels of their own become the ops they consist of.

What those compute is written in the cheapest way that `rewrite` knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ganglion.dtypes as dt
from ganglion.compiler.rewrite import cheaper
from ganglion.compiler.templates import template
from ganglion.compiler.trace import written_out
from ganglion.graph import Graph, Node, Origin, Value, argument
from ganglion.ops.record import OPS, Op
from ganglion.tensor import Tensor

LEAVES = ("input", "state", "const")


@dataclass(frozen=True)
class Recipe:
    """A decomposition: nodes in order, with placeholders for the inputs."""

    nodes: tuple[Node, ...]
    results: tuple[Value, ...]


_recipes: dict[tuple[Any, ...], Recipe] = {}


def expand(graph: Graph) -> Graph:
    """Replace composites by their decompositions, until those that stay have compiled forms."""
    origins: dict[Node, Origin] = dict(graph.origins)
    known: dict[Value, Value] = {}

    def visit(node: Node, names: dict[Value, Value], origin: Origin | None) -> None:
        inputs = [None if v is None else names[v] for v in node.inputs]
        if not _is_composite(node):
            made = cheaper(node if tuple(inputs) == node.inputs else node.of(inputs))
            if origin is not None:
                origins.setdefault(made, origin)
            names.update(zip(node.values, made.values, strict=True))
            return
        recipe = _recipe(node)
        inner = {_placeholder(k, v): x for k, (v, x) in enumerate(zip(node.inputs, inputs,
                 strict=True)) if v is not None and x is not None}  # fmt: skip
        for part in recipe.nodes:
            if part.values[0] not in inner:
                visit(part, inner, origin)
        names.update(zip(node.values, (inner[v] for v in recipe.results), strict=True))

    for node in graph.topological():
        visit(node, known, graph.origins.get(node))
    return Graph(
        graph.inputs,
        graph.states,
        tuple(known[v] for v in graph.outputs),
        tuple((slot, known[v]) for slot, v in graph.updates),
        origins,
    )


def _placeholder(k: int, value: Value) -> Value:
    """What stands for input ``k`` in a recipe; a number stands for itself."""
    return value if _is_constant(value) else argument(-1 - k, value.meta)


def _is_constant(value: Value) -> bool:
    return value.node.op_name == "const" and not isinstance(value.node.kwargs["value"], tuple)


def _recipe(node: Node) -> Recipe:
    """The decomposition of nodes of this kind."""
    inputs = [None if v is None else _placeholder(k, v) for k, v in enumerate(node.inputs)]
    key = (node.op_name, node.spelling, tuple(inputs), node.outputs)
    if key not in _recipes:
        results = _decomposed(node, inputs)
        _recipes[key] = Recipe(tuple(Graph((), (), results).topological()), results)
    return _recipes[key]


def _is_composite(node: Node) -> bool:
    if node.op_name in LEAVES:
        return False
    op = OPS[node.op_name]
    if op.scalar is not None or template(node) is not None:
        return False
    if op.decompose is not None:
        return not _is_atom(node)
    return op.element is None and _is_narrow(node)


def _is_atom(node: Node) -> bool:
    """Whether a node consists of nothing but itself."""
    inputs = [None if v is None else _placeholder(k, v) for k, v in enumerate(node.inputs)]
    return _recipe(node).results == node.of(inputs).values


def _is_narrow(node: Node) -> bool:
    """Whether an op computes in float32 what is stored in two bytes."""
    op = OPS[node.op_name]
    halves = any(v.dtype in dt.HALVES for v in node.operands)
    wide = op.in_float32 or op.decompose is not None
    return halves and wide and op.runs == "native" and not (op.donates or op.random)


def _in_float32(op: Op, *inputs: Any, **params: Any) -> Any:
    """The op on wider inputs."""
    wide = [x.float() if isinstance(x, Tensor) and x.dtype in dt.HALVES else x for x in inputs]
    return op(*wide, **params)


def _decomposed(node: Node, inputs: list[Value | None]) -> tuple[Value, ...]:
    """The values that the decomposition gives, cast to the dtypes that the node promises."""
    op = OPS[node.op_name]
    rule = partial(_in_float32, op) if _is_narrow(node) else op.decompose
    decompose: Callable[..., Any] = rule  # type: ignore[assignment]

    def cast(*operands: Any) -> tuple[Tensor, ...]:
        found = decompose(*operands, **node.kwargs)
        many = found if isinstance(found, tuple) else (found,)
        pairs = zip(many, node.outputs, strict=True)
        return tuple([x if x.dtype is meta.dtype else x.to(meta.dtype) for x, meta in pairs])

    return written_out(cast, *map(_operand, inputs))


def _operand(value: Value | None) -> Any:
    """An input of a decomposition: a number as such."""
    return value.node.kwargs["value"] if value is not None and _is_constant(value) else value
