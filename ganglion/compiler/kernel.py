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

import ganglion.dtypes as dt
from ganglion.compiler.text import Code, Index, Reg
from ganglion.shapes import Shape

# LLVM's type in memory for each dtype; bool is a byte that holds 0 or 1.
STORED = {
    dt.float32: "float", dt.float64: "double", dt.float16: "half", dt.bfloat16: "bfloat",
    dt.bool_: "i8", dt.int8: "i8", dt.uint8: "i8", dt.int16: "i16", dt.int32: "i32",
    dt.int64: "i64",
}  # fmt: skip

Emit = Callable[[Code, Sequence[Reg], Reg, Reg, Reg], None]


@dataclass(frozen=True)
class Layout:
    """How a buffer holds an array: element ``index`` stands at ``offset + sum(index * strides)``.

    ``strides``, ``offset`` and ``size`` (of the whole buffer) count elements. What lies between
    the elements, such as the zero border of a convolution's input, belongs to the buffer too.
    """

    dtype: dt.dtype
    shape: Shape
    strides: tuple[int, ...]
    offset: int = 0
    size: int = -1

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


@dataclass(frozen=True)
class Tile:
    """A block of a product in registers, handed to an epilogue.

    ``registers[r][v]`` holds row ``row + r``, columns ``column + v * lanes`` on; only the first
    ``columns`` columns of the block are real, the lanes after them hold nothing of meaning.
    ``batch`` counts the products of a batched kernel; 0 in a plain one.
    """

    row: Index
    column: Index
    columns: int
    registers: Sequence[Sequence[Reg]]
    batch: Index = 0


Epilogue = Callable[[Code, Tile], None]
