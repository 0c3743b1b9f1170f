"""LLVM text, written by functions: typed SSA values, explicit vectors, structured loops.

Emitting text is some thirty times faster than building instruction objects. ``Module`` collects
functions and declarations; ``Code`` writes the body of one function. A value is a ``Reg``: its
spelling and its type. Index arithmetic takes Python integers as well and folds them, so that
everything known at compile time disappears from the code.

Pure instructions are remembered within the block, and for the blocks it dominates: asking twice
for ``a + b`` gives the same register. Loads are never remembered.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

LANES = 16  # floats in a virtual vector; the target splits it into registers of its own size


class Reg(NamedTuple):
    """An SSA value or a constant: ``%t7`` or ``zeroinitializer``, and its LLVM type."""

    name: str
    type: str

    @property
    def lanes(self) -> int:
        """Elements in the value; 1 for a scalar."""
        return lanes_of(self.type)

    @property
    def element(self) -> str:
        """The type of one element."""
        return element_of(self.type)

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


Index = Reg | int

BYTES = {"i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "half": 2, "bfloat": 2, "float": 4,
         "double": 8, "ptr": 8}  # fmt: skip
_FLOATS = frozenset({"half", "bfloat", "float", "double"})


@cache
def vector(element: str, lanes: int) -> str:
    """The type of ``lanes`` elements; one lane is a scalar."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


@cache
def lanes_of(type: str) -> int:
    """Elements of a type."""
    return int(type[1 : type.index(" ")]) if type[0] == "<" else 1


@cache
def element_of(type: str) -> str:
    """The element type of a type."""
    return type[type.rindex(" ") + 1 : -1] if type[0] == "<" else type


@cache
def is_float(type: str) -> bool:
    """Whether the elements are floating-point numbers."""
    return element_of(type) in _FLOATS


