"""The graph interpreter: runs a traced program node by node on NumPy arrays.

It is the oracle of compiled code. ``decomposed=True`` computes composites by their decomposition
into ops instead of their own kernels, which must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ganglion import eager
from ganglion.compiler.trace import Position, Program
from ganglion.errors import ShapeError
from ganglion.gradmode import no_grad
from ganglion.graph import Graph, Node, Value, content
from ganglion.ops.record import OPS
from ganglion.shapes import show
from ganglion.tensor import Tensor, wrap
from ganglion.tree import leaves, map_leaves

Array = np.ndarray[Any, Any]


def run(program: Program, *args: Any, decomposed: bool = False) -> Any:
    """Call a traced step: compute its outputs, store its state, leave its gradients."""
    given = [x._data for x in leaves(args)]
    states = [tensor._data for tensor in program.slots]
    outputs, updates = interpret(program.graph, given, states, decomposed=decomposed)
    for slot, array in updates:
        tensor = program.slots[slot]
        np.copyto(tensor._data, array)
        tensor._storage.advance()
    for slot, index in program.gradients:
        program.slots[slot].grad = wrap(outputs[index].copy())
    return map_leaves(
        lambda x: wrap(outputs[x.index]) if isinstance(x, Position) else x, program.result
    )


def interpret(
    graph: Graph,
    arguments: Sequence[Array],
    states: Sequence[Array],
    *,
    decomposed: bool = False,
) -> tuple[list[Array], list[tuple[int, Array]]]:
    """The outputs and the new contents of the written slots; the arrays given stay as they are."""
    known: dict[Node, tuple[Any, ...]] = {}
    for kind, values, arrays in (
        ("argument", graph.inputs, arguments),
        ("state", graph.states, states),
    ):
        for value, array in zip(values, arrays, strict=True):
            _check_leaf(kind, value, array)
            known[value.node] = (array,)
    for node in graph.topological():
        if node not in known:
            known[node] = _compute(node, known, decomposed)

    def found(value: Value) -> Array:
        return np.asarray(known[value.node][value.index])

    return [found(v) for v in graph.outputs], [(slot, found(v)) for slot, v in graph.updates]


def _check_leaf(kind: str, value: Value, array: Array) -> None:
    if array.shape != value.shape or array.dtype != value.dtype.numpy:
        raise ShapeError(
            f"{kind} %{value.node.params} was traced as {value.meta}, got an array "
            f"{array.dtype}{show(array.shape)}; trace again for other shapes"
        )


def _compute(node: Node, known: dict[Node, tuple[Any, ...]], decomposed: bool) -> tuple[Any, ...]:
    if node.op_name == "const":
        return (content(node),)
    op = OPS[node.op_name]
    arrays: list[Any] = [None if v is None else known[v.node][v.index] for v in node.inputs]
    if decomposed and op.decompose is not None:
        return _decomposed(node, arrays)
    for i in op.donates:
        arrays[i] = arrays[i].copy()
    if op.view and not arrays[0].flags.c_contiguous:  # a graph knows no strides
        arrays[0] = arrays[0].copy()
    out = eager.run_kernel(op, arrays, node.kwargs)
    return tuple(map(np.asarray, out if op.outputs > 1 else (out,)))


def _decomposed(node: Node, arrays: list[Any]) -> tuple[Any, ...]:
    op = OPS[node.op_name]
    inputs = [wrap(a) if isinstance(a, np.ndarray) else a for a in arrays]
    with no_grad():
        found = op.decompose(*inputs, **node.kwargs)  # type: ignore[misc]
        many = found if isinstance(found, tuple) else (found,)
        return tuple(_as(x, meta.dtype) for x, meta in zip(many, node.outputs, strict=True))


def _as(x: Tensor, dtype: Any) -> Array:
    return x._data if x.dtype is dtype else x.to(dtype)._data  # type: ignore[no-any-return]
