"""Rows of a table by number: embeddings and their gradient."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.dispatch import write
from ganglion.errors import ArgumentError, DTypeError, IndexingError, ShapeError
from ganglion.gradmode import no_grad
from ganglion.ops import scalar, sweep
from ganglion.ops.create import ones
from ganglion.ops.index import INDEX, INDEX_ADD, INDEX_PUT
from ganglion.ops.moments import vector_norm
from ganglion.ops.movement import detach, reshape, unsqueeze
from ganglion.ops.record import Op, Saved
from ganglion.ops.scalar import Scalar, Source
from ganglion.ops.select import masked_fill, where
from ganglion.shapes import Meta, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


def _check_rows(index: Array, rows: int) -> None:
    wide = index.astype(np.int64, copy=False)
    if wide.size and int(wide.view(np.uint64).max()) >= rows:  # negative ones look huge
        wrong = wide[(wide < 0) | (wide >= rows)].flat[0]
        raise IndexingError(
            f"index out of range in self: an embedding of {rows} rows takes indices in "
            f"[0, {rows - 1}], got {wrong}"
        )


def _embedding_array(weight: Array, index: Array, padding: int | None, by_frequency: bool) -> Array:
    _check_rows(index, len(weight))
    return weight.take(index, axis=0)


def _embedding_grad_array(g: Array, index: Array, rows: int) -> Array:
    width = g.shape[-1]
    out = np.zeros((rows, width), g.dtype)
    places = index.reshape(-1, 1).astype(np.int64, copy=False) * width + np.arange(width)
    # on flat arrays ufunc.at is several times faster than row by row
    np.add.at(out.reshape(-1), places.reshape(-1), g.reshape(-1))
    return out


def _infer_embedding(weight: Meta, index: Meta, **params: Any) -> Meta:
    return Meta((*index.shape, weight.shape[1]), weight.dtype)


def _embedding_rule(s: Saved, g: Tensor) -> Tensor:
    index, rows = s.y, s.shapes[0][0]
    if s["padding"] is not None:
        g = masked_fill(g, unsqueeze(index == s["padding"], -1), 0)
    if s["by_frequency"]:
        g = g / unsqueeze(_frequencies(index, rows, g.dtype), -1)
    return EMBEDDING_GRAD(g, index, rows=rows)  # type: ignore[no-any-return]


def _frequencies(index: Tensor, rows: int, dtype: dt.dtype) -> Tensor:
    """How often each index occurs among all."""
    flat = reshape(index, -1)
    each = ones(flat._data.shape, dtype=dtype)
    counts = INDEX_ADD(None, flat, each, shape=(rows,), dims=(0,), wrap=False)
    return INDEX(counts, index, dims=(0,), wrap=False)  # type: ignore[no-any-return]


def _looked_up(index: tuple[Scalar, ...], weight: Source, rows: Source, **params: Any) -> Scalar:
    """An element of a row; NaN, or 0 for integers, where there is no such row."""
    *at, column = index
    row = scalar.cast(rows(*at), dt.int64)
    there = (row >= 0) & (row < weight.shape[0])
    missing = math.nan if weight.dtype.is_floating_point else 0
    return scalar.guarded(there, weight(row, column), missing)


# rows of the weight; the row ``padding`` takes no gradient, and with ``by_frequency`` the others'
# gradients are divided by how often the row was taken
EMBEDDING = Op(
    "embedding",
    "embedding",
    _embedding_array,
    _infer_embedding,
    vjp=(_embedding_rule, None),
    saves="y",
    in_float32=False,
    element=_looked_up,
)
# its transpose: rows of ``g`` added up by number, in a table of so many rows
EMBEDDING_GRAD: Op = Op(
    "embedding_grad",
    "embedding",
    _embedding_grad_array,
    lambda g, index, rows: Meta((rows, g.shape[-1]), g.dtype),
    vjp=(lambda s, h: EMBEDDING(h, s.y, padding=None, by_frequency=False), None),
    saves="y",
    sweep=sweep.embedding_grad,
)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of ``weight`` (rows, width) at the int32 or int64 numbers in ``input``.

    ``padding_idx`` takes no gradient; ``scale_grad_by_freq`` divides gradients by how often a row
    is taken. With ``max_norm``, rows of a larger ``norm_type`` norm that are taken are first scaled
    down to it, in place. Gradients are dense: ``sparse`` is accepted and changes nothing.
    """
    _check(input, weight)
    padding = None if padding_idx is None else padding_row(padding_idx, weight._data.shape[0])
    if max_norm is not None:
        _renormalize(weight, input, max_norm, norm_type)
    return EMBEDDING(  # type: ignore[no-any-return]
        weight, input, padding=padding, by_frequency=bool(scale_grad_by_freq)
    )


def _check(index: Tensor, weight: Tensor) -> None:
    if index.dtype not in (dt.int64, dt.int32):
        raise DTypeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: "
            f"Long, Int; but got {index.dtype.name} (while checking arguments for embedding)"
        )
    if weight.ndim != 2:
        raise ShapeError(f"'weight' must be 2-D, got shape {show(weight._data.shape)}")


def padding_row(padding_idx: int, rows: int) -> int:
    """``padding_idx`` counted from the front."""
    if not -rows <= padding_idx < rows:
        raise ArgumentError(
            f"Padding_idx must be within num_embeddings: got {padding_idx} for {rows} rows"
        )
    return padding_idx % rows


def _renormalize(weight: Tensor, index: Tensor, max_norm: float, norm_type: float) -> None:
    with no_grad():
        flat, table = reshape(index, -1), detach(weight)
        rows = EMBEDDING(table, flat, padding=None, by_frequency=False)
        norms = vector_norm(rows, norm_type, dim=1, keepdim=True)
        scaled = where(norms > max_norm, rows * (max_norm / (norms + 1e-7)), rows)
        write(weight, INDEX_PUT(table, flat, scaled, dims=(0,), wrap=False))
