"""Tracing: run a function once with symbolic tensors and record what it computes as a graph.

``trace(step, *args)`` runs the user's own forward, loss, ``backward()`` and optimizer step. Every
op call arrives at the ``Tracer`` through ``bind``; every in-place store through ``write``. A
concrete tensor met on the way (a parameter, a buffer, an optimizer slot, a generator's state)
becomes a state slot: read at each run, and written back if the step stored into it. Nothing is
computed, and whatever Python changes about concrete tensors meanwhile is put back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion import eager
from ganglion.autograd.anomaly import user_line
from ganglion.autograd.inplace import check_writable, own_saved, rebase
from ganglion.compiler.numbers import NUMBER, Lifted, Numbers
from ganglion.compiler.program import Program
from ganglion.compiler.reads import Reads
from ganglion.compiler.results import Results
from ganglion.compiler.stepping import Stepping
from ganglion.dispatch import mode
from ganglion.errors import ShapeError, TraceError
from ganglion.graph import Node, Origin, Value, argument, constant, state
from ganglion.ops.movement import VIEW, WRITE_VIEW, plain_chain
from ganglion.ops.record import OPS, Op
from ganglion.shapes import Meta, Shape, show
from ganglion.tensor import Tensor, wrap
from ganglion.tree import leaves, map_leaves

SMALL = 1024  # elements of a constant that stands in the graph itself


class Symbol:
    """What a tensor holds while it is traced: a graph value that looks like an array outside."""

    __slots__ = ("dtype", "shape", "tracer", "value")

    def __init__(self, value: Value, tracer: Tracer | None = None) -> None:
        self.value, self.shape, self.dtype = value, value.shape, value.dtype.numpy
        self.tracer = tracer

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def origin(self) -> str:
        """The user's line that made it."""
        origins = {} if self.tracer is None else self.tracer.origins
        return str(origins.get(self.value.node, "an unknown line"))


@dataclass(slots=True, eq=False)
class Before:
    """What a concrete tensor was before the trace touched it."""

    tensor: Tensor
    leaf: bool
    edge: Any
    version: int | None
    view_version: int | None

    def restore(self) -> None:
        """Make it so again."""
        x = self.tensor
        x._leaf, x._edge, x._storage.version = self.leaf, self.edge, self.version
        if x._view is not None:
            x._view.version = self.view_version


@dataclass(slots=True, eq=False)
class GradBefore:
    """A tensor's ``.grad`` before the trace; ``assigned`` if it was replaced before being read."""

    tensor: Tensor
    grad: Tensor | None
    spent: bool
    assigned: bool


