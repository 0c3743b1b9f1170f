"""What the functions entered while tracing read from and store in Python's own objects.

A trace runs ordinary Python once: a flag read from a module, a number from a closure, an option
from a global all become part of the graph. ``Reads`` notes each of them with its place, by looking
at every function that is entered (see ``ganglion.compiler.bytecode``).
"""

from __future__ import annotations

import gc
import sys
import sysconfig
import warnings
import weakref
from collections.abc import Callable
from operator import eq, getitem, length_hint
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
from typing import Any, Final, NamedTuple

import numpy as np

from ganglion.compiler.bytecode import Chain, Store, Uses, argument_names, uses
from ganglion.compiler.guards import MISSING, Get, Guards, Place, plain
from ganglion.compiler.numbers import Lifted
from ganglion.tensor import Tensor

_CODE: Final = (FunctionType, BuiltinFunctionType, MethodType, ModuleType, type)
_CONTAINERS: Final = (list, dict, tuple, set, frozenset)
_STORING: Final = frozenset("append extend insert add update".split())  # they look at nothing
_LARGE: Final = 256  # elements from which the parts of a mixed container are not looked into
_DEEP: Final = 3

_PACKAGE: Final = str(Path(__file__).parents[1])
_OURS: Final = tuple(f"{_PACKAGE}/{part}" for part in ("nn/", "models/", "train/trainer.py"))
_LIBRARIES: Final = (
    _PACKAGE + "/",
    sysconfig.get_path("stdlib") + "/",
    str(Path(np.__file__).parent) + "/",
    "<frozen",
)


class Stored(NamedTuple):
    """A place that a line may store to, the value before, and how to find its object."""

    place: Place
    before: Any
    line: str
    holder: Callable[[], Any]


def watch_by(profile: Any) -> None:
    """Let calls in this thread be looked at by what ``sys.getprofile()`` gave."""
    if profile is None or callable(profile):
        sys.setprofile(profile)
    else:
        profile.enable()  # cProfile's


class Unwatched:
    """A block that calls no code of the user's, so that watching can pause."""

    __slots__ = ("event",)

    def __init__(self) -> None:
        self.event: Any = None

    def __enter__(self) -> None:
        if self.event is not None:
            sys.setprofile(None)

    def __exit__(self, *error: object) -> None:
        if self.event is not None:
            sys.setprofile(self.event)


class Watching:
    """A block whose calls are looked at, but those of a pause.

    What runs when memory is collected is no part of the function: meanwhile none is.
    """

    def __init__(self, pause: Unwatched, event: Any) -> None:
        self.pause, self.event = pause, event
        self.before, self.collecting = sys.getprofile(), gc.isenabled()

    def __enter__(self) -> None:
        gc.disable()
        self.pause.event = self.event
        sys.setprofile(self.event)

    def __exit__(self, *error: object) -> None:
        self.pause.event = None
        watch_by(self.before)
        if self.collecting:
            gc.enable()


