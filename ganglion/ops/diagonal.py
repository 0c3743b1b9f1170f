"""Diagonals and triangles of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import IndexingError, ShapeError
from ganglion.ops import places
from ganglion.ops.movement import clone, reshape, view_op
from ganglion.ops.record import Op, into
from ganglion.shapes import Meta, Shape, normalize_dim, show
from ganglion.storage import device as as_device

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


def _movement(name: str, kernel: Any, infer: Any, rule: Any, element: Any) -> Op:
    return Op(name, "movement", kernel, infer, vjp=(rule,), in_float32=False, element=element)


# --- diagonals ------------------------------------------------------------------------------------


def _diagonal_array(x: Array, offset: int, dim1: int, dim2: int) -> Array:
    found = x.diagonal(offset, dim1, dim2)
    if x.flags.writeable:
        found.flags.writeable = True  # NumPy's diagonals are read-only unless asked
    return found


def _infer_diagonal(x: Meta, offset: int, dim1: int, dim2: int) -> Meta:
    rows, columns = x.shape[dim1], x.shape[dim2]
    length = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    rest = tuple(n for i, n in enumerate(x.shape) if i not in (dim1, dim2))
    return Meta((*rest, length), x.dtype)


def _embed_diagonal_array(x: Array, shape: Shape, offset: int, dim1: int, dim2: int) -> Array:
    out = np.zeros(shape, x.dtype)
    _diagonal_array(out, offset, dim1, dim2)[...] = x
    return out


DIAGONAL = view_op(
    "diagonal",
    _diagonal_array,
    _infer_diagonal,
    lambda s, g: EMBED_DIAGONAL(g, shape=s.shapes[0], **s.params),
    places.diagonal,
)
EMBED_DIAGONAL: Op = _movement(
    "embed_diagonal",
    _embed_diagonal_array,
    lambda x, shape, offset, dim1, dim2: Meta(shape, x.dtype),
    lambda s, g: DIAGONAL(g, **{k: v for k, v in s.params.items() if k != "shape"}),
    places.embedded_diagonal,
)


def _two_dims(dim1: int, dim2: int, ndim: int) -> tuple[int, int]:
    a, b = normalize_dim(dim1, ndim), normalize_dim(dim2, ndim)
    if a == b:
        raise ShapeError(f"diagonal dimensions cannot be identical, got {dim1} and {dim2}")
    return a, b


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A view of the diagonals over two dimensions, as the last dimension."""
    if input.ndim < 2:
        raise IndexingError(f"diagonal needs at least 2 dimensions, got shape {show(input.shape)}")
    a, b = _two_dims(dim1, dim2, input.ndim)
    return DIAGONAL(input, offset=offset, dim1=a, dim2=b)  # type: ignore[no-any-return]


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices over two new dimensions with the last dimension of ``input`` on their diagonal."""
    a, b = _two_dims(dim1, dim2, input.ndim + 1)
    *shape, length = input._data.shape
    side = length + abs(offset)
    for dim in sorted((a, b)):
        shape.insert(dim, side)
    return EMBED_DIAGONAL(input, shape=tuple(shape), offset=offset, dim1=a, dim2=b)  # type: ignore[no-any-return]


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The matrix with this diagonal (1-d input), or a matrix's diagonal, copied (2-d input)."""
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim != 2:
        raise ShapeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return clone(DIAGONAL(input, offset=diagonal, dim1=0, dim2=1))


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The matrix with the flattened input on its diagonal."""
    return diag_embed(reshape(input, -1), offset)


# --- triangles ------------------------------------------------------------------------------------


def _triangle_array(x: Array, diagonal: int, upper: bool) -> Array:
    return np.triu(x, diagonal) if upper else np.tril(x, diagonal)


TRIANGLE: Op = _movement(
    "triangle",
    _triangle_array,
    lambda x, diagonal, upper: x,
    lambda s, g: TRIANGLE(g, **s.params),
    places.triangle,
)


def _triangle(input: Tensor, diagonal: int, upper: bool) -> Tensor:
    if input.ndim < 2:  # NumPy would make a matrix of a vector
        raise ShapeError(
            f"{'triu' if upper else 'tril'} needs a tensor with at least 2 dimensions, got shape "
            f"{show(input.shape)}"
        )
    return TRIANGLE(input, diagonal=diagonal, upper=upper)  # type: ignore[no-any-return]


def tril(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Matrices with zeros above a diagonal."""
    return into(out, _triangle(input, diagonal, upper=False))


def triu(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Matrices with zeros below a diagonal."""
    return into(out, _triangle(input, diagonal, upper=True))


def _triangle_indices(row: int, col: int, offset: int, upper: bool, dtype: dt.dtype) -> Array:
    indices = np.triu_indices if upper else np.tril_indices
    return np.stack(indices(row, offset, col)).astype(dtype.numpy)


def _infer_indices(row: int, col: int, offset: int, upper: bool, dtype: dt.dtype) -> Meta:
    below = sum(min(max(i + offset + (not upper), 0), col) for i in range(row))
    return Meta((2, row * col - below if upper else below), dtype)


TRIANGLE_INDICES = Op("triangle_indices", "create", _triangle_indices, _infer_indices, runs="host")


def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: dt.dtype = dt.int64, device: Any = "cpu"
) -> Tensor:
    """Rows and columns, (2, n), of a matrix's elements on and below a diagonal."""
    as_device(device)
    return TRIANGLE_INDICES(row=row, col=col, offset=offset, upper=False, dtype=dtype)  # type: ignore[no-any-return]


def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: dt.dtype = dt.int64, device: Any = "cpu"
) -> Tensor:
    """Rows and columns, (2, n), of a matrix's elements on and above a diagonal."""
    as_device(device)
    return TRIANGLE_INDICES(row=row, col=col, offset=offset, upper=True, dtype=dtype)  # type: ignore[no-any-return]
