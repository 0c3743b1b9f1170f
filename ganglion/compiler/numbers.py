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
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.compiler.guards import Place, Places, same
from ganglion.ops.record import Op
from ganglion.shapes import Meta
from ganglion.tensor import Tensor, wrap

Recipe = Callable[[Sequence[float]], Any]  # from the sources' values

# A state's content as a Python number: like a constant, it does not decide the dtype.
NUMBER = Op("number", "number", lambda x: x.item(), lambda x: Meta((), dt.get_default_dtype()))


class Lifted(float):
    """A float that knows its recipe."""

    __slots__ = ("numbers", "recipe")

    numbers: Numbers
    recipe: Recipe

    def __new__(cls, value: float, recipe: Recipe, numbers: Numbers) -> Lifted:
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
        self.sources: list[tuple[Place | int, Any]] = []  # with the value when traced
        self.facts: list[tuple[Recipe, Any]] = []
        self.filled: list[tuple[Tensor, Recipe]] = []
        self._count = 0  # floats in the sources
        self._known: dict[Any, Any] = {}
        self._states: dict[Any, Tensor] = {}

    def lift(self, source: Place | int, value: Any) -> Any:
        """The value, a float or a tuple of floats, as numbers that may change."""
        key = source.identity if isinstance(source, Place) else source
        if key not in self._known:
            self.sources.append((source, value))
            many = isinstance(value, tuple)
            found = [self._next(x) for x in (value if many else (value,))]
            self._known[key] = tuple(found) if many else found[0]
        return self._known[key]

    def _next(self, value: float) -> Lifted:
        at = self._count
        self._count += 1
        return Lifted(value, lambda values: values[at], self)

    def fact(self, recipe: Recipe, found: Any) -> Any:
        """Rely on a recipe giving what it gave."""
        self.facts.append((recipe, found))
        return found

    def state(self, number: Lifted) -> Tensor:
        """The 0-d tensor from which the graph reads a number."""
        found = self._states.get(id(number))
        if found is None:
            value = np.array(float.__float__(number), np.float64)
            found = self._states[id(number)] = wrap(value)
            self.filled.append((found, number.recipe))
            self._known[found] = number  # alive, so that its id stays its own
        return found

    def pin(self) -> None:
        """Rely on every number as it is, since it may have been looked at unseen."""
        values = self._values([value for _, value in self.sources])
        for i, value in enumerate(values):
            self.facts.append((operator.itemgetter(i), value))

    def freeze(self) -> None:
        """The trace is over: prepare for ``refresh``."""
        self._known.clear()
        places = [(s, v) for s, v in self.sources if isinstance(s, Place)]
        self.places = Places(place for place, _ in places)
        self.arguments = [s for s, _ in self.sources if not isinstance(s, Place)]
        order = [*self.places.ordered, *self.arguments]
        was = {_key(source): value for source, value in self.sources}
        self.seen = [was[_key(source)] for source in order]
        number = {_key(source): i for i, (source, _) in enumerate(self.sources)}
        self._order = sorted(range(len(order)), key=lambda i: number[_key(order[i])])

    def refresh(self, leaves: Sequence[Any]) -> bool:
        """Read the sources, fill the states; False where a fact no longer holds."""
        now = [*self.places.now(), *[leaves[i] for i in self.arguments]]
        if all(map(operator.is_, now, self.seen)):
            return True
        if not all(map(_alike, now, self.seen)):
            return False
        values = self._values([now[i] for i in self._order])
        if not all(same(recipe(values), found) for recipe, found in self.facts):
            return False
        for tensor, recipe in self.filled:
            tensor._data[...] = recipe(values)
        self.seen = now
        return True

    def _values(self, found: Sequence[Any]) -> list[float]:
        return [x for value in found for x in (value if isinstance(value, tuple) else (value,))]


def _key(source: Place | int) -> Any:
    return source.identity if isinstance(source, Place) else source


def _alike(new: Any, old: Any) -> bool:
    if isinstance(old, tuple):
        return type(new) is tuple and len(new) == len(old) and all(map(_alike, new, old))
    return type(new) is float
