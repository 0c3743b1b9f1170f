"""The tape: one node per recorded call, for eager tensors and for traced ones alike.

A node knows where the gradients of its inputs go and the arrays that its op's rules may read. It
never refers to the tensors it produced, so a tape has no reference cycles and dies with its last
tensor.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.dispatch import mode
from ganglion.errors import AutogradError
from ganglion.history import Handle
from ganglion.ops.record import Op
from ganglion.shapes import Shape, show
from ganglion.storage import Storage
from ganglion.tensor import Tensor, wrap

if TYPE_CHECKING:
    from ganglion.storage import View

Hook = Callable[..., Any]
Edge = Any  # where a gradient goes: (node, output index), a leaf tensor, or None

Array = np.ndarray
F32 = np.dtype(np.float32)
new_order = itertools.count(0, -1).__next__
_NOTHING: list[Any] = []  # never appended to
_NO_STORAGE = Storage()  # of numbers: never written to
_ONE_OUTPUT = (None,)


class Watch:
    """What few nodes have: hooks, tensors that keep their gradient, the user's source line."""

    __slots__ = ("after", "before", "hooks", "retained", "where")

    def __init__(self) -> None:
        self.hooks: dict[int, dict[int, Hook]] = {}  # per output
        self.retained: dict[int, weakref.ref[Tensor]] = {}  # per output
        self.before: dict[int, Hook] = {}
        self.after: dict[int, Hook] = {}
        self.where: tuple[str, int] | None = None


class Node:
    """One call on the tape."""

    __slots__ = (
        "__weakref__", "dtypes", "edges", "keys", "op", "order", "outputs", "params", "saved",
        "shapes", "stamp", "stores", "watch",
    )  # fmt: skip

    op: Any
    params: Mapping[str, Any]
    edges: Sequence[Edge]  # per input
    order: int  # counts down: a node is smaller than all that its inputs come from
    shapes: Sequence[Shape]  # per input; () and None for numbers
    dtypes: Sequence[Any]
    outputs: Sequence[Any]  # per output (shape, dtype); of a single output, None
    keys: Sequence[int]  # what is saved: i for input i, ~i for output i
    saved: list[Any] | None  # its arrays and numbers; None once freed
    stores: list[Storage]  # its memory,
    stamp: int  # and the sum of their versions: any write advances it
    watch: Watch | None

    def name(self) -> str:
        """PyTorch's name for it, such as ``AddBackward0``."""
        words = str(self.op.name).split("_")
        return "".join(w[:1].upper() + w[1:] for w in words) + "Backward0"

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """Where its gradients go: (node or AccumulateGrad, output index) per input."""
        return tuple(map(_next_function, self.edges))

    def watched(self) -> Watch:
        """The place for hooks."""
        if self.watch is None:
            self.watch = Watch()
        return self.watch

    def register_prehook(self, hook: Hook) -> Handle:
        """Call ``hook(grad_outputs)`` before the rules; a tuple it returns replaces them."""
        return Handle(self.watched().before, hook)

    def register_hook(self, hook: Hook) -> Handle:
        """Call ``hook(grad_inputs, grad_outputs)`` after the rules; a tuple replaces the first."""
        return Handle(self.watched().after, hook)

    def saved_input(self, i: int, create: bool) -> Any:
        """An input as the rules see it; with its history when gradients are differentiated."""
        array = self._saved_at(i)
        if type(array) is not Array and not hasattr(array, "dtype"):
            return array  # a number or None
        if not create:
            return wrap(array)
        e = self.edges[i]
        if isinstance(e, Tensor):
            return e
        x = wrap(array)
        x._edge = e
        return x

    def saved_output(self, i: int, create: bool) -> Tensor:
        """An output as the rules see it."""
        out = wrap(self._saved_at(~i))
        if create and out.dtype.is_floating_point:
            out._edge = (self, i)
        return out

    def _saved_at(self, key: int) -> Any:
        try:
            return self.saved[self.keys.index(key)]  # type: ignore[index]
        except ValueError:
            what = f"input {key}" if key >= 0 else "its output"
            raise AssertionError(
                f"a rule of '{self.op.name}' reads {what}: name it in saves"
            ) from None

    def check(self) -> None:
        """Refuse to go on when what was saved is freed or overwritten."""
        if self.saved is None:
            raise AutogradError(FREED)
        if self.stores and versions(self.stores) != self.stamp:
            raise AutogradError(
                "one of the variables needed for gradient computation has been modified by an "
                f"inplace operation: {self.name()} saved tensors of shape {self._saved_shapes()}, "
                "and one of them was written to since. Compute out of place, or write to a clone()."
            )

    def _saved_shapes(self) -> str:
        assert self.saved is not None
        return ", ".join(show(a.shape) for a in self.saved if hasattr(a, "shape"))

    def free(self) -> None:
        """Let go of what was saved."""
        if self.saved:
            self.saved, self.stores = None, _NOTHING

    def __repr__(self) -> str:
        return f"<{self.name()}>"


FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after "
    "they have already been freed). Saved intermediate values of the graph are freed when you call "
    ".backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the "
    "graph a second time or if you need to access saved tensors after calling backward."
)


class AccumulateGrad:
    """Stands for a leaf in ``next_functions``; ``variable`` is the leaf."""

    next_functions = ()

    def __init__(self, variable: Tensor) -> None:
        self.variable = variable

    def name(self) -> str:
        return "AccumulateGrad"

    def __repr__(self) -> str:
        return "<AccumulateGrad>"


def _next_function(e: Edge) -> tuple[Any, int]:
    if isinstance(e, Tensor):
        return AccumulateGrad(e), 0
    return e or (None, 0)


def edge(x: Any) -> Edge:
    """Where a gradient of ``x`` goes: (node, index), the leaf itself, or None."""
    if not isinstance(x, Tensor):
        return None
    view = x._view
    if view is not None and view.version != x._storage.version:
        refresh(x, view)
    return x if x._edge is None and x._leaf else x._edge


def refresh(x: Tensor, view: View) -> None:
    """Derive a view's history anew after its base was written."""
    origin = view.origin
    if origin is not None:
        if view.refusal:
            _refuse(view)
        set_edge(x, _replayed(origin, view.path) if origin.requires_grad else None)
    view.version = x._storage.version


def _refuse(view: View) -> None:
    if mode.grad and view.origin is not None and view.origin.requires_grad:
        raise AutogradError(
            f"{view.refusal}, and its base or another view of its base has been modified inplace "
            "with grad mode enabled. Make the view after the write, or detach() it."
        )


def _replayed(origin: Tensor, path: Any) -> Edge:
    before, mode.grad = mode.grad, True
    try:
        seen = origin
        for op, params in path:
            seen = op(seen, **params)
        return seen._edge
    finally:
        mode.grad = before


def set_edge(x: Tensor, new: Edge) -> None:
    """Give ``x`` another history; a tensor that retains its gradient goes on doing so."""
    old, x._edge = x._edge, new
    if old is not None and old[0].watch is not None:
        retained = old[0].watch.retained.get(old[1])
        if retained is not None and retained() is x:
            del old[0].watch.retained[old[1]]
            if new is not None:
                new[0].watched().retained[new[1]] = retained


def record(  # noqa: C901 - the hot path, in one piece
    op: Op,
    inputs: Sequence[Any],
    arrays: Sequence[Any],
    params: Mapping[str, Any],
    results: Sequence[Tensor],
) -> None:
    """Append a call to the tape, unless none of its inputs wants a gradient."""
    edges: list[Edge] = []
    shapes: list[Shape] = []
    dtypes: list[Any] = []
    wanted, bit = 0, 1
    for x, a in zip(inputs, arrays):  # noqa: B905 - of one length, and this is quicker
        e = None
        if isinstance(x, Tensor):
            e = x._edge if x._view is None else edge(x)
            if e is None and x._leaf:
                e = x
            if e is not None:
                wanted += bit
            shapes.append(a.shape)
            dtypes.append(a.dtype)
        else:
            shapes.append(())
            dtypes.append(None)
        edges.append(e)
        bit += bit
    if not wanted:
        return
    keys = op.reads.get(wanted + bit)
    if keys is None:
        keys = op.read_by(wanted + bit)
    node = Node()
    node.op, node.params, node.edges, node.order = op, params, edges, new_order()
    node.shapes, node.dtypes, node.outputs, node.watch = shapes, dtypes, _ONE_OUTPUT, None
    if keys:
        _save(node, keys, inputs, arrays, results)
    else:
        node.keys, node.saved, node.stores, node.stamp = keys, _NOTHING, _NOTHING, 0
    if op.outputs > 1:
        node.outputs = [(r._data.shape, r._data.dtype) for r in results]
    i = 0
    for r in results:
        if r._data.dtype is F32 or r.dtype.is_floating_point:
            r._edge = (node, i)
        i += 1  # noqa: SIM113 - quicker than enumerate


def _save(
    node: Node,
    keys: tuple[int, ...],
    inputs: Sequence[Any],
    arrays: Sequence[Any],
    results: Sequence[Tensor],
) -> None:
    """Keep what the needed rules read."""
    saved = []
    stores = []
    for key in keys:
        if key < 0:
            x = results[~key]
            saved.append(x._data)
        else:
            x = inputs[key]
            saved.append(arrays[key])
        stores.append(x._storage if isinstance(x, Tensor) else _NO_STORAGE)
    node.keys, node.saved, node.stores, node.stamp = keys, saved, stores, versions(stores)


def versions(stores: Sequence[Storage]) -> int:
    """The sum of their versions, which any write advances."""
    total = 0
    try:
        for store in stores:
            total += store.version  # type: ignore[operator]
    except TypeError:  # those of inference mode have none
        raise AutogradError(
            "Inference tensors cannot be saved for backward. To work around this, you can make a "
            "clone to get a normal tensor and use it in autograd, or use no_grad() instead of "
            "inference_mode()."
        ) from None
    return total
