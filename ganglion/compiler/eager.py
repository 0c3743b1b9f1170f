"""Compiled kernels for heavy calls of eager execution: each a program of one op."""

from __future__ import annotations

import os
import threading
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ganglion.compiler import backend
from ganglion.compiler.memory import Room
from ganglion.compiler.program import Program
from ganglion.graph import Graph, Node, argument
from ganglion.ops.record import Op
from ganglion.shapes import Meta

Array = np.ndarray[Any, Any]

MANY: Final = 200  # kernels of one op, after which a warning says that it never ends


class Turn:
    """One thread at a time compiles or runs kernels, for all work in one room.

    ``taken`` tells what calls an op in the midst of a turn of its own thread: a handler of a signal
    or a finalizer.
    """

    def __init__(self) -> None:
        self.room, self.counts = Room(), Counter[str]()
        self.unlock()

    def unlock(self) -> None:
        """Forget who has the turn."""
        self.lock, self.taken = threading.RLock(), False


_turn = Turn()
os.register_at_fork(after_in_child=_turn.unlock)  # threads that held it are not there


class Kernel:
    """One op on inputs of given shapes and dtypes; compiled, or read from disk, when first called.

    Calls return what the op's NumPy kernel does, up to rounding; None in the midst of another call.
    """

    def __init__(self, op: Op, metas: Sequence[Meta | None], params: Mapping[str, Any]) -> None:
        self.op, self.program = op, _program(op, metas, params)
        self.step: backend.Executable | None = None

    def __call__(self, arrays: Sequence[Array]) -> Any:
        """The op's results for the inputs that are there."""
        with _turn.lock:
            if _turn.taken:
                return None
            _turn.taken = True
            try:
                step = self.step or self._built()
                results = step(arrays, ())
            finally:
                _turn.taken = False
        return results[0] if self.op.outputs == 1 else tuple(results)

    def _built(self) -> backend.Executable:
        self.step = backend.build(self.program, _turn.room)
        _count(self.op.name)
        return self.step


def _program(op: Op, metas: Sequence[Meta | None], params: Mapping[str, Any]) -> Program:
    """The graph of one call."""
    places = iter(range(len(metas)))
    inputs = [None if meta is None else argument(next(places), meta) for meta in metas]
    results = op.infer(*metas, **params)
    node = Node(op.name, inputs, params.items(), results if op.outputs > 1 else (results,))
    return Program(Graph(tuple(node.operands), (), node.values))


def _count(name: str) -> None:
    _turn.counts[name] += 1
    if _turn.counts[name] == MANY:
        warnings.warn(
            f"{MANY} kernels have been compiled for '{name}', one for each shape it was called "
            "with. If shapes keep changing, compiling takes longer than it saves: pad inputs to a "
            "few sizes, or set GANGLION_EAGER_KERNELS=0.",
            stacklevel=2,
        )
