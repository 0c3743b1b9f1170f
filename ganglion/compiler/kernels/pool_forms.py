"""What becomes of a window in pooling: a form visits its cells and ends with some vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Layout, store_lanes
from ganglion.compiler.kernels.buffers import load_strided
from ganglion.compiler.kernels.pool_windows import Cell, Divisor, divided, index_reg
from ganglion.compiler.text import BYTES, Code, Index, Reg, const, is_float, vector
from ganglion.shapes import Shape

# --- a window -------------------------------------------------------------------------------------


@dataclass
class View:
    """A window and some channels, as forms see them."""

    code: Code
    operands: Sequence[tuple[Reg, Layout]]
    at: tuple[Index, ...]  # of the result: (n, c, d, h, w)
    columns: int
    lanes: int

    @property
    def vectors(self) -> int:
        return -(-self.columns // self.lanes)

    def load(self, which: int, place: Sequence[Index]) -> list[Reg]:
        """The channels of an operand at ``place``."""
        pointer, layout = self.operands[which]
        type = vector(layout.stored, self.lanes)
        return [
            load_strided(self.code, where, type, layout.strides[1], count)
            for where, count in self._parts(pointer, layout, place)
        ]

    def store(self, which: int, values: Sequence[Reg]) -> None:
        """The channels of an operand where the result stands."""
        pointer, layout = self.operands[which]
        parts = self._parts(pointer, layout, self.at[2:])
        for value, (where, count) in zip(values, parts, strict=True):
            store_lanes(self.code, value, where, layout.strides[1], count)

    def _parts(self, pointer: Reg, layout: Layout, place: Sequence[Index]) -> list[tuple[Reg, int]]:
        code, step = self.code, layout.strides[1]
        start = code.dot((*self.at[:2], *place), layout.strides, layout.offset)
        first = code.at_index(pointer, start, layout.stored)
        return [
            (code.at_index(first, i * step, layout.stored), self.columns - i)
            for i in range(0, self.columns, self.lanes)
        ]

    def zeros(self) -> list[Reg]:
        layout = self.operands[0][1]
        return [const(0, vector(layout.stored, self.lanes))] * self.vectors


class Spot:
    """A cell of a window in all dimensions: its place, its number, whether it is inside."""

    def __init__(self, code: Code, cells: Sequence[Cell], kernel: Shape) -> None:
        self.place = [cell.place for cell in cells]
        self.number: Index = 0
        for cell, size in zip(cells, kernel, strict=True):
            self.number = code.add(code.mul(self.number, size), cell.number)
        self.inside: Reg | None = None
        for test in (cell.inside for cell in cells):
            if test is not None:
                self.inside = test if self.inside is None else code.op("and", self.inside, test)

    def numbers(self, code: Code, type: str) -> Reg:
        """The number in all lanes, or one that no cell has if it is outside."""
        number = self.number
        if self.inside is not None:
            number = code.select(self.inside, index_reg(number), index_reg(-1))
        return whole(code, number, type)

    def only(self, code: Code, values: Sequence[Reg]) -> list[Reg]:
        """The values, or zeros if the cell is outside."""
        if self.inside is None:
            return list(values)
        number = f"i{8 * BYTES[values[0].element]}"
        bits = code.splat(code.convert("sext", self.inside, number), values[0].lanes)
        return [
            code.convert("bitcast", code.op("and", code.convert("bitcast", x, number), bits),
                         x.element)
            for x in values
        ]  # fmt: skip


def whole(code: Code, number: Index, type: str) -> Reg:
    """A whole number in all lanes of an integer type."""
    if isinstance(number, int):
        return const(number, type)
    element = const(0, type).element
    narrow = number if element == "i64" else code.convert("trunc", number, element)
    return code.splat(narrow, const(0, type).lanes)


# --- forms ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """What becomes of a window: a state is begun, visits every cell, and ends as vectors."""

    masks = True  # whether cells outside are visited, with zeros, or else the nearest one inside

    def start(self, view: View, first: Spot) -> list[Reg]:
        return view.zeros()

    def visit(self, view: View, state: list[Reg], spot: Spot) -> list[Reg]:
        raise NotImplementedError

    def finish(self, view: View, state: list[Reg]) -> list[Reg]:
        return state


@dataclass(frozen=True)
class Largest(Form):
    """The largest element; its position goes to the last operand, if there are two."""

    dtype: dt.dtype
    masks = False

    def start(self, view: View, first: Spot) -> list[Reg]:
        best = [const(lowest(self.dtype), x.type) for x in view.zeros()]
        return [*best, *[self._numbers(view, first)] * view.vectors]

    def visit(self, view: View, state: list[Reg], spot: Spot) -> list[Reg]:
        code, count = view.code, view.vectors
        number, values, places = self._numbers(view, spot), [], []
        for x, best, at in zip(view.load(0, spot.place), state[:count], state[count:], strict=True):
            better = self._better(code, x, best)
            values.append(code.select(better, x, best))
            places.append(code.select(better, number, at))
        return [*values, *places]

    def finish(self, view: View, state: list[Reg]) -> list[Reg]:
        if len(view.operands) > 1:
            view.store(1, state[view.vectors :])
        return state[: view.vectors]

    def _numbers(self, view: View, spot: Spot) -> Reg:
        element = view.operands[1][1].stored if len(view.operands) > 1 else "i8"
        return spot.numbers(view.code, vector(element, view.lanes))

    def _better(self, code: Code, x: Reg, best: Reg) -> Reg:
        if not is_float(x.type):
            signed = self.dtype not in (dt.uint8, dt.bool_)
            return code.compare("sgt" if signed else "ugt", x, best)
        return code.op("or", code.compare("ogt", x, best), code.compare("uno", x, x))


def lowest(dtype: dt.dtype) -> float:
    """What is no larger than anything."""
    if dtype.is_floating_point:
        return -math.inf
    return 0 if dtype in (dt.uint8, dt.bool_) else -(1 << 8 * dtype.numpy.itemsize - 1)


@dataclass(frozen=True)
class Scattered(Form):
    """The sum of what windows hand to the position that is this element."""

    def visit(self, view: View, state: list[Reg], spot: Spot) -> list[Reg]:
        code = view.code
        positions = view.load(1, spot.place)
        number = spot.numbers(code, positions[0].type)
        parts = zip(view.load(0, spot.place), positions, state, strict=True)
        return [
            code.fadd(total, code.select(code.compare("eq", at, number), x, const(0, x.type)))
            for x, at, total in parts
        ]


@dataclass(frozen=True)
class Picked(Form):
    """The element that stands at the window's position."""

    def start(self, view: View, first: Spot) -> list[Reg]:
        return [*view.zeros(), *view.load(1, view.at[2:])]

    def visit(self, view: View, state: list[Reg], spot: Spot) -> list[Reg]:
        code, count = view.code, view.vectors
        positions = state[count:]
        number = spot.numbers(code, positions[0].type)
        parts = zip(view.load(0, spot.place), positions, state[:count], strict=True)
        found = [code.select(code.compare("eq", at, number), x, now) for x, at, now in parts]
        return [*found, *positions]

    def finish(self, view: View, state: list[Reg]) -> list[Reg]:
        return state[: view.vectors]


@dataclass(frozen=True)
class Mean(Form):
    """The sum of a window, divided."""

    divisor: Divisor

    def visit(self, view: View, state: list[Reg], spot: Spot) -> list[Reg]:
        values = spot.only(view.code, view.load(0, spot.place))
        return [view.code.fadd(total, x) for total, x in zip(state, values, strict=True)]

    def finish(self, view: View, state: list[Reg]) -> list[Reg]:
        return divided(view.code, state, self.divisor.of(view.code, view.at[2:]))


@dataclass(frozen=True)
class Shared(Form):
    """The sum over windows that contain an element, each divided."""

    divisor: Divisor

    def visit(self, view: View, state: list[Reg], spot: Spot) -> list[Reg]:
        code = view.code
        values = divided(code, view.load(0, spot.place), self.divisor.of(code, spot.place))
        parts = zip(state, spot.only(code, values), strict=True)
        return [code.fadd(total, x) for total, x in parts]
