"""Max and average pooling over any number of spatial dimensions.

Max pooling remembers where in its window each maximum stood; scattering to these positions and
gathering from them are each other's gradients. So are averaging and its transpose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import DTypeError, ShapeError
from ganglion.ops import taps
from ganglion.ops.create import arange
from ganglion.ops.movement import cast, reshape
from ganglion.ops.record import Op, Saved
from ganglion.ops.windows import (
    Array,
    Pairs,
    Sizes,
    batched,
    cells,
    check_least,
    padded,
    reach,
    spread,
    unbatched,
    windows,
)
from ganglion.shapes import Meta, Shape

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

HEAVY: Final = 1 << 19  # FLOP

# --- windows --------------------------------------------------------------------------------------


class Window(NamedTuple):
    """The sizes of a window along each spatial dimension; padding is added on both sides."""

    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape

    def places(self, size: Shape, ceil_mode: bool) -> Shape:
        """How many windows there are along each dimension.

        With ``ceil_mode`` the last may reach out of the padded input, but not start outside it.
        """
        out = []
        reaches = reach(self.kernel, self.dilation)
        for n, r, s, p in zip(size, reaches, self.stride, self.padding, strict=True):
            count = (n + 2 * p - r + (s - 1 if ceil_mode else 0)) // s + 1
            out.append(count - 1 if ceil_mode and (count - 1) * s >= n + p else count)
        return tuple(out)

    def shape(self, x: Shape, ceil_mode: bool) -> Shape:
        """The pooled shape of an input (N, C, *S)."""
        out = self.places(x[2:], ceil_mode)
        if min(out) < 1:
            given, made = ("x".join(map(str, sizes)) for sizes in (x[1:], (x[1], *out)))
            raise ShapeError(
                f"Given input size: ({given}). Calculated output size: ({made}). Output size is "
                "too small"
            )
        return *x[:2], *out

    @property
    def overlaps(self) -> bool:
        """Whether two windows may share an element."""
        reaches = reach(self.kernel, self.dilation)
        return any(r > s for r, s in zip(reaches, self.stride, strict=True))

    def around(self, size: Shape, out: Shape) -> Pairs:
        """The padding before, and that after as far as the last window reaches."""
        reaches = reach(self.kernel, self.dilation)
        parts = zip(size, out, reaches, self.stride, self.padding, strict=True)
        return tuple([(p, max((o - 1) * s + r - n - p, 0)) for n, o, r, s, p in parts])

    def over(self, x: Array, out: Shape) -> Array:
        """The view (N, C, *kernel, *out) of every window of a padded array."""
        return windows(x, self.kernel, self.stride, self.dilation, out)


def _wide(size: Shape, pairs: Pairs) -> Shape:
    return tuple([n + before + after for n, (before, after) in zip(size, pairs, strict=True)])


def _inside(x: Array, size: Shape, pairs: Pairs) -> Array:
    """What of a padded array is not padding."""
    if not any(map(any, pairs)):
        return x
    parts = zip(size, pairs, strict=True)
    key: Any = (..., *(slice(before, before + n) for n, (before, _) in parts))
    return x[key].copy()  # type: ignore[no-any-return]


# --- max pooling ----------------------------------------------------------------------------------


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _max_pool_array(x: Array, ceil_mode: bool, **window: Any) -> tuple[Array, Array]:
    w = Window(**window)
    shape = w.shape(x.shape, ceil_mode)
    size, out = x.shape[2:], shape[2:]
    seen = w.over(padded(x, w.around(size, out), _lowest(x.dtype)), out)
    positions = np.empty(shape, taps.position_type(w.kernel).numpy)
    positions[...] = _first_inside(w, out)
    (_, first), *others = cells(w.kernel)
    best: Array = seen[first].copy()
    for number, cell in others:
        value = np.ascontiguousarray(seen[cell])
        larger = (value > best).view(np.uint8) * positions.dtype.type(number)
        np.maximum(positions, larger, out=positions)  # a later cell has a larger number
        np.maximum(value, best, out=best)
    if best.dtype.kind == "f" and np.isnan(best).any():
        for number, cell in cells(w.kernel):
            np.copyto(positions, number, where=np.isnan(seen[cell]))
    return best, positions


def _first_inside(w: Window, out: Shape) -> Array:
    """The first cell of each window that is not padding."""
    found: Any = 0
    for dim, (k, s, p, d) in enumerate(zip(*w, strict=True)):
        skipped = -((np.arange(out[dim]) * s - p).clip(max=0) // d)
        found = found * k + skipped.reshape(-1, *(1,) * (len(out) - 1 - dim))
    return np.asarray(found)


def _max_pool_grad_array(g: Array, positions: Array, size: Shape, **window: Any) -> Array:
    w, out = Window(**window), g.shape[2:]
    pairs = w.around(size, out)
    total = np.zeros((*g.shape[:2], *_wide(size, pairs)), g.dtype)
    seen = w.over(total, out)
    for number, cell in cells(w.kernel):
        if w.overlaps:
            seen[cell] += _only(g, positions == number)
        else:
            _only(g, positions == number, out=seen[cell])
    return _inside(total, size, pairs)


def _max_pool_gather_array(x: Array, positions: Array, **window: Any) -> Array:
    w, out = Window(**window), positions.shape[2:]
    seen = w.over(padded(x, w.around(x.shape[2:], out)), out)
    found = np.zeros(positions.shape, x.dtype)
    for number, cell in cells(w.kernel):
        found += _only(seen[cell], positions == number)
    return found


def _only(x: Array, mask: Array, out: Array | None = None) -> Array:
    """``x`` where ``mask`` holds, else 0; ten times faster than a masked copy, exact for NaN."""
    bits = f"i{x.itemsize}"
    target = None if out is None else out.view(bits)
    kept: Array = np.bitwise_and(x.view(bits), -mask.view(np.int8), out=target)
    return kept.view(x.dtype)


def _infer_max_pool(x: Meta, ceil_mode: bool, **window: Any) -> tuple[Meta, Meta]:
    w = Window(**window)
    shape = w.shape(x.shape, ceil_mode)
    return Meta(shape, x.dtype), Meta(shape, taps.position_type(w.kernel))


def _window(s: Saved) -> dict[str, Any]:
    return {name: s[name] for name in Window._fields}


# x (N, C, *S) to the maxima and their positions in the window, both (N, C, *P)
MAX_POOL: Op = Op(
    "max_pool",
    "pool",
    _max_pool_array,
    _infer_max_pool,
    vjp=(lambda s, g: MAX_POOL_GRAD(g, s.output(1), size=s.shapes[0][2:], **_window(s)),),
    saves="1",
    outputs=2,
    vjp_takes_none=True,
    element=taps.max_pool,
    heavy=HEAVY,
    flops=lambda x, **window: _infer_max_pool(x, **window)[0].numel * math.prod(window["kernel"]),
)
# zeros of spatial ``size`` with g added at the positions
MAX_POOL_GRAD: Op = Op(
    "max_pool_grad",
    "pool",
    _max_pool_grad_array,
    lambda g, positions, size, **window: Meta((*g.shape[:2], *size), g.dtype),
    vjp=(lambda s, g: MAX_POOL_GATHER(g, s.y, **_window(s)), None),
    saves="y",
    heavy=HEAVY,
)
# what stands at the positions
MAX_POOL_GATHER: Op = Op(
    "max_pool_gather",
    "pool",
    _max_pool_gather_array,
    lambda x, positions, **window: Meta(positions.shape, x.dtype),
    vjp=(lambda s, g: MAX_POOL_GRAD(g, s.y, size=s.shapes[0][2:], **_window(s)), None),
    saves="y",
    heavy=HEAVY,
)


# --- average pooling: sums along one dimension after the other, over what each window counts ------


def _shifts(kernel: int, stride: int, out: int) -> Iterator[slice]:
    """For each cell of a window the places where it stands."""
    for k in range(kernel):
        yield slice(k, k + (out - 1) * stride + 1, stride)


def _sums(x: Array, dim: int, kernel: int, stride: int, out: int) -> Array:
    """The sum of each window along ``dim``."""
    total = np.zeros((*x.shape[:dim], out, *x.shape[dim + 1 :]), x.dtype)
    for part in _shifts(kernel, stride, out):
        total += x[(*(slice(None),) * dim, part)]
    return total


def _spread_sums(g: Array, dim: int, kernel: int, stride: int, size: int) -> Array:
    """The transpose of ``_sums``."""
    total = np.zeros((*g.shape[:dim], size, *g.shape[dim + 1 :]), g.dtype)
    for part in _shifts(kernel, stride, g.shape[dim]):
        total[(*(slice(None),) * dim, part)] += g
    return total


def _over_counts(
    x: Array, size: Shape, w: Window, count_include_pad: bool, divisor_override: int | None
) -> Array:
    """Sums (N, C, *P) divided by the cells of each window that are in the (padded) input."""
    if divisor_override is not None:
        return x / divisor_override
    found = np.ones((), x.dtype)
    for n, o, k, s, p, _ in zip(size, x.shape[2:], *w, strict=True):
        starts = np.arange(o) * s - p
        ends = (starts + k).clip(max=n + p if count_include_pad else n)
        counts = ends - (starts if count_include_pad else starts.clip(min=0))
        found = found[..., None] * counts.astype(x.dtype)
    return x / found


def _flat(kernel: Shape, stride: Shape, padding: Shape) -> Window:
    return Window(kernel, stride, padding, (1,) * len(kernel))


def _avg_pool_array(
    x: Array, kernel: Shape, stride: Shape, padding: Shape, ceil_mode: bool, **counted: Any
) -> Array:
    w, size = _flat(kernel, stride, padding), x.shape[2:]
    out = w.shape(x.shape, ceil_mode)[2:]
    x = padded(x, w.around(size, out))
    for dim in range(len(out) - 1, -1, -1):
        x = _sums(x, dim + 2, kernel[dim], stride[dim], out[dim])
    return _over_counts(x, size, w, **counted)


def _avg_pool_grad_array(
    g: Array,
    size: Shape,
    kernel: Shape,
    stride: Shape,
    padding: Shape,
    ceil_mode: bool,
    **counted: Any,
) -> Array:
    w = _flat(kernel, stride, padding)
    pairs = w.around(size, g.shape[2:])
    wide = _wide(size, pairs)
    g = _over_counts(g, size, w, **counted)
    for dim in range(len(size)):
        g = _spread_sums(g, dim + 2, kernel[dim], stride[dim], wide[dim])
    return _inside(g, size, pairs)


def _infer_avg_pool(
    x: Meta, kernel: Shape, stride: Shape, padding: Shape, ceil_mode: bool, **counted: Any
) -> Meta:
    return Meta(_flat(kernel, stride, padding).shape(x.shape, ceil_mode), x.dtype)


AVG_POOL: Op = Op(
    "avg_pool",
    "pool",
    _avg_pool_array,
    _infer_avg_pool,
    vjp=(lambda s, g: AVG_POOL_GRAD(g, size=s.shapes[0][2:], **s.params),),
    heavy=HEAVY,
    flops=lambda x, **params: _infer_avg_pool(x, **params).numel * math.prod(params["kernel"]),
)
# the gradient for an input of spatial ``size``
AVG_POOL_GRAD: Op = Op(
    "avg_pool_grad",
    "pool",
    _avg_pool_grad_array,
    lambda g, size, **params: Meta((*g.shape[:2], *size), g.dtype),
    vjp=(lambda s, g: AVG_POOL(g, **{k: v for k, v in s.params.items() if k != "size"}),),
    heavy=HEAVY,
)


# --- public functions -----------------------------------------------------------------------------


def _sized(ndim: int, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Window:
    """The sizes of a window, checked; the stride is the kernel unless given."""
    kernel = spread("kernel_size", kernel, ndim)
    stride = kernel if stride is None or stride == () else spread("stride", stride, ndim)
    padding, dilation = spread("padding", padding, ndim), spread("dilation", dilation, ndim)
    check_least(1, kernel_size=kernel, stride=stride, dilation=dilation)
    check_least(0, padding=padding)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ShapeError(
            f"pad should be at most half of effective kernel size, but got pad={padding} and "
            f"kernel_size={kernel}"
        )
    return Window(kernel, stride, padding, dilation)


def _flat_indices(positions: Tensor, size: Shape, w: Window) -> Tensor:
    """Positions in windows as positions in the flattened spatial dimensions of ``size``."""
    inside = cast(positions, dt.int64)
    found: Any = 0
    for dim, (k, s, p, d) in enumerate(zip(*w, strict=True)):
        start = arange(positions._data.shape[dim + 2]) * s - p
        start = reshape(start, (-1, *(1,) * (len(size) - 1 - dim)))
        cell = inside // math.prod(w.kernel[dim + 1 :]) % k
        found = found * size[dim] + start + cell * d
    return found  # type: ignore[no-any-return]


def _max_pooled(
    name: str,
    ndim: int,
    input: Tensor,
    sizes: tuple[Sizes, Any, Sizes, Sizes],
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    w = _sized(ndim, *sizes)
    x, had = batched(name, input, ndim)
    if x.dtype is dt.bool_:
        raise DTypeError(f"{name} of bool tensors is not defined; convert them first")
    values, positions = MAX_POOL(x, **w._asdict(), ceil_mode=ceil_mode)
    values = unbatched(values, had)
    if not return_indices:
        return values
    return values, unbatched(_flat_indices(positions, x._data.shape[2:], w), had)


def max_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of (N, C, L); NaN counts as largest."""
    sizes = kernel_size, stride, padding, dilation
    return _max_pooled("max_pool1d", 1, input, sizes, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of (N, C, H, W); NaN counts as largest.

    ``stride`` is the kernel's size by default. ``return_indices`` adds each maximum's position in
    the flattened plane.
    """
    sizes = kernel_size, stride, padding, dilation
    return _max_pooled("max_pool2d", 2, input, sizes, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of (N, C, D, H, W)."""
    sizes = kernel_size, stride, padding, dilation
    return _max_pooled("max_pool3d", 3, input, sizes, ceil_mode, return_indices)


max_pool1d_with_indices = partial(max_pool1d, return_indices=True)
max_pool2d_with_indices = partial(max_pool2d, return_indices=True)
max_pool3d_with_indices = partial(max_pool3d, return_indices=True)


def check_floating(name: str, x: Tensor) -> None:
    """Averages need floating-point numbers."""
    if not x.dtype.is_floating_point:
        raise DTypeError(
            f"{name} needs a floating-point tensor, got {x.dtype.name}; convert it with .float()"
        )


def _averaged(
    name: str,
    ndim: int,
    input: Tensor,
    sizes: tuple[Sizes, Any, Sizes],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> Tensor:
    w = _sized(ndim, *sizes, 1)
    x, had = batched(name, input, ndim)
    check_floating(name, x)
    if divisor_override == 0:
        raise ShapeError("divisor must be not zero")
    y = AVG_POOL(
        x,
        kernel=w.kernel,
        stride=w.stride,
        padding=w.padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    )
    return unbatched(y, had)


def avg_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of (N, C, L)."""
    sizes = kernel_size, stride, padding
    return _averaged("avg_pool1d", 1, input, sizes, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, H, W).

    Padding counts as zeros, or not at all without ``count_include_pad``; ``divisor_override``
    divides every sum by that number instead.
    """
    sizes = kernel_size, stride, padding
    divisor = count_include_pad, divisor_override
    return _averaged("avg_pool2d", 2, input, sizes, ceil_mode, *divisor)


def avg_pool3d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (N, C, D, H, W)."""
    sizes = kernel_size, stride, padding
    divisor = count_include_pad, divisor_override
    return _averaged("avg_pool3d", 3, input, sizes, ceil_mode, *divisor)