class Reads:
    """Notes what a traced function relies on and what it stores."""

    def __init__(self, function: Any = None) -> None:
        self.noted: dict[tuple[Any, ...], tuple[Place, Any]] = {}
        self.stored: dict[tuple[Any, ...], Stored] = {}
        self.used_math = False  # whose functions look at a number without being seen
        self._objects: dict[int, Callable[[], Any]] = {}  # that methods were called on
        self._local_names: set[str] = set()  # of attributes of local variables
        self.unwatched = Unwatched()
        self._functions: dict[CodeType, FunctionType] = {}
        self._uses: dict[int, Uses | None] = {}  # by the id of code,
        self._codes: list[CodeType] = []  # which stays alive
        self._know(function)

    def watching(self) -> Watching:
        """Look at every call in this thread within the block."""
        return Watching(self.unwatched, self._event)

    def note(self, place: Place, value: Any) -> None:
        """The trace relies on a place having this value."""
        symbolic = isinstance(value, Tensor) and not isinstance(value._data, np.ndarray)
        if not symbolic and not isinstance(value, Lifted):
            self.noted.setdefault(place.identity, (place, value))

    def guards(self) -> Guards:
        """What must hold before the trace is used again."""
        self._note_met()
        return Guards(list(self.noted.values()))

    def changed(self) -> list[Stored]:
        """Attributes and variables that the function has set and that outlive it."""
        alive = [s for s in self.stored.values() if s.holder() is not None]
        return [s for s in alive if s.place.now() is not s.before]

    def restore(self) -> None:
        """Undo what the function has set, as it will run again."""
        for stored in self.changed():
            stored.place.put(stored.before)

    def warn(self, warned: set[str], name: str) -> None:
        """Say once for each line that what it sets will not be set again."""
        for stored in self.changed():
            if stored.line not in warned:
                warned.add(stored.line)
                warnings.warn(
                    f"{stored.line}: {stored.place.name} is set while {name} is traced. A compiled "
                    "call does not run this line again: keep what changes in a tensor and write to "
                    "it in place, or set it outside.",
                    stacklevel=2,
                )

    # --- events -------------------------------------------------------------------------------

    def _event(self, frame: FrameType, event: str, argument: Any) -> None:
        """Called some hundred thousand times in a large trace, mostly for code of our own."""
        code = frame.f_code
        try:
            found = self._uses[id(code)]  # to hash code takes longer than all the rest
        except KeyError:
            found = self._uses[id(code)] = _of(frame)
            self._codes.append(code)
        if found is None:
            return
        if event == "call":
            self._entered(frame, found)
        elif event == "return":
            self._left(frame, found)
        elif event == "c_call" and argument.__module__ == "math" and not found.ours:
            self.used_math = True

    def _entered(self, frame: FrameType, found: Uses) -> None:
        for chain in found.entry:
            self._follow(frame, chain)
        if found.method:
            thing = frame.f_locals.get("self")
            known = self._objects.get(id(thing))
            if known is None or known() is None:
                self._objects[id(thing)] = _reference(thing)
        for store in found.stores:
            self._expect(frame, store)

    def _left(self, frame: FrameType, found: Uses) -> None:
        for chain in found.exit:
            self._follow(frame, chain)
            if chain.steps:
                self._local_names.add(str(chain.steps[0][1]))

    def _note_met(self) -> None:
        """A local variable stood for several objects in turn: look at all that it may have been."""
        for thing in [find() for find in self._objects.values()]:
            for name in self._local_names:
                place = _attribute(thing, name, f"{name} of a {type(thing).__name__}")
                if place is not None:
                    self._met(place, place.now())

    def _follow(self, frame: FrameType, chain: Chain) -> None:
        """Note the values along a chain, and the contents of a container at its end."""
        place, value = self._root(frame, chain)
        text = chain.name
        for kind, key in chain.steps:
            self._met(place, value)
            text += f".{key}" if kind == "attribute" else f"[{key!r}]"
            following = _next(value, kind, key, f"{text} in {frame.f_code.co_name}()")
            if following is None:
                if key in _STORING:
                    return
                break  # a method, perhaps one that goes through a container
            place, value = following, following.now()
        self._met(place, value)
        if place is not None:
            self._contents(value, place.name, _DEEP)

    def _root(self, frame: FrameType, chain: Chain) -> tuple[Place | None, Any]:
        """The value of a chain's name, and its place unless that is the call's own."""
        code, name = frame.f_code, chain.name
        if chain.kind == "global":
            place = Place(getitem, frame.f_globals, name, name)
        elif chain.kind == "free" and code in self._functions:
            cell = (self._functions[code].__closure__ or ())[code.co_freevars.index(name)]
            place = Place(getattr, cell, "cell_contents", f"{name} in {code.co_name}()")
        else:
            return None, frame.f_locals.get(name, MISSING)
        value = place.now()
        return (None if value is MISSING else place), value

    def _met(self, place: Place | None, value: Any) -> None:
        if isinstance(value, (FunctionType, MethodType)):
            self._know(value)
        if place is None or value is MISSING:
            return
        of_module = isinstance(place.container, dict) and "__name__" in place.container
        if not (of_module and isinstance(value, _CODE)):  # its functions, classes and imports stay
            self.note(place, value)

    def _contents(self, value: Any, name: str, depth: int) -> None:
        """What a container holds, since the function may look at all of it."""
        if not depth or not isinstance(value, _CONTAINERS) or plain(value):
            return
        parts = list(value.values()) if isinstance(value, dict) else list(value)
        if all(map(plain, parts)):
            copied = dict(value) if isinstance(value, dict) else type(value)(value)
            self.note(Place(eq, value, copied, f"the contents of {name}"), True)
            return
        self.note(Place(length_hint, value, 0, f"the length of {name}"), len(value))
        if len(value) > _LARGE or isinstance(value, (set, frozenset)):
            return
        keys = value if isinstance(value, dict) else range(len(value))
        for key, part in zip(keys, parts, strict=True):
            self.note(Place(_getter(value), value, key, f"{name}[{key!r}]"), part)
            self._contents(part, f"{name}[{key!r}]", depth - 1)

    def _expect(self, frame: FrameType, store: Store) -> None:
        """Remember what stands where the function may store something."""
        target, holder = store.target, frame.f_globals
        place, value = self._root(frame, target)
        for i, (kind, key) in enumerate(target.steps, 1):
            holder, last = value, i == len(target.steps)
            place = _next(value, kind, key, str(target), stored=last)
            value = MISSING if place is None else place.now()
        if place is not None:
            line = f"{frame.f_code.co_filename}:{store.line}"
            self.stored.setdefault(place.identity, Stored(place, value, line, _reference(holder)))

    def _know(self, function: Any) -> None:
        """Remember which function a code belongs to, and those that it closes over."""
        function = getattr(function, "__func__", function)
        if not isinstance(function, FunctionType) or function.__code__ in self._functions:
            return
        self._functions[function.__code__] = function
        for cell in function.__closure__ or ():
            self._know(Place(getattr, cell, "cell_contents", "").now())


