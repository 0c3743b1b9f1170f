"""The matrix product: C[..., m, n] = sum over k of A[..., m, k] B[..., k, n].

``product`` writes a plan for operands with any strides; the result goes through an epilogue. What
is done follows from shapes and strides alone (``choice``): lanes along n or m or along k, operands
read where they lie or brought into panels first. A long k over a small result is cut into chunks,
whose sums are added in order. So the bits of a result depend neither on the number of threads nor
on the size of the registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ganglion.compiler.kernel import Epilogue, Kernel, Layout, Plan, Tile, packed, stored
from ganglion.compiler.kernels.choice import Choice, Problem, Side, choose, chunks, pose
from ganglion.compiler.kernels.grid import Axis, Grid, Spot, cut
from ganglion.compiler.kernels.pack import panels
from ganglion.compiler.kernels.tile import (
    AVX512,
    Registers,
    add,
    dots,
    load_lanes,
    natural_lanes,
    summed,
    tile,
    zeros,
)
from ganglion.compiler.target import Target
from ganglion.compiler.text import Code, Index, Reg, vector
from ganglion.shapes import Shape

TASKS = 32  # so many at least, where there are as many tiles: even shares for several threads
BLOCK = 1 << 18  # bytes of A that a task goes through; they stay in the second cache
WORTH = 1 << 15  # multiplications that are worth a task


def product(
    a: Layout, b: Layout, epilogue: Epilogue, result_shape: Shape, *, target: Target = AVX512
) -> Plan:
    """The product of a: (..., m, k) and b: (..., k, n), handed to ``epilogue`` tile by tile.

    Any strides; an operand that is shared along a batch dimension has stride 0 there. The
    caller's operands are (a, b); tiles are indexed by (..., m, n).
    """
    builder = _Builder((a, b), len(epilogue.operands), target)
    if math.prod(result_shape):
        problem = pose(a, b, result_shape)
        count, length = chunks(problem)
        if count == 1:
            builder.multiply(problem, epilogue, builder.results)
        else:
            builder.add_chunks(problem, count, length, result_shape, epilogue)
    return Plan(tuple(builder.temporaries), tuple(builder.steps))


@dataclass
class _Builder:
    """A plan in the making: operands 0 and 1 are the caller's, then come the epilogue's."""

    operands: tuple[Layout, Layout]
    extra: int
    target: Target
    temporaries: list[Layout] = field(default_factory=list)
    steps: list[tuple[Kernel, tuple[int, ...]]] = field(default_factory=list)

    @property
    def results(self) -> tuple[int, ...]:
        """The numbers of the epilogue's operands."""
        return tuple(range(2, 2 + self.extra))

    def temporary(self, layout: Layout) -> int:
        """The number of a new buffer."""
        self.temporaries.append(layout)
        return 1 + self.extra + len(self.temporaries)

    def multiply(self, problem: Problem, epilogue: Epilogue, numbers: Sequence[int]) -> None:
        """One product, with the copies it needs."""
        choice = choose(problem, self.target)
        problem = problem.flipped if choice.flip else problem
        places = {0: (0, self.operands[0]), 1: (1, self.operands[1])}
        if choice.pack_left:
            left = self._pack(problem, problem.left, problem.rows, choice.height, places)
            problem = replace(problem, left=left)
        if choice.pack_right:
            right = self._pack(problem, problem.right, problem.columns, choice.width, places)
            problem = replace(problem, right=right)
        (first, a), (second, b) = places[0], places[1]
        kernel = _product(problem, choice, (a, b), epilogue, self.target)
        self.steps.append((kernel, (first, second, *numbers)))

    def _pack(
        self, problem: Problem, side: Side, size: int, width: int,
        places: dict[int, tuple[int, Layout]],
    ) -> Side:  # fmt: skip
        """Bring an operand into panels, once for all batches that share it."""
        number, layout = places[side.operand]
        own = [i for i, stride in enumerate(side.batch) if stride]
        source = Layout(
            layout.dtype,
            (*(problem.batch[i] for i in own), problem.k, size),
            (*(side.batch[i] for i in own), side.along, side.across),
            side.offset,
            layout.elements,
        )
        target, copies = panels(source, width)
        place = self.temporary(target)
        for kernel in copies:
            self.steps.append((replace(kernel, operands=(layout, target)), (number, place)))
        places[side.operand] = place, target
        batch = [0] * len(side.batch)
        for i, stride in zip(own, target.strides, strict=False):
            batch[i] = stride
        return Side(side.operand, 0, tuple(batch), 1, width, width * problem.k)

    def add_chunks(
        self, problem: Problem, count: int, length: int, shape: Shape, epilogue: Epilogue
    ) -> None:
        """Chunks of k into a temporary, then their sum in order."""
        rest = problem.k - count * length
        partials = packed(problem.dtype, (count + bool(rest), *shape))
        number = self.temporary(partials)
        self.multiply(_chunked(problem, 0, count, length), stored(partials), (number,))
        if rest:
            at_end = stored(replace(partials, offset=count * partials.strides[0]))
            last = replace(at_end, operands=(partials,))
            self.multiply(_chunked(problem, count * length, 1, rest), last, (number,))
        self.steps.append((_chunk_sum(partials, epilogue), (number, *self.results)))


