"""Copies between layouts: contiguous runs, squares turned around in registers, anything else.

``panels`` brings an operand of a product into the order in which register tiles read it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from ganglion.compiler.kernel import Kernel, Layout, packed, store_lanes
from ganglion.compiler.kernels.grid import Axis, Grid, Spot, cut
from ganglion.compiler.kernels.tile import load_lanes, natural_lanes, transpose
from ganglion.compiler.text import Code, Reg, const, consts, first_lanes, vector

TASK = 1 << 13  # elements a task has at least, where there are as many
MOST_TASKS = 64
TOGETHER = 8  # short runs that follow each other in the source: whole lines are read


@dataclass(frozen=True)
class Move:
    """A dimension as both sides step through it."""

    size: int
    source: int
    target: int


def copy(source: Layout, target: Layout) -> Kernel:
    """Copy the elements of ``source`` into ``target``: same dtype and shape, any strides.

    Operands: (source, target). What lies between the target's elements stays as it is.
    """
    assert (source.dtype, source.shape) == (target.dtype, target.shape), "a copy changes nothing"
    moves = _coalesced(source, target)
    element = f"i{8 * source.dtype.numpy.itemsize}"
    copied = _Copy(moves, element, source.offset, target.offset)

    def emit(code: Code, pointers: Sequence[Reg], _: Reg, low: Reg, high: Reg) -> None:
        copied.grid.emit(code, low, high, lambda spot: copied.emit(code, pointers, spot))

    return Kernel(
        "copy", ("copy", copied), emit, (source, target), (0,), (1,), copied.grid.tasks,
        bytes=2 * source.numel * source.dtype.numpy.itemsize,
    )  # fmt: skip


def _coalesced(source: Layout, target: Layout) -> tuple[Move, ...]:
    """The dimensions without those of size 1, neighbours joined where both sides allow it."""
    moves: list[Move] = []
    for move in map(Move, source.shape, source.strides, target.strides):
        if move.size == 1:
            continue
        last = moves[-1] if moves else None
        if last and (last.source, last.target) == (
            move.size * move.source,
            move.size * move.target,
        ):
            moves[-1] = Move(last.size * move.size, move.source, move.target)
        else:
            moves.append(move)
    return tuple(moves) or (Move(1, 1, 1),)


@dataclass(frozen=True)
class _Copy:
    """Lanes run along one dimension of the target; squares if the source runs along another."""

    moves: tuple[Move, ...]
    element: str
    source_offset: int
    target_offset: int

    @property
    def lanes(self) -> int:
        """A whole vector, or less for short runs."""
        most = natural_lanes(self.element)
        return most if self.turned is not None else min(most, _power(self.moves[self.along].size))

    @property
    def along(self) -> int:
        """The dimension of the lanes: dense in the target."""
        return self._densest([move.target for move in self.moves])

    @property
    def turned(self) -> int | None:
        """The dimension that is dense in the source, if it is another one."""
        other = self._densest([move.source for move in self.moves])
        square = self.moves[other].source == 1 and self.moves[self.along].target == 1
        return other if square and other != self.along else None

    def _densest(self, strides: Sequence[int]) -> int:
        """A dimension of stride 1 that fills a vector, else of stride 1, else the last."""
        sizes = [min(move.size, natural_lanes(self.element)) for move in self.moves]
        return max(range(len(sizes)), key=lambda i: (strides[i] == 1, sizes[i], i))

    @property
    def following(self) -> int | None:
        """A dimension that leads from one short run of the source to the next."""
        run = self.moves[self.along]
        if self.turned is not None or run.source != 1 or run.size > self.lanes:
            return None
        strides = [move.source for move in self.moves]
        return strides.index(run.size) if run.size in strides else None

    @property
    def grid(self) -> Grid:
        steps = [1] * len(self.moves)
        steps[self.along] = self.lanes
        if self.turned is not None:
            steps[self.turned] = self.lanes
        elif self.following is not None:
            steps[self.following] = TOGETHER
        elements = math.prod(move.size for move in self.moves)
        axes = [Axis(move.size, step) for move, step in zip(self.moves, steps, strict=True)]
        return Grid(cut(axes, min(MOST_TASKS, elements // TASK)))

    def emit(self, code: Code, pointers: Sequence[Reg], spot: Spot) -> None:
        """Copy a vector or a square."""
        starts = spot.starts(code, self.grid.axes)
        at_source = code.dot(starts, [move.source for move in self.moves], self.source_offset)
        at_target = code.dot(starts, [move.target for move in self.moves], self.target_offset)
        source = code.at_index(pointers[0], at_source, self.element)
        target = code.at_index(pointers[1], at_target, self.element)
        if self.turned is not None:
            self._square(code, source, target, spot.sizes[self.along], spot.sizes[self.turned])
        elif self.following is not None:
            move = self.moves[self.following]
            for i in range(spot.sizes[self.following]):
                here = code.at_index(source, i * move.source, self.element)
                there = code.at_index(target, i * move.target, self.element)
                self._vector(code, here, there, spot.sizes[self.along])
        else:
            self._vector(code, source, target, spot.sizes[self.along])

    def _vector(self, code: Code, source: Reg, target: Reg, count: int) -> None:
        move = self.moves[self.along]
        value = _load(code, source, vector(self.element, self.lanes), move.source, count)
        store_lanes(code, value, target, move.target, count)

    def _square(self, code: Code, source: Reg, target: Reg, width: int, height: int) -> None:
        """``width`` vectors along ``turned`` become ``height`` vectors along the target."""
        assert self.turned is not None
        across, turned = self.moves[self.along].source, self.moves[self.turned].target
        type = vector(self.element, self.lanes)
        rows = [
            load_lanes(
                code, code.at_index(source, i * across, self.element), type,
                height if i < width else 0,
            )
            for i in range(self.lanes)
        ]  # fmt: skip
        for i, value in enumerate(transpose(code, rows)[:height]):
            store_lanes(code, value, code.at_index(target, i * turned, self.element), 1, width)


def _power(count: int) -> int:
    """The least power of two that is not less."""
    return 1 << (count - 1).bit_length()


def _load(code: Code, pointer: Reg, type: str, stride: int, count: int) -> Reg:
    """``count`` elements ``stride`` apart, as the first lanes of a vector."""
    zero = const(0, type)
    if stride == 1:
        return load_lanes(code, pointer, type, count)
    if stride == 0:
        return code.broadcast(pointer, zero.element, zero.lanes)
    steps = consts([i * stride for i in range(zero.lanes)], "i64")
    places = code.addresses(pointer, steps, zero.element)
    return code.gather(places, first_lanes(count, zero.lanes), zero)


def panels(source: Layout, width: int) -> tuple[Layout, list[Kernel]]:
    """Bring (..., k, n) into panels: (..., n / width, k, width), the last one filled with junk.

    The layout of the panels, and the kernels that fill them: (source, panels).
    """
    *batch, k, n = source.shape
    *outer, along, across = source.strides
    full, tail = divmod(n, width)
    target = packed(source.dtype, (*batch, full + bool(tail), k, width))
    copies = []
    for first, count, wide in ((0, full, width), (full, 1, tail)):
        if count and wide:
            shape = (*batch, count, k, wide)
            strides = (*outer, width * across, along, across)
            start = source.offset + first * width * across
            left = replace(source, shape=shape, strides=strides, offset=start, size=source.elements)
            right = replace(target, shape=shape, offset=first * k * width, size=target.elements)
            copies.append(copy(left, right))
    return target, [replace(joined(copies), operands=(source, target))] if copies else []


def joined(kernels: Sequence[Kernel]) -> Kernel:
    """Kernels on the same operands as one: the tasks of the first, then those of the next."""
    first = kernels[0]
    if len(kernels) == 1:
        return first

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        start = 0
        for kernel in kernels:
            nothing, everything = const(0, "i64"), const(kernel.tasks, "i64")
            begin = code.op("sub", low, const(start, "i64"))
            begin = code.select(code.compare("sgt", begin, nothing), begin, nothing)
            end = code.op("sub", high, const(start, "i64"))
            end = code.select(code.compare("slt", end, everything), end, everything)
            inside = partial(kernel.emit, code, pointers, scratch, begin, end)
            code.when(code.compare("slt", begin, end), inside)
            start += kernel.tasks

    return replace(
        first, key=tuple(kernel.key for kernel in kernels), emit=emit,
        tasks=sum(kernel.tasks for kernel in kernels), bytes=sum(k.bytes for k in kernels),
    )  # fmt: skip
