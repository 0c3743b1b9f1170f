"""Indexing: reading and writing elements at integer positions, gather and scatter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import DTypeError, IndexingError, ShapeError
from ganglion.ops.movement import SLICE, reshape
from ganglion.ops.record import Op
from ganglion.shapes import Meta, Shape, normalize_dim, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- positions ------------------------------------------------------------------------------------


def _bounded(index: Array, dim: int, size: int) -> Array:
    """``index`` as int64; every entry must lie in [0, size)."""
    wide = index.astype(np.int64, copy=False)
    if wide.size and wide.view(np.uint64).max() >= size:  # negative ones look huge
        wrong = wide[(wide < 0) | (wide >= size)].flat[0]
        raise IndexingError(f"index {wrong} is out of bounds for dimension {dim} with size {size}")
    return wide


def _flat(shape: Shape, parts: list[Array]) -> Array:
    """Row-major positions in an array of ``shape``; ``parts`` index its dimensions, broadcast."""
    positions, stride = np.zeros((), np.int64), 1
    for size, part in zip(reversed(shape), reversed(parts), strict=True):
        positions = positions + (part if stride == 1 else part * stride)
        stride *= size
    return positions


def _column(n: int, after: int) -> Array:
    """0 .. n-1, shaped to broadcast before ``after`` more dimensions."""
    return np.arange(n).reshape(n, *(1,) * after)


def _along(shape: Shape, index: Array, dim: int) -> Array:
    """Positions of the elements that ``gather`` reads from an array of ``shape``."""
    last = len(shape) - 1
    parts = [_column(n, last - i) for i, n in enumerate(index.shape)]
    parts[dim] = _bounded(index, dim, shape[dim])
    return _flat(shape, parts)


# --- gather and scatter_add: each is the other's gradient -----------------------------------------


def _check_along(shape: Shape, index: Shape, dim: int) -> None:
    if len(shape) != len(index):
        raise ShapeError(
            "Index tensor must have the same number of dimensions as input tensor: the input has "
            f"shape {show(shape)} and the index {show(index)}"
        )
    if any(n > m for i, (n, m) in enumerate(zip(index, shape, strict=True)) if i != dim):
        raise ShapeError(
            f"Expected index {show(index)} to be no larger than self {show(shape)} apart from "
            f"dimension {dim}"
        )


def _gather_array(x: Array, index: Array, dim: int) -> Array:
    _check_along(x.shape, index.shape, dim)
    return x.reshape(-1).take(_along(x.shape, index, dim))


def _infer_gather(x: Meta, index: Meta, dim: int) -> Meta:
    _check_along(x.shape, index.shape, dim)
    return Meta(index.shape, x.dtype)


GATHER = Op(
    "gather",
    "index",
    _gather_array,
    _infer_gather,
    vjp=(
        lambda s, g: SCATTER_ADD(None, s.y, g, dim=s["dim"], shape=s.shapes[0]),
        None,
    ),
    saves="y",
    in_float32=False,
)


def _add_at(base: Array | None, shape: Shape, positions: Array, values: Array) -> Array:
    """``base`` (zeros if None) with values added at flat positions, repeated ones included."""
    out = np.zeros(shape, values.dtype) if base is None else base.copy(order="C")
    # on flat arrays ufunc.at is several times faster than with a tuple of indices
    np.add.at(out.reshape(-1), positions.reshape(-1), values.reshape(-1))
    return out


def _scatter_add_array(x: Array | None, index: Array, src: Array, dim: int, shape: Shape) -> Array:
    _check_along(shape, index.shape, dim)
    return _add_at(x, shape, _along(shape, index, dim), src)


def _infer_scatter_add(x: Meta | None, index: Meta, src: Meta, dim: int, shape: Shape) -> Meta:
    _check_along(shape, index.shape, dim)
    return Meta(shape, src.dtype)


# inputs: a tensor of ``shape`` (None stands for zeros), the index, and a source of its shape
SCATTER_ADD: Op = Op(
    "scatter_add",
    "index",
    _scatter_add_array,
    _infer_scatter_add,
    vjp=(
        lambda s, g: g,
        None,
        lambda s, g: GATHER(g, s.y, dim=s["dim"]),
    ),
    saves="y",
)


def _lifted(input: Tensor, dim: int, index: Tensor) -> tuple[Tensor, int, Tensor]:
    """Arguments with at least one dimension, and an index of an integer dtype."""
    if index.dtype not in (dt.int64, dt.int32):
        raise DTypeError(f"Expected dtype int32/int64 for index, got {index.dtype.name}")
    shape = input._data.shape
    dim = normalize_dim(dim, len(shape))
    if not shape:
        input, shape = reshape(input, (1,)), (1,)
    if 0 in index._data.shape:
        index = reshape(index, (0,) * len(shape))
    elif not index._data.shape:
        index = reshape(index, (1,))
    return input, dim, index


def gather(input: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    """``out[i][j] = input[i][index[i][j]]`` for ``dim=1``, likewise for other dims and ranks.

    ``index`` may be smaller than ``input`` outside ``dim``; the result has its shape.
    """
    shape = index._data.shape
    input, dim, index = _lifted(input, dim, index)
    found = GATHER(input, index, dim=dim)
    return found if found._data.shape == shape else reshape(found, shape)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``input`` with ``out[i][index[i][j]] += src[i][j]`` for ``dim=1``, and so on."""
    if input.dtype is not src.dtype:
        raise DTypeError(
            "scatter(): Expected self.dtype to be equal to src.dtype, got "
            f"{input.dtype.name} and {src.dtype.name}"
        )
    shape = input._data.shape
    base, dim, index = _lifted(input, dim, index)
    src = _source(src, index._data.shape)
    found = SCATTER_ADD(base, index, src, dim=dim, shape=base._data.shape)
    return found if found._data.shape == shape else reshape(found, shape)


def _source(src: Tensor, index: Shape) -> Tensor:
    """The leading part of ``src`` that an index of this shape reads."""
    if not src._data.shape:
        src = reshape(src, (1,))
    shape = src._data.shape
    if shape == index:
        return src
    if 0 in index:
        return reshape(SLICE(reshape(src, (-1,)), key=(slice(0),)), index)
    if len(shape) != len(index) or any(n > m for n, m in zip(index, shape, strict=True)):
        raise ShapeError(
            f"Expected index {show(index)} to be no larger size than src {show(shape)} in every "
            "dimension"
        )
    return SLICE(src, key=tuple(slice(n) for n in index))  # type: ignore[no-any-return]