def _reference(thing: Any) -> Callable[[], Any]:
    """A way to find an object as long as it lives; of some kinds, one that keeps it alive."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing


def _of(frame: FrameType) -> Uses | None:
    """What user code uses; of our modules and trainers, what they read from ``self``."""
    code, file = frame.f_code, frame.f_code.co_filename
    if not file.startswith(_OURS):
        generated = str(frame.f_globals.get("__name__")).startswith("ganglion.")
        return None if generated or file.startswith(_LIBRARIES) else uses(code)
    if argument_names(code)[:1] != ("self",):
        return None
    chains = tuple(c for c in uses(code).entry if (c.kind, c.name) == ("argument", "self"))
    return Uses(chains, (), (), method=True, ours=True)


def _next(value: Any, kind: str, key: Any, name: str, stored: bool = False) -> Place | None:
    """Where the next value of a chain is stored."""
    if kind == "attribute":
        return _attribute(value, key, name, stored)
    if not isinstance(value, (list, dict, tuple)):
        return None
    place = Place(_getter(value), value, key, name)
    return None if place.now() in (MISSING, None) else place


def _getter(container: Any) -> Get:
    """How to read an item without the side effects of a ``defaultdict``."""
    return dict.get if isinstance(container, dict) and type(container) is not dict else getitem


def _attribute(value: Any, key: str, name: str, stored: bool = False) -> Place | None:
    """Where an attribute is found, or will be ``stored``; None for methods and properties."""
    if value is None or value is MISSING or isinstance(value, Tensor):
        return None
    own = getattr(value, "__dict__", None)
    if isinstance(own, dict):
        if key in own:
            return Place(getitem, own, key, name)
        for registered in getattr(type(value), "_registered", ()):
            if key in own.get(registered, ()):
                return Place(getitem, own[registered], key, name)
        if stored:
            return Place(getitem, own, key, name)
    for kind in value.__mro__ if isinstance(value, type) else type(value).__mro__:
        if key in vars(kind):
            return _of_class(value, kind, key, name)
    return None


def _of_class(value: Any, kind: type, key: str, name: str) -> Place | None:
    """Where an attribute is found by way of a class: a slot's value, or data of the class."""
    found = vars(kind)[key]
    if kind.__module__.startswith("ganglion."):
        return None
    data = plain(found) or isinstance(found, (Tensor, MemberDescriptorType, *_CONTAINERS))
    return Place(getattr, value, key, name) if data else None
