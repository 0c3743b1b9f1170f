"""What one element of a convolution, of its two gradients, and of a maximum over windows is.

Those of floats have kernels of their own; these rules serve integers and empty operands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import ganglion.dtypes as dt
from ganglion.ops import scalar
from ganglion.ops.scalar import Scalar, Source
from ganglion.ops.windows import Pairs
from ganglion.shapes import Shape

ALWAYS: Final = scalar.const(True, dt.bool_)


class Window(NamedTuple):
    """The parameters that all three records share."""

    stride: Shape
    padding: Pairs
    dilation: Shape
    groups: int


def _inside(at: Sequence[Scalar], size: Shape) -> Scalar:
    """Whether a pixel exists."""
    there = ALWAYS
    for i, n in zip(at, size, strict=True):
        there = there & (i >= 0) & (i < n)
    return there


def _found(x: Source, lead: Sequence[Scalar], at: Sequence[Scalar], there: Scalar) -> Scalar:
    """An element of an image, 0 outside and where it is not ``there``."""
    return scalar.guarded(there & _inside(at, x.shape[2:]), x(*lead, *at), 0)


def _seen(places: Sequence[Scalar], taps: Sequence[Scalar], window: Window) -> list[Scalar]:
    """The pixel that a tap of the window at a place sees."""
    sides = zip(places, taps, window.stride, window.padding, window.dilation, strict=True)
    return [p * s - before + k * d for p, k, s, (before, _), d in sides]


def conv(
    index: tuple[Scalar, ...], x: Source, w: Source, bias: Source | None, **params: Any
) -> Scalar:
    n, o, *places = index
    window = Window(**params)
    group = o // (w.shape[0] // window.groups)

    def term(c: Scalar, *taps: Scalar) -> Scalar:
        lead = (n, group * w.shape[1] + c)
        return _found(x, lead, _seen(places, taps, window), ALWAYS) * w(o, c, *taps)

    total = scalar.reduce("sum", w.shape[1:], term)
    return total if bias is None else total + bias(o)


def conv_input(
    index: tuple[Scalar, ...], g: Source, w: Source, size: Shape, **params: Any
) -> Scalar:
    n, c, *at = index
    window = Window(**params)
    share, ins = w.shape[0] // window.groups, w.shape[1]

    def term(of_group: Scalar, *taps: Scalar) -> Scalar:
        o = c // ins * share + of_group
        places, there = [], ALWAYS
        for i, k, s, (before, _), d in zip(
            at, taps, window.stride, window.padding, window.dilation, strict=True
        ):
            moved = i + before - k * d
            there = there & (moved >= 0) & scalar.eq(moved % s, 0)
            places.append(moved // s)
        return _found(g, (n, o), places, there) * w(o, c % ins, *taps)

    return scalar.reduce("sum", (share, *w.shape[2:]), term)


def conv_weight(
    index: tuple[Scalar, ...], x: Source, g: Source, size: Shape, **params: Any
) -> Scalar:
    o, c, *taps = index
    window = Window(**params)
    group, ins = o // (g.shape[1] // window.groups), x.shape[1] // window.groups

    def term(n: Scalar, *places: Scalar) -> Scalar:
        lead = (n, group * ins + c)
        return _found(x, lead, _seen(places, taps, window), ALWAYS) * g(n, o, *places)

    return scalar.reduce("sum", (g.shape[0], *g.shape[2:]), term)


# --- maxima ---------------------------------------------------------------------------------------


def position_type(kernel: Shape) -> dt.dtype:
    """The integers that number the taps of a window."""
    return dt.uint8 if math.prod(kernel) <= 255 else dt.int32


def _lowest(dtype: dt.dtype) -> float:
    if dtype.is_floating_point:
        return -math.inf
    return -(1 << 8 * dtype.itemsize - 1) if dtype.is_signed else 0


def max_pool(
    index: tuple[Scalar, ...], x: Source, ceil_mode: bool, kernel: Shape, stride: Shape,
    padding: Shape, dilation: Shape,
) -> tuple[Scalar, Scalar]:  # fmt: skip
    """The greatest element of a window, and its tap: the first of equals, or the last NaN."""
    n, c, *places = index
    window = Window(stride, tuple([(p, p) for p in padding]), dilation, 1)

    def seen(*taps: Scalar) -> tuple[Scalar, Scalar]:
        at = _seen(places, taps, window)
        there = _inside(at, x.shape[2:])
        return there, scalar.guarded(there, x(n, c, *at), _lowest(x.dtype))

    def first(*taps: Scalar) -> Scalar:
        there, value = seen(*taps)
        best = there & scalar.eq(value, greatest)
        return scalar.where(best, scalar.flat(taps, kernel), math.prod(kernel))

    def missing(*taps: Scalar) -> Scalar:
        _, value = seen(*taps)
        return scalar.where(scalar.ne(value, value), scalar.flat(taps, kernel), -1)

    greatest = scalar.reduce("max", kernel, lambda *taps: seen(*taps)[1])
    tap = scalar.reduce("min", kernel, first)
    if x.dtype.is_floating_point:
        last = scalar.reduce("max", kernel, missing)
        tap = scalar.where(last >= 0, last, tap)
    return greatest, scalar.cast(tap, position_type(kernel))
