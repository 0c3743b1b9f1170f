"""Running values: one step after the other along a dimension, lanes along the others.

The other dimensions that follow each other in memory make one run, along which the lanes go. If
there is none that fills a vector, operands are turned around first, so that the scanned dimension
is the outermost one, and the result is turned back.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from ganglion.compiler.kernel import Kernel, Layout, Plan, row_major
from ganglion.compiler.kernels.grid import Axis, Grid, Spot, cut
from ganglion.compiler.kernels.pack import copy
from ganglion.compiler.kernels.tile import natural_lanes
from ganglion.compiler.scalars import Emitter, Place
from ganglion.compiler.text import Code, Index, Reg, first_lanes
from ganglion.ops import scalar as sc
from ganglion.ops.scalar import Scalar
from ganglion.ops.sweep import Scan
from ganglion.shapes import Shape

WIDE = 8  # neighbours that fill a vector well enough
FEW = 4  # lanes that are worth turning operands around
SMALL = 512  # elements that are not worth turning around
VECTORS = 4  # side by side, so that one need not wait for the other
TASK = 1 << 13  # elements of a task at least, where there are as many
ENOUGH_TASKS, MOST_TASKS = 16, 64

RESULT = -1  # the number of the result among the operands


def scanned(scan: Scan, key: Hashable, operands: Mapping[int, Layout], result: Layout) -> Plan:
    """Plan operands: those given, in order, then the result."""
    if not result.numel:
        return Plan((), ())
    target = _turned(result, scan.dim) if _worth_turning(result, scan.dim) else result
    plan = _Turning(dict(operands), result)
    given = {k: plan.brought(k, x, target, scan.dim) for k, x in operands.items()}
    places = [number for number, _ in given.values()]
    layouts = {k: layout for k, (_, layout) in given.items()}
    kernel = _kernel(scan, key, layouts, target)
    if target is result:
        plan.steps.append((kernel, (*places, len(operands))))
    else:
        made = plan.temporary(target)
        plan.steps += [(kernel, (*places, made)), (copy(target, result), (made, len(operands)))]
    return Plan(tuple(plan.temporaries), tuple(plan.steps))


class _Turning:
    """Temporaries for operands in another order, and the copies that fill them."""

    def __init__(self, operands: dict[int, Layout], result: Layout) -> None:
        self.first = len(operands) + 1
        self.order = list(operands)
        self.temporaries: list[Layout] = []
        self.steps: list[tuple[Kernel, tuple[int, ...]]] = []

    def temporary(self, layout: Layout) -> int:
        self.temporaries.append(layout)
        return self.first + len(self.temporaries) - 1

    def brought(self, k: int, x: Layout, target: Layout, dim: int) -> tuple[int, Layout]:
        """Where an operand is found in an order that goes with the target's, and its layout."""
        number = self.order.index(k)
        if _goes_with(x, target, dim):
            return number, x
        made = Layout(x.dtype, x.shape, _dense(target))
        there = self.temporary(made)
        self.steps.append((copy(x, made), (number, there)))
        return there, made


def _dense(layout: Layout) -> tuple[int, ...]:
    """Strides without gaps, in the order of a layout's."""
    dims = sorted(range(len(layout.shape)), key=lambda d: (-layout.strides[d], d))
    steps = dict(zip(dims, row_major(tuple(layout.shape[d] for d in dims)), strict=True))
    return tuple(steps[d] for d in range(len(dims)))


def _worth_turning(result: Layout, dim: int) -> bool:
    run = _run(result, dim)[1]
    others = math.prod(n for d, n in enumerate(result.shape) if d != dim)
    return run < WIDE and others >= max(FEW, 2 * run) and result.numel >= SMALL


def _turned(layout: Layout, dim: int) -> Layout:
    """The scanned dimension outermost, all others in row-major order."""
    others = [d for d in range(len(layout.shape)) if d != dim]
    steps = row_major(tuple(layout.shape[d] for d in (dim, *others)))
    strides = dict(zip((dim, *others), steps, strict=True))
    return Layout(layout.dtype, layout.shape, tuple(strides[d] for d in range(len(strides))))


def _run(layout: Layout, dim: int) -> tuple[list[int], int]:
    """The dimensions, outermost first, that make one run of neighbours, and its length."""
    others = [d for d, n in enumerate(layout.shape) if d != dim and n > 1]
    others.sort(key=lambda d: layout.strides[d])
    found, size = [], 1
    for d in others:
        if layout.strides[d] != size:
            break
        found.insert(0, d)
        size *= layout.shape[d]
    return found, size


def _goes_with(x: Layout, target: Layout, dim: int) -> bool:
    """Whether the target's run is one of an operand too, or all of one element."""
    step = None
    for d in reversed(_run(target, dim)[0]):
        if step is not None and x.strides[d] != step:
            return False
        if step is None and x.strides[d] not in (0, 1):
            return False
        step = x.strides[d] * x.shape[d]
    return True


