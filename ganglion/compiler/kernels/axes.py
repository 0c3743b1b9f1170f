"""Spatial dimensions as kernels see them: what windows read, and where zeros surround images.

Kernels work on three spatial dimensions (fewer are padded with ones in front): a buffer is then
(N, C, D, H, W), whatever its strides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import NamedTuple, TypeVar

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Epilogue, Kernel, Layout, Plan, row_major
from ganglion.compiler.text import Code, Index, Reg
from ganglion.shapes import Shape

T = TypeVar("T")

DIMS = 3  # spatial dimensions inside the kernels
Pairs = tuple[tuple[int, int], ...]


# --- windows --------------------------------------------------------------------------------------


class Window(NamedTuple):
    """A convolution's sizes along its spatial dimensions."""

    kernel: Shape
    stride: Shape
    padding: Pairs
    dilation: Shape


@dataclass(frozen=True)
class Axis:
    """Outputs along one dimension, and the inputs they read.

    Output ``start + step * i``, for i < ``count``, reads the inputs ``move * i + offset +
    spacing * t``, for t < ``taps``, with the weights at ``first + skip * t``. There are
    ``phases`` of them: the next one's outputs stand one further, its weights one before.
    """

    count: int
    start: Index = 0
    step: int = 1
    move: int = 1
    offset: int = 0
    spacing: int = 1
    taps: int = 1
    first: Index = 0
    skip: int = 1
    phases: int = 1

    def phase(self, q: int) -> Axis:
        """One of the phases."""
        assert isinstance(self.start, int)
        assert isinstance(self.first, int)
        before = q if self.taps else 0
        return replace(self, start=self.start + q, first=self.first - before, phases=1)

    def reach(self, size: int) -> tuple[int, int]:
        """How far the windows read before and after ``size`` inputs."""
        if not self.taps:
            return 0, 0
        last = self.move * (self.count - 1) + self.offset + self.spacing * (self.taps - 1)
        return max(0, -self.offset), max(0, last - size + 1)


Axes = tuple[Axis, ...]


