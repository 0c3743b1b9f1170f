"""Weights of convolutions: packed for kernels, and their gradients brought into PyTorch's order.

PyTorch keeps (OC, IC / groups, *kernel), the kernel densest; kernels want lanes along the channels
of their result. Weights are few beside activations, so that turning them costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Epilogue, Kernel, Layout, Tile, packed, row_major
from ganglion.compiler.kernels.axes import each_block
from ganglion.compiler.kernels.tile import load_lanes, natural_lanes, transpose
from ganglion.compiler.text import (
    BYTES,
    Code,
    Index,
    Reg,
    const,
    consts,
    first_lanes,
    vector,
    void,
)

Taps = Callable[[Code, Sequence[Reg]], list[Reg]] | None


@dataclass(frozen=True)
class Weights:
    """Where each weight stands: (groups, channels of the result, taps, inner channels).

    ``lane_steps`` are the places of the channels of one vector; ``vector_step`` leads to the next.
    """

    dtype: dt.dtype
    groups: int
    channels: int
    taps: int
    inner: int
    start: int
    group_step: int
    vector_step: int
    tap_step: int
    inner_step: int
    lane_steps: tuple[int, ...]

    @property
    def lanes(self) -> int:
        return len(self.lane_steps)

    @property
    def vectors(self) -> int:
        """Vectors of a group."""
        return -(-self.channels // self.lanes)

    @property
    def vector(self) -> int:
        """Packed elements of a vector's channels."""
        return self.taps * self.inner * self.lanes

    @property
    def packed(self) -> Layout:
        shape = (self.groups, self.vectors, self.taps, self.inner, self.lanes)
        return packed(self.dtype, shape)


def lanes_for(channels: int, element: str) -> int:
    """The lanes of a vector of channels: all, or few when there are few channels."""
    return min(natural_lanes(element), max(4, 1 << (channels - 1).bit_length()))


def forward_weights(w: Layout, groups: int) -> Weights:
    """Lanes along output channels."""
    outs, inner, taps = _sizes(w)
    channels = outs // groups
    lanes = lanes_for(channels, w.stored)
    row = inner * taps
    return Weights(
        w.dtype, groups, channels, taps, inner, w.offset, channels * row, lanes * row, 1, taps,
        tuple(range(0, lanes * row, row)),
    )  # fmt: skip


def backward_weights(w: Layout, groups: int) -> Weights:
    """Lanes along input channels, the kernel turned around."""
    outs, channels, taps = _sizes(w)
    inner = outs // groups
    lanes = lanes_for(channels, w.stored)
    row = channels * taps
    return Weights(
        w.dtype, groups, channels, taps, inner, w.offset + taps - 1, inner * row, lanes * taps, -1,
        row, tuple(range(0, lanes * taps, taps)),
    )  # fmt: skip


