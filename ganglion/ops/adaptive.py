"""Adaptive pooling: windows spread evenly, so that the output has a given size.

Where the sizes divide, they are ordinary windows, and the records of ordinary pooling serve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import ArgumentTypeError, ShapeError
from ganglion.ops.arithmetic import floor_divide
from ganglion.ops.compare import eq, isnan, ne
from ganglion.ops.create import arange, zeros
from ganglion.ops.index import GATHER, INDEX
from ganglion.ops.movement import permute, reshape, squeeze
from ganglion.ops.pool import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    check_floating,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from ganglion.ops.record import Op, Saved
from ganglion.ops.reduce import amax, amin
from ganglion.ops.select import minimum, where
from ganglion.ops.windows import Array, batched, unbatched
from ganglion.shapes import Meta, Shape

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

OutputSize = int | Sequence[int | None] | None  # None keeps the input's size


def _spans(size: int, out: int) -> Iterator[tuple[int, slice]]:
    """Each window along a dimension: ``floor(i n / o)`` to ``ceil((i + 1) n / o)``."""
    for i in range(out):
        yield i, slice(i * size // out, -(-(i + 1) * size // out))


def _along(dim: int, key: int | slice) -> Any:
    return (*(slice(None),) * dim, key)


# --- averages: along one dimension after the other ------------------------------------------------


def _resized(x: Array, dim: int, size: int) -> Array:
    return np.zeros((*x.shape[:dim], size, *x.shape[dim + 1 :]), x.dtype)


def _adaptive_avg_array(x: Array, size: Shape) -> Array:
    for dim in range(x.ndim - 1, 1, -1):
        found = _resized(x, dim, size[dim - 2])
        for i, span in _spans(x.shape[dim], size[dim - 2]):
            part = x[_along(dim, span)]
            found[_along(dim, i)] = np.add.reduce(part, axis=dim) / part.shape[dim]
        x = found
    return x


def _adaptive_avg_grad_array(g: Array, size: Shape) -> Array:
    for dim in range(2, g.ndim):
        found = _resized(g, dim, size[dim - 2])
        for i, span in _spans(size[dim - 2], g.shape[dim]):
            share = g[_along(dim, slice(i, i + 1))] / (span.stop - span.start)
            found[_along(dim, span)] += share
        g = found
    return g


def _infer(x: Meta, size: Shape) -> Meta:
    return Meta((*x.shape[:2], *size), x.dtype)


def _adaptive_avg_rule(s: Saved, g: Tensor) -> Tensor:
    if 0 in g._data.shape:
        return zeros(s.shapes[0], dtype=g.dtype)
    return ADAPTIVE_AVG_POOL_GRAD(g, size=s.shapes[0][2:])  # type: ignore[no-any-return]


ADAPTIVE_AVG_POOL: Op = Op(
    "adaptive_avg_pool",
    "pool",
    _adaptive_avg_array,
    _infer,
    vjp=(_adaptive_avg_rule,),
    flops=lambda x, size: x.numel,
)
# the gradient for an input of spatial ``size``
ADAPTIVE_AVG_POOL_GRAD: Op = Op(
    "adaptive_avg_pool_grad",
    "pool",
    _adaptive_avg_grad_array,
    _infer,
    vjp=(lambda s, g: ADAPTIVE_AVG_POOL(g, size=s.shapes[0][2:]),),
)


# --- maxima ---------------------------------------------------------------------------------------


def _adaptive_max_array(x: Array, size: Shape) -> Array:
    """Positions of the maxima in the flattened spatial dimensions."""
    places = np.arange(math.prod(x.shape[2:])).reshape(x.shape[2:])
    places = np.broadcast_to(places, x.shape)
    for dim in range(x.ndim - 1, 1, -1):
        values, found = _resized(x, dim, size[dim - 2]), _resized(places, dim, size[dim - 2])
        for i, span in _spans(x.shape[dim], size[dim - 2]):
            part, key = x[_along(dim, span)], _along(dim, slice(i, i + 1))
            best = _largest(part, dim)
            values[key] = np.take_along_axis(part, best, dim)
            found[key] = np.take_along_axis(places[_along(dim, span)], best, dim)
        x, places = values, found
    return places


def _largest(x: Array, dim: int) -> Array:
    """Where the first maximum stands along ``dim``, or the last NaN."""
    found: Array = np.argmax(x, axis=dim, keepdims=True)
    missing = np.isnan(x)
    if not missing.any():
        return found
    last = x.shape[dim] - 1 - np.argmax(np.flip(missing, dim), axis=dim, keepdims=True)
    return np.where(missing.any(axis=dim, keepdims=True), last, found)


def _window_places(size: int, out: int) -> Tensor:
    """The places that each window along a dimension covers; short ones repeat their last."""
    width = max((span.stop - span.start for _, span in _spans(size, out)), default=1)
    window, step = arange(out), arange(width)
    first = floor_divide(window * size, max(out, 1))
    last = floor_divide((window + 1) * size - 1, max(out, 1))
    return minimum(first[:, None] + step, last[:, None])


def _adaptive_max_ops(x: Tensor, size: Shape) -> Tensor:
    """Every window along a last dimension; of its elements, the place of the greatest."""
    dims, total = len(size), math.prod(x._data.shape[2:])
    numbers = reshape(arange(total), (1, 1, *x._data.shape[2:]))
    order = (0, 1, *range(2, 2 + 2 * dims, 2), *range(3, 3 + 2 * dims, 2))
    found = []
    for part in (x, numbers):
        for dim in reversed(range(dims)):
            window = _window_places(x._data.shape[2 + dim], size[dim])
            part = INDEX(part, window, dims=(2 + dim,), wrap=False)
        part = permute(part, order)
        shape = part._data.shape
        found.append(reshape(part, (*shape[: 2 + dims], math.prod(shape[2 + dims :]))))
    windows, places = found
    best = amax(windows, -1, keepdim=True)
    first = amin(where(eq(windows, best), places, total), -1)
    last = amax(where(ne(windows, windows), places, -1), -1)
    place: Tensor = where(isnan(squeeze(best, -1)), last, first)
    return place


ADAPTIVE_MAX_POSITIONS = Op(
    "adaptive_max_positions",
    "pool",
    _adaptive_max_array,
    lambda x, size: Meta((*x.shape[:2], *size), dt.int64),
    decompose=_adaptive_max_ops,
    flops=lambda x, size: x.numel,
)


# --- public functions -----------------------------------------------------------------------------


def _target(name: str, ndim: int, x: Tensor, output_size: OutputSize) -> Shape:
    """The output's spatial size, checked."""
    given = output_size if isinstance(output_size, Sequence) else (output_size,) * ndim
    if len(given) != ndim:
        raise ShapeError(f"{name}: output_size must be {ndim}, got {list(given)}")
    size: Shape = x._data.shape[2:]
    if 0 in x._data.shape[1:]:
        raise ShapeError(
            f"{name}(): Expected input to have non-zero size for non-batch dimensions, but input "
            f"has sizes {list(x._data.shape)}"
        )
    wanted = tuple([n if out is None else out for n, out in zip(size, given, strict=True)])
    if not all(isinstance(n, int) for n in wanted):
        raise ArgumentTypeError(f"{name}: output_size must be ints or None, got {output_size!r}")
    if min(wanted) < 0:
        raise ShapeError(
            f"{name}: elements of output_size must be greater than or equal to 0 but received "
            f"{list(wanted)}"
        )
    return wanted


