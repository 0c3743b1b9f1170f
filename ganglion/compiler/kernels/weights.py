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
    element_of,
    first_lanes,
    lanes_of,
    vector,
)

Taps = Callable[[Code, Reg, Index, Reg, Reg], None]  # (partial gradients, channel, out, spare)


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
        w.dtype, groups, channels, taps, inner, w.offset + taps - 1, inner * row, lanes * taps, -1, row,
        tuple(range(0, lanes * taps, taps)),
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


@dataclass(frozen=True)
class Gradient:
    """Partial gradients (chunks, groups, vectors, rows, lanes) of weights (groups * channels,
    inner * taps), lanes along channels."""

    dtype: dt.dtype
    chunks: int
    groups: int
    channels: int
    inner: int
    taps: int
    rows: int
    lanes: int

    @property
    def vectors(self) -> int:
        """Vectors of a group."""
        return -(-self.channels // self.lanes)

    @property
    def partial(self) -> Layout:
        shape = (self.chunks, self.groups, self.vectors, self.rows, self.lanes)
        return packed(self.dtype, shape)


def finish(gradient: Gradient, taps: Taps, epilogue: Epilogue, key: str) -> Kernel:
    """The kernel that sums partial gradients and hands (OC, IC * taps) to the epilogue.

    A task is a vector of output channels and as many inner channels.
    """
    size, lanes, element = gradient.taps, gradient.lanes, gradient.partial.stored
    type, wide = vector(element, lanes), lanes * size  # of a row of scratch
    blocks = -(-gradient.inner // lanes)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        rows = code.at_index(scratch, wide * lanes, element)  # columns first, then rows

        def task(i: Index) -> None:
            g, v, b = code.split(i, (gradient.groups, gradient.vectors, blocks))
            first = code.dot((g, v), gradient.partial.strides[1:3])
            source = code.at_index(pointers[0], first, element)
            lane = code.mul(v, lanes)
            valid = code.minimum(lanes, code.add(gradient.channels, code.mul(lane, -1)))

            def block(k: Index, length: int) -> None:
                def channel(j: Index) -> None:
                    out = code.at_index(scratch, code.mul(j, wide), element)
                    taps(code, source, code.add(k, j), out, rows)

                code.loop(0, length, 1, (), channel)
                _turn(code, scratch, rows, length * size, wide, lanes, element)
                base = code.dot((g, lane), (gradient.channels, 1)), code.mul(k, size)
                _rows(code, rows, base, valid, length * size, wide, type, pointers[1:], epilogue)

            each_block(code, gradient.inner, lanes, block, (b, code.add(b, 1)))

        code.loop(low, high, 1, (), task)

    operands = (gradient.partial, *epilogue.operands)
    return Kernel(
        "conv_weight_sum", ("conv weight sum", key, gradient, epilogue.key), emit, operands,
        (0, *(i + 1 for i in epilogue.reads)), tuple(i + 1 for i in epilogue.writes),
        gradient.groups * gradient.vectors * blocks, 2 * wide * lanes * BYTES[element],
        flops=gradient.partial.numel, bytes=gradient.partial.numel * BYTES[element],
    )  # fmt: skip


def _turn(
    code: Code, columns: Reg, rows: Reg, length: int, wide: int, lanes: int, element: str
) -> None:
    """Vectors of a channel each become ``lanes`` rows of channels."""
    type = vector(element, lanes)

    def square(at: Index) -> None:
        source = code.at_index(columns, code.mul(at, lanes), element)
        loaded = [code.load(code.at_index(source, r * lanes, element), type) for r in range(lanes)]
        target = code.at_index(rows, at, element)
        for r, value in enumerate(transpose(code, loaded)):
            code.store(value, code.at_index(target, r * wide, element))

    code.loop(0, length, lanes, (), square)


def _rows(
    code: Code, rows: Reg, base: tuple[Index, Index], count: Index, length: int, wide: int,
    type: str, pointers: Sequence[Reg], epilogue: Epilogue,
) -> None:  # fmt: skip
    """Hand rows of ``length`` to the epilogue."""
    element, lanes = element_of(type), lanes_of(type)

    def row(r: Index) -> None:
        def part(f: Index, columns: int) -> None:
            place = code.at_index(rows, code.dot((r, f), (wide, 1)), element)
            value = code.load(place, type)
            at = (code.add(base[0], r), code.add(base[1], f))
            epilogue.emit(code, pointers, Tile(at, [(0, 0)], 1, columns, [[value]]))

        each_block(code, length, lanes, part)

    code.loop(0, count, 1, (), row)


def direct_taps(gradient: Gradient) -> Taps:
    """The sums over chunks of rows (tap, inner channel)."""
    strides, element = gradient.partial.strides, gradient.partial.stored
    type = vector(element, gradient.lanes)

    def taps(code: Code, source: Reg, channel: Index, out: Reg, spare: Reg) -> None:
        def tap(t: Index) -> None:
            row = code.dot((t, channel), (gradient.inner * gradient.lanes, gradient.lanes))
            value = chunk_sum(code, code.at_index(source, row, element), gradient.chunks,
                              strides[0], type)  # fmt: skip
            code.store(value, code.at_index(out, code.mul(t, gradient.lanes), element))

        code.loop(0, gradient.taps, 1, (), tap)

    return taps


def chunk_sum(code: Code, source: Reg, chunks: int, step: int, type: str) -> Reg:
    """The sum of vectors ``step`` apart, in order."""
    element = element_of(type)

    def add(c: Index, total: Reg) -> list[Reg]:
        return [code.fadd(total, code.load(code.at_index(source, code.mul(c, step), element), type))]

    if not chunks:
        return const(0, type)
    return code.loop(1, chunks, 1, [code.load(source, type)], add)[0]
