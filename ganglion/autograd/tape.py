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
from ganglion.ops.record import OUTPUTS, Op
from ganglion.shapes import Shape, show
from ganglion.storage import Storage
from ganglion.tensor import Tensor, wrap

if TYPE_CHECKING:
    from ganglion.storage import View

Hook = Callable[..., Any]
Edge = Any  # where a gradient goes: (node, output index), a leaf tensor, or None

F32 = np.dtype(np.float32)
new_order = itertools.count(0, -1).__next__
_NOTHING: dict[int, Any] = {}
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
        "__weakref__", "dtypes", "edges", "op", "order", "outputs", "params", "saved", "shapes",
        "stamp", "stores", "watch",
    )  # fmt: skip

    op: Any
    params: Mapping[str, Any]
    edges: Sequence[Edge]  # per input
    order: int  # counts down: a node is smaller than all that its inputs come from
    shapes: Sequence[Shape]  # per input; () and None for numbers
    dtypes: Sequence[Any]
    outputs: Sequence[Any]  # per output (shape, dtype); of a single output, None
    saved: Mapping[int, Any] | None  # arrays and numbers: input i at i, output i at ~i
    stores: Mapping[int, Storage]  # the memory of what is saved,
    stamp: int  # and the sum of its versions: any write advances it
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
        array = self._read(i)
        if not hasattr(array, "dtype"):
            return array  # a number or None
        e = self.edges[i] if create else None
        if isinstance(e, Tensor):
            return e
        x = wrap(array)
        x._edge = e
        return x

    def saved_output(self, i: int, create: bool) -> Tensor:
        """An output as the rules see it."""
        out = wrap(self._read(~i))
        if create and out.dtype.is_floating_point:
            out._edge = (self, i)
        return out

    def _read(self, key: int) -> Any:
        assert self.saved is not None
        if key not in self.saved:
            what = f"input {key}" if key >= 0 else "its output"
            raise AssertionError(f"a rule of '{self.op.name}' reads {what}: name it in saves")
        return self.saved[key]

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
        return ", ".join(show(a.shape) for a in self.saved.values() if hasattr(a, "shape"))

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


def record(
    op: Op,
    inputs: Sequence[Any],
    arrays: Sequence[Any],
    params: Mapping[str, Any],
    results: Sequence[Tensor],
) -> None:
    """Append a call to the tape, unless none of its inputs wants a gradient."""
    edges: list[Edge] = []
    wanted = False
    for x in inputs:
        e = None
        if isinstance(x, Tensor):
            e = x._edge if x._view is None else edge(x)
            if e is None and x._leaf:
                e = x
            if e is not None:
                wanted = True
        edges.append(e)
    if not wanted:
        return
    node = Node()
    node.op, node.params, node.edges, node.order, node.watch = op, params, edges, new_order(), None
    node.shapes = [getattr(a, "shape", ()) for a in arrays]
    node.dtypes = [getattr(a, "dtype", None) for a in arrays]
    _save(node, inputs, arrays, results)
    if op.outputs == 1:
        node.outputs = _ONE_OUTPUT
    else:
        node.outputs = [(r._data.shape, r._data.dtype) for r in results]
    for i, r in enumerate(results):
        if r._data.dtype is F32 or r.dtype.is_floating_point:
            r._edge = (node, i)


def _save(
    node: Node, inputs: Sequence[Any], arrays: Sequence[Any], results: Sequence[Tensor]
) -> None:
    """Keep what the needed rules read."""
    reads = node.op.reads
    if isinstance(reads, tuple):
        reads = _union(reads, node.edges)
    if not reads:
        node.saved, node.stores, node.stamp = _NOTHING, _NOTHING, 0
        return
    saved: dict[int, Any] = {}
    stores: dict[int, Storage] = {}
    for i, x in enumerate(inputs):
        if reads >> i & 1:
            saved[i] = arrays[i]
            if isinstance(x, Tensor):
                stores[i] = x._storage
    if reads & OUTPUTS:
        for i, r in enumerate(results):
            saved[~i] = r._data
            stores[~i] = r._storage
    node.saved, node.stores = saved, stores
    node.stamp = versions(stores)


def _union(reads: tuple[int, ...], edges: Sequence[Edge]) -> int:
    """What the rules of the inputs that want a gradient read together."""
    found = 0
    for mask, e in zip(reads, edges, strict=True):
        if e is not None:
            found |= mask
    return found


def versions(stores: Mapping[int, Storage]) -> int:
    """The sum of their versions, which any write advances."""
    try:
        return sum([s.version for s in stores.values()])  # type: ignore[misc]
    except TypeError:  # those of inference mode have none
        raise AutogradError(
            "Inference tensors cannot be saved for backward. To work around this, you can make a "
            "clone to get a normal tensor and use it in autograd, or use no_grad() instead of "
            "inference_mode()."
        ) from None
