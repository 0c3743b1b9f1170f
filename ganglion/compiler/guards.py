"""Python values that a trace relied on, and whether they still are what they were.

A ``Place`` says where a value was found: an item of a dictionary or list, an attribute, a cell.
``Guards`` looks at all places again before each call, which takes some 20 ns a place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import getitem
from typing import Any, Final, NamedTuple, TypeAlias

import ganglion.dtypes as dt

Get: TypeAlias = Callable[[Any, Any], Any]

PLAIN: Final = (
    type(None), bool, int, float, complex, str, bytes, slice, range, type(...), dt.dtype
)  # fmt: skip
GONE: Final = (LookupError, AttributeError, ValueError, TypeError)


class _Missing:
    def __repr__(self) -> str:
        return "missing"


MISSING: Final = _Missing()


def plain(value: Any) -> bool:
    """Whether a value is a number, a string or the like, or a tuple of such."""
    return isinstance(value, PLAIN) or (isinstance(value, tuple) and all(map(plain, value)))


def same(a: Any, b: Any) -> bool:
    """Whether two values do the same in a program: 1 is not True, nor 0.0 -0.0."""
    return a is b or (type(a) is type(b) and plain(a) and repr(a) == repr(b))


class Place(NamedTuple):
    """Where a value is found: ``get(container, key)``; ``name`` is for people."""

    get: Get
    container: Any
    key: Any
    name: str

    def now(self) -> Any:
        """The value there, or MISSING."""
        try:
            return self.get(self.container, self.key)
        except GONE:
            return MISSING

    def put(self, value: Any) -> None:
        """Store a value there; MISSING takes it away."""
        if self.get is getattr:
            setattr(self.container, self.key, value)
        elif value is MISSING:
            del self.container[self.key]
        else:
            self.container[self.key] = value

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for equal places."""
        key = self.key if isinstance(self.key, (str, int)) else id(self.key)
        return self.get, id(self.container), key


class Broken(NamedTuple):
    """A place whose value has changed since the trace."""

    place: Place
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.place.name}: {_short(self.old)} -> {_short(self.new)}"


def _short(value: Any) -> str:
    if plain(value) or value is MISSING:
        return repr(value)
    return getattr(value, "__qualname__", None) or f"another {type(value).__name__}"


class Guards:
    """Values that must be what they were."""

    def __init__(self, noted: Sequence[tuple[Place, Any]]) -> None:
        self._noted = list(noted)
        self._prepare()

    def _prepare(self) -> None:
        noted = self._noted
        self._items = [(p.container, p.key, v) for p, v in noted if p.get is getitem]
        self._others = [(p.get, p.container, p.key, v) for p, v in noted if p.get is not getitem]

    def __len__(self) -> int:
        return len(self._noted)

    def hold(self) -> bool:
        """Whether all values are what they were."""
        try:
            for container, key, value in self._items:
                if container[key] is not value:
                    return self._equal()
            for get, container, key, value in self._others:
                if get(container, key) is not value:
                    return self._equal()
        except GONE:
            return False
        return True

    def _equal(self) -> bool:
        """Whether all values are at least equal; those that are new objects are taken over."""
        if next(self.broken(), None) is not None:
            return False
        self._noted = [(place, place.now()) for place, _ in self._noted]
        self._prepare()
        return True

    def broken(self) -> Iterator[Broken]:
        """What has changed; numbers and strings may be other objects if they are equal."""
        for place, old in self._noted:
            new = place.now()
            if not same(old, new):
                yield Broken(place, old, new)