class Tracer:
    """Listens at the door while a step is traced, and records nodes."""

    def __init__(self, function: Any = None) -> None:
        self.slots: list[Tensor] = []  # captured tensors, by slot number
        self.slot_of: dict[int, int] = {}  # id of a captured tensor -> its slot
        self.current: dict[int, Value] = {}  # slot -> what the tensor holds now
        self.written: set[int] = set()
        self.origins: dict[Node, Origin] = {}
        self.draws = 0
        self.conditions: list[Value] = []  # state changes only where all of them hold
        self.numbers, self.reads = Numbers(), Reads(function)
        self.stepping = Stepping(self.numbers, self.reads)
        self.touched: dict[int, Before] = {}
        self.grads: dict[int, GradBefore] = {}
        self.graded: dict[int, Tensor] = {}  # captured where gradients were recorded
        self.unhooked: list[tuple[Tensor, Any]] = []  # with the hooks they had
        self.given: list[Tensor] = []  # the caller's tensors,
        self.wrappers: dict[int, int] = {}  # and by id what stands for them in the trace
        self.alive: list[Tensor] = []  # so that ids stay their own

    # --- the listener -------------------------------------------------------------------------

    def bind(self, op: Op, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        """Record one op call; gradients go onto the same tape as in eager execution."""
        with self.reads.unwatched:
            return self._bind(op, inputs, params)

    def _bind(self, op: Op, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        inputs = eager.promoted(op, inputs)
        if op is VIEW and mode.tracer is self and inputs[0]._view is not None:
            self._check_view(inputs[0], params["shape"])
        operands = [self.value(x) if isinstance(x, Tensor) else x for x in inputs]
        if mode.grad and op.vjp is not None:
            self._recorded(inputs)
        outs = self.node(op, operands, params).values
        if op.donates:
            targets = tuple(inputs[i] for i in op.donates)
            for target, value in zip(targets, outs, strict=True):
                self.store(target, value)
                target._storage.advance()
            return targets
        arrays = [self.symbol(x) if isinstance(x, Value) else x for x in operands]
        data = tuple(map(self.symbol, outs)) if op.outputs > 1 else self.symbol(outs[0])
        return eager.finish(op, inputs, arrays, params, data)

    def _check_view(self, x: Tensor, shape: Shape) -> None:
        """Refuse, as eager execution does, to see as another shape what only a copy can be."""
        try:
            VIEW.kernel(self.form(x), shape)
        except ValueError:
            raise ShapeError(
                f"view: the memory of a tensor of shape {show(x._data.shape)} cannot be seen as "
                f"{show(shape)} without a copy; use reshape() instead"
            ) from None

    def write(self, target: Tensor, value: Tensor) -> Tensor:
        """Record an in-place store; storing into a view rewrites its base."""
        check_writable(target, value)
        self.touch(target)
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
            f"{origin()}: a traced step cannot look at a tensor's values (.item(), float(), "
            "bool(), .numpy(), .tolist(), printing). Return the tensor and look at it outside, or "
            "express the choice with ganglion.where."
        )

    # --- what else a trace wants to know ------------------------------------------------------

    def grad(self, tensor: Tensor, assigned: bool) -> None:
        """Note what ``.grad`` was, and whether the step starts by replacing it."""
        concrete = isinstance(tensor._data, np.ndarray)
        if id(tensor) in self.grads or not (concrete or id(tensor) in self.wrappers):
            return
        self.grads[id(tensor)] = GradBefore(tensor, tensor._grad, tensor._spent, assigned)
        if assigned or concrete:
            return
        if self.given[self.wrappers[id(tensor)]]._grad is not None:
            raise TraceError(
                f"{origin()}: a traced step cannot go on from the .grad of an argument. Set it to "
                "None first, or capture the tensor instead of passing it."
            )

    def flag(self, tensor: Tensor) -> None:
        """``requires_grad`` is about to change."""
        if isinstance(tensor._data, np.ndarray):
            self.touch(tensor)

    def form(self, x: Tensor) -> Any:
        """Memory laid out as the tensor's is; what is made in a trace is taken to be row-major."""
        view = x._view
        data = x._data if view is None else view.base._data
        found = data if isinstance(data, np.ndarray) else np.empty(data.shape, data.dtype)
        for op, params in () if view is None else view.chain:
            found = op.kernel(found, **params)
        return found

    def born(self, tensor: Tensor) -> Tensor:
        """A tensor of Python's data: the same at every call, whatever is written to it."""
        value = None
        if tensor._data.size <= SMALL:
            value = constant(tensor._data, tensor.dtype)
        else:
            value = self.node(OPS["copy"], (self.value(tensor),), {}).values[0]
        return wrap(self.symbol(value))

    def groups(self, optimizer: Any) -> Iterator[dict[str, Any]]:
        """The optimizer's groups, with numbers that may change."""
        return self.stepping.groups(optimizer)

    def touch(self, x: Tensor) -> None:
        """Remember how a concrete tensor was, to put it back."""
        for y in (x,) if x._view is None else (x, x._view.base, x._view.origin):
            if y is None or id(y) in self.touched or not isinstance(y._data, np.ndarray):
                continue
            view = None if y._view is None else y._view.version
            self.touched[id(y)] = Before(y, y._leaf, y._edge, y._storage.version, view)

    # --- nodes and values ---------------------------------------------------------------------

    def node(self, op: Op, operands: Sequence[Any], params: Mapping[str, Any]) -> Node:
        """The node of a call, with its shapes and the user's line."""
        if op.runs == "eager-only":
            raise TraceError(
                f"{origin()}: the result of '{op.name}' has a shape that depends on values, so "
                "it cannot be part of a traced step. Compute it before the step, or use a mask."
            )
        metas = op.infer(*(x.meta if isinstance(x, Value) else x for x in operands), **params)
        metas = metas if op.outputs > 1 else (metas,)
        values = [None if x is None else self._operand(x) for x in operands]
        unique = None
        if op.random:
            unique, self.draws = self.draws, self.draws + 1
        made = Node(op.name, values, params.items(), metas, unique)
        self.origins.setdefault(made, origin())
        return made

    def _operand(self, x: Any) -> Value:
        if isinstance(x, Value):
            return x
        if type(x) is Lifted and x.numbers is self.numbers:
            return self.node(NUMBER, (self.value(self.numbers.state(x)),), {}).values[0]
        return constant(x, dt.of_scalar(x))

    def symbol(self, value: Value) -> Symbol:
        """A value as the data of a tensor in this trace."""
        return Symbol(value, self)

    def value(self, x: Tensor) -> Value:
        """What a tensor holds now: views are followed anew from their base."""
        view = x._view
        if view is not None:
            self.touch(x)
            found = self.value(view.base)
            for op, params in view.chain:
                found = self.node(op, (found,), params).values[0]
            return found
        data = x._data
        if isinstance(data, np.ndarray):
            return self.current[self.slot(x)]
        if data.tracer is not self and data.tracer is not None:
            raise TraceError(
                f"{origin()}: this uses a tensor that was made while another call was traced, at "
                f"{data.origin}. What must stay from call to call belongs into a tensor made "
                "before, written to in place (h.copy_(new)), or is returned and passed in again."
            )
        return data.value  # type: ignore[no-any-return]

    def slot(self, x: Tensor) -> int:
        """The slot of a concrete tensor, captured when first met."""
        found = self.slot_of.get(id(x))
        if found is None:
            self.touch(x)
            found = self.slot_of[id(x)] = len(self.slots)
            self.slots.append(x)
            self.current[found] = state(found, Meta(x._data.shape, x.dtype))
        return found

    def store(self, target: Tensor, value: Value) -> None:
        """Make ``value`` the content of a tensor, through its base if it is a view."""
        self.touch(target)
        view = target._view
        if view is not None:
            params = {"chain": plain_chain(view.chain)}
            value = self.node(WRITE_VIEW, (self.value(view.base), value), params).values[0]
            target = view.base
        if isinstance(target._data, np.ndarray):
            slot = self.slot(target)
            self.current[slot] = value
            self.written.add(slot)
        else:
            target._data = self.symbol(value)

    def _recorded(self, inputs: Sequence[Any]) -> None:
        """A trace has its own tape: it cannot go on from one that was recorded before."""
        for x in inputs:
            if isinstance(x, Tensor) and isinstance(x._data, np.ndarray):
                self.graded[id(x)] = x
                if x._edge is not None and self.touched[id(x)].edge is x._edge:
                    raise TraceError(
                        f"{origin()}: a traced step uses a tensor that was computed outside and "
                        "requires gradients. Pass it as an argument, or detach() it."
                    )

    # --- arguments ----------------------------------------------------------------------------

    def take(self, x: Tensor) -> Tensor:
        """What stands for an argument in the trace."""
        position = len(self.given)
        made = object.__new__(type(x))
        made._data = self.symbol(argument(position, Meta(x._data.shape, x.dtype)))
        made._storage = type(x._storage)()
        made._leaf = x.requires_grad
        self.given.append(x)
        self.wrappers[id(made)] = position
        self.alive.append(made)
        return made

    def take_back(self) -> None:
        """Undo what the function did to Python's objects, as it will run again."""
        self.reads.restore()
        self.stepping.undo()

    def undo(self) -> None:
        """Put back what concrete tensors were before the trace."""
        for before in self.touched.values():
            before.restore()
        for kept in self.grads.values():
            kept.tensor._grad, kept.tensor._spent = kept.grad, kept.spent
        for x, hooks in self.unhooked:
            x._hooks = hooks


def origin() -> Origin:
    """The innermost line outside this package."""
    return Origin(*user_line())


def proceed_if(flag: Tensor) -> bool:
    """In a trace: change state only where ``flag`` holds at run time, and go on. Else its value."""
    tracer = mode.tracer
    if not isinstance(tracer, Tracer):
        return bool(flag)
    tracer.conditions.append(tracer.value(flag))
    return True


def trace(function: Callable[..., Any], *args: Any, keep_grads: bool = True) -> Program:
    """Run ``function`` once on symbolic tensors of the arguments' shapes and record its graph.

    Arguments are tensors (or trees of them). Nothing is computed and no tensor changes.
    """
    for x in leaves(args):
        if not isinstance(x, Tensor):
            raise TraceError(f"every argument of a traced step must be a tensor, got {x!r}")
    tracer = Tracer()
    symbolic = map_leaves(tracer.take, args)
    return record(tracer, lambda: function(*symbolic), keep_grads)


def written_out(rule: Callable[..., Any], *operands: Any) -> tuple[Value, ...]:
    """The values that a rule for tensors gives; of the operands, values become tensors."""
    tracer = Tracer()
    before = mode.listener, mode.grad
    try:  # no context managers: Ctrl-C can keep them from putting things back
        mode.listener, mode.grad = tracer, False
        found = rule(*[wrap(Symbol(x)) if isinstance(x, Value) else x for x in operands])
        return tuple([tracer.value(x) for x in (found if isinstance(found, tuple) else (found,))])
    finally:
        mode.listener, mode.grad = before


def record(tracer: Tracer, call: Callable[[], Any], keep_grads: bool) -> Program:
    """Run the call under a tracer and make its program.

    Ctrl-C may come anywhere, also while things are put back: then that is done again.
    """
    outer = mode.tracer, mode.listener
    try:
        mode.tracer = mode.listener = tracer
        program = Results(tracer, keep_grads).program(call())
        tracer.undo()
        return program
    except BaseException:
        tracer.stepping.undo()
        tracer.undo()
        raise
    finally:
        mode.tracer, mode.listener = outer
        tracer.numbers.close()
