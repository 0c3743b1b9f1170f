"""The one reverse walk over the tape, and the public functions that start it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from sys import getrefcount
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.autograd import anomaly
from ganglion.autograd.tape import Edge, Node, Watch, edge
from ganglion.dispatch import mode, write
from ganglion.errors import (
    ArgumentError,
    ArgumentTypeError,
    AutogradError,
    DTypeError,
    ShapeError,
)
from ganglion.history import check_grad_there
from ganglion.ops.create import ones_like, zeros
from ganglion.ops.movement import cast, clone
from ganglion.ops.record import Saved
from ganglion.ops.reduce import sum_to
from ganglion.ops.update import ACCUMULATE
from ganglion.shapes import show
from ganglion.tensor import Tensor

Slot = list[Any]  # [gradient], or [gradient, leaf]: the only reference that the walk keeps
_accumulating = threading.Lock()


class Walk:
    """One backward pass: nodes newest first, each once all its gradients have arrived.

    ``create`` records the pass itself, ``keep`` keeps what the tape saved. With ``targets`` only
    what leads to them is walked, and ``found`` collects their gradients.
    """

    def __init__(self, create: bool, keep: bool, targets: Sequence[Tensor] | None = None) -> None:
        self.create, self.keep, self.watching = create, keep, mode.anomaly
        self.pending: dict[int, tuple[Node, list[Tensor | None]]] = {}
        self.queue: list[int] = []
        self.leaves: dict[int, Slot] = {}
        self.targets = None if targets is None else {_key(edge(x)) for x in targets}
        self.useful: Mapping[Node, bool] = {}
        self.found: dict[Any, Slot] = {}

    def run(self, roots: Iterable[tuple[Edge, Tensor]]) -> None:
        """Send the roots' gradients down to the leaves and targets."""
        if not self.watching:
            self._run(list(roots))
            return
        with anomaly.walking():
            self._run(list(roots))

    def _run(self, roots: list[tuple[Edge, Tensor]]) -> None:
        if self.targets is not None:
            self.useful = _useful(self.targets, [e for e, _ in roots])
        for e, grad in roots:
            if self.wants(e):
                self.send(e, grad)
        while self.queue:
            node, grads = self.pending.pop(heappop(self.queue))
            self.step(node, grads)
        for slot in self.leaves.values():
            if slot[1]._hooks:
                slot[0] = _hooked(slot[1]._hooks, slot[0])

    def send(self, e: Edge, grad: Tensor) -> None:
        """Add a gradient to those that wait at a node or leaf for their turn."""
        if type(e) is not tuple:
            self.arrive_at_leaf(e, grad)
            return
        node, i = e
        waiting = self.pending.get(node.order)
        if waiting is None:
            slots: list[Tensor | None] = [None] * len(node.outputs)
            self.pending[node.order] = node, slots
            heappush(self.queue, node.order)
            slots[i] = grad
        else:
            seen = waiting[1][i]
            waiting[1][i] = grad if seen is None else seen + grad

    def arrive_at_leaf(self, leaf: Tensor, grad: Tensor) -> None:
        slot = self.leaves.get(id(leaf))
        if slot is None:
            self.leaves[id(leaf)] = [grad, leaf]
        else:
            slot[0] = slot[0] + grad

    def step(self, node: Node, grads: list[Tensor | None]) -> None:
        """Turn a node's output gradients into gradients of its inputs and send them on."""
        if node.watch is not None or len(grads) > 1:
            grads = _prepared(node, grads, self.create)
        edges = node.edges if self.targets is None else self.pruned(node, grads)
        if edges is None:
            return
        if node.saved is None or node.stores:
            node.check()
        saved = Saved(node, edges, self.create)
        rules = node.op.vjp
        if type(rules) is tuple and node.watch is None:
            for i, rule in enumerate(rules):
                if edges[i] is not None and rule is not None:
                    self.pass_on(node, i, edges[i], rule(saved, grads[0]))
        else:
            for i, grad in enumerate(_results(saved, rules, grads)):
                if edges[i] is not None:
                    self.pass_on(node, i, edges[i], grad)
        if not self.keep:
            node.free()

    def pass_on(self, node: Node, i: int, e: Edge, grad: Tensor | None) -> None:
        """Send an input's gradient, summed over broadcast dimensions and in the input's dtype."""
        if grad is None:
            return
        data = grad._data
        if data.shape != node.shapes[i]:
            grad = sum_to(grad, node.shapes[i])
        if data.dtype is not node.dtypes[i] and data.dtype != node.dtypes[i]:
            grad = cast(grad, dt.as_dtype(node.dtypes[i]))
        if self.watching:
            anomaly.check_gradient(node, i, grad)
        self.send(e, grad)

    def wants(self, e: Edge) -> bool:
        """Whether a gradient is wanted across this edge."""
        if e is None or self.targets is None:
            return e is not None
        return _key(e) in self.targets or (type(e) is tuple and self.useful[e[0]])

    def pruned(self, node: Node, grads: list[Tensor | None]) -> Sequence[Edge] | None:
        """Keep the gradients that were asked for; the edges that lead to others, if any do."""
        assert self.targets is not None
        for i, grad in enumerate(grads):
            if (node, i) in self.targets and grad is not None:
                self.found[node, i] = [grad]
        if not self.useful[node]:
            return None
        return [e if self.wants(e) else None for e in node.edges]


