"""The windows of pooling along one dimension, and how many cells of them count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from ganglion.compiler.kernels.axes import Axis, Window
from ganglion.compiler.text import Code, Index, Reg, const
from ganglion.shapes import Shape

Place = tuple[Index, Index, Index]


class Cell(NamedTuple):
    """A cell of a window: its place in the source, its number, whether it is inside the source.

    Outside, the place is one that can be read; None means always inside.
    """

    place: Index
    number: Index
    inside: Reg | None


class Span(Protocol):
    """Results along one dimension and the cells they read."""

    @property
    def axis(self) -> Axis:
        """Which results: ``start + step * i`` for i < ``count``, in all ``phases``."""

    @property
    def most(self) -> int:
        """Cells of a result, at most."""

    def turn(self, axis: Axis) -> Span:
        """One of the phases."""

    def cells(self, code: Code, i: Index) -> tuple[Index, Index]:
        """The bounds of the cells of result ``i``."""

    def cell(self, code: Code, i: Index, t: Index, *, mask: bool) -> Cell:
        """One of them; without ``mask``, the nearest cell inside stands for those outside."""


@dataclass(frozen=True)
class Sliding:
    """Windows at equal distances over ``size`` elements; ``turned`` counts cells from the end."""

    axis: Axis
    size: int
    kernel: int
    turned: bool

    @property
    def most(self) -> int:
        return self.axis.taps

    def turn(self, axis: Axis) -> Sliding:
        return replace(self, axis=axis)

    def cells(self, code: Code, i: Index) -> tuple[Index, Index]:
        return 0, self.axis.taps

    def cell(self, code: Code, i: Index, t: Index, *, mask: bool) -> Cell:
        axis = self.axis
        first = code.add(code.mul(i, axis.move), axis.offset)
        inside = None
        if axis.reach(self.size) != (0, 0) and not mask:
            t = self._nearest(code, first, t)
        index = code.add(first, code.mul(t, axis.spacing))
        if axis.reach(self.size) != (0, 0) and mask:
            inside = code.compare("ult", index, self.size)
            index = code.select(inside, index_reg(index), index_reg(0))
        number = code.add(code.mul(t, axis.skip), axis.first)
        if self.turned:
            number = code.add(self.kernel - 1, code.mul(number, -1))
        return Cell(index, number, inside)

    def _nearest(self, code: Code, first: Index, t: Index) -> Index:
        """The cell nearest to ``t`` that is inside."""
        spacing = self.axis.spacing
        missing = larger(code, code.mul(first, -1), 0)
        lowest, _ = code.divmod(code.add(missing, spacing - 1), spacing)
        highest, _ = code.divmod(code.add(self.size - 1, code.mul(first, -1)), spacing)
        return larger(code, code.minimum(t, highest), lowest)


@dataclass(frozen=True)
class Even:
    """Windows spread evenly over ``size`` elements, or those of ``size`` windows with an element.

    The formula is the same.
    """

    axis: Axis
    size: int

    @property
    def most(self) -> int:
        return -(-self.size // self.axis.count) + 1

    def turn(self, axis: Axis) -> Even:
        return self

    def cells(self, code: Code, i: Index) -> tuple[Index, Index]:
        return even_bounds(code, i, self.size, self.axis.count)

    def cell(self, code: Code, i: Index, t: Index, *, mask: bool) -> Cell:
        return Cell(t, 0, None)


def even_bounds(code: Code, i: Index, size: int, count: int) -> tuple[Index, Index]:
    """floor(i * size / count) and ceil((i + 1) * size / count)."""
    low, _ = code.divmod(code.mul(i, size), count)
    high, _ = code.divmod(code.add(code.mul(i, size), size + count - 1), count)
    return low, high


# --- divisors -------------------------------------------------------------------------------------


class Divisor(Protocol):
    """By what the sum of a window is divided."""

    def of(self, code: Code, at: Sequence[Index]) -> Index:
        """The divisor of the window ``at``."""


@dataclass(frozen=True)
class Counted:
    """The cells of sliding windows that count: with padding, as far as it reaches, or without."""

    window: Window
    size: Shape
    out: Shape
    padding: bool
    override: int | None

    def of(self, code: Code, at: Sequence[Index]) -> Index:
        if self.override is not None:
            return self.override
        found: Index = 1
        for d, i in enumerate(at):
            found = code.mul(found, self._cells(code, d, i))
        return found

    def _cells(self, code: Code, d: int, i: Index) -> Index:
        window = self.window
        kernel, stride, (pad, _) = window.kernel[d], window.stride[d], window.padding[d]
        n, last = self.size[d], (self.out[d] - 1) * stride - pad + kernel
        before = pad if self.padding else 0
        end = n + before
        if before >= pad and last <= end:
            return kernel
        start = code.add(code.mul(i, stride), -pad)
        stop = code.minimum(code.add(start, kernel), end)
        return code.add(stop, code.mul(larger(code, start, -before), -1))


@dataclass(frozen=True)
class EvenCounted:
    """The cells of windows spread evenly."""

    size: Shape
    out: Shape

    def of(self, code: Code, at: Sequence[Index]) -> Index:
        found: Index = 1
        for i, n, o in zip(at, self.size, self.out, strict=True):
            low, high = even_bounds(code, i, n, o)
            found = code.mul(found, code.add(high, code.mul(low, -1)))
        return found


def divided(code: Code, sums: Sequence[Reg], by: Index) -> list[Reg]:
    """Vectors divided by a whole number."""
    type = sums[0].type
    if by == 1:
        return list(sums)
    if isinstance(by, int):
        return [code.fdiv(x, const(by, type)) for x in sums]
    number = code.splat(code.convert("sitofp", by, sums[0].element), sums[0].lanes)
    return [code.fdiv(x, number) for x in sums]


def larger(code: Code, x: Index, y: Index) -> Index:
    """The greater of two indexes."""
    if isinstance(x, int) and isinstance(y, int):
        return max(x, y)
    return code.select(code.compare("sgt", x, y), index_reg(x), index_reg(y))


def index_reg(x: Index) -> Reg:
    """The index as a value."""
    return Reg(str(x), "i64") if isinstance(x, int) else x
