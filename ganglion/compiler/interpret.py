"""The graph interpreter: runs a traced program node by node on NumPy arrays.

It is the oracle of compiled code. ``decomposed=True`` computes composites by their decomposition
into ops instead of their own kernels, which must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from ganglion import eager
from ganglion.compiler.numbers import NUMBER
from ganglion.compiler.program import Array, Delivery, Program
from ganglion.errors import ShapeError
from ganglion.gradmode import no_grad
from ganglion.graph import Graph, Node, Value, content
from ganglion.ops.record import OPS
from ganglion.shapes import show
from ganglion.tensor import Tensor, wrap
from ganglion.tree import leaves


def run(program: Program, *args: Any, decomposed: bool = False) -> Any:
    """Call a traced step: compute its outputs, store its state, leave its gradients."""
    given: list[Tensor] = leaves(args)
    if program.numbers is not None:
        program.numbers.refresh(given)
    if program.past is not None:
        program.past.compile = lambda backward: Interpreted(backward, decomposed)
    states = program.states()
    step = Interpreted(program, decomposed)
    outputs = step([x._data for x in given], [x._data for x in states])
    for slot in program.written:
        states[slot]._storage.advance()
    return Delivery(program)(given, outputs)


class Interpreted:
    """A program made executable by interpreting its graph."""

    def __init__(self, program: Program, decomposed: bool = False) -> None:
        self.graph, self.decomposed = program.graph, decomposed

    def __call__(self, arguments: Sequence[Array], states: Sequence[Array] = ()) -> list[Array]:
        """The outputs, as fresh arrays; new contents are written into the states."""
        outputs, updates = interpret(self.graph, arguments, states, decomposed=self.decomposed)
        fresh = [_own(x, (*arguments, *states)) for x in outputs]
        new = [(states[slot], _own(x, states)) for slot, x in updates]
        for state, content_ in new:
            np.copyto(state, content_)
        return fresh

    def explain(self) -> str:
        """The graph: there is nothing else to it."""
        return self.graph.text(origins=True)

    def html(self) -> str:
        """The same as a page."""
        return f"<!doctype html><title>A step</title><pre>{escape(self.explain())}</pre>"


def _own(array: Array, others: Sequence[Array]) -> Array:
    """The array, or a copy if it may share its memory with one of the others."""
    shared = array.base is not None or any(array is x for x in others)
    return array.copy() if shared else array


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
    if op is NUMBER:
        return (op.kernel(*arrays),)
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
