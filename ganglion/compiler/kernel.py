"""What a kernel is: native code for one node or several, cut into tasks.

``emit(code, pointers, scratch, low, high)`` writes the body of

    void kernel(ptr b0, ptr b1, ..., ptr scratch, i64 low, i64 high)

which does the tasks ``low <= task < high``; the range is never empty. The number of tasks follows
from shapes alone, a task is done by one thread from beginning to end, and no task reads what
another one of the same kernel writes: so results do not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import ganglion.dtypes as dt
from ganglion.compiler.text import Code, Index, Module, Reg, consts, first_lanes
from ganglion.shapes import Shape

# LLVM's type in memory for each dtype. A bool is a byte that holds 0 or 1; floats of two bytes are
# moved as integers, as LLVM would call a library for some masked moves of theirs.
STORED = {
    dt.float32: "float", dt.float64: "double", dt.float16: "i16", dt.bfloat16: "i16",
    dt.bool_: "i8", dt.int8: "i8", dt.uint8: "i8", dt.int16: "i16", dt.int32: "i32",
    dt.int64: "i64",
}  # fmt: skip

Emit = Callable[[Code, Sequence[Reg], Reg, Reg, Reg], None]


@dataclass(frozen=True)
class Layout:
    """How a buffer holds an array: element ``index`` stands at ``offset + sum(index * strides)``.

    ``strides``, ``offset`` and ``size`` (of the whole buffer) count elements. What lies between
    the elements belongs to the buffer too. ``halo``: how many zeros stand before and after the
    elements in each of the dimensions from the third on; empty for none. Nobody overwrites them.
    """

    dtype: dt.dtype
    shape: Shape
    strides: tuple[int, ...]
    offset: int = 0
    size: int = -1
    halo: tuple[tuple[int, int], ...] = ()

    @property
    def stored(self) -> str:
        """LLVM's type of an element in memory."""
        return STORED[self.dtype]

    @property
    def numel(self) -> int:
        """Elements of the array."""
        return math.prod(self.shape)

    @property
    def elements(self) -> int:
        """Elements of the whole buffer."""
        return self.numel if self.size < 0 else self.size

    @property
    def contiguous(self) -> bool:
        """Whether the buffer is the array in row-major order and nothing else."""
        return self == packed(self.dtype, self.shape)


def row_major(shape: Shape) -> tuple[int, ...]:
    """Strides of an array without gaps, the last dimension densest."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def packed(dtype: dt.dtype, shape: Shape) -> Layout:
    """The row-major layout."""
    return Layout(dtype, tuple(shape), row_major(shape))


@dataclass(frozen=True)
class Kernel:
    """Native code for ``operands``, in the order of its pointers.

    Kernels with equal keys have equal code, whatever buffers they work on. ``reads`` and
    ``writes`` are positions among the operands; ``scratch`` is bytes of private memory a thread.
    """

    name: str
    key: Hashable
    emit: Emit
    operands: tuple[Layout, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    tasks: int
    scratch: int = 0
    flops: int = 0
    bytes: int = 0

    def write(self, module: Module, name: str) -> None:
        """Its function: the operands' pointers, then ``ptr scratch, i64 low, i64 high``."""
        pointers = [("ptr", f"b{i}") for i in range(len(self.operands))]
        parameters = [*pointers, ("ptr", "scratch"), ("i64", "low"), ("i64", "high")]
        code = module.function(name, parameters)
        *buffers, scratch, low, high = code.parameters
        self.emit(code, buffers, scratch, low, high)
        code.ret()


@dataclass(frozen=True)
class Tile:
    """A block of a result in registers, handed to an epilogue.

    ``registers[r][v]`` holds ``lanes`` elements of row ``r`` that follow each other in dimension
    ``lane_dim`` of the result; lane 0 of ``registers[r][0]`` is the element ``base + offsets[r]``.
    Only the first ``columns`` elements of a row are real, the lanes after them mean nothing.
    ``more``: the registers of further results at the same places.
    """

    base: tuple[Index, ...]
    offsets: Sequence[tuple[int, ...]]
    lane_dim: int
    columns: int
    registers: Sequence[Sequence[Reg]]
    more: Sequence[Sequence[Sequence[Reg]]] = ()


@dataclass(frozen=True)
class Epilogue:
    """What becomes of a product's tiles: ``emit(code, pointers of operands, tile)``.

    The kernels of products, convolutions and the like store nothing themselves: their results go
    where the epilogue puts them. ``window``: tiles begin at multiples of it in the last dimensions,
    and cut no window that is inside the result. ``emit`` may return the registers of its result,
    for epilogues that are made of others.
    """

    key: Hashable
    operands: tuple[Layout, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    emit: Callable[[Code, Sequence[Reg], Tile], Any]
    window: Shape = ()


@dataclass(frozen=True)
class Plan:
    """Kernels in order, each with the numbers of its operands.

    The caller's operands come first, then those of the epilogue, then ``temporaries``.
    """

    temporaries: tuple[Layout, ...]
    steps: tuple[tuple[Kernel, tuple[int, ...]], ...]


def stored(layout: Layout) -> Epilogue:
    """The epilogue that stores the result as it is."""

    def emit(code: Code, pointers: Sequence[Reg], tile: Tile) -> None:
        start = code.dot(tile.base, layout.strides, layout.offset)
        pointer = code.at_index(pointers[0], start, layout.stored)
        step = layout.strides[tile.lane_dim]
        for offset, row in zip(tile.offsets, tile.registers, strict=True):
            at = sum(o * s for o, s in zip(offset, layout.strides, strict=True))
            for v, value in enumerate(row):
                lanes = value.lanes
                place = code.at_index(pointer, at + v * lanes * step, layout.stored)
                store_lanes(code, value, place, step, tile.columns - v * lanes)

    return Epilogue(("stored", layout), (layout,), (), (0,), emit)


def store_lanes(code: Code, value: Reg, pointer: Reg, stride: int, count: int) -> None:
    """Store the first ``count`` lanes, ``stride`` elements apart."""
    lanes = value.lanes
    if count <= 0:
        return
    if stride != 1 and lanes > 1:
        steps = consts([i * stride for i in range(lanes)], "i64")
        places = code.addresses(pointer, steps, value.element)
        code.scatter(value, places, first_lanes(min(count, lanes), lanes))
    elif count < lanes:
        code.masked_store(value, pointer, first_lanes(count, lanes))
    else:
        code.store(value, pointer)
