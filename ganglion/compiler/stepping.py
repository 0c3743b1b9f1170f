"""Optimizer steps in a trace: which numbers may change, which tensors are state.

Floats of a parameter group (learning rate, betas, weight decay) become numbers that are read at
every call; everything else in it is relied on. Slots that the first step makes must exist when the
step runs: our own optimizers make them at once, as zeros; of others the first call runs eagerly.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import getitem, length_hint
from typing import Any

import numpy as np

from ganglion.compiler.guards import MISSING, Place
from ganglion.compiler.numbers import Numbers
from ganglion.compiler.reads import Reads
from ganglion.errors import TraceError
from ganglion.tensor import Tensor


class Group(dict[str, Any]):
    """A parameter group whose numbers are lifted when they are read."""

    def __init__(self, group: dict[str, Any], stepping: Stepping) -> None:
        super().__init__(group)
        self.group, self.stepping = group, stepping

    def __getitem__(self, key: str) -> Any:
        return self.stepping.option(self.group, key)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self.group else default


class Stepping:
    """What a trace learns about the optimizers that step in it."""

    def __init__(self, numbers: Numbers, reads: Reads) -> None:
        self.numbers, self.reads = numbers, reads
        self.used: dict[int, Tensor] = {}  # id of a parameter -> the gradient a step used
        self.starts = False  # whether slots were made that the trace cannot make itself
        self._before: list[tuple[Any, Tensor, dict[str, Any]]] = []  # optimizer.state, p, slots

    def groups(self, optimizer: Any) -> Iterator[dict[str, Any]]:
        """The groups, one after the other, with a look at the slots before and after."""
        own, name = vars(optimizer), type(optimizer).__name__
        for key in ("param_groups", "state"):
            self._rely(own, key, f"{name}.{key}")
        groups = optimizer.param_groups
        self.reads.note(Place(length_hint, groups, 0, f"the groups of {name}"), len(groups))
        for group in groups:
            params = group["params"]
            for p in params:
                if p._grad is not None:
                    self.used[id(p)] = p._grad
            before = [(optimizer.state, p, dict(optimizer.state.get(p, {}))) for p in params]
            self._before += before
            yield Group(group, self)
            for state, p, slots in before:
                self._slots(state, p, slots, name)

    def option(self, group: dict[str, Any], key: str) -> Any:
        """One option of a group: a number that may change, or a value to rely on."""
        value = group[key]
        place = Place(getitem, group, key, f"param_groups[...][{key!r}]")
        many = isinstance(value, tuple) and bool(value) and all(type(x) is float for x in value)
        if type(value) is float or many:
            return self.numbers.lift(place, value)
        self.reads.note(place, value)
        if key == "params":
            name = "the optimizer's parameters"
            self.reads.note(Place(length_hint, value, 0, name), len(value))
            for i, p in enumerate(value):
                self.reads.note(Place(getitem, value, i, f"parameter {i}"), p)
        return value

    def undo(self) -> None:
        """Put back the slots as they were: the step has not happened."""
        for state, p, slots in reversed(self._before):
            if slots:
                state[p].clear()
                state[p].update(slots)
            else:
                state.pop(p, None)

    def check(self) -> None:
        """Refuse options that the traced function itself has changed, such as by a scheduler."""
        for place, value in self.numbers.sources:
            if place.container is not None and place.now() is not value:
                changed, place_now = place.name, place.now()
                place.put(value)
                raise TraceError(
                    f"{changed} was changed to {place_now!r} inside a traced function, which a "
                    "compiled call would not repeat; step the scheduler outside"
                )

    def _slots(self, state: Any, p: Tensor, before: dict[str, Any], name: str) -> None:
        slots = state.get(p)
        if slots is None:
            return
        self._rely(state, p, f"{name}.state[...]")
        for key, value in slots.items():
            if key not in before and not _concrete(value):
                self.starts = True
            elif value is not before.get(key, value):
                raise TraceError(
                    f"{name} replaces {key!r} in a parameter's state by another "
                    f"{type(value).__name__}, which a compiled call would not repeat; keep a "
                    "tensor there and write to it in place"
                )
            else:
                self._rely(slots, key, f"{name}.state[...][{key!r}]")

    def _rely(self, container: Any, key: Any, name: str) -> None:
        place = Place(getitem, container, key, name)
        if place.now() is not MISSING:
            self.reads.note(place, place.now())


def _concrete(value: Any) -> bool:
    return isinstance(value, Tensor) and isinstance(value._data, np.ndarray)
