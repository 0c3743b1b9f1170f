"""PyTorch's ``torch.linalg``, as far as it needs no matrix factorisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ganglion.errors import ArgumentError, ShapeError
from ganglion.ops.matmul import matmul, multi_dot
from ganglion.ops.moments import vector_norm
from ganglion.ops.record import into
from ganglion.ops.reduce import amax, amin
from ganglion.ops.reduce import sum as sum_
from ganglion.ops.unary import abs as abs_
from ganglion.shapes import normalize_dim

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

__all__ = ["matmul", "matrix_norm", "multi_dot", "norm", "vecdot", "vector_norm"]

Dims = int | Sequence[int] | None


def norm(
    A: Tensor,
    ord: Any = None,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
) -> Tensor:
    """A vector norm over one dimension, or a matrix norm over two.

    Without ``ord`` the root of the sum of squares over ``dim``, or over all elements.
    """
    pair = A.ndim == 2 if dim is None else not isinstance(dim, int) and len(dim) == 2
    if ord is None or not (pair or isinstance(ord, str)):
        exponent = 2 if ord is None else ord
        return vector_norm(A, exponent, dim, keepdim, dtype=dtype, out=out)
    return matrix_norm(A, ord, dim or (-2, -1), keepdim, dtype=dtype, out=out)


def matrix_norm(
    A: Tensor,
    ord: Any = "fro",
    dim: Any = (-2, -1),
    keepdim: bool = False,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
) -> Tensor:
    """Norms of the matrices in two dimensions.

    ``fro`` is the root of the sum of squares; inf and -inf are the largest and smallest row sum
    of absolute values, 1 and -1 those of columns. The norms 2, -2 and ``nuc`` need singular
    values and are not there.
    """
    if A.ndim < 2 or isinstance(dim, int) or len(dim) != 2:
        raise ShapeError(f"matrix_norm needs two dimensions, got dim={dim} of {A.ndim}")
    if ord == "fro":
        return vector_norm(A, 2, dim, keepdim, dtype=dtype, out=out)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ArgumentError(f"matrix_norm takes ord 'fro', 1, -1, inf or -inf, got {ord!r}")
    rows, columns = (normalize_dim(d, A.ndim) for d in dim)
    along, over = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = sum_(abs_(A), along, keepdim=True, dtype=dtype)
    found = (amax if ord > 0 else amin)(sums, over, keepdim=True)
    if not keepdim:
        found = found.squeeze((rows, columns))
    return into(out, found)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1, out: Tensor | None = None) -> Tensor:
    """Scalar products along a dimension, the others broadcast."""
    return into(out, sum_(x * y, dim))