# --- the kernel -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
    """How the elements of a result are gone through."""

    sizes: Shape
    dim: int
    outer: tuple[int, ...]  # dimensions that are cut into tasks
    run: tuple[int, ...]  # dimensions along which the lanes go, as one
    lanes: int

    @property
    def length(self) -> int:
        return self.sizes[self.dim] if self.sizes else 1

    @property
    def neighbours(self) -> int:
        return math.prod(self.sizes[d] for d in self.run)

    @property
    def grid(self) -> Grid:
        outer = math.prod(self.sizes[d] for d in self.outer)
        vectors = outer * self.neighbours // (ENOUGH_TASKS * self.lanes)
        step = self.lanes * min(VECTORS, max(1, vectors))
        axes = [*(Axis(self.sizes[d]) for d in self.outer), Axis(self.neighbours, step)]
        return Grid(cut(axes, min(MOST_TASKS, max(1, math.prod(self.sizes) // TASK))))


def _kernel(scan: Scan, key: Hashable, operands: Mapping[int, Layout], target: Layout) -> Kernel:
    run = _run(target, scan.dim)[0]
    dims = [d for d, n in enumerate(target.shape) if n > 1 and d != scan.dim and d not in run]
    lanes = min(natural_lanes(target.stored), _power(_run(target, scan.dim)[1]))
    shape = _Shape(target.shape, scan.dim, tuple(dims), tuple(run), lanes)
    layouts = (*operands.values(), target)
    last = len(operands)

    def emit(code: Code, pointers: Sequence[Reg], _: Reg, low: Reg, high: Reg) -> None:
        pairs = zip(pointers, layouts, strict=True)
        writer = _Writer(code, scan, shape, dict(zip([*operands, RESULT], pairs, strict=True)))
        shape.grid.emit(code, low, high, writer.write)

    return Kernel(
        "scan", ("scan", key, shape, tuple(operands), layouts), emit, layouts,
        tuple(range(last)), (last,), shape.grid.tasks, flops=target.numel,
        bytes=sum(x.numel * x.dtype.itemsize for x in layouts),
    )  # fmt: skip


def _power(count: int) -> int:
    """The least power of two that is not less."""
    return 1 << (count - 1).bit_length()


class _Writer:
    """Writes the scan of some vectors side by side."""

    def __init__(
        self, code: Code, scan: Scan, shape: _Shape, sources: dict[int, tuple[Reg, Layout]]
    ) -> None:
        self.code, self.scan, self.shape, self.sources = code, scan, shape, sources
        self.step = sc.index(shape.length)
        self.lane = sc.index(shape.neighbours)
        self.index: list[Scalar] = [sc.const(0, sc.INDEX)] * len(shape.sizes)
        for d in shape.outer:
            self.index[d] = sc.index(shape.sizes[d])
        along = sc.unflat(self.lane, tuple(shape.sizes[d] for d in shape.run))
        for d, i in zip(shape.run, along, strict=False):
            self.index[d] = i

    def at(self, step: Scalar | int) -> tuple[Scalar, ...]:
        """The index of an element so many steps from the start."""
        if not self.shape.sizes:
            return ()
        found = sc.const(step, sc.INDEX) if isinstance(step, int) else step
        found = self.shape.length - 1 - found if self.scan.reverse else found
        return (*self.index[: self.scan.dim], found, *self.index[self.scan.dim + 1 :])

    def write(self, spot: Spot) -> None:
        """Everything along the dimension for one tile of the others."""
        *outer, start = spot.starts(self.code, self.shape.grid.axes)
        places = {self.index[d]: _place(i) for d, i in zip(self.shape.outer, outer, strict=True)}
        lanes, size = self.shape.lanes, spot.sizes[-1]
        vectors = [
            self._emitter(places, start, v, min(lanes, size - v)) for v in range(0, size, lanes)
        ]
        first = self.scan.first(self.at(0))
        carried = [e.lanes(x) for e in vectors for x in first]
        symbols = [Scalar("carried", (k,), x.dtype) for k, x in enumerate(first)]
        result = self.scan.result(*symbols)
        following = self.scan.following(self.at(self.step), *symbols)
        for e, values in zip(vectors, _groups(carried, len(first)), strict=True):
            self._store(e, dict(zip(symbols, values, strict=True)), result, self.at(0))

        def turn(i: Index, *values: Reg) -> list[Reg]:
            found = []
            for e, own in zip(vectors, _groups(values, len(first)), strict=True):
                inside = self._again(e, i, dict(zip(symbols, own, strict=True)))
                new = [inside.lanes(x) for x in following]
                known = dict(zip(symbols, new, strict=True))
                self._store(self._again(e, i, {}), known, result, self.at(self.step))
                found += new
            return found

        self.code.loop(1, self.shape.length, 1, carried, turn)

    def _emitter(self, places: dict[Scalar, Place], start: Index, v: int, count: int) -> Emitter:
        lanes = self.shape.lanes
        at: Place = (0, start + v) if isinstance(start, int) else (start, v)
        mask = first_lanes(count, lanes) if count < lanes else None
        places = {**places, self.lane: at}
        return Emitter(self.code, self.sources, places, self.lane, lanes, mask)

    def _again(self, e: Emitter, i: Index, known: dict[Scalar, Reg]) -> Emitter:
        """The same place some steps later."""
        places = {**e.places, self.step: _place(i)}
        return Emitter(self.code, self.sources, places, self.lane, e.width, e.mask, known)

    def _store(
        self, e: Emitter, known: dict[Scalar, Reg], result: Scalar, index: tuple[Scalar, ...]
    ) -> None:
        e.known |= known
        e.store(RESULT, index, e.lanes(result))


def _place(i: Index) -> Place:
    return (0, i) if isinstance(i, int) else (i, 0)


def _groups(values: Sequence[Reg], size: int) -> list[Sequence[Reg]]:
    return [values[k : k + size] for k in range(0, len(values), size)]
