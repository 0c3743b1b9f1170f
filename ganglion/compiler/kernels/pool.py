"""Pooling: maxima and means of windows, and their transposes, with lanes along channels.

Every kernel computes an element of its result from the elements it depends on. For gradients
those are the windows that contain an input, which have the form of windows themselves
(``axes.backward_axes``): nothing is scattered, and the order of tasks does not matter.

Layouts are (N, C, *S) with any strides; dense channels are fast.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ganglion.compiler.kernel import (
    Epilogue,
    Kernel,
    Layout,
    Plan,
    Tile,
    packed,
    stored,
)
from ganglion.compiler.kernels.axes import (
    Axes,
    Axis,
    Steps,
    Window,
    backward_axes,
    each_block,
    each_phase,
    forward_axes,
    narrowed,
    share,
    spatial,
    spatial_size,
    widened,
)
from ganglion.compiler.kernels.halo import surrounded
from ganglion.compiler.kernels.pool_forms import (
    Form,
    Largest,
    Mean,
    Picked,
    Scattered,
    Shared,
    Spot,
    View,
)
from ganglion.compiler.kernels.pool_windows import (
    Cell,
    Counted,
    Even,
    EvenCounted,
    Sliding,
    Span,
)
from ganglion.compiler.kernels.unpool import Unpooling, side_by_side, unpooled
from ganglion.compiler.kernels.weights import lanes_for
from ganglion.compiler.text import BYTES, Code, Index, Reg
from ganglion.shapes import Shape

TASKS = 16  # at least, where the shape gives as many
VECTORS = 4  # of channels, at once
UNROLLED = 16  # cells of a window that are written without a loop

Spans = tuple[Span, Span, Span]


# --- the kernel -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pooling:
    """A result (N, C, D, H, W), in parts, of a form over windows of the first operand.

    ``stores`` operands are written by the form itself; the epilogue's follow.
    """

    form: Form
    operands: tuple[Layout, ...]
    shape: Shape
    parts: tuple[Spans, ...]
    kernel: Shape
    rank: int
    stores: int = 0

    @cached_property
    def lanes(self) -> int:
        return lanes_for(self.shape[1], self.operands[0].stored)

    @property
    def slices(self) -> int:
        """Into how many parts an image is cut."""
        counts = [spans[sliced(spans)].axis.count for spans in self.parts]
        return min(*counts, -(-TASKS // self.shape[0]))


def sliced(spans: Spans) -> int:
    """The dimension along which tasks share an image: the first of several places."""
    return next((d for d, span in enumerate(spans) if span.axis.count > 1), 0)


def turned(spans: Spans, axes: Axes) -> Spans:
    """The spans with axes of one phase."""
    first, second, third = (span.turn(axis) for span, axis in zip(spans, axes, strict=True))
    return first, second, third


def pooled(pooling: Pooling, epilogue: Epilogue) -> Kernel:
    """The kernel of a pooling; a task is an image or a part of one."""
    own, slices = len(pooling.operands), pooling.slices
    operands = (*pooling.operands, *epilogue.operands)

    def emit(code: Code, pointers: Sequence[Reg], scratch: Reg, low: Reg, high: Reg) -> None:
        given = list(zip(pointers[:own], pooling.operands, strict=True))

        def task(i: Index) -> None:
            n, part = code.split(i, (pooling.shape[0], slices))

            def all_phases(spans: Spans) -> None:
                axes = tuple(span.axis for span in spans)
                each_phase(code, axes, lambda axes: _Writer(
                    code, pooling, turned(spans, axes), given, pointers[own:], epilogue
                ).write(n, part))  # fmt: skip

            for spans in pooling.parts:
                all_phases(spans)

        code.loop(low, high, 1, (), task)

    reads = range(own - pooling.stores)
    key: Hashable = ("pool", pooling, epilogue.key)
    return Kernel(
        "pool", key, emit, operands, (*reads, *(i + own for i in epilogue.reads)),
        (*range(len(reads), own), *(i + own for i in epilogue.writes)),
        pooling.shape[0] * slices,
        flops=math.prod(pooling.shape) * max(math.prod(s.most for s in p) for p in pooling.parts),
        bytes=sum(layout.numel * BYTES[layout.stored] for layout in operands),
    )  # fmt: skip


@dataclass
class _Writer:
    code: Code
    pooling: Pooling
    spans: Spans
    given: Sequence[tuple[Reg, Layout]]
    pointers: Sequence[Reg]
    epilogue: Epilogue

    def write(self, n: Index, part: Index) -> None:
        """The part of an image that belongs to a task."""
        code, counts = self.code, [span.axis.count for span in self.spans]
        bounds: list[tuple[Index, Index]] = [(0, count) for count in counts]
        d = sliced(self.spans)
        bounds[d] = share(code, part, counts[d], self.pooling.slices)
        rows, lines, line = bounds
        code.loop(*rows, 1, (), lambda d: code.loop(*lines, 1, (), lambda h: code.loop(
            *line, 1, (), lambda w: each_block(
                code, self.pooling.shape[1], VECTORS * self.pooling.lanes,
                lambda c, columns: self._window(n, c, (d, h, w), columns),
            )
        )))  # fmt: skip

    def _window(self, n: Index, c: Index, at: Sequence[Index], columns: int) -> None:
        code, pooling, form = self.code, self.pooling, self.pooling.form
        pairs = list(zip(self.spans, at, strict=True))
        index = (n, c, *[code.add(code.mul(i, s.axis.step), s.axis.start) for s, i in pairs])
        view = View(code, self.given, index, columns, pooling.lanes)
        first = [span.cell(code, i, 0, mask=form.masks) for span, i in pairs]
        state = form.start(view, Spot(code, first, pooling.kernel))
        state = self._visit(view, at, [], state)
        found = Tile(
            narrowed(index, pooling.rank), [(0,) * (2 + pooling.rank)], 1, columns,
            [form.finish(view, state)],
        )  # fmt: skip
        self.epilogue.emit(code, self.pointers, found)

    def _visit(
        self, view: View, at: Sequence[Index], cells: list[Cell], state: list[Reg]
    ) -> list[Reg]:
        """Visit the cells of a window, dimension by dimension."""
        code, form, d = self.code, self.pooling.form, len(cells)
        if d == len(self.spans):
            return form.visit(view, state, Spot(code, cells, self.pooling.kernel))
        span = self.spans[d]
        low, high = span.cells(code, at[d])
        few = math.prod(other.most for other in self.spans[d:]) <= UNROLLED

        def cell(t: Index, *state: Reg) -> list[Reg]:
            found = span.cell(code, at[d], t, mask=form.masks)
            return self._visit(view, at, [*cells, found], list(state))

        return code.loop(low, high, 1, state, cell, unroll=few)


# --- the plans ------------------------------------------------------------------------------------


def max_pool(
    x: Layout, values: Layout, positions: Layout | None, *, kernel: Shape, stride: Shape,
    padding: Shape, dilation: Shape, ceil_mode: bool = False,
) -> Plan:  # fmt: skip
    """The largest element of each window and its position there; operands (x, values, positions).

    NaN is largest, and the last one if there are several; otherwise the first of equals is it.
    Without ``positions`` they are not stored.
    """
    window, form = _window(kernel, stride, padding, dilation), Largest(x.dtype)
    parts = [_forward(x, values, window)]
    epilogue, rank = stored(values), len(kernel)
    if positions is None:
        return _plan(epilogue, form, (x,), values.shape, parts, window.kernel)
    pooling = Pooling(
        form, (spatial(x), spatial(positions)), spatial(values).shape, tuple(parts),
        window.kernel, rank, 1,
    )  # fmt: skip
    return Plan((), ((pooled(pooling, epilogue), (0, 2, 1)),) if values.numel else ())


def max_pool_grad(
    g: Layout, positions: Layout, epilogue: Epilogue, size: Shape, *, kernel: Shape,
    stride: Shape, padding: Shape, dilation: Shape,
) -> Plan:  # fmt: skip
    """Zeros of spatial ``size`` with g added at the positions; operands (g, positions)."""
    window = _window(kernel, stride, padding, dilation)
    shape = (*g.shape[:2], *size)
    sizes = spatial_size(tuple(size)), spatial_size(g.shape[2:])
    if math.prod(shape) and side_by_side(*sizes, window):
        return _unpooled(g, positions, epilogue, window.kernel)
    parts = _backward(g, size, window)
    return _plan(epilogue, Scattered(), (g, positions), shape, parts, window.kernel)


def _unpooled(g: Layout, positions: Layout, epilogue: Epilogue, window: Shape) -> Plan:
    """Windows side by side; their gradients are brought into the order of the positions first."""
    steps, rank, g = Steps(2, epilogue), len(g.shape) - 2, spatial(g)
    dense = positions.strides[1] == 1 and g.shape[1] > 1
    source, g = surrounded(steps, 0, g, ((0, 0),) * 3, dense)
    kernel = unpooled(Unpooling(g, spatial(positions), window, rank), epilogue)
    steps.add(kernel, source, 1, *steps.epilogue)
    return steps.plan()


def max_pool_gather(
    x: Layout, positions: Layout, epilogue: Epilogue, *, kernel: Shape, stride: Shape,
    padding: Shape, dilation: Shape,
) -> Plan:  # fmt: skip
    """What stands at the positions; operands (x, positions)."""
    window = _window(kernel, stride, padding, dilation)
    parts = [_forward(x, positions, window)]
    return _plan(epilogue, Picked(), (x, positions), positions.shape, parts, window.kernel)


def avg_pool(
    x: Layout, epilogue: Epilogue, *, kernel: Shape, stride: Shape, padding: Shape,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Plan:  # fmt: skip
    """The mean of each window of x, the only operand."""
    window = _window(kernel, stride, padding, (1,) * len(kernel))
    out = _places(x.shape[2:], kernel, stride, padding, ceil_mode)
    result = packed(x.dtype, (*x.shape[:2], *out))
    size = spatial_size(x.shape[2:])
    divisor = Counted(window, size, spatial_size(out), count_include_pad, divisor_override)
    parts = [_forward(x, result, window)]
    return _plan(epilogue, Mean(divisor), (x,), result.shape, parts, window.kernel)


def avg_pool_grad(
    g: Layout, epilogue: Epilogue, size: Shape, *, kernel: Shape, stride: Shape, padding: Shape,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Plan:  # fmt: skip
    """The gradient of the mean for an input of spatial ``size``, of operand g."""
    window = _window(kernel, stride, padding, (1,) * len(kernel))
    out = spatial_size(g.shape[2:])
    divisor = Counted(window, spatial_size(size), out, count_include_pad, divisor_override)
    shape, parts = (*g.shape[:2], *size), _backward(g, size, window)
    return _plan(epilogue, Shared(divisor), (g,), shape, parts, window.kernel)


def adaptive_avg_pool(x: Layout, epilogue: Epilogue, size: Shape) -> Plan:
    """Means of windows spread evenly, so that the result has spatial ``size``; operand x."""
    divisor = EvenCounted(spatial_size(x.shape[2:]), spatial_size(size))
    return _even(x, epilogue, size, Mean(divisor))


def adaptive_avg_pool_grad(g: Layout, epilogue: Epilogue, size: Shape) -> Plan:
    """Its gradient for an input of spatial ``size``; operand g."""
    divisor = EvenCounted(spatial_size(size), spatial_size(g.shape[2:]))
    return _even(g, epilogue, size, Shared(divisor))


def _even(x: Layout, epilogue: Epilogue, size: Shape, form: Form) -> Plan:
    pairs = zip(spatial_size(size), spatial(x).shape[2:], strict=True)
    first, second, third = (Even(Axis(count), n) for count, n in pairs)
    return _plan(
        epilogue, form, (x,), (*x.shape[:2], *size), [(first, second, third)], (1,) * 3
    )  # fmt: skip


def _window(kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Window:
    pairs = tuple([(p, p) for p in padding])
    return widened(Window(tuple(kernel), tuple(stride), pairs, tuple(dilation)))


def _places(size: Shape, kernel: Shape, stride: Shape, padding: Shape, ceil_mode: bool) -> Shape:
    """How many windows there are; with ``ceil_mode`` the last may reach out of the padding."""
    out = []
    for n, k, s, p in zip(size, kernel, stride, padding, strict=True):
        count = (n + 2 * p - k + (s - 1 if ceil_mode else 0)) // s + 1
        out.append(count - 1 if ceil_mode and (count - 1) * s >= n + p else count)
    return tuple(out)


def _forward(x: Layout, result: Layout, window: Window) -> Spans:
    axes = forward_axes(spatial_size(result.shape[2:]), window)
    parts = zip(axes, spatial_size(x.shape[2:]), window.kernel, strict=True)
    first, second, third = (Sliding(axis, n, k, turned=False) for axis, n, k in parts)
    return first, second, third


def _backward(g: Layout, size: Shape, window: Window) -> list[Spans]:
    out = spatial_size(g.shape[2:])
    found: list[Spans] = []
    for axes in backward_axes(spatial_size(size), window):
        pieces = zip(axes, out, window.kernel, strict=True)
        first, second, third = (Sliding(axis, n, k, turned=True) for axis, n, k in pieces)
        found.append((first, second, third))
    return found


def _plan(
    epilogue: Epilogue, form: Form, operands: Sequence[Layout], shape: Shape,
    parts: Sequence[Spans], kernel: Shape,
) -> Plan:  # fmt: skip
    """A plan of one kernel, or none if the result is empty."""
    steps, rank = Steps(len(operands), epilogue), len(shape) - 2
    if math.prod(shape):
        full = (*shape[:2], *spatial_size(shape[2:]))
        given = tuple([spatial(x) for x in operands])
        kernel_ = pooled(Pooling(form, given, full, tuple(parts), kernel, rank), epilogue)
        steps.add(kernel_, *range(len(operands)), *steps.epilogue)
    return steps.plan()
