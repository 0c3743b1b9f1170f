"""``ganglion.compile``: functions that are traced once and then run as one program."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import os
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final
from weakref import WeakSet

from ganglion.compiler import backend as backends
from ganglion.compiler.arguments import (
    Leaf,
    Leaves,
    StaticLeaf,
    Structure,
    described,
    flatten,
    names,
)
from ganglion.compiler.capture import capture, entangled
from ganglion.compiler.guards import Place
from ganglion.compiler.interpret import Interpreted
from ganglion.compiler.program import Program
from ganglion.compiler.reads import watch_by
from ganglion.compiler.specialisation import Specialisation
from ganglion.compiler.trace import Tracer
from ganglion.config import flags
from ganglion.dispatch import Mode
from ganglion.dispatch import mode as thread
from ganglion.errors import ArgumentError, ArgumentTypeError
from ganglion.tensor import Tensor

Function = Callable[..., Any]

LIMIT: Final = 8  # specialisations of one function
_CHANGES: Final[dict[bool | None, float]] = {True: 1, None: 2, False: float("inf")}
_BACKENDS: Final = {
    None: False, "native": False, "inductor": False,
    "interpret": True, "eager": True, "aot_eager": True,
}  # fmt: skip
_told: set[str] = set()
_all: WeakSet[Compiled] = WeakSet()


def compile(
    function: Any = None,
    *,
    fullgraph: bool = True,
    dynamic: bool | None = None,
    backend: str | None = None,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
    disable: bool = False,
    keep_grads: bool = False,
) -> Any:
    """Make a function, or a module, that is traced at its first call and then runs natively.

    The traced Python may hold the whole training step: forward, loss, ``backward()``, clipping,
    ``optimizer.step()``. Parameters, buffers, optimizer slots, gradients and generators are read
    and written where they are; learning rates and other floats of optimizers may change at every
    call. A call with other shapes, dtypes or Python values than before is traced anew, up to 8
    times; ``explain()`` lists the traces and what caused each.

    function: what to compile, also as a decorator. A module gives a module that shares all its
        state with the given one.
    fullgraph: whether Python that a trace cannot follow (``.item()``, values in an ``if``) is an
        error. With False such a function runs eagerly, after one warning that names the line.
    dynamic: when a float argument or attribute that changes becomes a number that the program
        reads: at its first change (True), never (False), or at its second.
    backend: "native", or "interpret" for the graph interpreter; PyTorch's "inductor" and "eager"
        mean these two.
    mode, options: accepted and ignored: there is one way to compile.
    disable: return the function as it is.
    keep_grads: whether gradients that an optimizer used inside are stored in ``.grad``. Without it
        reading them raises an error.

    Python runs while tracing only: printing, appending to lists, setting attributes (with a
    warning) happen once. Reading values raises ``TraceError``. The first call is eager when an
    optimizer of the user's own makes its state in it.
    """
    if function is None:
        return functools.partial(
            compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode,
            options=options, disable=disable, keep_grads=keep_grads,
        )  # fmt: skip
    if backend not in _BACKENDS:
        raise ArgumentError(f"backend must be one of {[*_BACKENDS]}, got {backend!r}")
    if disable or isinstance(function, (Compiled, CompiledObject)):
        return function
    if isinstance(function, type) or not callable(function):
        raise ArgumentTypeError(
            f"compile takes a function or a module, got {function!r}; make an object of it first"
        )
    settings: dict[str, Any] = {
        "fullgraph": fullgraph, "dynamic": dynamic, "interpret": _BACKENDS[backend],
        "keep_grads": keep_grads,
    }  # fmt: skip
    if isinstance(function, (FunctionType, MethodType, BuiltinFunctionType, functools.partial)):
        return Compiled(function, **settings)
    return CompiledObject.of(function, settings)


def available(interpret: bool = False) -> bool:
    """Whether this machine can compile; says once why not."""
    why = "" if interpret else backends.missing()
    if why and why not in _told:
        _told.add(why)
        warnings.warn(f"ganglion.compile: {why}. Everything runs eagerly.", stacklevel=3)
    return not why


class _Unharmed:
    """An error inside leaves the thread's mode, profiler and garbage collector as they were.

    What switches them inside puts them back as well, but Ctrl-C may come in the midst of that.
    """

    def __enter__(self) -> None:
        self.mode, self.profile = dict(vars(thread)), sys.getprofile()
        self.collects = gc.isenabled()

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            return
        for name in vars(thread).keys() - self.mode.keys():
            delattr(thread, name)  # the class has the usual value
        vars(thread).update(self.mode)
        watch_by(self.profile)
        if self.collects:
            gc.enable()


class Compiled:
    """A compiled function; call it like the one it was made from.

    One thread at a time traces or runs it.
    """

    def __init__(
        self,
        function: Function,
        fullgraph: bool = True,
        dynamic: bool | None = None,
        interpret: bool = False,
        keep_grads: bool = False,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function, self.name = function, _name(function)
        self.settings: dict[str, Any] = {
            "fullgraph": fullgraph, "dynamic": dynamic, "interpret": interpret,
            "keep_grads": keep_grads,
        }  # fmt: skip
        self._lock = threading.RLock()
        _all.add(self)
        self.reset()

    def reset(self) -> None:
        """Forget all traces."""
        self.specialisations: list[Specialisation] = []  # the one used last stands first
        self._entangled: list[tuple[Structure, Sequence[Leaf], Program]] = []
        self._changes: Counter[Any] = Counter()  # of floats, by place or argument
        self._lifted: dict[Any, Place | str] = {}
        self._warned: set[str] = set()
        self._failed: Exception | None = None
        usable = available(bool(self.settings["interpret"]))
        self.eager = "" if usable else "this machine cannot compile"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if thread.listener is not Mode.listener or self.eager:  # inside a trace: part of it
            return self.function(*args, **kwargs)
        with self._lock:
            if not kwargs and self.specialisations:  # the usual case, and quick
                usual = self.specialisations[0]
                known = usual.read(args)
                if known is not None and usual.fits(known):
                    return usual(known)
            leaves, structure = flatten(args, kwargs)
            with _Unharmed():
                found = self._found(leaves, structure) or self._new(args, kwargs, leaves, structure)
            if found is not None:
                return found(leaves)
        with _Unharmed():
            result = self.function(*args, **kwargs)
        if self._failed is not None:  # and the function itself is not to blame
            self._give_up(self._failed)
        return result

    def _found(self, leaves: Leaves, structure: Structure) -> Specialisation | None:
        """The trace that a call fits; it moves to the front."""
        for i, found in enumerate(self.specialisations):
            if found.structure == structure and found.fits(leaves):
                self.specialisations[: i + 1] = [found, *self.specialisations[:i]]
                return found
        return None

    # --- new traces ---------------------------------------------------------------------------

    def _new(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: Leaves, structure: Structure
    ) -> Specialisation | None:
        """A trace for a call that none fits; None when it is to run eagerly."""
        self._failed = None
        for known, kinds, program in self._entangled:
            if known == structure and _fit(kinds, leaves) and entangled(program, _tensors(leaves)):
                return None
        called = names(self._signature, args, kwargs)
        reason = self._reason(leaves, structure, called)
        if len(self.specialisations) >= LIMIT:
            self._warn_of_many(reason)
            return None
        try:
            made = self._specialised(leaves, structure, called, reason)
        except Exception as error:
            if self.settings["fullgraph"]:
                raise
            self._failed = error
            return None
        if made is not None:
            made.reads.warn(self._warned, self.name)
        return made

    @backends.uncollected()
    def _specialised(
        self, leaves: Leaves, structure: Structure, called: Sequence[str], reason: str
    ) -> Specialisation | None:
        always = self.settings["dynamic"] is True
        kinds = [
            described(x, name, number=always or name in self._lifted)
            for x, name in zip(leaves, called, strict=True)
        ]
        lifted = [place for place in self._lifted.values() if isinstance(place, Place)]
        keep = bool(self.settings["keep_grads"])
        start = time.perf_counter()
        tracer, program = capture(self.function, leaves, structure, kinds, lifted, keep)
        made = None
        try:
            self._say(f"traced in {(time.perf_counter() - start) * 1e3:.1f} ms")
            made = self._made(tracer, program, structure, kinds, reason)
            if made is not None:
                self._say(f"trace {len(self.specialisations) + 1}: {reason}")
                self.specialisations.insert(0, made)
        finally:
            if self.specialisations[:1] != [made]:
                tracer.take_back()
        return made

    def _made(
        self,
        tracer: Tracer,
        program: Program,
        structure: Structure,
        kinds: Sequence[Leaf],
        reason: str,
    ) -> Specialisation | None:
        if tracer.stepping.starts:
            self._say("an optimizer makes its state: this call is eager")
            return None
        if entangled(program, tracer.given):
            self._say("memory that is written has two names: such calls are eager")
            self._entangled.append((structure, kinds, program))
            return None
        if program.past is not None:
            program.past.compile = self._build_later
        made = Specialisation(program, self._executable(program), tracer, kinds, structure, reason)
        made.prepare()
        return made

    def _executable(self, program: Program) -> backends.Executable:
        """The program made executable; of an equal graph, what there is already."""
        for other in self.specialisations:
            if other.program.graph == program.graph:
                return other.executable
        return self._build(program)

    def _build(self, program: Program) -> backends.Executable:
        return Interpreted(program) if self.settings["interpret"] else backends.build(program)

    def _build_later(self, program: Program) -> backends.Executable:
        with _Unharmed():
            return self._build(program)

    # --- reasons ------------------------------------------------------------------------------

    def _reason(self, leaves: Leaves, structure: Structure, called: Sequence[str]) -> str:
        """Why the nearest trace does not fit; floats that change are counted."""
        if not self.specialisations:
            return "first call"
        alike = [s for s in self.specialisations if s.structure == structure]
        if not alike:
            return "arguments of another number or nesting"
        found = [(list(s.misfits(leaves, called)), s) for s in alike]
        reasons, nearest = min(found, key=lambda pair: len(pair[0]))
        for broken in nearest.floats():
            self._count(broken.place.identity, broken.place)
        for leaf, x, name in zip(nearest.leaves, leaves, called, strict=True):
            if type(x) is float and isinstance(leaf, StaticLeaf) and not leaf.fits(x):
                self._count(name, name)
        return ", ".join(reasons[:3]) or "memory that is written has two names"

    def _count(self, key: Any, place: Place | str) -> None:
        self._changes[key] += 1
        if self._changes[key] >= _CHANGES[self.settings["dynamic"]]:
            self._lifted[key] = place

    @functools.cached_property
    def _signature(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self.function)
        except (ValueError, TypeError):
            return None

    def _warn_of_many(self, reason: str) -> None:
        if "many" not in self._warned:
            self._warned.add("many")
            warnings.warn(
                f"{self.name} has been traced {LIMIT} times; calls that fit no trace run eagerly "
                f"from now on. This one: {reason}. See .explain() for all reasons.",
                stacklevel=4,
            )

    def _give_up(self, error: Exception) -> None:
        self.eager, self._failed = str(error), None
        warnings.warn(f"{self.name} cannot be compiled and runs eagerly: {error}", stacklevel=4)

    def _say(self, text: str) -> None:
        if flags.debug:
            print(f"ganglion.compile {self.name}: {text}", file=sys.stderr)  # noqa: T201

    def explain(self, details: bool = True) -> str:
        """The traces, what each is for, why it was made and how often it was used.

        With ``details``, what each does, too: graph, kernels, memory, and what that should cost.
        """
        lines = [f"{self.name}: {len(self.specialisations)} of at most {LIMIT} traces"]
        if self.eager:
            lines.append(f"  runs eagerly: {self.eager}")
        for made in self.specialisations:
            lines += [f"  {line}" for line in made.explain()]
        for _, kinds, _ in self._entangled:
            lines.append(f"  eager for ({', '.join(map(str, kinds))}): shared memory is written")
        for made in self.specialisations if details else ():
            lines += ["", f"({', '.join(map(str, made.leaves))}):", made.executable.explain()]
        return "\n".join(lines)

    def html(self) -> str:
        """What the trace used last does, as a page, with its profile if one was taken."""
        if not self.specialisations:
            raise ArgumentError(f"{self.name} has no trace yet; call it first")
        return self.specialisations[0].executable.html()

    def profile(self, *args: Any, repeats: int = 30, **kwargs: Any) -> Any:
        """Where the time of a call with these arguments goes: print it, or read its ``rows``.

        Nothing that the calls compute is kept: states are copied first.
        """
        with self._lock:
            leaves, structure = flatten(args, kwargs)
            with _Unharmed():
                found = self._found(leaves, structure) or self._new(args, kwargs, leaves, structure)
            if found is None:
                raise ArgumentError(f"{self.name} runs eagerly with these arguments: no profile")
            return found.profile(leaves, repeats)

    # --- as a method, and copied --------------------------------------------------------------

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bound to an instance, which gets traces of its own."""
        if instance is None:
            return self
        if not isinstance(getattr(instance, "__dict__", None), dict):
            return MethodType(self, instance)
        bound = vars(instance).setdefault("_compiled_methods", {})
        if self.name not in bound:
            bound[self.name] = Compiled(MethodType(self.function, instance), **self.settings)
        return bound[self.name]

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        return Compiled(copy.deepcopy(self.function, memo), **self.settings)

    def __reduce__(self) -> Any:
        module = sys.modules.get(getattr(self, "__module__", ""))
        if getattr(module, getattr(self, "__qualname__", ""), None) is self:
            return self.__qualname__
        return _again, (self.function, self.settings)

    def __repr__(self) -> str:
        return f"<compiled {self.name}>"


