"""The tape and the one reverse walk over it, for eager tensors and for traced ones alike.

A node remembers one op call: the edges to earlier nodes or leaves, and the arrays its rules may
read. Nodes never refer to the tensors they produced, so the tape has no reference cycles.
"""

from __future__ import annotations

import heapq
import itertools
import traceback
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ganglion.dispatch import mode, write
from ganglion.dtypes import as_dtype
from ganglion.errors import ArgumentError, AutogradError, NonFiniteError, ShapeError
from ganglion.gradmode import set_grad_enabled
from ganglion.ops.movement import cast
from ganglion.ops.record import Op, Saved
from ganglion.ops.reduce import sum_to
from ganglion.shapes import Shape, show
from ganglion.storage import Storage
from ganglion.tensor import Handle, Tensor, ones_like, wrap, zeros

LETTERS = "xyzw"
_tick = itertools.count().__next__


class Node:
    """One call on the tape."""

    __slots__ = (
        "__weakref__", "arrays", "dtypes", "edges", "hooks", "op", "out", "outputs", "params",
        "post_hooks", "retained", "seq", "shapes", "stamp", "stores", "where",
    )  # fmt: skip

    op: Any
    params: Mapping[str, Any]
    edges: tuple[Any, ...]  # per input: (node, output index), a leaf tensor, or None
    arrays: tuple[Any, ...] | None  # the inputs' data; None once freed
    out: tuple[Any, ...]
    outputs: tuple[tuple[Shape, Any], ...]
    shapes: tuple[Shape, ...]
    dtypes: tuple[Any, ...]
    stores: tuple[Storage, ...]
    stamp: int  # sum of the saved storages' versions: any write advances it
    seq: int
    hooks: dict[int, dict[int, Callable[..., Any]]] | None
    post_hooks: dict[int, Callable[..., Any]] | None
    retained: dict[int, weakref.ref[Tensor]] | None
    where: str | None

    def name(self) -> str:
        """PyTorch's name for it, such as ``AddBackward0``."""
        words = str(self.op.name).split("_")
        return "".join(w[:1].upper() + w[1:] for w in words) + "Backward0"

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """Where its gradients go: (node or leaf, output index) per input."""
        return tuple(e if isinstance(e, tuple) else (e, 0) for e in self.edges)

    def register_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(grad_inputs, grad_outputs)`` after this node's gradients are computed."""
        if self.post_hooks is None:
            self.post_hooks = {}
        return Handle(self.post_hooks, hook)

    def __repr__(self) -> str:
        return f"<{self.name()}>"


def edge(x: Any) -> Any:
    """Where a gradient of ``x`` goes: (node, index), the leaf itself, or None."""
    if not isinstance(x, Tensor):
        return None
    view = x._view
    if view is not None and view.version != x._storage.version:
        refresh(x)
    if x._edge is not None:
        return x._edge
    return x if x._leaf else None


def refresh(x: Tensor) -> None:
    """Derive a view's history anew after its base was written."""
    view = x._view
    assert view is not None
    if view.quiet and view.origin is not None:
        _refuse_quiet(view.origin)
    elif view.origin is not None:
        with set_grad_enabled(True):
            seen = view.origin
            for op, params in view.path:
                seen = op(seen, **params)
        x._edge = seen._edge
    view.version = x._storage.version


def _refuse_quiet(origin: Tensor) -> None:
    if mode.grad and origin.requires_grad:
        raise AutogradError(
            "A view was created in no_grad mode and its base or another view of its base has been "
            "modified inplace with grad mode enabled. Make the view after the write, or detach() "
            "it."
        )


def record(
    op: Op,
    inputs: tuple[Any, ...],
    arrays: Sequence[Any],
    params: Mapping[str, Any],
    results: tuple[Tensor, ...],
) -> None:
    """Append a call to the tape, unless none of its inputs wants a gradient."""
    edges = tuple(map(edge, inputs))
    for e in edges:
        if e is not None:
            break
    else:
        return
    node = Node()
    node.op, node.params, node.edges, node.seq = op, params, edges, _tick()
    node.hooks = node.post_hooks = node.retained = None
    node.where = _user_line() if mode.anomaly else None
    node.shapes = tuple([getattr(a, "shape", ()) for a in arrays])
    node.dtypes = tuple([getattr(a, "dtype", None) for a in arrays])
    node.outputs = tuple([(r._data.shape, r._data.dtype) for r in results])
    _save(node, op.saves, inputs, arrays, results)
    for i, result in enumerate(results):
        if result.dtype.is_floating_point:
            result._edge = (node, i)