def mixed_backward_weights(w: Layout, groups: int) -> Weights:
    """Lanes along the input channels of several groups, whose number divides the lanes."""
    outs, channels, taps = _sizes(w)
    inner, row = outs // groups, channels * taps
    lanes = lanes_for(channels * groups, w.stored)
    steps = [i // channels * inner * row + i % channels * taps for i in range(lanes)]
    return Weights(
        w.dtype, 1, channels * groups, taps, inner, w.offset + taps - 1, 0,
        lanes // channels * inner * row, -1, row, tuple(steps),
    )  # fmt: skip


def _sizes(w: Layout) -> tuple[int, int, int]:
    assert w.strides == row_major(w.shape), f"weights stand in PyTorch's order, not as {w}"
    outs, inner = w.shape[:2]
    return outs, inner, w.numel // max(outs * inner, 1)


def pack(w: Layout, weights: Weights) -> Kernel:
    """The kernel that packs weights; a task is an inner channel of a vector."""
    target, lanes, element = weights.packed, weights.lanes, w.stored

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        def task(i: Index) -> None:
            g, v, k = code.split(i, (weights.groups, weights.vectors, weights.inner))
            steps = weights.group_step, weights.vector_step, weights.inner_step
            x = code.at_index(pointers[0], code.dot((g, v, k), steps, weights.start), element)
            place = code.dot((g, v, k), (target.strides[0], target.strides[1], lanes))
            y = code.at_index(pointers[1], place, element)

            def taps(_: Index, length: int) -> None:
                def tap(t: Index) -> None:
                    here = code.at_index(x, code.mul(t, weights.tap_step), element)
                    value = weight_lanes(code, here, weights, length, element)
                    there = code.mul(t, weights.inner * lanes)
                    code.store(value, code.at_index(y, there, element))

                code.guarded_loop(0, weights.taps, 1, tap)

            each_block(code, weights.channels, lanes, taps, (v, code.add(v, 1)))

        code.loop(low, high, 1, (), task)

    tasks = weights.groups * weights.vectors * weights.inner
    return Kernel(
        "pack_weights", ("pack weights", w, weights), emit, (w, target), (0,), (1,), tasks,
        bytes=2 * target.numel * BYTES[element],
    )  # fmt: skip


def weight_lanes(code: Code, x: Reg, weights: Weights, count: int, element: str) -> Reg:
    """The weights of a vector's channels; zero in the lanes after them."""
    type = vector(element, weights.lanes)
    if weights.lane_steps == tuple(range(weights.lanes)):
        return load_lanes(code, x, type, count)
    places = code.addresses(x, consts(weights.lane_steps, "i64"), element)
    return code.gather(places, first_lanes(count, weights.lanes), const(0, type))


# --- gradients ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gradient:
    """Partial gradients of weights (groups * channels, inner * taps).

    They are (chunks, groups, vectors, planes * inner, lanes): lanes run along channels, and
    ``planes`` numbers tell the taps of an output and an inner channel.
    """

    dtype: dt.dtype
    chunks: int
    groups: int
    channels: int
    inner: int
    taps: int
    planes: int
    lanes: int

    @property
    def vectors(self) -> int:
        """Vectors of a group."""
        return -(-self.channels // self.lanes)

    @property
    def partial(self) -> Layout:
        rows = self.planes * self.inner
        return packed(self.dtype, (self.chunks, self.groups, self.vectors, rows, self.lanes))

    @property
    def type(self) -> str:
        return vector(self.partial.stored, self.lanes)


def finish(gradient: Gradient, taps: Taps, epilogue: Epilogue) -> Kernel:
    """The kernel that sums partial gradients and hands (OC, IC * taps) to the epilogue.

    ``taps(code, vectors)`` makes the taps from the planes of a weight; None where they are the
    same. A task is a vector of output channels and as many inner channels.
    """
    lanes, blocks = gradient.lanes, -(-gradient.inner // gradient.lanes)
    square = lanes * lanes * (gradient.planes + gradient.taps)
    writer = _Finish(gradient, taps, epilogue)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        def task(i: Index) -> None:
            g, v, b = code.split(i, (gradient.groups, gradient.vectors, blocks))
            each_block(code, gradient.inner, lanes, lambda k, length: writer.block(
                code, pointers, scratch, (g, v, k), length
            ), (b, code.add(b, 1)))  # fmt: skip

        code.loop(low, high, 1, (), task)

    operands = (gradient.partial, *epilogue.operands)
    size = BYTES[gradient.partial.stored]
    return Kernel(
        "conv_weight_sum", ("conv weight sum", gradient, epilogue.key), emit, operands,
        (0, *(i + 1 for i in epilogue.reads)), tuple(i + 1 for i in epilogue.writes),
        gradient.groups * gradient.vectors * blocks, square * size,
        flops=gradient.partial.numel, bytes=gradient.partial.numel * size,
    )  # fmt: skip


@dataclass
class _Finish:
    """Sums (plane, channel), columns (channel, tap) of vectors, and rows of weights in scratch."""

    gradient: Gradient
    taps: Taps
    epilogue: Epilogue

    @property
    def wide(self) -> int:
        """Elements of a row."""
        return self.gradient.lanes * self.gradient.taps

    def block(
        self, code: Code, pointers: Sequence[Reg], sums: Reg,
        at: tuple[Index, Index, Index], length: int,
    ) -> None:  # fmt: skip
        """Some inner channels from ``at`` (group, vector, channel) on."""
        gradient, (g, v, k) = self.gradient, at
        lanes, element = gradient.lanes, gradient.partial.stored
        columns = code.at_index(sums, gradient.planes * lanes * lanes, element)
        place = code.dot((g, v, k), gradient.partial.strides[1:4])
        self._sum(code, code.at_index(pointers[0], place, element), sums, length)
        code.loop(0, length, 1, (), lambda j: self._column(code, sums, columns, j))
        rows, size = sums, length * gradient.taps  # the sums are no longer needed
        code.loop(0, size, lanes, (), lambda f: self._turn(code, columns, rows, f))
        first = code.mul(v, lanes)
        count = code.minimum(lanes, code.add(gradient.channels, code.mul(first, -1)))
        base = code.dot((g, first), (gradient.channels, 1)), code.mul(k, gradient.taps)
        code.loop(0, count, 1, (), lambda r: each_block(
            code, size, lanes, lambda f, columns: self._hand(
                code, pointers[1:], rows, base, (r, f), columns
            )
        ))  # fmt: skip

    def _sum(self, code: Code, source: Reg, sums: Reg, length: int) -> None:
        """All chunks, in order."""
        gradient, element = self.gradient, self.gradient.partial.stored
        lanes, step, type = gradient.lanes, gradient.partial.strides[0], gradient.type

        def one(p: Index, j: Index) -> None:
            place = code.dot((p, j), (gradient.inner * lanes, lanes))
            here = code.at_index(source, place, element)

            def add(c: Index, total: Reg) -> list[Reg]:
                chunk = code.load(code.at_index(here, code.mul(c, step), element), type)
                return [code.fadd(total, chunk)]

            total = const(0, type)
            if gradient.chunks:
                total = code.loop(1, gradient.chunks, 1, [code.load(here, type)], add)[0]
            out = code.dot((p, j), (lanes * lanes, lanes))
            code.store(total, code.at_index(sums, out, element))

        code.loop(0, gradient.planes, 1, (), lambda p: void(
            code.loop(0, length, 1, (), lambda j: one(p, j))
        ))  # fmt: skip

    def _column(self, code: Code, sums: Reg, columns: Reg, j: Index) -> None:
        """The taps of an inner channel."""
        gradient, element = self.gradient, self.gradient.partial.stored
        lanes, step = gradient.lanes, gradient.lanes * gradient.lanes
        source = code.at_index(sums, code.mul(j, lanes), element)
        out = code.at_index(columns, code.mul(j, lanes * gradient.taps), element)

        def plane(p: Index) -> Reg:
            return code.load(code.at_index(source, code.mul(p, step), element), gradient.type)

        if self.taps is not None:
            for t, value in enumerate(self.taps(code, [plane(p) for p in range(gradient.planes)])):
                code.store(value, code.at_index(out, t * lanes, element))
            return
        code.loop(0, gradient.taps, 1, (), lambda t: code.store(
            plane(t), code.at_index(out, code.mul(t, lanes), element)
        ))  # fmt: skip

    def _turn(self, code: Code, columns: Reg, rows: Reg, f: Index) -> None:
        """As many vectors as lanes, each of all channels, become rows of channels."""
        lanes, element = self.gradient.lanes, self.gradient.partial.stored
        source = code.at_index(columns, code.mul(f, lanes), element)
        loaded = [
            code.load(code.at_index(source, r * lanes, element), self.gradient.type)
            for r in range(lanes)
        ]
        target = code.at_index(rows, f, element)
        for r, value in enumerate(transpose(code, loaded)):
            code.store(value, code.at_index(target, r * self.wide, element))

    def _hand(
        self, code: Code, pointers: Sequence[Reg], rows: Reg, base: tuple[Index, Index],
        at: tuple[Index, Index], columns: int,
    ) -> None:  # fmt: skip
        """A part of a row, to the epilogue."""
        place = code.dot(at, (self.wide, 1))
        value = code.load(
            code.at_index(rows, place, self.gradient.partial.stored), self.gradient.type
        )
        index = (code.add(base[0], at[0]), code.add(base[1], at[1]))
        self.epilogue.emit(code, pointers, Tile(index, [(0, 0)], 1, columns, [[value]]))
