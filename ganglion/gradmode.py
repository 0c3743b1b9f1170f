"""Switches for recording gradients: no_grad, enable_grad, set_grad_enabled, inference_mode.

Each stands in a ``with`` block or before a function, with or without parentheses, and acts on
its own thread only.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any

from ganglion.dispatch import mode

Function = Callable[..., Any]


class Switch:
    """A grad mode for a ``with`` block, which may nest in itself, or for a function's calls."""

    def __init__(self, grad: bool, inference: bool | None = None) -> None:
        self.grad, self.inference = grad, inference  # None leaves inference mode as it is
        self._before: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._before.append((mode.grad, mode.inference))
        if self.inference is not None:
            mode.inference = self.inference
        mode.grad = self.grad and not mode.inference

    def __exit__(self, *error: object) -> None:
        mode.grad, mode.inference = self._before.pop()

    def __call__(self, function: Function) -> Function:
        """Decorate: calls, or the steps of a generator, run in this mode."""
        if inspect.isgeneratorfunction(function):
            return self._stepped(function)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with Switch(self.grad, self.inference):
                return function(*args, **kwargs)

        return called

    def _stepped(self, function: Function) -> Function:
        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            return _in_mode(self, function(*args, **kwargs))

        return generator


def _in_mode(switch: Switch, inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Run each step of ``inner`` in the mode, and the code between the steps in its own."""
    advance, sent = inner.send, None
    while True:
        try:
            with Switch(switch.grad, switch.inference):
                value = advance(sent)
        except StopIteration as end:
            return end.value
        try:
            sent = yield value
            advance = inner.send
        except GeneratorExit:
            with Switch(switch.grad, switch.inference):
                inner.close()
            raise
        except BaseException as error:  # noqa: BLE001 - thrown in from outside: hand it on
            advance, sent = inner.throw, error


def _switch(function: Function | None, switch: Switch) -> Any:
    return switch if function is None else switch(function)


def no_grad(function: Function | None = None) -> Any:
    """Inside, operations record no gradients."""
    return _switch(function, Switch(grad=False))


def enable_grad(function: Function | None = None) -> Any:
    """Inside, operations record gradients again (except in inference mode)."""
    return _switch(function, Switch(grad=True))


def inference_mode(mode: Function | bool = True) -> Any:
    """Like ``no_grad``, and tensors made inside can never take part in gradients."""
    function = mode if callable(mode) else None
    return _switch(function, Switch(grad=not mode, inference=bool(mode)))


class set_grad_enabled(Switch):  # noqa: N801 - PyTorch's name
    """Set grad mode at once; in a ``with`` statement, set it back at the end of the block."""

    def __init__(self, mode: bool) -> None:
        super().__init__(grad=bool(mode))
        super().__enter__()
        self._acted = True

    def __enter__(self) -> None:
        if not self._acted:
            super().__enter__()
        self._acted = False

    def __call__(self, function: Function) -> Function:
        if self._acted:
            self.__exit__()
        self._acted = False
        return super().__call__(function)


def is_grad_enabled() -> bool:
    """Whether operations record gradients in this thread."""
    return mode.grad


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside ``inference_mode``."""
    return mode.inference