def _even_windows(x: Tensor, size: Shape) -> Shape | None:
    """The kernel, and stride, of ordinary windows that give ``size``, if there is one."""
    pairs = list(zip(x._data.shape[2:], size, strict=True))
    if any(not out or n % out for n, out in pairs):
        return None
    return tuple([n // out for n, out in pairs])


def _averaged(name: str, ndim: int, input: Tensor, output_size: OutputSize) -> Tensor:
    x, had = batched(name, input, ndim)
    check_floating(name, x)
    size = _target(name, ndim, x, output_size)
    kernel = _even_windows(x, size)
    y = ADAPTIVE_AVG_POOL(x, size=size) if kernel is None else _AVERAGE[ndim - 1](x, kernel)
    return unbatched(y, had)


_AVERAGE = (avg_pool1d, avg_pool2d, avg_pool3d)
_MAX = (max_pool1d, max_pool2d, max_pool3d)


def adaptive_avg_pool1d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Means of evenly spread windows: (N, C, L) to (N, C, output_size)."""
    return _averaged("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Means of evenly spread windows: (N, C, H, W) to (N, C, *output_size).

    None for a size keeps the input's.
    """
    return _averaged("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: OutputSize) -> Tensor:
    """Means of evenly spread windows: (N, C, D, H, W) to (N, C, *output_size)."""
    return _averaged("adaptive_avg_pool3d", 3, input, output_size)


def _largest_of(
    name: str, ndim: int, input: Tensor, output_size: OutputSize, return_indices: bool
) -> Any:
    x, had = batched(name, input, ndim)
    check_floating(name, x)
    size = _target(name, ndim, x, output_size)
    kernel = _even_windows(x, size)
    if kernel is not None:
        found = _MAX[ndim - 1](x, kernel, return_indices=return_indices)
    else:
        found = _picked(x, size) if return_indices else _picked(x, size)[0]
    if not return_indices:
        return unbatched(found, had)
    return tuple([unbatched(part, had) for part in found])


def _picked(x: Tensor, size: Shape) -> tuple[Tensor, Tensor]:
    indices = ADAPTIVE_MAX_POSITIONS(x, size=size)
    lead = x._data.shape[:2]
    plane = reshape(x, (*lead, math.prod(x._data.shape[2:])))
    values = GATHER(plane, reshape(indices, (*lead, math.prod(size))), dim=2)
    return reshape(values, (*lead, *size)), indices


def adaptive_max_pool1d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Maxima of evenly spread windows: (N, C, L) to (N, C, output_size)."""
    return _largest_of("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Maxima of evenly spread windows: (N, C, H, W) to (N, C, *output_size).

    ``return_indices`` adds each maximum's position in the flattened plane.
    """
    return _largest_of("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(
    input: Tensor, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Maxima of evenly spread windows: (N, C, D, H, W) to (N, C, *output_size)."""
    return _largest_of("adaptive_max_pool3d", 3, input, output_size, return_indices)


adaptive_max_pool1d_with_indices = partial(adaptive_max_pool1d, return_indices=True)
adaptive_max_pool2d_with_indices = partial(adaptive_max_pool2d, return_indices=True)
adaptive_max_pool3d_with_indices = partial(adaptive_max_pool3d, return_indices=True)
