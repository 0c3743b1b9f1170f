"""One specialisation of a compiled function: a program, and when it may be used."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.compiler.arguments import Leaf, Leaves, Structure, TensorLeaf, difference, reader
from ganglion.compiler.backend import Executable, profile
from ganglion.compiler.guards import Broken
from ganglion.compiler.program import Array, Delivery, Program, contiguous
from ganglion.compiler.trace import Tracer
from ganglion.dispatch import mode
from ganglion.storage import Storage
from ganglion.tensor import Tensor


class Specialisation:
    """A traced program with everything that must hold for a call to use it.

    ``reason`` says why it was traced; ``calls`` counts its uses.
    """

    def __init__(
        self,
        program: Program,
        executable: Executable,
        tracer: Tracer,
        leaves: Sequence[Leaf],
        structure: Structure,
        reason: str,
    ) -> None:
        self.program, self.executable, self.reason = program, executable, reason
        self.leaves, self.structure, self.calls = tuple(leaves), structure, 0
        self.read = reader(structure)
        self.context = context()
        self.reads, self.numbers = tracer.reads, program.numbers
        self.guards = self.reads.guards()
        self._tensors = [
            (i, x.kind, x.shape, x.dtype, x.requires_grad)
            for i, x in enumerate(leaves)
            if isinstance(x, TensorLeaf)
        ]
        self._others = [(i, x) for i, x in enumerate(leaves) if not isinstance(x, TensorLeaf)]
        self._graded = [
            (x, x._leaf, copy.copy(x._hooks), copy.copy(x._post_hooks))
            for x in tracer.graded.values()
        ]
        self._absent = tuple(
            g.tensor
            for g in tracer.grads.values()
            if not g.assigned and g.grad is None and isinstance(g.tensor._data, np.ndarray)
        )
        self._stored = {index for index, _ in program.stores}
        self._delivery = Delivery(program)
        self._fixed: list[tuple[Tensor, Array]] = []  # tensors behind slots, with their arrays
        self._owned: list[tuple[Tensor, Array]] = []  # the same for what is in .grad
        self._states: list[Array] = []
        self._staged: list[tuple[Array, Array]] = []  # states that are copies, with their sources
        self._back: list[tuple[Array, Array]] = []  # the other way round, of those written
        self._storages: list[Storage] = []
        self._foreign: set[Storage] = set()  # memory that no argument may share

    # --- before a call ------------------------------------------------------------------------

    def fits(self, leaves: Leaves) -> bool:
        """Whether a call with these arguments may use the program."""
        foreign = self._foreign
        for i, kind, shape, dtype, requires_grad in self._tensors:
            x = leaves[i]
            if type(x) is not kind or x._storage in foreign:
                return False
            data = x._data
            if data.shape != shape or (data.dtype is not dtype and data.dtype != dtype):
                return False
            plain = x._edge is None and x._view is None
            if (x._leaf if plain else x.requires_grad) != requires_grad:
                return False
        for i, leaf in self._others:
            if not leaf.fits(leaves[i]):
                return False
        if not self._still() or (self._stored and self._entangled(leaves)):
            return False
        return self.numbers is None or self.numbers.refresh(leaves)

    def _still(self) -> bool:
        """Whether everything but the arguments is as it was."""
        if context() != self.context or not self.guards.hold():
            return False
        for x, leaf, hooks, post_hooks in self._graded:
            if x._leaf != leaf or x._hooks != hooks or x._post_hooks != post_hooks:
                return False
        for x in self._absent:
            if x._grad is not None or x._spent:
                return False
        return self._bound()

    def _bound(self) -> bool:
        """Find the arrays of all slots; False if they are not of the traced kind."""
        for x, array in self._fixed:
            if x._data is not array:
                return self._bind()
        for owner, array in self._owned:
            if owner._grad is None or owner._grad._data is not array:
                return self._bind()
        return True

    def _bind(self) -> bool:
        """Take the slots' arrays as they are now."""
        owners = self.program.owners
        if any(owner._grad is None for owner in owners.values()):
            return False
        tensors = self.program.states()
        raw: list[Array] = [x._data for x in tensors]
        metas = [value.meta for value in self.program.graph.states]
        kinds = zip(raw, metas, strict=True)
        if any(a.shape != m.shape or a.dtype != m.dtype.numpy for a, m in kinds):
            return False
        written = set(self.program.written)
        if overlapping(raw, written) or not all(raw[slot].flags.writeable for slot in written):
            return False
        pairs = list(enumerate(zip(tensors, raw, strict=True)))
        fixed = [pair for i, pair in pairs if i not in owners]
        owned = [(owners[i], array) for i, (_, array) in pairs if i in owners]
        states = list(map(contiguous, raw))
        staged = [(states[i], a) for i, a in enumerate(raw) if states[i] is not a]
        back = [(a, states[i]) for i, a in enumerate(raw) if states[i] is not a and i in written]
        storages = [tensors[slot]._storage for slot in written]
        storages = [s for s in storages if s.version is not None]
        watched = range(len(raw)) if self._stored else written
        foreign = {tensors[slot]._storage for slot in watched}
        # at once, since Ctrl-C may come between calls
        self._fixed, self._owned, self._states, self._staged = fixed, owned, states, staged
        self._back, self._storages, self._foreign = back, storages, foreign
        return True

    def _entangled(self, leaves: Leaves) -> bool:
        """Whether an argument that is written shares memory with another one."""
        return overlapping([x._data for x in self._given(leaves)], self._stored)

    def _given(self, leaves: Leaves) -> Leaves:
        return [leaves[x[0]] for x in self._tensors] if self._others else leaves

    def prepare(self) -> None:
        """Get ready for the first call, the one that was traced."""
        self._bind()

    # --- the call -----------------------------------------------------------------------------

    def __call__(self, leaves: Leaves) -> Any:
        """Run the program on arguments that fit."""
        self.calls += 1
        given = self._given(leaves)
        arrays = [x._data for x in given]
        for i, array in enumerate(arrays):
            if not array.flags.c_contiguous:
                arrays[i] = contiguous(array)
        for state, source in self._staged:
            np.copyto(state, source)
        outputs = self._run_staged(arrays) if self._back else self.executable(arrays, self._states)
        for storage in self._storages:
            storage.version += 1  # type: ignore[operator]
        return self._delivery(given, outputs)

    def _run_staged(self, arrays: Sequence[Array]) -> list[Array]:
        """Run, and copy written states back: in one call of C, which Ctrl-C cannot cut in two."""
        targets, states = zip(*self._back, strict=True)
        copies = map(np.ndarray.__setitem__, targets, repeat(...), states)
        try:
            return self.executable(arrays, self._states)
        finally:
            deque(copies, maxlen=0)

    # --- for people ---------------------------------------------------------------------------

    def misfits(self, leaves: Leaves, names: Sequence[str]) -> Iterator[str]:
        """Why these arguments, and the rest as it is now, do not fit."""
        yield from self._other_arguments(leaves, names)
        for old, new, what in zip(self.context, context(), CONTEXT, strict=True):
            if old != new:
                yield f"{what}: {old} -> {new}"
        yield from map(str, self.guards.broken())
        yield from self._other_tensors()
        if self.numbers is not None and not self.numbers.refresh(leaves):
            yield str(self.numbers.broken(leaves))

    def _other_arguments(self, leaves: Leaves, names: Sequence[str]) -> Iterator[str]:
        for leaf, x, name in zip(self.leaves, leaves, names, strict=True):
            if not leaf.fits(x):
                yield difference(leaf, x, name)

    def _other_tensors(self) -> Iterator[str]:
        for x, *flags in self._graded:
            if [x._leaf, x._hooks, x._post_hooks] != flags:
                shape = tuple(x.shape)
                yield f"requires_grad or the hooks of a captured tensor of shape {shape} changed"
        if any(x._grad is not None or x._spent for x in self._absent):
            yield "gradients are there that were None"
        elif any(owner._grad is None for owner in self.program.owners.values()):
            yield "gradients are None that were there"
        elif not self._bound():
            yield "a captured tensor has another shape, dtype or memory"

    def explain(self) -> list[str]:
        """What it is for and why it was made."""
        graph = self.program.graph
        nodes, states, written = map(len, (graph.topological(), graph.states, graph.updates))
        return [
            f"({', '.join(map(str, self.leaves))}): {self.reason}",
            f"  {nodes} nodes, {states} tensors of state, {written} written; {self.calls} calls",
        ]

    def profile(self, leaves: Leaves, repeats: int) -> Any:
        """Where the time of a call goes; what it computes is not kept."""
        arrays = [contiguous(x._data) for x in self._given(leaves)]
        for state, source in self._staged:
            np.copyto(state, source)
        return profile(self.executable, arrays, self._states, repeats)

    def floats(self) -> Iterator[Broken]:
        """Numbers that changed from one float to another."""
        for broken in self.guards.broken():
            if type(broken.old) is float is type(broken.new):
                yield broken


CONTEXT = ("grad mode", "inference mode", "default dtype")


def context() -> tuple[Any, ...]:
    """The modes that decide what Python's calls mean."""
    return mode.grad, mode.inference, dt.get_default_dtype()


def overlapping(arrays: Sequence[Array], written: set[int]) -> bool:
    """Whether a written array may share memory with another one."""
    spans = sorted(
        (*np.lib.array_utils.byte_bounds(array), i in written)
        for i, array in enumerate(arrays)
        if array.size
    )
    end, last = 0, False
    for low, high, changes in spans:
        if low < end and (changes or last):
            return True
        if high >= end:
            end, last = high, changes
    return False
