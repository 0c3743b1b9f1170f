"""Anomaly mode: name the op, and the user's line, that made the first NaN."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.autograd.tape import Node
from ganglion.dispatch import Listener, mode
from ganglion.errors import NonFiniteError
from ganglion.tensor import Tensor

if TYPE_CHECKING:
    from ganglion.ops.record import Op

_PACKAGE = str(Path(__file__).parents[1]) + "/"


class Watching:
    """Stands before a listener: notes lines in tape nodes, and may refuse NaNs."""

    def __init__(self, inner: Listener, refuses: bool = True) -> None:
        self.inner, self.refuses = inner, refuses

    def bind(self, op: Op, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        """Run the op, and look at its results."""
        out = self.inner.bind(op, inputs, params)
        results = out if op.outputs > 1 else (out,)
        _note_line(results)
        if self.refuses and any(map(_has_nan, results)) and not any(map(_has_nan, inputs)):
            raise NonFiniteError(
                f"op '{op.name}' made the first NaN (none of its inputs has one), {_called_at()}"
            )
        return out

    def read(self, tensor: Tensor) -> Any:
        return self.inner.read(tensor)

    def write(self, target: Tensor, value: Tensor) -> Tensor:
        """Write, and note the line in the tape nodes of the target and its base."""
        self.inner.write(target, value)
        view = target._view
        _note_line((target,) if view is None else (target, view.base))
        return target


def _note_line(results: tuple[Tensor, ...]) -> None:
    for r in results:
        if r._edge is not None and r._edge[0].watched().where is None:
            r._edge[0].watched().where = user_line()


def _has_nan(x: Any) -> bool:
    if isinstance(x, Tensor):
        data = x._data
        return (
            isinstance(data, np.ndarray)
            and x.dtype.is_floating_point
            and bool(np.isnan(data).any())
        )
    return isinstance(x, float) and x != x


@contextmanager
def walking() -> Iterator[None]:
    """While gradient rules run, only what they return counts."""
    listener = mode.listener
    if isinstance(listener, Watching):
        mode.listener = Watching(listener.inner, refuses=False)
    try:
        yield
    finally:
        mode.listener = listener


def check_gradient(node: Node, i: int, grad: Tensor) -> None:
    """Refuse a NaN that a gradient rule returned."""
    if _has_nan(grad):
        where = node.watch.where if node.watch is not None else None
        raise NonFiniteError(
            f"Function '{node.name()}' returned nan values in its {i}th output; its forward was "
            + (_called_at(where) if where else "called outside of anomaly mode")
        )


def user_line() -> tuple[str, int]:
    """File and line of the innermost call from outside this package."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _called_at(where: tuple[str, int] | None = None) -> str:
    file, line = where or user_line()
    return f"called at {file}:{line}: {linecache.getline(file, line).strip()}"


class detect_anomaly:  # noqa: N801 - PyTorch's name
    """A block in which the first NaN raises an error, made forward or backward.

    The error names the op and the line of the user's program. Every result is looked at, so
    this is slow: it is for finding the fault.
    """

    def __init__(self, check_nan: bool = True) -> None:
        self._wanted = check_nan

    def __enter__(self) -> None:
        self._before = _set(self._wanted)

    def __exit__(self, *error: object) -> None:
        _set(self._before)


class set_detect_anomaly:  # noqa: N801 - PyTorch's name
    """Turn anomaly mode on or off in this thread at once; as a block, turn it back at the end."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = _set(mode and check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        _set(self._before)


def is_anomaly_enabled() -> bool:
    """Whether this thread is in anomaly mode."""
    return mode.anomaly


def _set(wanted: bool) -> bool:
    before, mode.anomaly = mode.anomaly, wanted
    listener = mode.listener
    if wanted and not isinstance(listener, Watching):
        mode.listener = Watching(listener)
    elif not wanted and isinstance(listener, Watching):
        mode.listener = listener.inner
    return before
