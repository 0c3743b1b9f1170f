"""What runs a traced program: native code, or the graph interpreter.

``build`` is the one door. ``GANGLION_COMPILER=interpret`` chooses the interpreter, which needs
NumPy alone and has the bits of eager execution; ``GANGLION_DEBUG_MEMORY=1`` native code in watched
memory.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from ganglion.compiler.interpret import Interpreted
from ganglion.compiler.memory import Room
from ganglion.compiler.program import Array, Program
from ganglion.config import flags
from ganglion.ops.record import Op
from ganglion.shapes import Meta


class Executable(Protocol):
    """A program that can be called.

    ``arguments`` are the graph's inputs and ``states`` its states, in order: C-contiguous arrays
    of the traced shapes and dtypes. Outputs come back as fresh arrays, each of its own memory. A
    state with an update is written in place, as if all updates happened at once at the end.
    ``states`` is the same list object as in the last call if none of its arrays was exchanged.
    """

    def __call__(self, arguments: Sequence[Array], states: Sequence[Array]) -> list[Array]:
        """Run it once."""

    def explain(self) -> str:
        """What a call does, for people."""

    def html(self) -> str:
        """The same as a page."""


def build(program: Program, room: Room | None = None) -> Executable:
    """Make a program executable; native code works in the room, if one is given."""
    if flags.compiler == "interpret":
        return Interpreted(program)
    name = "debug" if flags.debug_memory else "native"
    native: Any = importlib.import_module(f"ganglion.compiler.{name}")  # it needs llvmlite
    given = (program,) if flags.debug_memory else (program, room)  # watched memory is its own
    with uncollected():
        return native.build(*given)  # type: ignore[no-any-return]


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for garbage: while large graphs grow it takes a third of the time, in vain."""
    collects = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if collects:
            gc.enable()


def kernel(op: Op, metas: Sequence[Meta | None], params: Mapping[str, Any]) -> Any:
    """A compiled kernel for one heavy call of eager execution; None if nothing can be compiled."""
    if missing():
        return None
    eager: Any = importlib.import_module("ganglion.compiler.eager")  # it needs llvmlite
    return eager.Kernel(op, metas, params)


def profile(
    executable: Executable, arguments: Sequence[Array], states: Sequence[Array], repeats: int = 30
) -> Any:
    """Where the time of a call goes: a ``ganglion.compiler.profile.Profile``; states stay."""
    found: Any = importlib.import_module("ganglion.compiler.profile")
    return found.profile(executable, arguments, states, repeats)


def missing() -> str:
    """Why nothing can be compiled on this machine; empty where it can."""
    if flags.compiler == "interpret":
        return ""
    free_threaded: Any = getattr(sys, "_is_gil_enabled", None)
    if free_threaded is not None and not free_threaded():
        return "this is a free-threaded Python, for which compiled code is not tested"
    if importlib.util.find_spec("llvmlite") is None:
        return "the package 'llvmlite' is not installed; run: pip install llvmlite"
    return ""
