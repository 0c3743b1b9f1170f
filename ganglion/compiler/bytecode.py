"""What a piece of Python code reads and writes, found in its byte code.

A ``Chain`` is a name and the attributes and constant subscripts that follow it: ``self.config.p``
or ``options["alpha"]``. Values reached in other ways (``getattr``, a computed subscript) are not
seen.
"""

from __future__ import annotations

import dis
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import CodeType
from typing import Any, Literal

Step = tuple[Literal["attribute", "item"], Any]
Kind = Literal["argument", "local", "free", "global"]


@dataclass(frozen=True)
class Chain:
    """A name of some kind, and the steps taken from its value."""

    kind: Kind
    name: str
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return self.name + "".join(
            f".{key}" if kind == "attribute" else f"[{key!r}]" for kind, key in self.steps
        )


@dataclass(frozen=True)
class Store:
    """An assignment to the attribute, global or outer variable ``target`` on a line."""

    target: Chain
    line: int


@dataclass(frozen=True)
class Uses:
    """What code reads from what it has when it starts, from its own variables, and stores."""

    entry: tuple[Chain, ...]
    exit: tuple[Chain, ...]
    stores: tuple[Store, ...]
    method: bool  # whether its first argument is called ``self``
    ours: bool = False  # whether it is this package's own code


@lru_cache(maxsize=4096)
def uses(code: CodeType) -> Uses:
    """What some code reads and stores."""
    reader = _Reader(code)
    for instruction in dis.get_instructions(code):
        reader.read(instruction)
    reader.close()
    arguments = set(argument_names(code))
    own = {"argument", "free", "global"}
    local = [c for c in reader.chains if c.kind == "local"]
    local += [c for c in reader.chains if c.kind == "argument" and c.name in reader.assigned]
    return Uses(
        tuple(dict.fromkeys(c for c in reader.chains if c.kind in own)),
        tuple(dict.fromkeys(Chain("local", c.name, c.steps) for c in local)),
        tuple(s for s in reader.stores if s.target.kind != "local" or s.target.name in arguments),
        argument_names(code)[:1] == ("self",),
    )


def argument_names(code: CodeType) -> tuple[str, ...]:
    """The names of a function's arguments, ``*args`` and ``**kwargs`` included."""
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & CO_VARARGS) + bool(code.co_flags & CO_VARKEYWORDS)
    return code.co_varnames[:count]


_PASSED_OVER = ("CACHE", "PUSH_NULL", "PRECALL", "RESUME", "EXTENDED_ARG", "NOP", "NOT_TAKEN")


@dataclass
class _Reader:
    """Goes over instructions, extending the chain that stands on top of the stack."""

    code: CodeType
    chains: list[Chain] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    assigned: set[str] = field(default_factory=set)
    open: Chain | None = None
    subscript: tuple[Any] | None = None  # a constant pushed after the open chain
    augmented: Chain | None = None  # the object of `object.name += ...`
    adding: bool = False  # after the operator of `name += ...`
    line: int = 0

    def read(self, instruction: dis.Instruction) -> None:
        op, value = instruction.opname, instruction.argval
        if instruction.positions is not None and instruction.positions.lineno is not None:
            self.line = instruction.positions.lineno
        if op in _PASSED_OVER:
            return
        if op.startswith(("LOAD_FAST", "STORE_FAST")):
            self._fast(op, value)
        elif op in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            free = value in self.code.co_freevars
            self._start(Chain("free" if free else "local", value))
        elif op in ("LOAD_GLOBAL", "LOAD_NAME"):
            self._start(Chain("global", value))
        elif op in ("LOAD_ATTR", "LOAD_METHOD") and self.open is not None and not self.subscript:
            self._extend("attribute", value)
        elif op in ("LOAD_CONST", "LOAD_SMALL_INT") and self.open is not None:
            self.subscript = (value,)
        elif self.subscript and (op == "BINARY_SUBSCR" or instruction.argrepr == "[]"):
            self._extend("item", self.subscript[0])
        else:
            self._other(op, value, instruction.argrepr)

    def _other(self, op: str, value: Any, text: str) -> None:
        if op == "COPY" and self.open is not None:
            self.augmented = self.open
        elif op == "STORE_ATTR":
            target = self.open or self.augmented
            if target is not None:
                step: Step = ("attribute", value)
                self._store(Chain(target.kind, target.name, (*target.steps, step)))
        elif op == "STORE_GLOBAL":
            self._store(Chain("global", value))
        elif op == "STORE_DEREF" and value in self.code.co_freevars:
            self._store(Chain("free", value))
        self.close()
        self.adding = op == "BINARY_OP" and text.endswith("=")

    def _fast(self, op: str, value: Any) -> None:
        names = value if isinstance(value, tuple) else (value,)
        self.adding = False
        verbs = [word for word in op.split("_") if word in ("LOAD", "STORE")]
        for verb, name in zip(verbs, names, strict=True):  # two in LOAD_FAST_LOAD_FAST
            if verb == "LOAD":
                self._start(Chain(self._kind(name), name))
            else:
                self.assigned.add(name)
                self.close()

    def _kind(self, name: str) -> Kind:
        return "argument" if name in argument_names(self.code) else "local"

    def _start(self, chain: Chain) -> None:
        self.close()
        self.open = chain

    def _extend(self, kind: Literal["attribute", "item"], key: Any) -> None:
        assert self.open is not None
        self.open = Chain(self.open.kind, self.open.name, (*self.open.steps, (kind, key)))
        self.subscript = None

    def _store(self, target: Chain) -> None:
        self.stores.append(Store(target, self.line))
        self.augmented = None
        if self.adding and target in self.chains:  # `n += 1` reads n for its own sake only
            last = len(self.chains) - 1 - self.chains[::-1].index(target)
            del self.chains[last]

    def close(self) -> None:
        """The open chain ends here."""
        if self.open is not None:
            self.chains.append(self.open)
        self.open = self.subscript = None