def _key(e: Edge) -> Any:
    return id(e) if isinstance(e, Tensor) else e


def _useful(targets: set[Any], roots: Sequence[Edge]) -> Mapping[Node, bool]:
    """For every node below the roots: whether some target lies below it."""
    stack = [e[0] for e in roots if isinstance(e, tuple)]
    seen = set(stack)
    while stack:
        for e in stack.pop().edges:
            if type(e) is tuple and e[0] not in seen:
                seen.add(e[0])
                stack.append(e[0])
    useful: dict[Node, bool] = {}
    for node in sorted(seen, key=lambda node: -node.order):  # oldest first: inputs before users
        useful[node] = any(
            e is not None and (_key(e) in targets or (type(e) is tuple and useful[e[0]]))
            for e in node.edges
        )
    return useful


def _prepared(node: Node, grads: list[Any], create: bool) -> list[Any]:
    """Output gradients after the hooks on them, with zeros where none came."""
    watch = node.watch
    if watch is not None:
        _watched(watch, grads, create)
    if not node.op.vjp_takes_none:
        for i, grad in enumerate(grads):
            if grad is None:
                shape, dtype = node.outputs[i]
                grads[i] = zeros(shape, dtype=dt.as_dtype(dtype))
    for hook in tuple(watch.before.values()) if watch is not None else ():
        changed = hook(tuple(grads))
        grads = grads if changed is None else list(_tuple(changed))
    return grads


def _watched(watch: Watch, grads: list[Any], create: bool) -> None:
    """Call the hooks of a node's outputs, then fill the ``.grad`` of those that retain it."""
    for i, hooks in watch.hooks.items():
        if grads[i] is not None:
            grads[i] = _hooked(hooks, grads[i])
    for i, reference in watch.retained.items():
        tensor = reference()
        if grads[i] is not None and tensor is not None:
            accumulate(tensor, [grads[i]], create)


def _results(saved: Saved, rules: Any, grads: list[Any]) -> Sequence[Any]:
    """One gradient per input, or None where none is wanted, after the node's hooks."""
    if type(rules) is not tuple:
        results = rules(saved, *grads)
    else:
        pairs = zip(rules, saved.needs, strict=True)
        results = [r(saved, grads[0]) if need and r is not None else None for r, need in pairs]
    watch = saved.node.watch
    for hook in tuple(watch.after.values()) if watch is not None else ():
        changed = hook(tuple(results), tuple(grads))
        results = results if changed is None else _tuple(changed)
    return results  # type: ignore[no-any-return]


def _hooked(hooks: Mapping[int, Callable[..., Any]], grad: Any) -> Any:
    for hook in tuple(hooks.values()):
        changed = hook(grad)
        if changed is not None:
            _check_changed(hook, changed, grad)
            grad = changed
    return grad


def _check_changed(hook: Callable[..., Any], changed: Any, grad: Tensor) -> None:
    name = getattr(hook, "__name__", str(hook))
    if not isinstance(changed, Tensor):
        raise ArgumentTypeError(
            f"hook '{name}' must return a tensor or None, but returned {type(changed).__name__}"
        )
    if changed._data.shape != grad._data.shape:
        raise ShapeError(
            f"hook '{name}' has changed the size of value: it got {show(grad._data.shape)} and "
            f"returned {show(changed._data.shape)}"
        )
    if changed.dtype is not grad.dtype:
        raise DTypeError(
            f"hook '{name}' has changed the type of value: it got {grad.dtype.name} and "
            f"returned {changed.dtype.name}"
        )