@cache
def _mangled(type: str) -> str:
    short = {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16", "ptr": "p0"}
    element = short.get(element_of(type), element_of(type))
    return f"v{lanes_of(type)}{element}" if type[0] == "<" else element


def _literal(value: float, element: str) -> str:
    if element == "i1":
        return "true" if value else "false"
    if element not in _FLOATS:
        return str(int(value))
    if element in ("half", "bfloat"):
        raise TypeError("half-width floats are storage; compute in float")
    if element == "float":  # written as the double that has the rounded value
        value = struct.unpack("<f", struct.pack("<f", value))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


@cache
def const(value: float, type: str) -> Reg:
    """A constant; in a vector type, the same in all lanes."""
    if value == 0 and type[0] == "<" and not (is_float(type) and str(float(value))[0] == "-"):
        return Reg("zeroinitializer", type)
    element = element_of(type)
    one = _literal(value, element)
    lanes = lanes_of(type)
    return Reg(one if type[0] != "<" else f"<{', '.join([f'{element} {one}'] * lanes)}>", type)


def consts(values: Sequence[float], element: str) -> Reg:
    """A vector of constants."""
    items = ", ".join(f"{element} {_literal(v, element)}" for v in values)
    return Reg(f"<{items}>", vector(element, len(values)))


@cache
def first_lanes(count: int, lanes: int = LANES) -> Reg:
    """The mask of the first ``count`` of ``lanes`` lanes."""
    return consts([i < count for i in range(lanes)], "i1")


class Module:
    """Functions that are compiled together.

    ``fma``: whether the target multiplies and adds in one rounding; without it, ``llvm.fma``
    would call the C library, so products and sums are rounded one by one. Such a target lacks
    other instructions as well: see `baseline`.
    """

    def __init__(self, fma: bool = True, attributes: str = "nounwind") -> None:
        self.fma = fma
        self.attributes = attributes
        self.declarations: dict[str, str] = {}
        self.functions: dict[str, Code] = {}
        self.globals: list[str] = []

    def declare(self, name: str, result: str, parameters: str) -> None:
        """Declare an intrinsic once."""
        if name not in self.declarations:
            self.declarations[name] = f"declare {result} @{name}({parameters})"

    def function(
        self, name: str, parameters: Sequence[tuple[str, str]], result: str = "void",
        linkage: str = "",
    ) -> Code:  # fmt: skip
        """Start a function; parameters are (type, name) pairs, types may carry attributes."""
        code = self.functions[name] = Code(self, name, parameters, result, linkage)
        return code

    @property
    def length(self) -> int:
        """Lines of code."""
        return sum(len(code.lines) for code in self.functions.values())

    def text(self) -> str:
        """The whole module."""
        parts = [*self.globals, *self.declarations.values()]
        return "\n".join([*parts, *(code.text() for code in self.functions.values())]) + "\n"


class Code:
    """The body of one function, written in order."""

    def __init__(
        self, module: Module, name: str, parameters: Sequence[tuple[str, str]], result: str,
        linkage: str,
    ) -> None:  # fmt: skip
        self.module, self.name, self.result, self.linkage = module, name, result, linkage
        self.parameters = [Reg(f"%{n}", t.split(" ")[0]) for t, n in parameters]
        self._signature = ", ".join(f"{t} %{n}" for t, n in parameters)
        self.lines = ["entry:"]
        self.block = "entry"
        self._count = 0
        self._known: dict[str, Reg] = {}
        self._sums: dict[str, tuple[Reg, int, int]] = {}  # index, factor and summand, by name
        self._added: list[str] = []

    def text(self) -> str:
        """The function's definition."""
        head = f"define {self.linkage} {self.result} @{self.name}({self._signature})"
        return f"{head} {self.module.attributes} {{\n" + "\n".join(self.lines) + "\n}\n"

    # --- writing ------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """An instruction without a result."""
        self.lines.append(f"  {text}")

    def fresh(self, type: str, text: str) -> Reg:
        """An instruction with a result that is never reused."""
        self._count += 1
        name = f"%t{self._count}"
        self.lines.append(f"  {name} = {text}")
        return Reg(name, type)

    def pure(self, type: str, text: str) -> Reg:
        """An instruction that depends on its operands alone."""
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = self.fresh(type, text)
            self._added.append(text)
        return found

    def label(self, hint: str = "block") -> str:
        """A new name for a block."""
        self._count += 1
        return f"{hint}{self._count}"

    def at(self, label: str) -> None:
        """Go on in a new block."""
        self.lines.append(f"{label}:")
        self.block = label

    def jump(self, label: str) -> None:
        """Leave the block."""
        self.line(f"br label %{label}")

    def branch(self, condition: Reg, yes: str, no: str) -> None:
        """Leave the block for one of two."""
        self.line(f"br i1 {condition.name}, label %{yes}, label %{no}")

    def ret(self, value: Reg | None = None) -> None:
        """Return from the function."""
        self.line("ret void" if value is None else f"ret {value}")

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Forget afterwards what was remembered inside: its block dominates no more."""
        mark = len(self._added)
        yield
        for text in self._added[mark:]:
            del self._known[text]
        del self._added[mark:]

    # --- control flow -------------------------------------------------------------------------

    def loop(
        self,
        low: Index,
        high: Index,
        step: int = 1,
        carried: Sequence[Reg] = (),
        body: Callable[..., Sequence[Reg] | None] = lambda i, *carried: None,
        unroll: bool = False,
    ) -> list[Reg]:
        """``for i in range(low, high, step)``, at least once; values carried around it.

        ``body(i, *carried)`` returns the carried values of the next turn. A loop known to turn
        once, or one to be unrolled, is written without a branch.
        """
        if isinstance(low, int) and isinstance(high, int):
            turns = range(low, high, step)
            if len(turns) <= 1 or unroll:
                values = list(carried)
                for i in turns:
                    values = list(body(i, *values) or ())
                return values
        head, after, before = self.label("loop"), self.label("after"), self.block
        self.jump(head)
        self.at(head)
        at = Reg(f"%i.{head}", "i64")
        inside = [Reg(f"%c{k}.{head}", value.type) for k, value in enumerate(carried)]
        place = len(self.lines)
        self.lines += [""] * (1 + len(inside))
        with self.scope():
            out = list(body(at, *inside) or ())
            following = self.fresh("i64", f"add nsw i64 {at.name}, {step}")
            more = self.fresh("i1", f"icmp slt i64 {following.name}, {spelled(high)}")
        latch = self.block
        self.branch(more, head, after)
        phis = zip([at, *inside], [_reg(low), *carried], [following, *out], strict=True)
        for k, (phi, first, later) in enumerate(phis):
            self.lines[place + k] = (
                f"  {phi.name} = phi {phi.type} [ {first.name}, %{before} ], "
                f"[ {later.name}, %{latch} ]"
            )
        self.at(after)
        return out

    def when(self, condition: Reg, body: Callable[[], None]) -> None:
        """Run ``body`` if the condition holds."""
        yes, after = self.label("then"), self.label("after")
        self.branch(condition, yes, after)
        self.at(yes)
        with self.scope():
            body()
        self.jump(after)
        self.at(after)

    def guarded_loop(
        self, low: Index, high: Index, step: int, body: Callable[..., Sequence[Reg] | None]
    ) -> None:
        """A loop without carried values that may turn not at all."""
        if isinstance(low, int) and isinstance(high, int):
            if low < high:
                self.loop(low, high, step, (), body)
            return
        self.when(
            self.compare("slt", low, high), lambda: void(self.loop(low, high, step, (), body))
        )

    # --- arithmetic ---------------------------------------------------------------------------

    def op(self, name: str, x: Reg, y: Reg) -> Reg:
        """An instruction of two operands of one type, such as ``fadd`` or ``and``."""
        if name == "and" and (x.name == "true" or y.name == "false"):
            return y
        if name == "and" and (y.name == "true" or x.name == "false"):
            return x
        return self.pure(x.type, f"{name} {x.type} {x.name}, {y.name}")

    def add(self, x: Index, y: Index) -> Index:
        """The sum of two indexes."""
        if isinstance(x, int) and isinstance(y, int):
            return x + y
        if x == 0:
            return y
        if y == 0:
            return x
        found = self.pure("i64", f"add nsw i64 {spelled(x)}, {spelled(y)}")
        if isinstance(x, Reg) and isinstance(y, int):
            index, factor, summand = self._sums.get(x.name, (x, 1, 0))
            self._sums[found.name] = index, factor, summand + y
        return found

    def mul(self, x: Index, y: Index) -> Index:
        """The product of two indexes."""
        if isinstance(x, int) and isinstance(y, int):
            return x * y
        if x == 0 or y == 0:
            return 0
        if x == 1:
            return y
        if y == 1:
            return x
        found = self.pure("i64", f"mul nsw i64 {spelled(x)}, {spelled(y)}")
        if isinstance(x, Reg) and isinstance(y, int):
            index, factor, summand = self._sums.get(x.name, (x, 1, 0))
            self._sums[found.name] = index, factor * y, summand * y
        return found

    def divmod(self, x: Index, y: int) -> tuple[Index, Index]:
        """Quotient and remainder of an index that is not negative."""
        if isinstance(x, int):
            return divmod(x, y)
        if y == 1:
            return x, 0
        index, factor, summand = self._sums.get(x.name, (x, 1, 0))
        if factor > 0 and factor % y == 0 and summand >= 0:
            return self.add(self.mul(index, factor // y), summand // y), summand % y
        quotient = self.pure("i64", f"udiv i64 {x.name}, {y}")
        return quotient, self.pure("i64", f"urem i64 {x.name}, {y}")

    def split(self, x: Index, sizes: Sequence[int]) -> list[Index]:
        """The coordinates of flat index ``x`` in a row-major box of ``sizes``."""
        found: list[Index] = []
        for size in reversed(sizes[1:]):
            x, rest = self.divmod(x, size)
            found.append(rest)
        return [x, *reversed(found)] if sizes else []

    def dot(self, indexes: Sequence[Index], strides: Sequence[int], start: Index = 0) -> Index:
        """``start`` + sum of indexes times strides."""
        for index, stride in zip(indexes, strides, strict=True):
            start = self.add(start, self.mul(index, stride))
        return start

    def minimum(self, x: Index, y: Index) -> Index:
        """The lesser of two indexes."""
        if isinstance(x, int) and isinstance(y, int):
            return min(x, y)
        x, y = _reg(x), _reg(y)
        return self.select(self.compare("slt", x, y), x, y)

    def fadd(self, x: Reg, y: Reg) -> Reg:
        """The sum."""
        return self.op("fadd", x, y)

    def fsub(self, x: Reg, y: Reg) -> Reg:
        """The difference."""
        return self.op("fsub", x, y)

    def fmul(self, x: Reg, y: Reg) -> Reg:
        """The product."""
        return self.op("fmul", x, y)

    def fdiv(self, x: Reg, y: Reg) -> Reg:
        """The quotient."""
        return self.op("fdiv", x, y)

    def fneg(self, x: Reg) -> Reg:
        """The negative."""
        return self.pure(x.type, f"fneg {x}")

    def fma(self, x: Reg, y: Reg, z: Reg) -> Reg:
        """``x * y + z`` in one rounding, where the target has it."""
        return self.call("fma" if self.module.fma else "fmuladd", x, y, z)

    def call(self, intrinsic: str, *operands: Reg) -> Reg:
        """An LLVM intrinsic of operands of one type, such as ``sqrt`` or ``rint``."""
        type = operands[0].type
        name = f"llvm.{intrinsic}.{_mangled(type)}"
        self.module.declare(name, type, ", ".join([type] * len(operands)))
        return self.pure(type, f"call {type} @{name}({', '.join(map(str, operands))})")

    def compare(self, how: str, x: Index, y: Index) -> Reg:
        """``icmp`` or ``fcmp`` by the operands' type: slt, eq, ... or olt, une, ..."""
        x, y = _reg(x), _reg(y)
        if how in _DECIDED and _is_number(x) and _is_number(y):
            return const(_DECIDED[how](int(x.name), int(y.name)), "i1")
        kind = "fcmp" if is_float(x.type) else "icmp"
        return self.pure(vector("i1", x.lanes), f"{kind} {how} {x}, {y.name}")

    def select(self, condition: Reg, x: Reg, y: Reg) -> Reg:
        """``x`` where the condition holds, else ``y``; the condition may be a scalar."""
        return self.pure(x.type, f"select {condition}, {x}, {y}")

    def convert(self, how: str, x: Reg, element: str) -> Reg:
        """A cast instruction: ``fpext``, ``sitofp``, ``zext``, ``bitcast``, ..."""
        type = vector(element, x.lanes)
        return x if type == x.type else self.pure(type, f"{how} {x} to {type}")

    # --- vectors ------------------------------------------------------------------------------

    def splat(self, x: Reg, lanes: int = LANES) -> Reg:
        """A scalar in all lanes."""
        if lanes == 1:
            return x
        type = vector(x.type, lanes)
        one = self.pure(type, f"insertelement {type} poison, {x}, i64 0")
        zeros = f"<{lanes} x i32> zeroinitializer"
        return self.pure(type, f"shufflevector {one}, {type} poison, {zeros}")

    def extract(self, x: Reg, lane: int) -> Reg:
        """One lane."""
        return self.pure(x.element, f"extractelement {x}, i64 {lane}")

    def insert(self, x: Reg, value: Reg, lane: int) -> Reg:
        """The vector with one lane replaced."""
        return self.pure(x.type, f"insertelement {x}, {value}, i64 {lane}")

    def shuffle(self, x: Reg, y: Reg | None, order: Sequence[int]) -> Reg:
        """Lanes picked from ``x`` and ``y``, numbered through."""
        type = vector(x.element, len(order))
        picks = consts(order, "i32")
        second = Reg("poison", x.type) if y is None else y
        return self.pure(type, f"shufflevector {x}, {second}, {picks}")

    def halves(self, x: Reg) -> tuple[Reg, Reg]:
        """The lower and the upper half of the lanes."""
        half = x.lanes // 2
        upper = self.shuffle(x, None, range(half, 2 * half))
        return self.shuffle(x, None, range(half)), upper

    def fold(self, combine: Callable[[Reg, Reg], Reg], x: Reg) -> Reg:
        """All lanes combined in a fixed tree: first the halves, to one scalar."""
        while x.lanes > 1:
            lower, upper = (
                self.halves(x) if x.lanes > 2 else (self.extract(x, 0), self.extract(x, 1))
            )
            x = combine(lower, upper)
        return x

    def iota(self, element: str = "i64", lanes: int = LANES) -> Reg:
        """0, 1, 2, ..."""
        return consts(range(lanes), element) if lanes > 1 else const(0, element)

    # --- memory -------------------------------------------------------------------------------

    def at_index(self, pointer: Reg, index: Index, element: str) -> Reg:
        """The address of an element."""
        if index == 0:
            return pointer
        return self.pure(
            "ptr", f"getelementptr inbounds {element}, {pointer}, i64 {spelled(index)}"
        )

    def load(self, pointer: Reg, type: str, align: int | None = None) -> Reg:
        """Elements from consecutive places."""
        return self.fresh(type, f"load {type}, {pointer}, align {align or BYTES[element_of(type)]}")

    def store(self, value: Reg, pointer: Reg, align: int | None = None) -> None:
        """Elements to consecutive places."""
        self.line(f"store {value}, {pointer}, align {align or BYTES[value.element]}")

    def broadcast(self, pointer: Reg, element: str, lanes: int = LANES) -> Reg:
        """One element from memory, in all lanes."""
        return self.splat(self.load(pointer, element), lanes)

    def masked_load(self, pointer: Reg, mask: Reg, other: Reg) -> Reg:
        """Lanes where the mask is set, ``other`` elsewhere; nothing else is touched."""
        type = other.type
        name = f"llvm.masked.load.{_mangled(type)}.p0"
        self.module.declare(name, type, f"ptr, i32, {mask.type}, {type}")
        align = BYTES[other.element]
        return self.fresh(type, f"call {type} @{name}({pointer}, i32 {align}, {mask}, {other})")

    def masked_store(self, value: Reg, pointer: Reg, mask: Reg) -> None:
        """Store the lanes where the mask is set."""
        if mask == first_lanes(1, mask.lanes):  # of one narrowed lane LLVM would store the wide one
            self.store(self.extract(value, 0), pointer)
            return
        name = f"llvm.masked.store.{_mangled(value.type)}.p0"
        self.module.declare(name, "void", f"{value.type}, ptr, i32, {mask.type}")
        align = BYTES[value.element]
        self.line(f"call void @{name}({value}, {pointer}, i32 {align}, {mask})")

    def addresses(self, pointer: Reg, indexes: Reg, element: str) -> Reg:
        """A vector of addresses of elements."""
        type = vector("ptr", indexes.lanes)
        return self.pure(type, f"getelementptr inbounds {element}, {pointer}, {indexes}")

    def gather(self, addresses: Reg, mask: Reg, other: Reg) -> Reg:
        """One element from each address where the mask is set."""
        type, places = other.type, addresses.type
        name = f"llvm.masked.gather.{_mangled(type)}.{_mangled(places)}"
        self.module.declare(name, type, f"{places}, i32, {mask.type}, {type}")
        align = BYTES[other.element]
        return self.fresh(type, f"call {type} @{name}({addresses}, i32 {align}, {mask}, {other})")

    def scatter(self, value: Reg, addresses: Reg, mask: Reg) -> None:
        """One element to each address where the mask is set."""
        name = f"llvm.masked.scatter.{_mangled(value.type)}.{_mangled(addresses.type)}"
        self.module.declare(name, "void", f"{value.type}, {addresses.type}, i32, {mask.type}")
        align = BYTES[value.element]
        self.line(f"call void @{name}({value}, {addresses}, i32 {align}, {mask})")


def void(_: object) -> None:
    """Nothing, for a body whose value does not matter."""


_DECIDED = {"eq": operator.eq, "ne": operator.ne, "slt": operator.lt, "sle": operator.le,
            "sgt": operator.gt, "sge": operator.ge}  # fmt: skip


def _is_number(x: Reg) -> bool:
    """Whether this is one integer that is known now."""
    return x.name.lstrip("-").isdigit()


def spelled(x: Index) -> str:
    """An index as LLVM writes it."""
    return str(x) if isinstance(x, int) else x.name


def _reg(x: Index) -> Reg:
    return Reg(str(x), "i64") if isinstance(x, int) else x
