"""Python numbers that change from call to call without a new trace: learning rates and the like.

While tracing, such a number is a ``Lifted``: a float that remembers how it is computed from the
places it was read from. Where it reaches an op, the graph reads it from a 0-d float64 state, which
``refresh`` fills before each call by the same Python arithmetic; so an op gets the very number that
it gets eagerly. What the program finds out about the number otherwise (that ``momentum > 0``, or
all of it by ``float()``) is noted as a fact, on which the trace relies.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from ganglion.compiler.guards import GONE, Broken, Place, same
from ganglion.ops.record import Op
from ganglion.tensor import Tensor, wrap

Recipe = Callable[[Sequence[float]], Any]  # from the sources' values

# A state's content as a Python number: like a constant, it does not decide the dtype.
NUMBER = Op("number", "number", lambda x: x.item(), lambda x: x, scalar=lambda x: x)


class Lifted(float):
    """A float that knows its recipe."""

    __slots__ = ("numbers", "recipe")

    numbers: Numbers
    recipe: Recipe

    def __new__(cls, value: float, recipe: Recipe, numbers: Numbers) -> Self:
        made = float.__new__(cls, value)
        made.recipe, made.numbers = recipe, numbers
        return made

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        known = [float(x) if isinstance(x, Lifted) else x for x in inputs]
        return getattr(ufunc, method)(*known, **options)

    def __reduce__(self) -> Any:
        return float, (float(self),)


def _recipe(x: Any) -> Recipe:
    return x.recipe if isinstance(x, Lifted) else lambda values: x


def _computed(name: str, swapped: bool = False) -> Any:
    """An arithmetic method: the result is computed anew from new values."""
    function = getattr(operator, name)

    def method(self: Lifted, *others: Any) -> Any:
        if not all(isinstance(x, (int, float)) for x in others):
            return NotImplemented
        operands = (*others, self) if swapped else (self, *others)
        recipes = [_recipe(x) for x in operands]
        found = function(*map(_bare, operands))
        if type(found) is not float:  # a negative base and a fractional exponent
            return self.numbers.fact(lambda v: function(*[r(v) for r in recipes]), found)
        return Lifted(found, lambda v: function(*[r(v) for r in recipes]), self.numbers)

    return method


def _observed(name: str) -> Any:
    """A method that looks at the value: the trace relies on what it finds."""
    function = getattr(float, name)

    def method(self: Lifted, *others: Any) -> Any:
        recipes = [_recipe(x) for x in (self, *others)]
        found = function(*map(_bare, (self, *others)))
        return self.numbers.fact(lambda v: function(*[r(v) for r in recipes]), found)

    return method


def _bare(x: Any) -> Any:
    return float.__float__(x) if isinstance(x, Lifted) else x


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Lifted, f"__{_name}__", _computed(_name))
    setattr(Lifted, f"__r{_name}__", _computed(_name, swapped=True))
for _name in ("neg", "pos", "abs"):
    setattr(Lifted, f"__{_name}__", _computed(_name))
for _name in """
    bool float int trunc floor ceil round hash eq ne lt le gt ge divmod rdivmod repr format
""".split():
    setattr(Lifted, f"__{_name}__", _observed(f"__{_name}__"))
for _name in ("is_integer", "as_integer_ratio", "hex"):
    setattr(Lifted, _name, _observed(_name))


class Numbers:
    """The lifted numbers of one trace: their sources, facts about them, and the states they fill.

    A source is a place, or an argument given by its number among the leaves of the call.
    """

    def __init__(self) -> None:
        self.sources: list[tuple[Place, Any]] = []  # with the value when traced
        self.facts: list[tuple[Recipe, Any]] = []
        self.filled: list[tuple[Tensor, Recipe]] = []
        self._count = 0  # floats in the sources
        self._lifted: dict[Any, Any] = {}
        self._states: dict[int, tuple[Lifted, Tensor]] = {}
        self._open = True

    def lift(self, place: Place, value: Any) -> Any:
        """The value, a float or a tuple of floats, as numbers that may change."""
        if place.identity not in self._lifted:
            self.sources.append((place, value))
            many = isinstance(value, tuple)
            found = [self._next(x) for x in (value if many else (value,))]
            self._lifted[place.identity] = tuple(found) if many else found[0]
        return self._lifted[place.identity]

    def argument(self, index: int, value: float) -> Any:
        """The same for an argument: the place is filled in at each call."""
        return self.lift(Place(operator.getitem, None, index, f"argument {index}"), value)

    def _next(self, value: float) -> Lifted:
        at = self._count
        self._count += 1
        return Lifted(value, lambda values: values[at], self)

    def fact(self, recipe: Recipe, found: Any) -> Any:
        """Rely on a recipe giving what it gave."""
        if self._open:
            self.facts.append((recipe, found))
        return found

    def pin(self) -> None:
        """Rely on every number as it is, since it may have been looked at unseen."""
        for i, value in enumerate(_flat([value for _, value in self.sources])):
            self.facts.append((operator.itemgetter(i), value))

    def state(self, number: Lifted) -> Tensor:
        """The 0-d tensor from which the graph reads a number."""
        if id(number) not in self._states:
            made = wrap(np.array(_bare(number), np.float64))
            self._states[id(number)] = number, made
            self.filled.append((made, number.recipe))
        return self._states[id(number)][1]

    def close(self) -> None:
        """The trace is over."""
        self._open = False
        self._lifted, self._states = {}, {}
        self._reads = [place[:3] for place, _ in self.sources]
        self.seen, self._current = [value for _, value in self.sources], True
        self._full: list[Any] = [None] * len(self.filled)  # what the states hold

    def refresh(self, leaves: Sequence[Any]) -> bool:
        """Read the sources, fill the states; False where a fact no longer holds."""
        try:
            now = [
                get(leaves if container is None else container, key)
                for get, container, key in self._reads
            ]
            known = self._current and all(map(operator.is_, now, self.seen))
            return known or self._taken(now)
        except (*GONE, ArithmeticError):
            return False

    def _taken(self, now: list[Any]) -> bool:
        """Compute everything from new values of the sources."""
        if not all([new is old or _alike(new, old) for new, old in zip(now, self.seen)]):  # noqa: B905, C419
            return False
        values = _flat(now)
        for recipe, found in self.facts:
            if not same(recipe(values), found):
                return False
        self._current = False  # should Ctrl-C come in between
        for i, (tensor, recipe) in enumerate(self.filled):
            value = recipe(values)
            if value is not self._full[i]:
                tensor._data[...] = self._full[i] = value
        self.seen, self._current = now, True
        return True

    def broken(self, leaves: Sequence[Any]) -> Broken | None:
        """The first number that is not what the trace can take."""
        for (place, _), old in zip(self.sources, self.seen, strict=True):
            here = place._replace(container=leaves) if place.container is None else place
            if not same(here.now(), old):
                return Broken(place, old, here.now())
        return None


def _flat(found: Sequence[Any]) -> list[float]:
    values: list[float] = []
    for value in found:
        if isinstance(value, tuple):
            values += value
        else:
            values.append(value)
    return values


def _alike(new: Any, old: Any) -> bool:
    if isinstance(old, tuple):
        return type(new) is tuple and len(new) == len(old) and all(map(_alike, new, old))
    return type(new) is float