def places(size: Shape, window: Window) -> Shape:
    """How many windows fit along each dimension."""
    parts = zip(size, *window, strict=True)
    return tuple([(n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in parts])


def forward_axes(out: Shape, window: Window) -> Axes:
    """The axes of a convolution."""
    parts = zip(out, *window, strict=True)
    return tuple([
        Axis(o, move=stride, offset=-low, spacing=dilation, taps=kernel)
        for o, kernel, stride, (low, _), dilation in parts
    ])  # fmt: skip


def backward_axes(size: Shape, window: Window) -> list[Axes]:
    """The axes of the gradient for an input of ``size``, of weights turned around.

    Inputs that leave the same remainder by the stride read gradients at distance one: each
    combination of remainders is a convolution of its own, with some of the weights.
    """
    found: list[Axes] = [()]
    for n, kernel, stride, (low, _), dilation in zip(size, *window, strict=True):
        phases = [_phase(r, n, kernel, stride, low, dilation) for r in range(min(stride, n))]
        found = [(*axes, axis) for axes in found for axis in _together(phases)]
    return found


def _phase(start: int, size: int, kernel: int, stride: int, low: int, dilation: int) -> Axis:
    """The inputs ``start``, ``start + stride``, ...

    Weight k meets them with the gradient ``(start + low - k * dilation) / stride``, if that is
    whole.
    """
    count = -(-(size - start) // stride)
    used = [k for k in range(kernel) if (start + low - k * dilation) % stride == 0]
    if not used:
        return Axis(count, start, stride, taps=0)
    skip = stride // gcd(stride, dilation)
    return Axis(
        count, start, stride, offset=(start + low - used[-1] * dilation) // stride,
        spacing=skip * dilation // stride, taps=len(used), first=kernel - 1 - used[-1], skip=skip,
    )  # fmt: skip


def _together(phases: list[Axis]) -> list[Axis]:
    """Phases that follow each other with the next weight to the left, as one axis."""
    found = phases[:1]
    for axis in phases[1:]:
        last = found[-1]
        if axis == last.phase(last.phases):
            found[-1] = replace(last, phases=last.phases + 1)
        else:
            found.append(axis)
    return found


def halo_of_axes(phases: list[Axes], size: Shape) -> Pairs:
    """The zeros that windows read around inputs of ``size``."""
    reaches = [[axis.reach(n) for axis, n in zip(axes, size, strict=True)] for axes in phases]
    return tuple([
        (max(r[d][0] for r in reaches), max(r[d][1] for r in reaches)) for d in range(len(size))
    ])  # fmt: skip


# --- buffers --------------------------------------------------------------------------------------


def spatial(layout: Layout) -> Layout:
    """The buffer as (N, C, D, H, W)."""
    n, c, *size = layout.shape
    missing = DIMS - len(size)
    strides = layout.strides
    channel = 1 if c == 1 else strides[1]
    shape = (n, c, *(1,) * missing, *size)
    return replace(
        layout, shape=shape, strides=(strides[0], channel, *(0,) * missing, *strides[2:]),
        halo=(((0, 0),) * missing + layout.halo if layout.halo else ()),
    )  # fmt: skip


def spatial_size(size: Shape) -> Shape:
    """Sizes of three spatial dimensions."""
    return (*(1,) * (DIMS - len(size)), *size)


def widened(window: Window) -> Window:
    """The window over three spatial dimensions."""
    missing = DIMS - len(window.kernel)
    ones = (1,) * missing
    return Window(
        ones + window.kernel, ones + window.stride, ((0, 0),) * missing + window.padding,
        ones + window.dilation,
    )  # fmt: skip


def narrowed(index: tuple[T, ...], rank: int) -> tuple[T, ...]:
    """An index (n, c, d, h, w) as one of an array with ``rank`` spatial dimensions."""
    return (*index[:2], *index[len(index) - rank :])


def narrowed_pairs(pairs: Pairs, rank: int) -> Pairs:
    """The pairs of the last ``rank`` spatial dimensions."""
    return pairs[len(pairs) - rank :]


def channels_last(dtype: dt.dtype, shape: Shape, halo: Pairs = ()) -> Layout:
    """(N, C, *S) with channels densest and zeros around the spatial dimensions."""
    n, c, *size = shape
    halo = halo or ((0, 0),) * len(size)
    wide = [low + s + high for s, (low, high) in zip(size, halo, strict=True)]
    samples, *strides, channel = row_major((n, *wide, c))
    return _around(dtype, shape, (samples, channel, *strides), halo, n * max(samples, 1))


def channels_first(dtype: dt.dtype, shape: Shape, halo: Pairs) -> Layout:
    """(N, C, *S) in PyTorch's order, with zeros around the spatial dimensions."""
    n, c, *size = shape
    wide = [low + s + high for s, (low, high) in zip(size, halo, strict=True)]
    strides = row_major((n, c, *wide))
    return _around(dtype, shape, strides, halo, n * max(strides[0], 1))


def _around(
    dtype: dt.dtype, shape: Shape, strides: tuple[int, ...], halo: Pairs, size: int
) -> Layout:
    offset = sum(low * s for (low, _), s in zip(halo, strides[2:], strict=True))
    return Layout(dtype, tuple(shape), strides, offset, size, halo if any(map(any, halo)) else ())


def halo_of(layout: Layout) -> Pairs:
    """The zeros around each spatial dimension."""
    return layout.halo or ((0, 0),) * (len(layout.shape) - 2)


def has_halo(layout: Layout, wanted: Pairs) -> bool:
    """Whether at least the ``wanted`` zeros stand around the array."""
    pairs = zip(halo_of(layout), wanted, strict=True)
    return all(have[0] >= want[0] and have[1] >= want[1] for have, want in pairs)


# --- writing --------------------------------------------------------------------------------------


def each_block(
    code: Code, size: int, step: int, body: Callable[[Index, int], None],
    bounds: tuple[Index, Index] | None = None,
) -> None:  # fmt: skip
    """``body(start, length)`` for blocks of ``step`` out of ``size``; the last may be shorter.

    ``bounds``: which blocks, at least one.
    """
    full, rest = divmod(size, step)
    low, high = bounds or (0, full + bool(rest))
    code.guarded_loop(low, code.minimum(high, full), 1, lambda i: body(code.mul(i, step), step))
    if rest and isinstance(high, int):
        if high > full:
            body(full * step, rest)
    elif rest:
        code.when(code.compare("sgt", high, full), lambda: body(full * step, rest))


def each_phase(code: Code, axes: Axes, body: Callable[[Axes], None]) -> None:
    """``body`` with every combination of the phases of the axes."""

    def loop(d: int, chosen: Axes) -> None:
        if d == len(axes):
            body(chosen)
            return
        axis = axes[d]

        def one(q: Index) -> None:
            first = code.add(axis.first, code.mul(q, -1))
            start = code.add(axis.start, q)
            loop(d + 1, (*chosen, replace(axis, start=start, first=first, phases=1)))

        code.loop(0, axis.phases, 1, (), one)

    loop(0, ())


def share(code: Code, part: Index, total: int, parts: int) -> tuple[Index, Index]:
    """The bounds of one of ``parts`` nearly equal shares of ``total``."""
    if parts == 1:
        return 0, total
    low, _ = code.divmod(code.mul(part, total), parts)
    high, _ = code.divmod(code.mul(code.add(part, 1), total), parts)
    return low, high


def apart(code: Code, name: str, values: Sequence[Index], body: Callable[..., None]) -> None:
    """Call a function that consists of ``body(code, *values)``.

    In a function of its own, nothing else competes for the registers of a tile: constants of
    one loop would otherwise be kept in registers throughout another one.
    """
    given = [value for value in values if isinstance(value, Reg)]
    module = code.module
    parameters = [(value.type, f"a{i}") for i, value in enumerate(given)]
    inner = module.function(
        f"{code.name}.{name}{len(module.functions)}", parameters, linkage="internal"
    )
    received = iter(inner.parameters)
    body(inner, *[next(received) if isinstance(value, Reg) else value for value in values])
    inner.ret()
    code.line(f"call void @{inner.name}({', '.join(map(str, given))})")


class Steps:
    """A plan being written: the caller's operands, the epilogue's, then temporaries.

    Kernels without tasks, such as those of an empty batch, are left out.
    """

    def __init__(self, operands: int, epilogue: Epilogue) -> None:
        self.given, self.end = operands, epilogue
        self.epilogue = tuple(range(operands, operands + len(epilogue.operands)))
        self.temporaries: list[Layout] = []
        self.steps: list[tuple[Kernel, tuple[int, ...]]] = []

    def temporary(self, layout: Layout) -> int:
        """The number of a new temporary."""
        self.temporaries.append(layout)
        return self.given + len(self.epilogue) + len(self.temporaries) - 1

    def add(self, kernel: Kernel, *operands: int) -> None:
        """One more kernel, and the numbers of its operands."""
        if kernel.tasks:
            self.steps.append((kernel, operands))

    def plan(self) -> Plan:
        return Plan(tuple(self.temporaries), tuple(self.steps))
