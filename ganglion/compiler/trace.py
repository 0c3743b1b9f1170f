"""Tracing: run a function once with symbolic tensors and record what it computes as a graph.

``trace(step, *args)`` runs the user's own forward, loss, ``backward()`` and optimizer step. Every
op call arrives at the ``Tracer`` through ``bind``; every in-place store through ``write``. A
concrete tensor met on the way (a parameter, a buffer, an optimizer slot, a generator's state)
becomes a state slot: read at each run, and written back if the step stored into it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ganglion.dtypes as dt
from ganglion import eager
from ganglion.autograd.anomaly import user_line
from ganglion.autograd.inplace import check_writable, own_saved, rebase
from ganglion.dispatch import listening
from ganglion.errors import TraceError
from ganglion.graph import Graph, Node, Origin, Value, argument, constant, state
from ganglion.ops.movement import WRITE_VIEW, plain_chain
from ganglion.ops.record import OPS, Op
from ganglion.shapes import Meta
from ganglion.tensor import Tensor, wrap
from ganglion.tree import leaves, map_leaves


class Symbol:
    """What a tensor holds while it is traced: a graph value that looks like an array outside."""

    __slots__ = ("dtype", "shape", "value")

    def __init__(self, value: Value) -> None:
        self.value, self.shape, self.dtype = value, value.shape, value.dtype.numpy

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Tracer:
    """Listens at the door while a step is traced, and records nodes."""

    def __init__(self) -> None:
        self.slots: list[Tensor] = []  # captured tensors, by slot number
        self.slot_of: dict[int, int] = {}  # id of a captured tensor -> its slot
        self.current: dict[int, Value] = {}  # slot -> what the tensor holds now
        self.written: set[int] = set()
        self.origins: dict[Node, Origin] = {}
        self.draws = 0

    # --- the listener -------------------------------------------------------------------------

    def bind(self, op: Op, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        """Record one op call; gradients go onto the same tape as in eager execution."""
        inputs = eager.promoted(op, inputs)
        operands = [self.value(x) if isinstance(x, Tensor) else x for x in inputs]
        outs = self.node(op, operands, params).values
        if op.donates:
            targets = tuple(inputs[i] for i in op.donates)
            for target, value in zip(targets, outs, strict=True):
                self.store(target, value)
                target._storage.advance()
            return targets
        arrays = [Symbol(x) if isinstance(x, Value) else x for x in operands]
        data = tuple(map(Symbol, outs)) if op.outputs > 1 else Symbol(outs[0])
        return eager.finish(op, inputs, arrays, params, data)

    def write(self, target: Tensor, value: Tensor) -> Tensor:
        """Record an in-place store; storing into a view rewrites its base."""
        check_writable(target, value)
        new = self.value(value)
        if value.dtype is not target.dtype:
            new = self.node(OPS["cast"], (new,), {"dtype": target.dtype}).values[0]
        own_saved(target, value)
        self.store(target, new)
        rebase(target, value)
        return target

    def read(self, tensor: Tensor) -> Any:
        """Refuse to turn a tensor into Python numbers: a trace does not know them."""
        raise TraceError(
            f"{_origin()}: a traced step cannot look at a tensor's values (.item(), float(), "
            "bool(), .numpy(), .tolist(), printing). Return the tensor and look at it outside, or "
            "express the choice with ganglion.where."
        )

    # --- nodes and values ---------------------------------------------------------------------

    def node(self, op: Op, operands: Sequence[Any], params: Mapping[str, Any]) -> Node:
        """The node of a call, with its shapes and the user's line."""
        if op.runs == "eager-only":
            raise TraceError(
                f"{_origin()}: the result of '{op.name}' has a shape that depends on values, so "
                "it cannot be part of a traced step. Compute it before the step, or use a mask."
            )
        metas = op.infer(*(x.meta if isinstance(x, Value) else x for x in operands), **params)
        metas = metas if op.outputs > 1 else (metas,)
        values = [None if x is None else _value(x) for x in operands]
        unique = None
        if op.random:
            unique, self.draws = self.draws, self.draws + 1
        made = Node(op.name, values, params.items(), metas, unique)
        self.origins.setdefault(made, _origin())
        return made

    def value(self, x: Tensor) -> Value:
        """What a tensor holds now: views are followed anew from their base."""
        view = x._view
        if view is not None:
            found = self.value(view.base)
            for op, params in view.chain:
                found = self.node(op, (found,), params).values[0]
            return found
        if isinstance(x._data, Symbol):
            return x._data.value
        return self.current[self.slot(x)]

    def slot(self, x: Tensor) -> int:
        """The slot of a concrete tensor, captured when first met."""
        found = self.slot_of.get(id(x))
        if found is None:
            found = self.slot_of[id(x)] = len(self.slots)
            self.slots.append(x)
            self.current[found] = state(found, Meta(x._data.shape, x.dtype))
        return found

    def store(self, target: Tensor, value: Value) -> None:
        """Make ``value`` the content of a tensor, through its base if it is a view."""
        view = target._view
        if view is not None:
            params = {"chain": plain_chain(view.chain)}
            value = self.node(WRITE_VIEW, (self.value(view.base), value), params).values[0]
            target = view.base
        if isinstance(target._data, Symbol):
            target._data = Symbol(value)
        else:
            slot = self.slot(target)
            self.current[slot] = value
            self.written.add(slot)


