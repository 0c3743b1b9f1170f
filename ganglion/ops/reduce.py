"""Reductions over dimensions, and cumulative sums and products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.ops.movement import cast, expand, reshape
from ganglion.ops.record import Op
from ganglion.shapes import Meta, Shape, normalize_dims, reduced

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
Dims = int | Sequence[int] | None


def grow(g: Tensor, shape: Shape, dims: Sequence[int]) -> Tensor:
    """A reduced tensor (with or without kept dimensions) expanded back over ``dims``."""
    kept = tuple(1 if i in dims else n for i, n in enumerate(shape))
    return expand(reshape(g, kept), shape)


def _infer_same(x: Meta, dims: tuple[int, ...], keepdim: bool) -> Meta:
    return Meta(reduced(x.shape, dims, keepdim), x.dtype)


SUM = Op(
    "sum",
    "reduce",
    lambda x, dims, keepdim: np.add.reduce(x, axis=dims, keepdims=keepdim, dtype=x.dtype),
    _infer_same,
    vjp=(lambda s, g: grow(g, s.shapes[0], s["dims"]),),
)


def sum(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: dt.dtype | None = None
) -> Tensor:
    """Sum over ``dim`` (all dimensions when None); integers and bools are summed as int64."""
    if dtype is not None or not input.dtype.is_floating_point:
        input = cast(input, dtype or dt.int64)
    dims = normalize_dims(dim, input.ndim)
    return SUM(input, dims=dims, keepdim=keepdim)  # type: ignore[no-any-return]


def sum_to(x: Tensor, shape: Shape) -> Tensor:
    """Sum over the dimensions that broadcasting added or grew, back to ``shape``."""
    given = x._data.shape
    lead = len(given) - len(shape)
    dims = tuple(range(lead)) + tuple(
        i + lead for i, n in enumerate(shape) if n == 1 and given[i + lead] != 1
    )
    if dims:
        x = SUM(x, dims=dims, keepdim=False)
    return x if x._data.shape == shape else reshape(x, shape)
