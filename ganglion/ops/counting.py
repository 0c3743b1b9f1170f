"""Counting: distinct elements, histograms and positions among boundaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import DTypeError, ShapeError
from ganglion.ops.elementwise import Array
from ganglion.ops.index import gather
from ganglion.ops.movement import reshape
from ganglion.ops.record import Op, into
from ganglion.shapes import Meta, normalize_dim, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor


def _unknown(*metas: Meta, **params: Any) -> None:
    """The shape rule of results whose shape only the values tell; traces refuse such ops."""


# --- distinct elements ----------------------------------------------------------------------------


def _distinct(x: Array, dim: int | None) -> tuple[Array, Array, Array]:
    inverse_shape = x.shape if dim is None else (x.shape[dim],)
    values, inverse, counts = np.unique(
        x, return_inverse=True, return_counts=True, axis=dim, equal_nan=False
    )
    return values, inverse.reshape(inverse_shape), counts


def _runs(x: Array, dim: int | None) -> tuple[Array, Array, Array]:
    """Like ``_distinct``, of neighbours only."""
    rows = x.reshape(-1) if dim is None else np.moveaxis(x, dim, 0)
    starts = np.ones(len(rows), bool)
    starts[1:] = (rows[1:] != rows[:-1]).any(axis=tuple(range(1, rows.ndim)))
    inverse = np.cumsum(starts) - 1
    counts = np.diff(np.append(np.flatnonzero(starts), len(rows)))
    values = rows[starts]
    if dim is None:
        return values, inverse.reshape(x.shape), counts
    return np.moveaxis(values, 0, dim), inverse, counts


def _counting(name: str, kernel: Any) -> Op:
    return Op(name, "count", kernel, _unknown, outputs=3, runs="eager-only")


UNIQUE = _counting("unique", _distinct)
UNIQUE_CONSECUTIVE = _counting("unique_consecutive", _runs)


def _chosen(op: Op, input: Tensor, inverse: bool, counts: bool, dim: int | None) -> Any:
    """Only what was asked for of values, inverse and counts."""
    at = None if dim is None else normalize_dim(dim, input.ndim)
    if at is not None and not input.ndim:
        input = reshape(input, (1,))
    found = op(input, dim=at)
    wanted = [x for x, is_wanted in zip(found, (True, inverse, counts), strict=True) if is_wanted]
    return tuple(wanted) if len(wanted) > 1 else wanted[0]


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """Distinct elements in rising order (with ``dim``, distinct slices along it).

    With ``return_inverse`` also where each element went, with ``return_counts`` how often each
    occurs. Always sorted; NaNs are all distinct.
    """
    return _chosen(UNIQUE, input, return_inverse, return_counts, dim)


def unique_consecutive(
    input: Tensor,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """``input`` (flattened without ``dim``) with each run of equal neighbours made one."""
    return _chosen(UNIQUE_CONSECUTIVE, input, return_inverse, return_counts, dim)


# --- histograms -----------------------------------------------------------------------------------


def _bincount_array(x: Array, weights: Array | None, minlength: int) -> Array:
    if x.ndim != 1 or (x.size and x.min() < 0):
        raise ShapeError("bincount only supports 1-d non-negative integral inputs.")
    found = np.bincount(x, weights, minlength)
    if weights is None:
        return found
    return found.astype(np.float32 if weights.dtype == np.float32 else np.float64)


BINCOUNT = Op("bincount", "count", _bincount_array, _unknown, runs="eager-only")


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2, ... occurs in a 1-d integer tensor, or its sum of ``weights``."""
    if input.dtype.category != dt.INTEGRAL:
        raise DTypeError(f"bincount counts integers, got {input.dtype.name}")
    if weights is not None and weights.shape != input.shape:
        raise ShapeError(
            f"weights should be 1-d and have the same length as input, got {show(weights.shape)} "
            f"and {show(input.shape)}"
        )
    return BINCOUNT(input, weights, minlength=minlength)  # type: ignore[no-any-return]


def _histc_array(x: Array, bins: int, low: float, high: float) -> Array:
    x = x.reshape(-1)
    if low == high and x.size:
        low, high = x.min(), x.max()
    if low == high:
        low, high = low - 1, high + 1
    if not np.isfinite(low) or not np.isfinite(high):
        raise ShapeError(f"histc: range of [{low}, {high}] is not finite; pass min= and max=")
    inside = x[(x >= low) & (x <= high)]
    place = ((inside - low) * (bins / (high - low))).astype(np.int64)
    found = np.bincount(np.minimum(place, bins - 1), minlength=bins)
    return found.astype(x.dtype)


HISTC = Op(
    "histc",
    "count",
    _histc_array,
    lambda x, bins, low, high: Meta((bins,), x.dtype),
    runs="host",
)


def histc(
    input: Tensor, bins: int = 100, min: float = 0, max: float = 0, *, out: Tensor | None = None
) -> Tensor:
    """Counts of elements in ``bins`` equal parts of [min, max], or of the data's own range."""
    if not input.dtype.is_floating_point:
        raise DTypeError(f"histc expects a floating dtype, got {input.dtype.name}")
    if bins < 1:
        raise ShapeError(f"histc: bins must be > 0, got {bins}")
    if max < min:
        raise ShapeError(f"histc: max must be larger than min, got {min} and {max}")
    return into(out, HISTC(input, bins=bins, low=float(min), high=float(max)))


# --- positions among boundaries -------------------------------------------------------------------


def _searchsorted_array(boundaries: Array, x: Any, side: Any, narrow: bool) -> Array:
    x = np.asarray(x)
    if boundaries.ndim == 1:
        found = np.searchsorted(boundaries, x, side)
    else:
        found = np.empty(x.shape, np.int64)
        for at in np.ndindex(x.shape[:-1]):
            found[at] = np.searchsorted(boundaries[at], x[at], side)
    return np.asarray(found, np.int32 if narrow else np.int64)


def _infer_searchsorted(boundaries: Meta, x: Any, side: str, narrow: bool) -> Meta:
    shape = x.shape if isinstance(x, Meta) else ()
    if boundaries.ndim != 1 and boundaries.shape[:-1] != shape[:-1]:
        raise ShapeError(
            "searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions "
            "of boundaries tensor and input value tensor must match, but we got boundaries tensor "
            f"{show(boundaries.shape)} and input value tensor {show(shape)}"
        )
    return Meta(shape, dt.int32 if narrow else dt.int64)


SEARCHSORTED = Op("searchsorted", "count", _searchsorted_array, _infer_searchsorted, runs="host")


def searchsorted(
    sorted_sequence: Tensor,
    input: Tensor | float,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    out: Tensor | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where elements of ``input`` belong in rows of ``sorted_sequence`` to keep them sorted.

    Before equal elements, or behind them with ``right=True`` (``side="right"``). ``sorter`` holds
    the positions that sort the sequence, if it is not sorted.
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ShapeError(
            f"searchsorted(): side and right can't be set to opposites, got side={side!r} while "
            f"right={right}; side is 'left' or 'right'"
        )
    if sorter is not None:
        sorted_sequence = gather(sorted_sequence, -1, sorter)
    where = "right" if right or side == "right" else "left"
    return into(out, SEARCHSORTED(sorted_sequence, input, side=where, narrow=out_int32))


def bucketize(
    input: Tensor | float,
    boundaries: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Which bucket between 1-d ``boundaries`` each element falls into."""
    if boundaries.ndim != 1:
        raise ShapeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right, out=out)