def _chunked(problem: Problem, start: int, count: int, length: int) -> Problem:
    """``count`` chunks of k from ``start`` on, as a batch dimension before the others."""

    def side(whole: Side) -> Side:
        batch = (whole.along * length, *whole.batch) if count > 1 else whole.batch
        return replace(whole, offset=whole.offset + start * whole.along, batch=batch)

    dims = tuple(d + 1 for d in problem.dims)
    return replace(
        problem,
        batch=(count, *problem.batch) if count > 1 else problem.batch,
        dims=(0, *dims) if count > 1 else dims,
        k=length, rank=problem.rank + 1,
        left=side(problem.left), right=side(problem.right),
    )  # fmt: skip


# --- kernels --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Frame:
    """The tiles of a result: ``dims`` of the result are batch dimensions, rows and columns."""

    grid: Grid
    dims: tuple[int, ...]
    rank: int

    def tile(self, code: Code, spot: Spot, registers: Registers) -> Tile:
        """What an epilogue is given."""
        base: list[Index] = [0] * self.rank
        for dim, start in zip(self.dims, spot.starts(code, self.grid.axes), strict=True):
            base[dim] = start
        rows = [
            tuple(r if dim == self.dims[-2] else 0 for dim in range(self.rank))
            for r in range(spot.sizes[-2])
        ]
        return Tile(tuple(base), rows, self.dims[-1], spot.sizes[-1], registers)


def _frame(
    batch: Sequence[int], rows: Axis, columns: Axis, dims: Sequence[int], rank: int, tasks: int
) -> _Frame:
    """Tasks of batch elements, then of rows, then of columns; the rows of a panel together."""
    axes = cut((*map(Axis, batch), rows, columns), tasks)
    last = len(axes) - 1
    return _Frame(Grid(axes, (*range(last - 1), last, last - 1)), tuple(dims), rank)


Compute = Callable[[Code, Sequence[Reg], Spot], Registers]


def _kernel(
    name: str, key: object, operands: tuple[Layout, ...], frame: _Frame, epilogue: Epilogue,
    compute: Compute, flops: int,
) -> Kernel:  # fmt: skip
    """Tiles of results, computed from ``operands`` and handed to the epilogue."""
    own = len(operands)

    def emit(code: Code, pointers: Sequence[Reg], _: Reg, low: Reg, high: Reg) -> None:
        def body(spot: Spot) -> None:
            registers = compute(code, pointers[:own], spot)
            epilogue.emit(code, pointers[own:], frame.tile(code, spot, registers))

        frame.grid.emit(code, low, high, body)

    everything = operands + epilogue.operands
    return Kernel(
        name, (name, key, epilogue.key), emit, everything,
        (*range(own), *(own + i for i in epilogue.reads)),
        tuple(own + i for i in epilogue.writes),
        frame.grid.tasks, flops=flops,
        bytes=sum(x.elements * x.dtype.numpy.itemsize for x in everything),
    )  # fmt: skip