def _tuple(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


# --- into .grad -----------------------------------------------------------------------------------


def accumulate(x: Tensor, slot: Slot, create: bool) -> None:
    """Add the gradient in ``slot`` into ``x.grad``, then tell who waits for it."""
    check_grad_there(x)
    with _accumulating:
        seen = x._grad
        if seen is None:
            x._grad = slot[0] if _is_ours(slot) else clone(slot[0])
        elif create:
            x._grad = seen + slot[0]
        elif seen.is_contiguous() and seen.dtype is slot[0].dtype:
            ACCUMULATE(seen, slot[0])
        else:
            write(seen, seen + slot[0])
    if x._post_hooks:
        for hook in tuple(x._post_hooks.values()):
            hook(x)


def _is_ours(slot: Slot) -> bool:
    """Whether only ``slot`` refers to the gradient and its memory, so that it can be adopted.

    Nobody else can then see later additions to it. Reference counts say so, one of them being the
    question's own: hooks, users, saved arrays, views and other leaves' slots would all be counted.
    """
    if getrefcount(slot[0]) != 2 or slot[0]._edge is not None:
        return False
    if type(slot[0]._data) is not np.ndarray:
        return True  # values of a graph never change
    slot[0]._view = None  # unseen by others; what it was a view of may die now
    return (
        getrefcount(slot[0]._data) == 2
        and slot[0]._data.flags.c_contiguous
        and _owns_memory(slot[0]._data)
    )


def _owns_memory(array: np.ndarray[Any, Any]) -> bool:
    if array.base is None:
        return True
    return (
        type(array.base) is np.ndarray
        and array.base.nbytes == array.nbytes
        and getrefcount(array.base) == 2
        and array.flags.writeable
    )


# --- public functions -----------------------------------------------------------------------------


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulate gradients of ``tensors`` into the leaves' ``.grad`` (or those of ``inputs``).

    ``grad_tensors`` are the gradients to start from, ones by default for tensors of one element.
    What the graph saved is freed unless ``retain_graph``; ``create_graph`` makes the gradients
    differentiable themselves.
    """
    targets = None if inputs is None else _targets(inputs)
    if targets is not None and not targets:
        raise AutogradError("`inputs` argument to `backward()` cannot be empty.")
    walk = Walk(create_graph, create_graph if retain_graph is None else retain_graph, targets)
    before, mode.grad = mode.grad, create_graph
    try:
        walk.run(_roots(tensors, grad_tensors))
        for slot in walk.leaves.values():
            accumulate(slot[1], slot, create_graph)
        for x in targets or ():
            if not x._leaf and edge(x) in walk.found:
                accumulate(x, walk.found.pop(edge(x)), create_graph)
    finally:
        mode.grad = before


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``outputs`` (summed) with respect to ``inputs``, leaving ``.grad`` alone.

    An input that the outputs do not depend on is an error; with ``allow_unused`` its gradient is
    None, with ``materialize_grads`` zeros. The other arguments are those of ``backward``.
    """
    if is_grads_batched:
        raise ArgumentError("is_grads_batched is not supported; loop over the gradients")
    if materialize_grads and allow_unused is False:
        raise ArgumentError("materialize_grads=True needs allow_unused to be True or not given")
    targets = _targets(inputs)
    walk = Walk(create_graph, create_graph if retain_graph is None else retain_graph, targets)
    before, mode.grad = mode.grad, create_graph
    try:
        walk.run(_roots(outputs, grad_outputs))
        found = [_found(walk, x, materialize_grads) for x in targets]
    finally:
        mode.grad = before
    for i, g in enumerate(found):
        if g is None and not allow_unused:
            raise AutogradError(
                f"The differentiated Tensor at index {i} appears to not have been used in the "
                "graph. Set allow_unused=True if this is the desired behavior."
            )
    return tuple(found)


def _found(walk: Walk, x: Tensor, materialize: bool) -> Tensor | None:
    e = edge(x)
    slot = walk.leaves.get(id(e)) if isinstance(e, Tensor) else walk.found.get(e)
    if slot is not None:
        return slot[0]  # type: ignore[no-any-return]
    return zeros(x._data.shape, dtype=x.dtype) if materialize else None


def _sequence(x: Any) -> list[Any]:
    return list(x) if isinstance(x, Iterable) and not isinstance(x, Tensor) else [x]


def _targets(inputs: Tensor | Sequence[Tensor]) -> list[Any]:
    targets = _sequence(inputs)
    for i, x in enumerate(targets):
        if not x.requires_grad:
            raise AutogradError(
                f"One of the differentiated Tensors (inputs[{i}]) does not require grad"
            )
    return targets


def _roots(tensors: Tensor | Sequence[Tensor], grads: Any) -> list[tuple[Edge, Tensor]]:
    roots = _sequence(tensors)
    given = [None] * len(roots) if grads is None else _sequence(grads)
    if len(given) != len(roots):
        raise ArgumentError(f"got {len(roots)} tensors but {len(given)} gradients for them")
    return [
        (edge(root), _root_grad(i, root, g))
        for i, (root, g) in enumerate(zip(roots, given, strict=True))
    ]


def _root_grad(i: int, root: Tensor, given: Tensor | None) -> Tensor:
    if not root.requires_grad:
        raise AutogradError(
            f"element {i} of tensors does not require grad and does not have a grad_fn"
        )
    shape = root._data.shape
    if given is None:
        if root._data.size != 1:
            raise AutogradError(
                "grad can be implicitly created only for scalar outputs, got a tensor of shape "
                f"{show(shape)}. Give its gradient, or reduce it to a scalar first."
            )
        return ones_like(root)
    if not isinstance(given, Tensor):
        raise ArgumentTypeError(
            f"gradients can be either Tensors or None, but got {type(given).__name__}"
        )
    if given._data.shape != shape:
        raise ShapeError(
            f"Mismatch in shape: grad_output[{i}] has a shape of {show(given._data.shape)} and "
            f"output[{i}] has a shape of {show(shape)}."
        )
    return given if given.dtype is root.dtype else cast(given, root.dtype)


Tensor._engine.backward, Tensor._engine.grad, Tensor._engine.edge = backward, grad, edge
