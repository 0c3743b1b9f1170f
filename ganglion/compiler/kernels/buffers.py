"""Named operands of a kernel, read and written a vector at a time, with any strides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ganglion.compiler.kernel import Layout, store_lanes
from ganglion.compiler.kernels.tile import load_lanes
from ganglion.compiler.text import BYTES, Code, Index, Reg, const, consts, first_lanes, vector

Named = dict[str, tuple[Reg, Layout]]


class Buffers:
    """Operands by name: addresses, vectors along the last dimension, and blocks of rows."""

    def __init__(self, code: Code, named: Named, lanes: int) -> None:
        self.code, self.named, self.vector_lanes = code, named, lanes

    def layout(self, name: str) -> Layout:
        return self.named[name][1]

    def at(self, name: str, *index: Index) -> Reg:
        """The address of an element; indexes left out are 0."""
        pointer, layout = self.named[name]
        start = self.code.dot(index, layout.strides[: len(index)], layout.offset)
        return self.code.at_index(pointer, start, layout.stored)

    def load(self, name: str, *index: Index, count: int | None = None) -> Reg:
        """A vector along the last dimension, up to its end or of ``count`` elements; then zeros."""
        layout = self.layout(name)
        count = self._left(layout, index[-1]) if count is None else count
        type = vector(layout.stored, self.vector_lanes)
        return load_strided(self.code, self.at(name, *index), type, layout.strides[-1], count)

    def store(self, value: Reg, name: str, *index: Index, count: int | None = None) -> None:
        """A vector along the last dimension, up to its end or ``count`` elements of it."""
        layout = self.layout(name)
        count = self._left(layout, index[-1]) if count is None else count
        store_lanes(self.code, value, self.at(name, *index), layout.strides[-1], count)

    def _left(self, layout: Layout, column: Index) -> int:
        assert isinstance(column, int), "how many elements follow is not known"
        return min(layout.shape[-1] - column, self.vector_lanes)

    def blocks(
        self, low: Index, high: Index, total: int, rows: int, body: Callable[[Index, int], None]
    ) -> None:
        """``body(first row, number of rows)`` for blocks of the rows low, ..., high - 1.

        ``high`` is ``total`` or a multiple of ``rows``, as ``low`` is.
        """
        code = self.code
        whole, rest = total - total % rows, total % rows

        def last() -> None:
            body(whole, rest)

        code.guarded_loop(low, code.minimum(high, whole), rows, lambda i: body(i, rows))
        if rest and isinstance(low, int) and isinstance(high, int):
            if low <= whole < high:
                last()
        elif rest:
            reached = code.compare("sgt", high, whole)
            code.when(code.op("and", reached, code.compare("sle", low, whole)), last)

    def minus(self, x: Index, y: Index) -> Index:
        """The difference of two indexes."""
        return self.code.add(x, self.code.mul(y, -1))


def load_strided(code: Code, pointer: Reg, type: str, stride: int, count: int) -> Reg:
    """``count`` elements that stand ``stride`` apart; the other lanes are zero."""
    lanes = const(0, type).lanes
    if stride == 1 or count <= 0:
        return load_lanes(code, pointer, type, count)
    return gathered(code, pointer, type, stride, first_lanes(min(count, lanes), lanes))


def gathered(code: Code, pointer: Reg, type: str, stride: int, mask: Reg) -> Reg:
    """Elements that stand ``stride`` apart, where the mask is set, else zero."""
    zero = const(0, type)
    steps = consts([i * stride for i in range(zero.lanes)], "i64")
    return code.gather(code.addresses(pointer, steps, zero.element), mask, zero)


def across(code: Code, rows: Sequence[Reg], combine: Callable[[Code, Reg, Reg], Reg]) -> Reg:
    """Lane r: all lanes of ``rows[r]`` combined, in a fixed tree."""
    lanes = width = rows[0].lanes
    left = [*rows, *[rows[-1]] * (lanes - len(rows))]
    while len(left) > 1:
        lower = [i for i in range(2 * lanes) if i % width < width // 2]
        upper = [i + width // 2 for i in lower]
        left = [
            combine(code, code.shuffle(x, y, lower), code.shuffle(x, y, upper))
            for x, y in zip(left[::2], left[1::2], strict=True)
        ]
        width //= 2
    return left[0]


def lane(code: Code, x: Reg, r: int) -> Reg:
    """One lane in all lanes."""
    return code.shuffle(x, None, [r] * x.lanes)


def padded(x: int, to: int) -> int:
    """The next multiple."""
    return -(-x // to) * to


class Scratch:
    """Places in a thread's private memory, each from a cache line on."""

    def __init__(self, element: str) -> None:
        self.element, self.size = element, 0

    def take(self, count: int) -> int:
        """The first element of ``count`` new ones."""
        start = self.size
        self.size += padded(count, 64 // BYTES[self.element])
        return start

    @property
    def bytes(self) -> int:
        return self.size * BYTES[self.element]