def _product(
    p: Problem, choice: Choice, operands: tuple[Layout, Layout], epilogue: Epilogue,
    target: Target,
) -> Kernel:  # fmt: skip
    rows, columns = Axis(p.rows, choice.height), Axis(p.columns, choice.width)
    tasks = max(TASKS, p.rows * p.k * p.dtype.numpy.itemsize // BLOCK)
    tasks = min(tasks, p.results * p.k // WORTH)
    frame = _frame(p.batch, rows, columns, p.dims, p.rank, tasks)
    form = _dots if choice.dotted else _tile

    def compute(code: Code, pointers: Sequence[Reg], spot: Spot) -> Registers:
        *batch, row, column = spot.numbers
        a = _start(code, pointers, p.left, batch, row, choice.height, p.element)
        b = _start(code, pointers, p.right, batch, column, choice.width, p.element)
        return form(code, p, a, b, spot.sizes[-2], spot.sizes[-1], target)

    flops = 2 * p.results * p.k
    return _kernel("product", (p, choice), operands, frame, epilogue, compute, flops)


def _start(
    code: Code, pointers: Sequence[Reg], side: Side, batch: Sequence[Index], number: Index,
    step: int, element: str,
) -> Reg:  # fmt: skip
    """Where an operand's tile begins."""
    start = code.dot(batch, side.batch, side.offset)
    start = code.add(start, code.mul(number, side.panel or step * side.across))
    return code.at_index(pointers[side.operand], start, element)


def _tile(
    code: Code, p: Problem, a: Reg, b: Reg, rows: int, columns: int, target: Target
) -> Registers:
    vectors = -(-columns // p.lanes)
    return tile(
        code, [r * p.left.across for r in range(rows)], vectors, p.k,
        a, p.left.along, b, p.right.along,
        columns=None if p.right.panel else columns, element=p.element,
        unroll=max(1, 16 // (rows * vectors)),
    )  # fmt: skip


def _dots(
    code: Code, p: Problem, a: Reg, b: Reg, rows: int, columns: int, target: Target
) -> Registers:
    at_rows = [r * p.left.across for r in range(rows)]
    at_columns = [c * p.right.across for c in range(columns)]
    sums = dots(code, at_rows, at_columns, p.k, a, b, element=p.element, target=target)
    return [[s] for s in sums]


def _chunk_sum(partials: Layout, epilogue: Epilogue) -> Kernel:
    """The sum over the first dimension, in order."""
    count, *shape = partials.shape
    stride, *strides = partials.strides
    element, lanes = partials.stored, natural_lanes(partials.stored)
    *dims, row, column = range(len(shape))
    row, column = (row, column) if shape[column] > 1 else (column, row)
    vectors = min(4, -(-shape[column] // lanes))
    frame = _frame(
        [shape[i] for i in dims],
        Axis(shape[row], min(shape[row], 16 // vectors)),
        Axis(shape[column], vectors * lanes),
        (*dims, row, column), len(shape), TASKS,
    )  # fmt: skip

    def compute(code: Code, pointers: Sequence[Reg], spot: Spot) -> Registers:
        starts = spot.starts(code, frame.grid.axes)
        first = code.dot(starts, [strides[i] for i in frame.dims])

        def once(at: Index, sums: Registers) -> Registers:
            start = code.at_index(pointers[0], code.add(first, code.mul(at, stride)), element)

            def more(r: int, v: int, s: Reg) -> Reg:
                place = code.at_index(start, r * strides[row] + v * lanes, element)
                return add(code, s, load_lanes(code, place, s.type, spot.sizes[-1] - v * lanes))

            return [[more(r, v, s) for v, s in enumerate(line)] for r, line in enumerate(sums)]

        type, wide = vector(element, lanes), -(-spot.sizes[-1] // lanes)
        return summed(code, count, zeros(spot.sizes[-2], wide, type), once)

    return _kernel("sum of chunks", partials, (partials,), frame, epilogue, compute, partials.numel)
