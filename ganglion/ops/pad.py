"""Padding: ``nn.functional.pad`` in its four modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import ArgumentError, ShapeError
from ganglion.ops import scalar
from ganglion.ops.index import INDEX
from ganglion.ops.movement import EMBED, SLICE, clone
from ganglion.ops.places import Index
from ganglion.ops.record import Op
from ganglion.ops.scalar import Scalar
from ganglion.shapes import Meta, Shape, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
Pairs = tuple[tuple[int, int], ...]  # how much before and after each dimension


def _positions(size: int, before: int, after: int, pad_mode: str) -> Array:
    at = np.arange(-before, size + after)
    if pad_mode == "circular":
        return at % size
    if pad_mode == "replicate":
        return at.clip(0, size - 1)
    last = size - 1
    return last - abs(last - abs(at))  # mirrored at both ends


def _position(index: Index, size: int, before: int, after: int, pad_mode: str) -> Scalar:
    at, last = index[0] - before, size - 1
    if pad_mode == "circular":
        return (at + before * size) % size
    if pad_mode == "replicate":
        return scalar.minimum(scalar.maximum(at, 0), last)
    return last - scalar.absolute(last - scalar.absolute(at))


PAD_POSITIONS = Op(
    "pad_positions",
    "create",
    _positions,
    lambda size, before, after, pad_mode: Meta((before + size + after,), dt.int64),
    element=_position,
)


def _pairs(pad: Sequence[int], ndim: int) -> Pairs:
    """``pad`` counts from the last dimension: (left, right, top, bottom, ...)."""
    if len(pad) % 2:
        raise ShapeError(f"Padding length must be divisible by 2, got {show(pad)}")
    if len(pad) > 2 * ndim:
        raise ShapeError(
            "Padding length should be less than or equal to two times the input dimension but got "
            f"padding length {len(pad)} and input of dimension {ndim}"
        )
    given = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)]
    return ((0, 0),) * (ndim - len(given)) + tuple(reversed(given))


def _cropped(x: Tensor, pairs: Pairs) -> Tensor:
    """What negative padding leaves."""
    key = []
    for (before, after), size in zip(pairs, x._data.shape, strict=True):
        start, stop = max(-before, 0), size - max(-after, 0)
        if stop < start:
            raise ShapeError(
                f"padding {before}, {after} takes away more than the size {size} of its dimension"
            )
        key.append(slice(start, stop))
    return SLICE(x, key=tuple(key))  # type: ignore[no-any-return]


def _constant(x: Tensor, pairs: Pairs, value: float) -> Tensor:
    if min(map(min, pairs), default=0) < 0:
        x = _cropped(x, pairs)
    grown = [(max(before, 0), max(after, 0)) for before, after in pairs]
    if not any(map(any, grown)):
        return clone(x)
    sizes = list(zip(grown, x._data.shape, strict=True))
    shape = tuple(before + n + after for (before, after), n in sizes)
    key = tuple(slice(before, before + n) for (before, _), n in sizes)
    return EMBED(x, shape=shape, key=key, fill=value)  # type: ignore[no-any-return]


def _check_reach(mode: str, pairs: Pairs, shape: Shape) -> None:
    for (before, after), size in zip(pairs, shape, strict=True):
        reach = max(before, after)
        if mode == "reflect" and reach >= max(size, 1):
            raise ShapeError(
                "Padding size should be less than the corresponding input dimension, but got: "
                f"padding ({before}, {after}) for a dimension of size {size} of {show(shape)}"
            )
        if mode == "circular" and reach > size:
            raise ShapeError(
                "Padding value causes wrapping around more than once: padding "
                f"({before}, {after}) for a dimension of size {size} of {show(shape)}"
            )


def _extended(x: Tensor, pairs: Pairs, mode: str) -> Tensor:
    _check_reach(mode, pairs, x._data.shape)
    if mode == "circular" and min(map(min, pairs)) < 0:
        x = _cropped(x, pairs)
        pairs = tuple((max(before, 0), max(after, 0)) for before, after in pairs)
    for dim, (before, after) in enumerate(pairs):
        if before or after:
            size = x._data.shape[dim]
            index = PAD_POSITIONS(size=size, before=before, after=after, pad_mode=mode)
            x = INDEX(x, index, dims=(dim,), wrap=False)
    return x


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """``input`` grown at its edges; ``pad`` is (left, right, top, bottom, ...), last dim first.

    Modes: "constant" (with ``value``, 0 by default), and "reflect", "replicate", "circular" for
    the last one to three dimensions. Negative padding takes away.
    """
    pairs = _pairs(pad, input.ndim)
    if mode == "constant":
        return _constant(input, pairs, 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise ArgumentError(
            f"Unrecognised padding mode {mode!r}; expected constant, reflect, replicate or circular"
        )
    if value:
        raise ArgumentError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if not 1 <= input.ndim - len(pad) // 2 <= 2:
        raise ShapeError(
            f"Padding size {len(pad)} is not supported for {input.ndim}D input tensor: mode "
            f"{mode!r} pads the last 1, 2 or 3 dimensions after one or two others"
        )
    return _extended(input, pairs, mode)
