"""Tasks over a box that is cut into tiles: what products, copies and the like have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ganglion.compiler.text import Code, Index


@dataclass(frozen=True)
class Axis:
    """A dimension cut into tiles of ``step``, the last one shorter, and those into ``blocks``."""

    size: int
    step: int = 1
    blocks: int = 1

    @property
    def tiles(self) -> int:
        """How many tiles there are, the short one included."""
        return -(-self.size // self.step)


@dataclass(frozen=True)
class Spot:
    """A tile: its number along every axis and how far it reaches."""

    numbers: tuple[Index, ...]
    sizes: tuple[int, ...]

    def starts(self, code: Code, axes: Sequence[Axis]) -> list[Index]:
        """The tile's first element."""
        return [code.mul(n, axis.step) for n, axis in zip(self.numbers, axes, strict=True)]


@dataclass(frozen=True)
class Grid:
    """A box of tiles. A task is one block of each axis; the last axis changes fastest.

    Within a task the loops nest in ``order``, outermost first (the order of the axes).
    """

    axes: tuple[Axis, ...]
    order: tuple[int, ...] = ()

    @property
    def tasks(self) -> int:
        """Blocks of all axes together."""
        return math.prod(axis.blocks for axis in self.axes)

    def emit(self, code: Code, low: Index, high: Index, body: Callable[[Spot], None]) -> None:
        """Do ``body`` for the tiles of the tasks ``low <= task < high``."""
        order = self.order or tuple(range(len(self.axes)))

        def nest(depth: int, blocks: Sequence[Index], at: dict[int, tuple[Index, int]]) -> None:
            if depth == len(order):
                spots = [at[i] for i in range(len(order))]
                body(Spot(tuple(n for n, _ in spots), tuple(size for _, size in spots)))
                return
            axis = order[depth]
            tiles(
                code, blocks[axis], self.axes[axis],
                lambda number, size: nest(depth + 1, blocks, {**at, axis: (number, size)}),
            )  # fmt: skip

        code.loop(low, high, 1, (), lambda task: nest(0, self._blocks(code, task), {}))

    def _blocks(self, code: Code, task: Index) -> list[Index]:
        """The numbers of a task's blocks; 0 where there is only one."""
        several = [i for i, axis in enumerate(self.axes) if axis.blocks > 1]
        blocks: list[Index] = [0] * len(self.axes)
        numbers = code.split(task, [self.axes[i].blocks for i in several])
        for i, number in zip(several, numbers, strict=True):
            blocks[i] = number
        return blocks


def tiles(code: Code, block: Index, axis: Axis, body: Callable[[Index, int], None]) -> None:
    """Do ``body(number, size)`` for the tiles of a block of an axis."""
    full, tail = divmod(axis.size, axis.step)
    low, high = _share(code, block, axis)
    if not tail:
        code.loop(low, high, 1, (), lambda number: body(number, axis.step))
        return
    last = code.minimum(high, full)
    code.guarded_loop(low, last, 1, lambda number: body(number, axis.step))
    if isinstance(high, int):
        body(full, tail)
    else:
        code.when(code.compare("sgt", high, full), lambda: body(full, tail))


def _share(code: Code, block: Index, axis: Axis) -> tuple[Index, Index]:
    """The tiles of a block: the counts of two blocks differ by one at most."""
    after = code.add(block, 1)
    if axis.tiles % axis.blocks == 0:
        each = axis.tiles // axis.blocks
        return code.mul(block, each), code.mul(after, each)
    low, _ = code.divmod(code.mul(block, axis.tiles), axis.blocks)
    high, _ = code.divmod(code.mul(after, axis.tiles), axis.blocks)
    return low, high


def cut(axes: Sequence[Axis], tasks: int) -> tuple[Axis, ...]:
    """The axes in at least ``tasks`` blocks, if there are as many tiles; first axes first."""
    result = []
    for axis in axes:
        blocks = axis.tiles if axis.tiles < 2 * tasks else max(1, tasks)
        tasks = -(-tasks // blocks)
        result.append(Axis(axis.size, axis.step, blocks))
    return tuple(result)
