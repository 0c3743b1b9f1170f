"""Switches for recording gradients: no_grad, enable_grad, set_grad_enabled, inference_mode."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ganglion.dispatch import mode


class _Switch:
    """A context manager and decorator that sets the thread's grad mode."""

    value = False
    inference: bool | None = None

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        made = super().__new__(cls)
        return made(function) if callable(function) else made  # used as a bare decorator

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        self._previous: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._previous.append((mode.grad, mode.inference))
        mode.grad = self.value
        if self.inference is not None:
            mode.inference = self.inference

    def __exit__(self, *exc: object) -> None:
        mode.grad, mode.inference = self._previous.pop()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)._again(self):
                return function(*args, **kwargs)

        return wrapped

    def _again(self) -> _Switch:
        return self


class no_grad(_Switch):  # noqa: N801 - PyTorch's name
    """Inside, operations record no gradients."""


class enable_grad(_Switch):  # noqa: N801 - PyTorch's name
    """Inside, operations record gradients again."""

    value = True


class set_grad_enabled(_Switch):  # noqa: N801 - PyTorch's name
    """Set grad mode at once; used with ``with``, set it back at the end of the block."""

    def __new__(cls, mode: bool) -> Any:
        return object.__new__(cls)

    def __init__(self, mode_: bool) -> None:
        super().__init__()
        self.value = mode_
        self._before = (mode.grad, mode.inference)
        mode.grad = mode_

    def __enter__(self) -> None:
        self._previous.append(self._before)
        mode.grad = self.value

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        mode.grad = self._before[0]
        return super().__call__(function)

    def _again(self) -> _Switch:
        again = object.__new__(type(self))
        again._previous, again.value, again._before = [], self.value, (mode.grad, mode.inference)
        return again


class inference_mode(_Switch):  # noqa: N801 - PyTorch's name
    """Like ``no_grad``; tensors made inside can never take part in gradients."""

    inference = True

    def __new__(cls, mode: Any = True) -> Any:
        made = object.__new__(cls)
        if callable(mode):
            made.__init__()  # type: ignore[misc]
            return made(mode)
        return made

    def __init__(self, mode_: Any = True) -> None:
        super().__init__()
        self.value = not mode_
        self.inference = bool(mode_)


def is_grad_enabled() -> bool:
    """Whether operations record gradients in this thread."""
    return mode.grad


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside ``inference_mode``."""
    return mode.inference
