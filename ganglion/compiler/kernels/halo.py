"""Copies into buffers with zeros around the spatial dimensions, for inputs that have none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ganglion.compiler.kernel import Kernel, Layout, store_lanes
from ganglion.compiler.kernels.axes import (
    Pairs,
    Steps,
    channels_first,
    channels_last,
    each_block,
    halo_of,
    has_halo,
)
from ganglion.compiler.kernels.tile import load_lanes, natural_lanes, transpose
from ganglion.compiler.text import BYTES, Code, Index, Reg, const, consts, first_lanes, vector

Line = Callable[[Code, Reg, Reg], None]


def surrounded(
    steps: Steps, operand: int, layout: Layout, halo: Pairs, channels: bool
) -> tuple[int, Layout]:
    """The operand with ``halo`` zeros around it: itself, or a copy made first.

    ``channels``: whether they must be densest.
    """
    if has_halo(layout, halo) and (layout.strides[1] == 1 or not channels):
        return operand, layout
    in_order = not channels and layout.strides[1] != 1
    make = channels_first if in_order else channels_last
    target = make(layout.dtype, layout.shape, halo)
    number = steps.temporary(target)
    steps.add(copy(layout, target), operand, number)
    return number, target


def copy(source: Layout, target: Layout) -> Kernel:
    """The kernel that copies (N, C, D, H, W) and writes the zeros around; a task is a line.

    Lines of the target are (W, C) if its channels are densest, else W.
    """
    last = target.strides[1] == 1
    dims, line = ((0, 2, 3), _pixels) if last else ((0, 1, 2, 3), _elements)
    write = line(source, target)
    lows = [0] * (len(dims) - 2) + [low for low, _ in halo_of(target)[:2]]
    wide = [n + sum(pair) for n, pair in zip(target.shape[2:], halo_of(target), strict=True)]
    sizes = [target.shape[d] for d in dims[:-2]] + wide[:2]
    long = wide[2] * (target.shape[1] if last else 1)
    inner = target.shape[4] * (target.shape[1] if last else 1)
    before = halo_of(target)[2][0] * (target.shape[1] if last else 1)
    element = target.stored

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        def task(i: Index) -> None:
            row = code.at_index(pointers[1], code.mul(i, long), element)
            place = [code.add(p, -n) for p, n in zip(code.split(i, sizes), lows, strict=True)]
            start = code.dot(place, [source.strides[d] for d in dims], source.offset)

            def fill() -> None:
                _zero(code, row, long, element)

            def line() -> None:
                _zero(code, row, before, element)
                write(code, code.at_index(pointers[0], start, element),
                      code.at_index(row, before, element))  # fmt: skip
                after = code.at_index(row, before + inner, element)
                _zero(code, after, long - before - inner, element)

            sides = [(place[-2], target.shape[2], wide[0]), (place[-1], target.shape[3], wide[1])]
            tests = [code.compare("ult", at, size) for at, size, all in sides if size != all]
            if not tests:
                line()
                return
            inside = tests[0] if len(tests) == 1 else code.op("and", *tests)
            code.when(inside, line)
            code.when(code.op("xor", inside, const(1, "i1")), fill)

        code.loop(low, high, 1, (), task)

    return Kernel(
        "halo", ("halo", source, target), emit, (source, target), (0,), (1,), math.prod(sizes),
        bytes=(source.numel + target.elements) * BYTES[element],
    )  # fmt: skip


def _zero(code: Code, pointer: Reg, count: int, element: str) -> None:
    lanes = natural_lanes(element)
    nothing = const(0, vector(element, lanes))

    def fill(i: Index, length: int) -> None:
        store_lanes(code, nothing, code.at_index(pointer, i, element), 1, length)

    each_block(code, count, lanes, fill)


def _elements(source: Layout, target: Layout) -> Line:
    """W elements to consecutive places."""
    return _along(source.stored, target.shape[4], source.strides[4])


def _pixels(source: Layout, target: Layout) -> Line:
    """W pixels of C channels to consecutive places."""
    element, channels, width = source.stored, source.shape[1], source.shape[4]
    step, across = source.strides[1], source.strides[4]
    if step == 1 and (across == channels or width == 1):
        return _along(element, width * channels, 1)
    if across == 1 and width > 1 and channels > 1:
        return _turned(element, channels, width, step)
    one = _along(element, channels, step)

    def line(code: Code, x: Reg, y: Reg) -> None:
        code.loop(0, width, 1, (), lambda w: one(
            code, code.at_index(x, code.mul(w, across), element),
            code.at_index(y, code.mul(w, channels), element),
        ))  # fmt: skip

    return line


def _along(element: str, count: int, step: int) -> Line:
    """Elements ``step`` apart to consecutive places."""
    lanes = natural_lanes(element)
    type = vector(element, lanes)

    def line(code: Code, x: Reg, y: Reg) -> None:
        def block(i: Index, length: int) -> None:
            place = code.at_index(x, code.mul(i, step), element)
            if step == 1:
                value = load_lanes(code, place, type, length)
            else:
                places = code.addresses(
                    place, consts([j * step for j in range(lanes)], "i64"), element
                )
                value = code.gather(places, first_lanes(length, lanes), const(0, type))
            store_lanes(code, value, code.at_index(y, i, element), 1, length)

        each_block(code, count, lanes, block)

    return line


def _turned(element: str, channels: int, width: int, step: int) -> Line:
    """Channels ``step`` apart, each of ``width`` consecutive elements: squares are turned."""
    lanes = natural_lanes(element)
    type = vector(element, lanes)

    def line(code: Code, x: Reg, y: Reg) -> None:
        def block(c: Index, high: int, w: Index, wide: int) -> None:
            corner = code.at_index(x, code.add(code.mul(c, step), w), element)
            rows = [
                load_lanes(code, code.at_index(corner, r * step, element), type, wide)
                if r < high else const(0, type)
                for r in range(lanes)
            ]  # fmt: skip
            out = code.at_index(y, code.add(code.mul(w, channels), c), element)
            for r, value in enumerate(transpose(code, rows)[:wide]):
                store_lanes(code, value, code.at_index(out, r * channels, element), 1, high)

        each_block(code, channels, lanes, lambda c, high: each_block(
            code, width, lanes, lambda w, wide: block(c, high, w, wide)
        ))  # fmt: skip

    return line
