"""The Python values that a trace relied on, and whether they still are what they were.

A trace runs ordinary Python once: a flag read from a module, a number from a closure, an option
from a global all become part of the graph. ``Reads`` notes every such value with the place where it
was found, by looking at the functions entered while tracing (see ``ganglion.compiler.plans``).
``Guards`` looks at all places again before each call, which takes some 40 ns a place.
"""

from __future__ import annotations

import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import eq, getitem, is_, setitem
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    FrameType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

import ganglion.dtypes as dt
from ganglion.compiler.plans import Chain, Plan, Store, argument_names, plan
from ganglion.tensor import Tensor

Get: TypeAlias = Callable[[Any, Any], Any]

PLAIN: Final = (
    type(None), bool, int, float, complex, str, bytes, slice, range, type(...), dt.dtype
)  # fmt: skip
_CODE: Final = (FunctionType, BuiltinFunctionType, MethodType, ModuleType, type)
_CONTAINERS: Final = (list, dict, tuple, set, frozenset)
_LARGE: Final = 256  # elements from which the parts of a mixed container are not looked into
_DEEP: Final = 3
MISSING: Final = type("missing", (), {"__repr__": lambda self: "missing"})()

_PACKAGE: Final = str(Path(__file__).parents[1])
_OURS: Final = tuple(f"{_PACKAGE}/{part}/" for part in ("nn", "models", "train"))
_LIBRARIES: Final = (
    _PACKAGE,
    sysconfig.get_path("stdlib") + "/",
    str(Path(np.__file__).parent),
    "<frozen",
)


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
        except (LookupError, AttributeError, ValueError, TypeError):
            return MISSING

    def put(self, value: Any) -> None:
        """Store a value there; MISSING takes it away."""
        if self.get is getattr:
            setattr(self.container, self.key, value)
        elif value is MISSING:
            del self.container[self.key]
        else:
            setitem(self.container, self.key, value)

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for equal places."""
        key = self.key if isinstance(self.key, (str, int)) else id(self.key)
        return self.get, id(self.container), key


def _length(container: Any, key: None) -> int:
    return len(container)


def plain(value: Any) -> bool:
    """Whether a value is a number, a string or the like, or a tuple of such."""
    return isinstance(value, PLAIN) or (isinstance(value, tuple) and all(map(plain, value)))


def same(a: Any, b: Any) -> bool:
    """Whether two plain values do the same in a program: 1 is not True, nor 0.0 -0.0."""
    return a is b or (type(a) is type(b) and plain(a) and repr(a) == repr(b))


# --- before a call --------------------------------------------------------------------------------


class Places:
    """A number of places, read all at once."""

    def __init__(self, places: Sequence[Place]) -> None:
        gets = dict.fromkeys(place.get for place in places)
        groups = [(get, [p for p in places if p.get is get]) for get in gets]
        self.ordered = [place for _, group in groups for place in group]
        self._groups = [
            (get, tuple(p.container for p in group), tuple(p.key for p in group))
            for get, group in groups
        ]

    def now(self) -> Iterator[Any]:
        """What is there, in the order of ``ordered``; raises when something is gone."""
        return chain.from_iterable([map(*group) for group in self._groups])


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
    name = getattr(value, "__qualname__", None)
    return name or f"another {type(value).__name__}"


class Guards:
    """Values that must be what they were."""

    def __init__(self, noted: Sequence[tuple[Place, Any]]) -> None:
        by_place = dict(noted)
        self.places = Places(list(by_place))
        self.wanted = [by_place[place] for place in self.places.ordered]

    def hold(self) -> bool:
        """Whether all values are what they were."""
        try:
            if all(map(is_, self.places.now(), self.wanted)):
                return True
        except (LookupError, AttributeError, ValueError, TypeError):
            return False
        return next(self.broken(), None) is None

    def broken(self) -> Iterator[Broken]:
        """What has changed; equal numbers and strings that are other objects are taken over."""
        for i, (place, old) in enumerate(zip(self.places.ordered, self.wanted, strict=True)):
            new = place.now()
            if same(old, new):
                self.wanted[i] = new
            else:
                yield Broken(place, old, new)


# --- while tracing --------------------------------------------------------------------------------


class Lifted(float):
    """A number whose value the graph does not rely on (see ``ganglion.compiler.numbers``)."""

    __slots__ = ()


class Reads:
    """Notes what the functions entered while tracing read and store."""

    def __init__(self, function: Any = None) -> None:
        self.noted: dict[tuple[Any, ...], tuple[Place, Any]] = {}
        self.stored: dict[tuple[Any, ...], tuple[Place, Any, str]] = {}
        self.used_math = False
        self._functions: dict[CodeType, FunctionType] = {}
        self._plans: dict[CodeType, Plan | None] = {}
        self._know(function)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at every call in this thread within the block."""
        before = sys.getprofile()
        sys.setprofile(self._event)
        try:
            yield
        finally:
            if before is None or callable(before):
                sys.setprofile(before)
            else:
                before.enable()  # cProfile stands behind it

    def note(self, place: Place, value: Any) -> None:
        """The trace relies on a place having this value."""
        symbolic = isinstance(value, Tensor) and not isinstance(value._data, np.ndarray)
        if not symbolic and not isinstance(value, Lifted):
            self.noted.setdefault(place.identity, (place, value))

    def guards(self) -> Guards:
        """What must hold before the trace is used again."""
        return Guards(list(self.noted.values()))

    def changed(self) -> list[tuple[Place, Any, str]]:
        """Attributes and variables that the function itself has set: place, old value, line."""
        return [found for found in self.stored.values() if found[0].now() is not found[1]]

    def restore(self) -> None:
        """Undo the function's stores, as it will run again."""
        for place, old, _ in self.changed():
            place.put(old)

    # --- events -------------------------------------------------------------------------------

    def _event(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            if getattr(argument, "__module__", None) == "math":
                self.used_math = True
            return
        code = frame.f_code
        try:
            found = self._plans[code]
        except KeyError:
            found = self._plans[code] = _plan(code)
        if found is None:
            return
        if event == "call":
            for each in found.entry:
                self._follow(frame, each)
            for store in found.stores:
                self._expect(frame, store)
        elif event == "return":
            for each in found.exit:
                self._follow(frame, each)

    def _follow(self, frame: FrameType, chained: Chain) -> None:
        """Note the values along a chain, and the contents of a container at its end."""
        found = self._root(frame, chained)
        if found is None:
            return
        place, value = found
        text, where = chained.name, frame.f_code
        for kind, key in chained.steps:
            self._met(place, value)
            text += f".{key}" if kind == "attribute" else f"[{key!r}]"
            name = f"{text} in {where.co_name} ({Path(where.co_filename).name})"
            place = _attribute(value, key, name) if kind == "attribute" else _item(value, key, name)
            if place is None:
                return
            value = place.now()
        self._met(place, value)
        if place is not None:
            self._contents(value, place.name, _DEEP)

    def _root(self, frame: FrameType, chained: Chain) -> tuple[Place | None, Any] | None:
        code, name = frame.f_code, chained.name
        if chained.kind == "global":
            if name not in frame.f_globals:
                return None
            place = Place(getitem, frame.f_globals, name, name)
            return place, place.now()
        function = self._functions.get(code)
        if chained.kind == "free" and function is not None:
            cell = (function.__closure__ or ())[code.co_freevars.index(name)]
            place = Place(getattr, cell, "cell_contents", f"{name} in {code.co_name}")
            return place, place.now()
        values = frame.f_locals
        return (None, values[name]) if name in values else None

    def _met(self, place: Place | None, value: Any) -> None:
        if isinstance(value, (FunctionType, MethodType)):
            self._know(value)
        if place is None or value is MISSING:
            return
        shared = isinstance(place.container, dict) and "__name__" in place.container
        if not (isinstance(value, _CODE) and shared):  # of a module: functions, classes, modules
            self.note(place, value)

    def _contents(self, value: Any, name: str, depth: int) -> None:
        """What a list or dictionary holds, since the function may look at all of it."""
        if not isinstance(value, _CONTAINERS) or not depth:
            return
        if plain(value):
            return
        parts = list(value.values()) if isinstance(value, dict) else list(value)
        if all(map(plain, parts)):
            known = type(value)(value) if type(value) in _CONTAINERS else None
            if known is not None:
                self.note(Place(eq, value, known, f"the contents of {name}"), True)
                return
        self.note(Place(_length, value, None, f"the length of {name}"), len(value))
        if len(value) > _LARGE or isinstance(value, (set, frozenset)):
            return
        keys = value if isinstance(value, dict) else range(len(value))
        for key, part in zip(keys, parts, strict=True):
            self.note(Place(getitem, value, key, f"{name}[{key!r}]"), part)
            if not isinstance(part, _CODE):
                self._contents(part, f"{name}[{key!r}]", depth - 1)

    def _expect(self, frame: FrameType, store: Store) -> None:
        """Remember what stands where the function may store something."""
        *steps, last = store.target.steps or [None]
        if last is None:
            found = self._root(frame, store.target)
            place = found[0] if found is not None else None
        else:
            holder = self._object(frame, Chain(store.target.kind, store.target.name, tuple(steps)))
            place = _attribute(holder, last[1], str(store.target), absent=True)
        if place is not None:
            line = f"{frame.f_code.co_filename}:{store.line}"
            named = place._replace(name=str(store.target))
            self.stored.setdefault(place.identity, (named, place.now(), line))

    def _object(self, frame: FrameType, chained: Chain) -> Any:
        found = self._root(frame, chained)
        value = None if found is None else found[1]
        for kind, key in chained.steps:
            place = _attribute(value, key, "") if kind == "attribute" else _item(value, key, "")
            value = None if place is None else place.now()
        return value

    # --- functions and their closures -----------------------------------------------------------

    def _know(self, function: Any) -> None:
        """Remember which function a code belongs to, and those that it closes over."""
        function = getattr(function, "__func__", function)
        if not isinstance(function, FunctionType) or function.__code__ in self._functions:
            return
        self._functions[function.__code__] = function
        for cell in function.__closure__ or ():
            try:
                self._know(cell.cell_contents)
            except ValueError:  # not filled yet
                continue


def _plan(code: CodeType) -> Plan | None:
    """The plan of user code; of our modules and trainers, what they read from ``self``."""
    file = code.co_filename
    if file.startswith(_OURS):
        found, first = plan(code), argument_names(code)[:1]
        chains = tuple(c for c in found.entry if c.kind == "argument" and c.name in first)
        return Plan(chains, (), ()) if first == ("self",) and chains else None
    return None if file.startswith(_LIBRARIES) else plan(code)


def _attribute(value: Any, key: str, name: str, absent: bool = False) -> Place | None:
    """Where an object's attribute is stored; None for methods, properties and tensors' own."""
    if isinstance(value, Tensor) or value is None or value is MISSING:
        return None
    own = getattr(value, "__dict__", None)
    if isinstance(own, dict):
        if key in own:
            return Place(getitem, own, key, name)
        for registered in getattr(value, "_registered", ()):
            if key in own.get(registered, ()):
                return Place(getitem, own[registered], key, name)
    for kind in type(value).__mro__ if not isinstance(value, type) else value.__mro__:
        found = vars(kind).get(key, MISSING)
        if isinstance(found, MemberDescriptorType):
            return Place(getattr, value, key, name)
        if found is not MISSING:
            seen = plain(found) or isinstance(found, (Tensor, *_CONTAINERS))
            return Place(getattr, kind, key, name) if seen else None
    return Place(getitem, own, key, name) if absent and isinstance(own, dict) else None


def _item(value: Any, key: Any, name: str) -> Place | None:
    """Where an element of a list or dictionary is stored."""
    if not isinstance(value, (list, dict, tuple)):
        return None
    place = Place(getitem, value, key, name)
    return None if place.now() is MISSING else place


def warn_of_stores(reads: Reads, warned: set[str], compiled: str) -> None:
    """Say once for each line that what it stores will not be stored again."""
    for place, _, line in reads.changed():
        if line not in warned:
            warned.add(line)
            warnings.warn(
                f"{line}: {place.name} is set while {compiled} is traced. A compiled call does not "
                "run this line again: keep what changes in a tensor and write to it in place, or "
                "set it outside.",
                stacklevel=2,
            )