def _unlock() -> None:
    """In a forked child: let go of what threads held that are not there."""
    for compiled in list(_all):
        compiled._lock = threading.RLock()


os.register_at_fork(after_in_child=_unlock)


class CompiledObject:
    """A module or another callable object whose calls are compiled.

    It is of a subclass of the object's class and shares its attributes, all of them: parameters,
    ``state_dict`` keys, ``training`` and whatever is assigned to either of the two.
    """

    __slots__ = ("_compiled", "_orig_mod")

    _compiled: Compiled
    _orig_mod: Any

    @staticmethod
    def of(thing: Any, settings: Mapping[str, Any]) -> Any:
        """The compiled form of an object."""
        kind: Any = type(thing)
        made: Any = object.__new__(_subclass(kind))
        call = Compiled(MethodType(kind.__call__, thing), **settings)
        call.name = kind.__name__
        for name, value in (("__dict__", vars(thing)), ("_compiled", call), ("_orig_mod", thing)):
            object.__setattr__(made, name, value)
        return made

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compiled(*args, **kwargs)

    def explain(self) -> str:
        """See ``Compiled.explain``."""
        return str(self._compiled.explain())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return CompiledObject.of, (self._orig_mod, self._compiled.settings)


@functools.cache
def _subclass(kind: type) -> type:
    return type(f"Compiled{kind.__name__}", (CompiledObject, kind), {"__doc__": kind.__doc__})


def _again(function: Any, settings: Mapping[str, Any]) -> Compiled:
    return function if isinstance(function, Compiled) else Compiled(function, **settings)


def _name(function: Any) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    return str(getattr(inner, "__qualname__", type(inner).__name__))


def _fit(kinds: Sequence[Leaf], leaves: Leaves) -> bool:
    return all(kind.fits(x) for kind, x in zip(kinds, leaves, strict=True))


def _tensors(leaves: Leaves) -> list[Tensor]:
    return [x for x in leaves if isinstance(x, Tensor)]
