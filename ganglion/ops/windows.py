"""Windows that slide over spatial dimensions: what convolution and pooling share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.errors import ArgumentTypeError, ShapeError
from ganglion.ops.movement import reshape, strided
from ganglion.shapes import Shape

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
Sizes = int | Sequence[int]  # one for all spatial dimensions, or one for each
Pairs = tuple[tuple[int, int], ...]  # what is added before and after each spatial dimension


# --- arguments ------------------------------------------------------------------------------------


def spread(name: str, value: Sizes, ndim: int) -> Shape:
    """``value`` as one int for each of ``ndim`` dimensions."""
    given = tuple(value) if isinstance(value, Sequence) else (value,)
    if not all(hasattr(n, "__index__") for n in given):
        raise ArgumentTypeError(f"{name} must be an int or a sequence of ints, got {value!r}")
    given = tuple(n.__index__() for n in given)
    if len(given) not in (1, ndim):
        raise ShapeError(
            f"expected {name} to be a single integer value or a list of {ndim} values to match the "
            f"dimensions, but got {name}={list(given)}"
        )
    return given * ndim if len(given) == 1 else given


def check_least(least: int, **sizes: Shape) -> None:
    """Refuse sizes under ``least``."""
    for name, value in sizes.items():
        if min(value) < least:
            word = "negative" if least == 0 else "non-positive"
            raise ShapeError(f"{word} {name} is not supported: got {value}")


def batched(name: str, input: Tensor, ndim: int) -> tuple[Tensor, bool]:
    """``input`` with a batch dimension, and whether it had one."""
    shape = input._data.shape
    if len(shape) not in (ndim + 1, ndim + 2):
        raise ShapeError(
            f"Expected {ndim + 1}D (unbatched) or {ndim + 2}D (batched) input to {name}, but got "
            f"input of size: {list(shape)}"
        )
    had = len(shape) == ndim + 2
    return (input if had else reshape(input, (1, *shape))), had


def unbatched(x: Tensor, had: bool) -> Tensor:
    """``x`` without the batch dimension that ``batched`` added."""
    return x if had else reshape(x, x._data.shape[1:])


# --- arrays: (N, C, *spatial) ---------------------------------------------------------------------


def reach(kernel: Shape, dilation: Shape) -> Shape:
    """How far a window extends."""
    return tuple([d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)])


def padded(x: Array, pairs: Pairs, fill: Any = 0) -> Array:
    """``x`` with ``fill`` around it; ``x`` itself if there is nothing to add or take away."""
    if not any(map(any, pairs)):
        return x
    inside: list[slice] = [slice(None)] * 2
    kept = list(inside)
    shape = list(x.shape[:2])
    for (before, after), n in zip(pairs, x.shape[2:], strict=True):
        shape.append(max(before + n + after, 0))
        inside.append(slice(max(before, 0), max(before, 0) + n + min(before, 0) + min(after, 0)))
        kept.append(slice(max(-before, 0), n - max(-after, 0)))
    out = np.full(shape, fill, x.dtype) if fill else np.zeros(shape, x.dtype)
    out[tuple(inside)] = x[tuple(kept)]
    return out


def windows(x: Array, kernel: Shape, stride: Shape, dilation: Shape, out: Shape) -> Array:
    """The view (N, C, *kernel, *out) of every window of ``x``."""
    steps = x.strides[2:]
    within = [d * s for d, s in zip(dilation, steps, strict=True)]
    across = [t * s for t, s in zip(stride, steps, strict=True)]
    return strided(x, (*x.shape[:2], *kernel, *out), (*x.strides[:2], *within, *across))


def cells(kernel: Shape) -> Iterator[tuple[int, Any]]:
    """Each cell of a window: its number, and the index that picks it in ``windows``."""
    for number, place in enumerate(np.ndindex(*kernel)):
        yield number, (slice(None), slice(None), *place)


def blocks(samples: int, out: Shape, per_place: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Cut the places of all windows into blocks of about ``most`` elements.

    ``per_place`` is what one place takes. A block is some samples, or some rows of one sample.
    """
    per_row = max(per_place * math.prod(out[1:]), 1)
    per_sample = max(per_row * out[0], 1)
    many, rows = max(most // per_sample, 1), max(most // per_row, 1)
    if per_sample <= most:
        rows = max(out[0], 1)
    for n in range(0, samples, many):
        for r in range(0, out[0], rows):
            yield slice(n, n + many), slice(r, min(r + rows, out[0]))
