"""The one door from an op call to whoever listens: the eager runner, or a tracer.

``bind`` computes new tensors, ``write`` stores a value into an existing tensor, and ``read``
hands out values. All go to the thread's listener. The eager runner (floor 3) is the default; a
trace pushes its own.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from ganglion.ops.record import Op
    from ganglion.tensor import Tensor


class Listener(Protocol):
    """What stands behind the door."""

    def bind(self, op: Op, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        """Run ``op`` on tensors and numbers; return its output tensor, or a tuple of them."""

    def write(self, target: Tensor, value: Tensor) -> Tensor:
        """Store ``value`` into ``target`` (same shape), keeping views and gradients right."""

    def read(self, tensor: Tensor) -> Any:
        """The tensor's array, for turning values into Python's or NumPy's."""


class Tracing(Protocol):
    """What a trace wants to know besides op calls."""

    def grad(self, tensor: Tensor, assigned: bool) -> None:
        """A tensor's ``.grad`` is about to be assigned, or to be read or added to."""

    def flag(self, tensor: Tensor) -> None:
        """A tensor's ``requires_grad`` is about to be set."""

    def form(self, tensor: Tensor) -> Any:
        """Memory laid out as the tensor's is, whatever it contains."""

    def born(self, tensor: Tensor) -> Tensor:
        """A tensor was made from Python's data: a constant of the trace."""

    def groups(self, optimizer: Any) -> Iterator[dict[str, Any]]:
        """The parameter groups of an optimizer that takes a step, one after the other."""


class Mode(threading.local):
    """Each thread's listener and grad mode; the eager runner sets the class's ``listener``."""

    listener: Listener
    tracer: Tracing | None = None  # the trace this thread is in
    grad = True
    inference = False
    anomaly = False

    def __init__(self) -> None:
        quiet = contextvars.copy_context()
        quiet.run(np.seterr, all="ignore")
        self.run = quiet.run  # kernels are called through it: no floating-point warnings


mode = Mode()


def bind(op: Op, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
    """Send one op call to the thread's listener."""
    return mode.listener.bind(op, inputs, params)


def write(target: Tensor, value: Tensor) -> Tensor:
    """Send one in-place assignment to the thread's listener; return ``target``."""
    return mode.listener.write(target, value)


def read(tensor: Tensor) -> Any:
    """The array behind a tensor whose values leave the library; a trace refuses."""
    return mode.listener.read(tensor)


class listening:  # noqa: N801 - read like a function
    """Send this thread's calls to ``listener`` inside the block.

    No generator: one whose end Ctrl-C prevents would end later, and change the mode then.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def __enter__(self) -> None:
        self.previous, mode.listener = mode.listener, self.listener

    def __exit__(self, *error: object) -> None:
        mode.listener = self.previous


def eagerly() -> listening:
    """Compute at once inside the block, even in a trace: what is made there exists before it."""
    return listening(Mode.listener)
