"""Scatter: writing at positions along a dimension, alone or combined with what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import ArgumentError, ArgumentTypeError, AutogradError
from ganglion.ops import sweep
from ganglion.ops.create import FULL
from ganglion.ops.index import (
    GATHER,
    SCATTER_ADD,
    along,
    check_along,
    lifted,
    scatter_source,
)
from ganglion.ops.movement import cast, expand, reshape
from ganglion.ops.record import Op, Saved
from ganglion.shapes import Meta

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


def _scatter_array(x: Array, index: Array, src: Any, dim: int) -> Array:
    check_along(x.shape, index.shape, dim)
    out = x.copy()
    out.reshape(-1)[along(x.shape, index, dim)] = src
    return out


def _infer_scatter(x: Meta, index: Meta, src: Any, dim: int, **params: Any) -> Meta:
    check_along(x.shape, index.shape, dim)
    return x


SCATTER: Op = Op(
    "scatter",
    "index",
    _scatter_array,
    _infer_scatter,
    vjp=(
        lambda s, g: SCATTER(g, s.y, 0, dim=s["dim"]),
        None,
        lambda s, g: GATHER(g, s.y, dim=s["dim"]),
    ),
    saves="y",
    in_float32=False,
    sweep=sweep.scatter,
)

_COMBINE = {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def _reduce_array(x: Array, index: Array, src: Array, dim: int, reduce: str) -> Array:
    check_along(x.shape, index.shape, dim)
    out = x.copy()
    positions = along(x.shape, index, dim).reshape(-1)
    _COMBINE[reduce].at(out.reshape(-1), positions, src.reshape(-1))
    return out


def _reduce_rule(s: Saved, g: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient of an extreme goes in equal shares to all that attain it."""
    if s["reduce"] == "prod":
        raise AutogradError(
            "the gradient of scatter with reduce='prod' or 'multiply' is not supported; take sums "
            "of logarithms, or detach() the inputs"
        )
    index, dim, dtype = s.y, s["dim"], g.dtype
    own = cast(s.x == s.out, dtype)
    given = cast(s.z == GATHER(s.out, index, dim=dim), dtype)
    share = g / SCATTER_ADD(own, index, given, dim=dim, shape=s.shapes[0])
    return own * share, None, given * GATHER(share, index, dim=dim)


SCATTER_REDUCE = Op(
    "scatter_reduce",
    "index",
    _reduce_array,
    _infer_scatter,
    vjp=_reduce_rule,
    saves="xyzo",
    sweep=sweep.scatter_reduce,
)


def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor | float | None = None,
    *,
    value: float | None = None,
    reduce: str | None = None,
) -> Tensor:
    """``input`` with ``out[i][index[i][j]] = src[i][j]`` for ``dim=1``, and so on.

    ``src`` may be a number; ``reduce`` "add" or "multiply" combines with what is there.
    """
    given = value if src is None else src
    if given is None:
        raise ArgumentTypeError("scatter(): give src, a tensor, or value, a number")
    if reduce == "add":
        return scatter_reduce(input, dim, index, _as_source(given, input, index), "sum")
    if reduce == "multiply":
        return scatter_reduce(input, dim, index, _as_source(given, input, index), "prod")
    if reduce is not None:
        raise ArgumentError(f"reduce argument must be either add or multiply, got {reduce!r}")
    base, dim, index = lifted(input, dim, index)
    if not isinstance(given, (bool, int, float)):
        given = scatter_source(given, input.dtype, index._data.shape)
    found = SCATTER(base, index, given, dim=dim)
    return found if input.ndim else reshape(found, ())


def _as_source(given: Tensor | float, input: Tensor, index: Tensor) -> Tensor:
    if not isinstance(given, (bool, int, float)):
        return given
    return expand(FULL(shape=(), value=given, dtype=input.dtype), index._data.shape)


def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """``input`` with the sources at each position reduced: sum, prod, mean, amax or amin.

    Positions that get no source stay as they are; ``include_self=False`` leaves what stands at
    the others out of the reduction.
    """
    if reduce not in ("sum", "mean", *_COMBINE):
        raise ArgumentError(
            "reduce argument must be either sum, prod, mean, amax or amin, got " + repr(reduce)
        )
    base, dim, index = lifted(input, dim, index)
    src = scatter_source(src, input.dtype, index._data.shape)
    if not include_self:
        base = SCATTER(base, index, _identity(reduce, input.dtype), dim=dim)
    if reduce in _COMBINE:
        found = SCATTER_REDUCE(base, index, src, dim=dim, reduce=reduce)
    else:
        found = SCATTER_ADD(base, index, src, dim=dim, shape=base._data.shape)
    if reduce == "mean":
        found = _averaged(found, index, dim, include_self)
    return found if input.ndim else reshape(found, ())


def _identity(reduce: str, dtype: dt.dtype) -> bool | int | float:
    if reduce not in ("amax", "amin"):
        return int(reduce == "prod")
    if dtype.category == dt.BOOL:
        return reduce == "amin"
    if dtype.is_floating_point:
        return float("-inf") if reduce == "amax" else float("inf")
    limits = dt.iinfo(dtype)
    return limits.min if reduce == "amax" else limits.max


def _averaged(total: Tensor, index: Tensor, dim: int, include_self: bool) -> Tensor:
    shape, dtype = total._data.shape, total.dtype
    one = FULL(shape=(), value=1, dtype=dtype)
    count = expand(FULL(shape=(), value=int(include_self), dtype=dtype), shape)
    count = SCATTER_ADD(count, index, expand(one, index._data.shape), dim=dim, shape=shape)
    if not include_self:
        count = count + cast(count == 0, dtype)
    return total / count if dtype.is_floating_point else total.div(count, rounding_mode="floor")