def _value(x: Any) -> Value:
    return x if isinstance(x, Value) else constant(x, dt.of_scalar(x))


def _origin() -> Origin:
    """The innermost line outside this package."""
    return Origin(*user_line())


# --- programs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """A traced step: its graph, the tensors behind its slots, and how to hand results back."""

    graph: Graph
    slots: tuple[Tensor, ...]
    result: Any  # the function's return value, tensors replaced by positions in the outputs
    gradients: tuple[tuple[int, int], ...]  # (slot, output) of gradients the step leaves behind


@dataclass(frozen=True)
class Position:
    """Stands for an output in a program's result."""

    index: int


def trace(function: Callable[..., Any], *args: Any) -> Program:
    """Run ``function`` once on symbolic tensors of the arguments' shapes and record its graph.

    Arguments are tensors (or trees of them). Nothing is computed and no tensor changes.
    """
    tracer = Tracer()
    inputs = [argument(i, Meta(x._data.shape, x.dtype)) for i, x in enumerate(_tensors(args))]
    symbolic = iter([wrap(Symbol(value)) for value in inputs])
    with listening(tracer):
        try:
            result = function(*map_leaves(lambda _: next(symbolic), args))
            return _finished(tracer, tuple(inputs), result)
        finally:
            _forget_gradients(tracer)


def _tensors(tree: Any) -> list[Tensor]:
    found = leaves(tree)
    for x in found:
        if not isinstance(x, Tensor):
            raise TraceError(f"every argument of a traced step must be a tensor, got {x!r}")
    return found


def _finished(tracer: Tracer, inputs: tuple[Value, ...], result: Any) -> Program:
    outputs: list[Value] = []

    def position(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        outputs.append(tracer.value(x))
        return Position(len(outputs) - 1)

    shape = map_leaves(position, result)
    gradients = []
    for slot, tensor in enumerate(tracer.slots):
        if tensor.grad is not None and isinstance(tensor.grad._data, Symbol):
            outputs.append(tracer.value(tensor.grad))
            gradients.append((slot, len(outputs) - 1))
    states = tuple(state(i, Meta(t._data.shape, t.dtype)) for i, t in enumerate(tracer.slots))
    updates = tuple((slot, tracer.current[slot]) for slot in sorted(tracer.written))
    graph = Graph(inputs, states, tuple(outputs), updates, tracer.origins)
    return Program(graph, tuple(tracer.slots), shape, tuple(gradients))


def _forget_gradients(tracer: Tracer) -> None:
    """Symbolic gradients must not outlive the trace."""
    for tensor in tracer.slots:
        if tensor.grad is not None and isinstance(tensor.grad._data, Symbol):
            tensor.grad = None
