"""Running values: one step after the other along a dimension, lanes along the others.

The other dimensions that follow each other in memory make one run, along which the lanes go. If
there is none that fills a vector, operands are turned around first, so that the scanned dimension
is the outermost one, and the result is turned back.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

from ganglion.compiler.kernel import Kernel, Layout, Plan, row_major
from ganglion.compiler.kernels.grid import Grid, Spot
from ganglion.compiler.kernels.pack import copy
from ganglion.compiler.kernels.strip import (
    RESULT,
    Sources,
    Strip,
    Strips,
    beside,
    inside,
    numbered,
    power,
)
from ganglion.compiler.kernels.tile import natural_lanes
from ganglion.compiler.scalars import Emitter
from ganglion.compiler.text import Code, Index, Reg
from ganglion.ops import scalar as sc
from ganglion.ops.scalar import Scalar
from ganglion.ops.sweep import Scan

WIDE = 8  # neighbours that fill a vector well enough
FEW = 4  # lanes that are worth turning operands around
SMALL = 512  # elements that are not worth it
TASK = 1 << 13  # elements of a task at least, where there are as many


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
    found: list[int] = []
    size = 1
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


def _kernel(scan: Scan, key: Hashable, operands: Mapping[int, Layout], target: Layout) -> Kernel:
    run, length = _run(target, scan.dim)
    outer = [d for d, n in enumerate(target.shape) if n > 1 and d != scan.dim and d not in run]
    lanes = min(natural_lanes(target.stored), power(length))
    strips = Strips(target.shape, tuple(outer), tuple(run), lanes)
    grid = strips.grid(TASK)
    layouts = (*operands.values(), target)
    last = len(operands)

    def emit(code: Code, pointers: Sequence[Reg], _: Reg, low: Reg, high: Reg) -> None:
        sources = numbered([*operands], pointers, layouts)
        writer = _Writer(code, scan, strips, sources)
        grid.emit(code, low, high, lambda spot: writer.write(grid, spot))

    return Kernel(
        "scan", ("scan", key, strips, grid, tuple(operands), layouts), emit, layouts,
        tuple(range(last)), (last,), grid.tasks, flops=target.numel,
        bytes=sum(x.numel * x.dtype.itemsize for x in layouts),
    )  # fmt: skip


class _Writer:
    """Writes the scan of a strip."""

    def __init__(self, code: Code, scan: Scan, strips: Strips, sources: Sources) -> None:
        self.code, self.scan = code, scan
        self.strip = Strip(code, strips, sources)
        self.length = strips.box[scan.dim] if strips.box else 1
        self.step = sc.index(self.length)
        self.start, self.later = self._at(sc.const(0, sc.INDEX)), self._at(self.step)
        self.first = scan.first(self.start)
        self.carried = [Scalar("carried", (k,), x.dtype) for k, x in enumerate(self.first)]
        self.following = scan.following(self.later, *self.carried)
        self.result = scan.result(*self.carried)

    def _at(self, step: Scalar) -> tuple[Scalar, ...]:
        """The index of an element so many steps from the start."""
        found, dim = self.strip.index, self.scan.dim
        step = self.length - 1 - step if self.scan.reverse else step
        return (*found[:dim], step, *found[dim + 1 :]) if found else ()

    def write(self, grid: Grid, spot: Spot) -> None:
        """Every step along the dimension."""
        vectors = self.strip.vectors(grid, spot)
        carried = [e.lanes(x) for e in vectors for x in self.first]
        self._store(vectors, carried, self.start)

        def turn(i: Index, *before: Reg) -> list[Reg]:
            after: list[Reg] = []
            for e, values in zip(vectors, self._shared_out(before), strict=True):
                one = inside(e, self.step, i, values)
                after += [one.lanes(x) for x in self.following]
            self._store([inside(e, self.step, i, {}) for e in vectors], after, self.later)
            return after

        self.code.loop(1, self.length, 1, carried, turn)

    def _shared_out(self, values: Sequence[Reg]) -> list[dict[Scalar, Reg]]:
        """What each vector carries."""
        count = len(self.carried)
        parts = (values[k : k + count] for k in range(0, len(values), count))
        return [dict(zip(self.carried, part, strict=True)) for part in parts]

    def _store(
        self, vectors: Sequence[Emitter], carried: Sequence[Reg], index: tuple[Scalar, ...]
    ) -> None:
        for e, values in zip(vectors, self._shared_out(carried), strict=True):
            one = beside(e)
            one.known |= values
            one.store(RESULT, index, one.lanes(self.result))
