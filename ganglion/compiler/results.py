"""The end of a trace: what the traced function returned and changed, as a program."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import isasyncgen, isawaitable, isgenerator
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.autograd.tape import edge
from ganglion.compiler.backward import Backward, is_alive
from ganglion.compiler.numbers import Lifted
from ganglion.compiler.program import (
    Given,
    Gradient,
    Held,
    Made,
    Output,
    Place,
    Program,
    Seen,
    map_result,
)
from ganglion.errors import TraceError
from ganglion.graph import Graph, Value, argument, state
from ganglion.ops.record import OPS
from ganglion.shapes import Meta
from ganglion.tensor import Tensor

if TYPE_CHECKING:
    from ganglion.compiler.trace import GradBefore, Tracer


class Results:
    """Collects the outputs of a traced function and makes its program."""

    def __init__(self, tracer: Tracer, keep_grads: bool) -> None:
        self.tracer, self.keep_grads = tracer, keep_grads
        self.outputs: dict[Value, int] = {}  # value -> its place among the graph's outputs
        self.tensors: list[Tensor] = []  # returned ones that the call makes
        self.places: dict[int, Place] = {}  # id of a tensor -> its place
        self.returned: set[int] = set()

    def program(self, result: Any) -> Program:
        """The program; must be called while the tracer listens."""
        tracer = self.tracer
        tracer.stepping.check()
        if tracer.reads.used_math:
            tracer.numbers.pin()
        map_result(self._meet, result)
        shape = map_result(self._leaf, result)
        gradients = tuple(found for g in tracer.grads.values() for found in self._gradient(g))
        stores = tuple(self._stores())
        flags = tuple(self._flags())
        past = self._past()
        made = tuple(self._made(past))
        return Program(
            self._graph(),
            tuple(tracer.slots),
            self._owners(),
            shape,
            made,
            gradients,
            flags,
            stores,
            tracer.numbers if tracer.numbers.sources else None,
            past,
        )

    def _graph(self) -> Graph:
        tracer = self.tracer
        metas = [Meta(x._data.shape, x.dtype) for x in tracer.given]
        updates = tuple((s, self._kept(s, tracer.current[s])) for s in sorted(tracer.written))
        return Graph(
            tuple(argument(i, meta) for i, meta in enumerate(metas)),
            tuple(self._state(slot) for slot in range(len(tracer.slots))),
            tuple(self.outputs),
            updates,
            tracer.origins,
        )

    def _state(self, slot: int) -> Value:
        x = self.tracer.slots[slot]
        return state(slot, Meta(x._data.shape, x.dtype))

    def _kept(self, slot: int, new: Value) -> Value:
        """The new content of a slot, or the old one where a condition does not hold."""
        return self._choice(new, self._state(slot))

    def _choice(self, new: Value, old: Value) -> Value:
        for condition in self.tracer.conditions:
            new = self.tracer.node(OPS["where"], (condition, new, old), {}).values[0]
        return new

    # --- what is returned ---------------------------------------------------------------------

    def _meet(self, leaf: Any) -> None:
        if isinstance(leaf, Tensor):
            self.returned.add(id(leaf))

    def _leaf(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return self.place(leaf)
        if isinstance(leaf, Lifted):
            return float(leaf)
        if isgenerator(leaf) or isawaitable(leaf) or isasyncgen(leaf):
            raise TraceError(
                f"a compiled function returned a {type(leaf).__name__}, which runs later, when "
                "nothing is traced any more; return a list"
            )
        return leaf

    def place(self, x: Tensor) -> Place:
        """Where a call finds what the trace knows as ``x``."""
        found = self.places.get(id(x))
        if found is None:
            found = self.places[id(x)] = self._placed(x)
        return found

    def _placed(self, x: Tensor) -> Place:
        given = self.tracer.wrappers.get(id(x))
        if given is not None:
            return Given(given)
        if isinstance(x._data, np.ndarray):
            return Held(x)
        view = x._view
        if view is not None and (self._exists(view.base) or id(view.base) in self.returned):
            return Seen(self.place(view.base), view.chain)
        self.tensors.append(x)
        return Output(len(self.tensors) - 1)

    def _exists(self, x: Tensor) -> bool:
        return isinstance(x._data, np.ndarray) or id(x) in self.tracer.wrappers

    def output(self, value: Value) -> int:
        """The number of a value among the graph's outputs."""
        return self.outputs.setdefault(value, len(self.outputs))

    def _made(self, past: Backward | None) -> Iterable[Made]:
        seen: set[int] = set()
        edges = {} if past is None else past.edges
        for i, x in enumerate(self.tensors):
            output = self.output(self.tracer.value(x))
            yield Made(output, x._leaf, type(x._storage), edges.get(i), output in seen)
            seen.add(output)

    # --- what is changed ----------------------------------------------------------------------

    def _owner(self, x: Tensor) -> Held | Given:
        given = self.tracer.wrappers.get(id(x))
        return Held(x) if given is None else Given(given)

    def _gradient(self, before: GradBefore) -> Iterable[Gradient]:
        """What becomes of one ``.grad``."""
        x, owner = before.tensor, self._owner(before.tensor)
        found = x._grad
        if found is None:
            if before.assigned or before.grad is not None:
                yield Gradient(owner, None)
        elif found is not before.grad:
            if isinstance(owner, Given) and not self.tracer.given[owner.index].is_leaf:
                raise TraceError(
                    f"backward() inside a traced function reaches argument {owner.index}, which "
                    "was computed outside. Call backward() outside, or pass a detached tensor."
                )
            used = self.tracer.stepping.used.get(id(x)) is found
            if used and not self.keep_grads and not isinstance(found._data, np.ndarray):
                yield Gradient(owner, None, spent=True)
            else:
                adds = isinstance(owner, Given) and not before.assigned
                yield Gradient(owner, self.place(found), adds=adds)

    def _owners(self) -> dict[int, Tensor]:
        """The slots that hold gradients which were there before."""
        slots = self.tracer.slot_of
        return {
            slots[id(g.grad)]: g.tensor
            for g in self.tracer.grads.values()
            if g.grad is not None and not g.assigned and id(g.grad) in slots
        }

    def _stores(self) -> Iterable[tuple[int, int]]:
        """Arguments written in place."""
        for x in self.tracer.alive:
            index = self.tracer.wrappers[id(x)]
            old = argument(index, Meta(x._data.shape, x.dtype))
            if x._data.value != old:
                yield index, self.output(self._choice(x._data.value, old))

    def _flags(self) -> Iterable[tuple[Tensor, bool]]:
        """Tensors that were given or denied gradients; none may have got a history that stays."""
        for before in self.tracer.touched.values():
            x = before.tensor
            if x._edge is not before.edge and x._edge is not None and x._view is None:
                raise TraceError(
                    f"a traced function writes a result that requires gradients into a tensor of "
                    f"shape {tuple(x.shape)} made outside, whose history would grow with every "
                    "call; write under no_grad(), or detach() what is written"
                )
            if x._leaf is not before.leaf:
                yield x, x._leaf

    # --- gradient history ---------------------------------------------------------------------

    def _past(self) -> Backward | None:
        """How gradients flow back from the returned tensors to what the function was given."""
        live = [(i, x) for i, x in enumerate(self.tensors) if isinstance(edge(x), tuple)]
        if not live:
            return None
        if not is_alive([x for _, x in live]):
            return Backward({i: n for n, (i, _) in enumerate(live)})
        return Backward.traced(self, live)
