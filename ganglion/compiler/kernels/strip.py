"""Strips: a few vectors of neighbours side by side, in which scans and scatters work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ganglion.compiler.kernel import Layout
from ganglion.compiler.kernels.grid import Axis, Grid, Spot, cut
from ganglion.compiler.scalars import Emitter, Place
from ganglion.compiler.text import Code, Index, Reg, first_lanes
from ganglion.ops import scalar as sc
from ganglion.ops.scalar import Scalar
from ganglion.shapes import Shape

RESULT = -1  # the number of the result among a node's operands

VECTORS = 4  # side by side, so that one need not wait for the other
ENOUGH_TASKS, MOST_TASKS = 16, 64

Sources = Mapping[int, tuple[Reg, Layout]]


@dataclass(frozen=True)
class Strips:
    """A box cut into strips: ``outer`` dimensions one by one, those of ``run`` as one, in lanes.

    The box's other dimensions are no matter of the strips.
    """

    box: Shape
    outer: tuple[int, ...]
    run: tuple[int, ...]
    lanes: int

    @property
    def neighbours(self) -> int:
        """The length of the run."""
        return math.prod(self.box[d] for d in self.run)

    def grid(self, task: int) -> Grid:
        """The strips in tasks of at least so many elements of the box."""
        outer = [self.box[d] for d in self.outer]
        vectors = math.prod(outer) * self.neighbours // (ENOUGH_TASKS * self.lanes)
        axes = [
            *map(Axis, outer),
            Axis(self.neighbours, self.lanes * min(VECTORS, max(1, vectors))),
        ]
        return Grid(cut(axes, min(MOST_TASKS, max(1, math.prod(self.box) // task))))


class Strip:
    """The index of an element of a strip, and emitters for its vectors.

    Every dimension of the box has its own index; those of the run follow from one lane index.
    """

    def __init__(self, code: Code, strips: Strips, sources: Sources) -> None:
        self.code, self.strips, self.sources = code, strips, sources
        self.lane = sc.index(strips.neighbours)
        self.index = list(sc.indexes(strips.box))
        sizes = tuple(strips.box[d] for d in strips.run)
        for d, i in zip(strips.run, sc.unflat(self.lane, sizes) if sizes else (), strict=True):
            self.index[d] = i
        self.outer = [self.index[d] for d in strips.outer]

    def vectors(self, grid: Grid, spot: Spot) -> list[Emitter]:
        """An emitter for each vector of a tile."""
        *outer, start = spot.starts(self.code, grid.axes)
        places = {i: standing(x) for i, x in zip(self.outer, outer, strict=True)}
        found, lanes = [], self.strips.lanes
        for v in range(0, spot.sizes[-1], lanes):
            at: Place = (0, start + v) if isinstance(start, int) else (start, v)
            left = spot.sizes[-1] - v
            mask = first_lanes(left, lanes) if left < lanes else None
            everywhere = {**places, self.lane: at}
            found.append(Emitter(self.code, self.sources, everywhere, self.lane, lanes, mask))
        return found


def standing(i: Index) -> Place:
    """Where a loop's index stands."""
    return (0, i) if isinstance(i, int) else (i, 0)


def inside(e: Emitter, loop: Scalar, i: Index, known: Mapping[Scalar, Reg]) -> Emitter:
    """An emitter for one turn of a loop around."""
    places = {**e.places, loop: standing(i)}
    return Emitter(e.code, e.sources, places, e.lane, e.width, e.mask, known)


def beside(e: Emitter) -> Emitter:
    """An emitter that knows what another one does, and learns for itself."""
    return Emitter(e.code, e.sources, e.places, e.lane, e.width, e.mask, e.known)


def numbered(
    operands: Sequence[int], pointers: Sequence[Reg], layouts: Sequence[Layout]
) -> Sources:
    """Pointers and layouts by the numbers of the operands; the last ones are the result's."""
    pairs = zip(pointers, layouts, strict=True)
    return dict(zip([*operands, RESULT], pairs, strict=True))


def power(count: int) -> int:
    """The least power of two that is not less."""
    return 1 << (count - 1).bit_length()