def _save(
    node: Node,
    saves: str,
    inputs: tuple[Any, ...],
    arrays: Sequence[Any],
    results: tuple[Tensor, ...],
) -> None:
    node.arrays, node.out, node.stores, node.stamp = (), (), (), 0
    if not saves:
        return
    if saves == "*":
        node.arrays = tuple(arrays)
        kept = [x._storage for x in inputs if isinstance(x, Tensor)]
    else:
        node.arrays = tuple([a if LETTERS[i] in saves else None for i, a in enumerate(arrays)])
        kept = [
            x._storage
            for x, letter in zip(inputs, LETTERS, strict=False)
            if letter in saves and isinstance(x, Tensor)
        ]
    if "o" in saves:
        node.out = tuple([r._data for r in results])
        kept += [r._storage for r in results]
    node.stores = tuple(kept)
    node.stamp = sum([s.version for s in kept])


def keep_own(node: Node, target: Tensor) -> None:
    """Before ``target`` is overwritten by the node's own result, copy what the node saved of it."""
    if not node.arrays:
        return
    data = target._data
    if any(a is data for a in node.arrays):
        copy = data.copy()
        node.arrays = tuple(copy if a is data else a for a in node.arrays)
        stop_watching(node, target._storage)


def stop_watching(node: Node, storage: Storage) -> None:
    """What the node saved no longer changes with this storage."""
    node.stores = tuple(s for s in node.stores if s is not storage)
    node.stamp = sum(s.version for s in node.stores)


def _user_line() -> str:
    """The innermost source line outside this package."""
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith(_PACKAGE):
            return f'{frame.filename}:{frame.lineno}: "{frame.line}"'
    return "<unknown>"


_PACKAGE = __file__.rsplit("/", 1)[0]


def _saved_getter(node: Node, create: bool) -> Callable[[str], Any]:
    """What a rule reads, wrapped anew; with its history when gradients of gradients are wanted."""

    def saved_input(i: int) -> Any:
        array = node.arrays[i]  # type: ignore[index]
        if not hasattr(array, "dtype"):
            return array  # a number or None
        e = node.edges[i] if create else None
        if isinstance(e, Tensor):
            return e
        x = wrap(array)
        x._edge = e
        return x

    def saved_output(i: int) -> Tensor:
        out = wrap(node.out[i])
        out._edge = (node, i) if create and out.dtype.is_floating_point else None
        return out

    def get(name: str) -> Any:
        if name == "*":
            return tuple(map(saved_input, range(len(node.edges))))
        if name == "o":
            outs = tuple(map(saved_output, range(len(node.out))))
            return outs[0] if node.op.outputs == 1 else outs
        return saved_input(LETTERS.index(name))

    return get


def _check_saved(node: Node) -> None:
    if node.arrays is None:
        raise AutogradError(
            "Trying to backward through the graph a second time (or directly access saved tensors "
            "after they have already been freed). Saved intermediate values are freed when you "
            "call .backward() or autograd.grad(). Specify retain_graph=True if you need to "
            "backward through the graph a second time."
        )
    if node.stores and sum([s.version for s in node.stores]) != node.stamp:
        raise AutogradError(
            "one of the variables needed for gradient computation has been modified by an inplace "
            f"operation: a tensor that {node.name()} saved of shape(s) {_saved_shapes(node)} is "
            "at a later version than expected. Use the out-of-place form, or write to a clone()."
        )


def _saved_shapes(node: Node) -> str:
    arrays = (*(node.arrays or ()), *node.out)
    return ", ".join(show(a.shape) for a in arrays if hasattr(a, "shape"))


class Walk:
    """One backward pass: nodes newest first, each once all its gradients have arrived."""

    def __init__(self, create: bool, keep: bool, wanted: Sequence[Tensor] | None) -> None:
        self.create, self.keep = create, keep
        self.pending: dict[Node, list[Tensor | None]] = {}
        self.queue: list[tuple[int, Node]] = []
        self.targets = None if wanted is None else {_key(edge(x)): None for x in wanted}
        self.found: dict[Any, Tensor] = {}
        self.useful: dict[Node, bool] | None = None

    def run(self, roots: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Send the roots' gradients down to the leaves."""
        roots = list(roots)
        if self.targets is not None:
            self.useful = _reaching(self.targets, [edge(root) for root, _ in roots])
        with set_grad_enabled(self.create):
            for root, grad in roots:
                self.send(edge(root), grad, owned=False)
            while self.queue:
                self.step(heapq.heappop(self.queue)[1])

    def send(self, e: Any, grad: Tensor, owned: bool) -> None:
        """Deliver a gradient: to a leaf at once, to a node when its turn comes."""
        if isinstance(e, Tensor):
            self.reach_leaf(e, grad, owned)
            return
        node, i = e
        slots = self.pending.get(node)
        if slots is None:
            slots = self.pending[node] = [None] * len(node.outputs)
            heapq.heappush(self.queue, (-node.seq, node))
        seen = slots[i]
        slots[i] = grad if seen is None else seen + grad

    def reach_leaf(self, leaf: Tensor, grad: Tensor, owned: bool) -> None:
        """Accumulate into ``leaf.grad``, or collect for ``grad()``."""
        if self.targets is not None:
            if id(leaf) in self.targets:
                seen = self.found.get(id(leaf))
                self.found[id(leaf)] = grad if seen is None else seen + grad
            return
        if leaf._hooks:
            grad, owned = _hooked(leaf._hooks, grad), False
        accumulate(leaf, grad, self.create, owned)

    def step(self, node: Node) -> None:
        """Turn a node's output gradients into gradients of its inputs and send them on."""
        grads = self.arrived(node)
        if self.useful is not None and not self.useful[node]:
            return
        _check_saved(node)
        needs = tuple([self.needs(e) for e in node.edges])
        results = self.rules(node, grads, needs)
        if node.post_hooks:
            results = _post_hooked(node, results, grads)
        if not self.keep:
            _free(node)
        for i, grad in enumerate(results):
            if needs[i] and grad is not None:
                self.pass_on(node, i, grad, grads)

    def needs(self, e: Any) -> bool:
        """Whether a gradient is wanted across this edge."""
        if e is None or self.targets is None:
            return e is not None
        assert self.useful is not None
        return id(e) in self.targets if isinstance(e, Tensor) else self.useful[e[0]]

    def arrived(self, node: Node) -> list[Tensor]:
        """The gradients of a node's outputs, zeros where none came, after hooks."""
        grads = self.pending.pop(node)
        for i, grad in enumerate(grads):
            if grad is None:
                if node.op.vjp_takes_none:
                    continue
                shape, dtype = node.outputs[i]
                grad = zeros(shape, dtype=dtype)
            if node.hooks and i in node.hooks:
                grad = _hooked(node.hooks[i], grad)
            if node.retained and i in node.retained:
                _retain(node.retained[i], grad, self.create)
            if self.targets is not None and (node, i) in self.targets:
                self.found[node, i] = grad
            grads[i] = grad
        return grads  # type: ignore[return-value]

    def rules(self, node: Node, grads: list[Tensor], needs: tuple[bool, ...]) -> Sequence[Any]:
        """Apply the op's gradient rules."""
        saved = Saved(
            node.params, node.shapes, node.dtypes, needs, _saved_getter(node, self.create)
        )
        vjp = node.op.vjp
        if not isinstance(vjp, tuple):
            return vjp(saved, *grads)  # type: ignore[no-any-return]
        return [
            rule(saved, grads[0]) if need and rule else None
            for rule, need in zip(vjp, needs, strict=True)
        ]

    def pass_on(self, node: Node, i: int, grad: Tensor, incoming: list[Tensor]) -> None:
        """Fit a gradient to its input and send it; ``owned`` when no one else can hold it."""
        data = grad._data
        owned = (
            getattr(data, "base", data) is None
            and all(grad is not g for g in incoming)
            and isinstance(node.op.vjp, tuple)
        )
        if data.shape != node.shapes[i]:
            grad = sum_to(grad, node.shapes[i])
        if data.dtype != node.dtypes[i]:
            grad = cast(grad, as_dtype(node.dtypes[i]))
        if mode.anomaly:
            _check_gradient(node, i, grad)
        self.send(node.edges[i], grad, owned)


def _key(e: Any) -> Any:
    return id(e) if isinstance(e, Tensor) else e


def _reaching(targets: Mapping[Any, None], roots: Sequence[Any]) -> dict[Node, bool]:
    """For every node below the roots: whether some wanted edge lies at or below its inputs."""
    useful: dict[Node, bool] = {}
    stack = [e[0] for e in roots if isinstance(e, tuple)]
    while stack:
        node = stack[-1]
        below = [e for e in node.edges if isinstance(e, tuple)]
        waiting = [e[0] for e in below if e[0] not in useful]
        if waiting:
            stack += waiting
            continue
        stack.pop()
        useful[node] = any(
            e is not None and (_key(e) in targets or (isinstance(e, tuple) and useful[e[0]]))
            for e in node.edges
        )
    return useful


def _hooked(hooks: Mapping[int, Callable[..., Any]], grad: Tensor) -> Tensor:
    for hook in tuple(hooks.values()):
        changed = hook(grad)
        if changed is not None:
            grad = changed
    return grad


def _post_hooked(node: Node, results: Sequence[Any], grads: list[Tensor]) -> Sequence[Any]:
    for hook in tuple((node.post_hooks or {}).values()):
        changed = hook(tuple(results), tuple(grads))
        if changed is not None:
            results = changed if isinstance(changed, tuple) else (changed,)
    return results


def _retain(ref: weakref.ref[Tensor], grad: Tensor, create: bool) -> None:
    tensor = ref()
    if tensor is not None:
        accumulate(tensor, grad, create, owned=False)


def accumulate(leaf: Tensor, grad: Tensor, create: bool, owned: bool) -> None:
    """Add into ``leaf.grad``; a first gradient is taken over when nothing else can hold it."""
    if leaf.grad is None:
        leaf.grad = grad if create or owned else grad.clone()
    elif create:
        leaf.grad = leaf.grad + grad
    else:
        write(leaf.grad, leaf.grad + grad)
    if leaf._post_hooks:
        for hook in tuple(leaf._post_hooks.values()):
            hook(leaf)


def _free(node: Node) -> None:
    if node.arrays:
        node.arrays = None
    if node.out:
        node.arrays, node.out = None, ()
    node.stores = ()


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulate gradients of ``tensors`` into the leaves' ``.grad`` (or those of ``inputs``)."""
    roots = _roots(tensors, grad_tensors)
    keep = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        Walk(create_graph, keep, None).run(roots)
        return
    wanted = _sequence(inputs)
    walk = Walk(create_graph, keep, wanted)
    walk.run(roots)
    for x in wanted:
        found = walk.found.get(_key(edge(x)))
        if found is not None:
            accumulate(x, found, create_graph, owned=False)


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
    """Gradients of ``outputs`` (summed) with respect to ``inputs``, leaving ``.grad`` alone."""
    if is_grads_batched:
        raise ArgumentError("is_grads_batched is not supported; loop over the gradients")
    wanted = _sequence(inputs)
    for i, x in enumerate(wanted):
        if not x.requires_grad:
            raise AutogradError(f"One of the differentiated Tensors (number {i}) does not require grad")
    walk = Walk(create_graph, create_graph if retain_graph is None else retain_graph, wanted)
    walk.run(_roots(outputs, grad_outputs))
    found = [walk.found.get(_key(edge(x))) for x in wanted]
    if materialize_grads:
        return tuple(
            zeros(x.shape, dtype=x.dtype) if g is None else g
            for x, g in zip(wanted, found, strict=True)
        )
    if not allow_unused and any(g is None for g in found):
        raise AutogradError(
            "One of the differentiated Tensors appears to not have been used in the graph. "
            "Set allow_unused=True if this is the desired behavior."
        )
    return tuple(found)


def _sequence(x: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [x] if isinstance(x, Tensor) else list(x)


def _roots(tensors: Tensor | Sequence[Tensor], grads: Any) -> list[tuple[Tensor, Tensor]]:
    roots = _sequence(tensors)
    given = [None] * len(roots) if grads is None else _sequence(grads)
    if len(given) != len(roots):
        raise ArgumentError(f"got {len(roots)} tensors but {len(given)} gradients for them")
    return [(root, _root_grad(root, g)) for root, g in zip(roots, given, strict=True)]


def _root_grad(root: Tensor, given: Tensor | None) -> Tensor:
    if not root.requires_grad:
        raise AutogradError(
            "element 0 of tensors does not require grad and does not have a grad_fn"
        )
    if given is None:
        if root._data.size != 1:
            raise AutogradError(
                "grad can be implicitly created only for scalar outputs, got a tensor of shape "
                f"{show(root._data.shape)}. Pass gradient=, or reduce it to a scalar first."
            )
        return ones_like(root)
    if given._data.shape != root._data.shape:
        raise ShapeError(
            f"Mismatch in shape: grad_output has a shape of {show(given._data.shape)} and output "
            f"has a shape of {show(root._data.shape)}"
        )
    return given


def check_finite(op: Op, results: tuple[Tensor, ...]) -> None:
    """In anomaly mode: name the op, and the user's line, that made the first NaN."""
    for r in results:
        if r.dtype.is_floating_point and np.isnan(np.sum(r._data)):
            raise NonFiniteError(
                f"op '{op.name}' produced NaN in the forward pass at {_user_line()}"
            )


def _check_gradient(node: Node, i: int, grad: Tensor) -> None:
    if np.isnan(np.sum(grad._data)):
        raise NonFiniteError(
            f"Function '{node.name()}' returned nan values in its {i}th output; "
            f"the forward call was made at {node.where or 'a line outside anomaly mode'}"
        )


Tensor._engine.backward, Tensor._engine.refresh, Tensor._engine.grad = backward, edge, grad
