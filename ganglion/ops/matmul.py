"""Matrix products: one record for all of them, and one for the linear layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion import blas
from ganglion.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from ganglion.ops import scalar
from ganglion.ops.arithmetic import add, mul
from ganglion.ops.movement import expand, permute, reshape, squeeze, t, unsqueeze
from ganglion.ops.record import Op, Saved, into
from ganglion.ops.scalar import Scalar, Source
from ganglion.shapes import Meta, Shape, broadcast_shapes, normalize_dim, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- the product ----------------------------------------------------------------------------------


def _product(x: Array, y: Array, tx: bool, ty: bool) -> Array:
    return blas.matmul(x.swapaxes(-1, -2) if tx else x, y.swapaxes(-1, -2) if ty else y)


def _turned(shape: Shape, transposed: bool) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if transposed else shape


def _infer_product(x: Meta, y: Meta, tx: bool, ty: bool) -> Meta:
    a, b = _turned(x.shape, tx), _turned(y.shape, ty)
    if a[-1] != b[-2]:
        raise _mismatch(a, b)
    return Meta((*broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]), x.dtype)


def _mismatch(a: Shape, b: Shape) -> ShapeError:
    first, second = ("x".join(map(str, shape)) for shape in (a, b))
    return ShapeError(
        f"mat1 and mat2 shapes cannot be multiplied ({first} and {second}): the first has "
        f"{a[-1]} columns and the second {b[-2]} rows"
    )


def _grad_x(s: Saved, g: Tensor) -> Tensor:
    if s["tx"]:
        return MATMUL(s.y, g, tx=s["ty"], ty=True)  # type: ignore[no-any-return]
    return MATMUL(g, s.y, tx=False, ty=not s["ty"])  # type: ignore[no-any-return]


def _grad_y(s: Saved, g: Tensor) -> Tensor:
    if s["ty"]:
        return MATMUL(g, s.x, tx=True, ty=s["tx"])  # type: ignore[no-any-return]
    return MATMUL(s.x, g, tx=not s["tx"], ty=False)  # type: ignore[no-any-return]


def _product_flops(x: Meta, y: Meta, tx: bool, ty: bool) -> int:
    return 2 * _infer_product(x, y, tx, ty).numel * _turned(x.shape, tx)[-1]


def _product_element(index: tuple[Scalar, ...], x: Source, y: Source, tx: bool, ty: bool) -> Scalar:
    *lead, m, n = index
    truth = x.dtype is dt.bool_

    def term(k: Scalar) -> Scalar:
        left = x(*_of_batch(lead, x), *((k, m) if tx else (m, k)))
        right = y(*_of_batch(lead, y), *((n, k) if ty else (k, n)))
        return left & right if truth else left * right

    return scalar.reduce("or" if truth else "sum", _turned(x.shape, tx)[-1:], term)


def _of_batch(lead: Sequence[Scalar], x: Source) -> list[Scalar | int]:
    """The leading indexes of an operand that is broadcast."""
    own = lead[len(lead) + 2 - len(x.shape) :]
    return [0 if size == 1 else i for i, size in zip(own, x.shape[:-2], strict=True)]


# x @ y over the last two dimensions, either transposed first (tx, ty), leading ones broadcast
MATMUL = Op(
    "matmul",
    "matmul",
    _product,
    _infer_product,
    vjp=(_grad_x, _grad_y),
    saves=("y", "x"),
    flops=_product_flops,
    element=_product_element,
)


# --- the linear layer -----------------------------------------------------------------------------


def _linear(x: Array, weight: Array, bias: Array | None) -> Array:
    outs, _ = weight.shape
    rows = x if x.ndim == 2 else x.reshape(_as_rows(x.shape))
    out = blas.matmul(rows, weight.T)
    if bias is not None:
        out += bias
    return out if x.ndim == 2 else out.reshape((*x.shape[:-1], outs))


def _as_rows(shape: Shape) -> Shape:
    return math.prod(shape[:-1]), shape[-1]


def _infer_linear(x: Meta, weight: Meta, bias: Meta | None) -> Meta:
    if weight.ndim != 2:
        raise ShapeError(f"linear needs a weight (out, in), got shape {show(weight.shape)}")
    outs, ins = weight.shape
    if not x.ndim or x.shape[-1] != ins:
        raise _mismatch(_as_rows(x.shape or (1,)), (ins, outs))
    if bias is not None and bias.shape not in ((outs,), (1,), ()):
        raise ShapeError(
            f"linear: a weight of shape {show(weight.shape)} needs a bias of shape ({outs},), "
            f"got {show(bias.shape)}"
        )
    return Meta((*x.shape[:-1], outs), x.dtype)


def _rows(x: Tensor) -> Tensor:
    shape = x._data.shape
    return x if len(shape) == 2 else reshape(x, _as_rows(shape))


def _linear_grad_x(s: Saved, g: Tensor) -> Tensor:
    found = MATMUL(_rows(g), s.y, tx=False, ty=False)
    return found if len(s.shapes[0]) == 2 else reshape(found, s.shapes[0])


def _linear_grad_weight(s: Saved, g: Tensor) -> Tensor:
    return MATMUL(_rows(g), _rows(s.x), tx=True, ty=False)  # type: ignore[no-any-return]


def _linear_by_parts(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product = matmul(x, t(weight))
    return product if bias is None else product + bias


LINEAR = Op(
    "linear",
    "matmul",
    _linear,
    _infer_linear,
    vjp=(_linear_grad_x, _linear_grad_weight, lambda s, g: g),
    saves=("y", "x", ""),
    decompose=_linear_by_parts,
    flops=lambda x, weight, bias: 2 * x.numel * weight.shape[0],
)


# --- public functions -----------------------------------------------------------------------------


def check_operands(first: Tensor, *others: Tensor | None) -> None:
    """Products take tensors of one dtype, and not bools: nothing is promoted."""
    try:
        found = first._data.dtype
        for x in others:
            if x is not None and x._data.dtype != found:
                raise DTypeError(
                    "expected all tensors of a product to have the same dtype, but got "
                    f"{first.dtype.name} and {x.dtype.name}; convert one with .to(other.dtype)"
                )
    except AttributeError:
        given = ", ".join(type(x).__name__ for x in (first, *others))
        raise ArgumentTypeError(f"a matrix product takes tensors, got {given}") from None
    if found.itemsize == 1 and first.dtype is dt.bool_:
        raise DTypeError("matrix products of bool tensors are not defined; convert to an integer")


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``; input (..., in), weight (out, in), bias (out,)."""
    check_operands(input, weight, bias)
    return LINEAR(input, weight, bias)  # type: ignore[no-any-return]


def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The matrix product over the last two dimensions, leading ones broadcast.

    A vector is a row on the left and a column on the right, and its dimension is dropped again.
    """
    check_operands(input, other)
    return into(out, _matmul(input, other))


def _matmul(x: Tensor, y: Tensor) -> Tensor:
    a, b = x.ndim, y.ndim
    if not a or not b:
        raise ShapeError(
            f"both arguments to matmul need to be at least 1D, but they are {a}D and {b}D"
        )
    if a == 1:
        return squeeze(_matmul(unsqueeze(x, 0), y), -2 if b > 1 else 0)
    if b == 1:
        return squeeze(_matmul(x, unsqueeze(y, 1)), -1)
    found = MATMUL(_rows(x) if b == 2 else x, y, tx=False, ty=False)
    if a > 2 and b == 2:  # one large product instead of many small ones
        found = reshape(found, (*x._data.shape[:-1], y._data.shape[-1]))
    return found  # type: ignore[no-any-return]


def rmatmul(input: Tensor, other: Tensor) -> Tensor:
    """``other @ input``."""
    return matmul(other, input)


def _check_ndim(name: str, *expected: tuple[Tensor, int]) -> None:
    if any(x.ndim != n for x, n in expected):
        wanted = " and ".join(f"{n}D" for _, n in expected)
        given = " and ".join(show(x._data.shape) for x, _ in expected)
        raise ShapeError(f"{name} expects {wanted} tensors, got shapes {given}")


def mm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The product of two matrices."""
    check_operands(input, mat2)
    _check_ndim("mm", (input, 2), (mat2, 2))
    return into(out, MATMUL(input, mat2, tx=False, ty=False))


def bmm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Products of matrices in batches: (B, n, k) with (B, k, m)."""
    check_operands(input, mat2)
    _check_ndim("bmm", (input, 3), (mat2, 3))
    a, b = input._data.shape, mat2._data.shape
    if a[0] != b[0] or a[2] != b[1]:
        raise ShapeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{a[0]}, {a[2]}] "
            f"but got: [{b[0]}, {b[1]}]."
        )
    return into(out, MATMUL(input, mat2, tx=False, ty=False))


def mv(input: Tensor, vec: Tensor, *, out: Tensor | None = None) -> Tensor:
    """A matrix (n, k) times a vector (k,)."""
    check_operands(input, vec)
    _check_ndim("mv", (input, 2), (vec, 1))
    return into(out, _matmul(input, vec))


def dot(input: Tensor, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The scalar product of two vectors."""
    check_operands(input, tensor)
    _check_ndim("dot", (input, 1), (tensor, 1))
    a, b = input._data.shape[0], tensor._data.shape[0]
    if a != b:
        raise ShapeError(
            f"inconsistent tensor size, expected tensor [{a}] and src [{b}] to have the same "
            f"number of elements, but got {a} and {b} elements respectively"
        )
    return into(out, _matmul(input, tensor))


vdot = dot  # they differ for complex numbers only


def inner(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Scalar products of last dimensions: (..., k) with (..., k); a 0-d tensor scales."""
    if not input.ndim or not other.ndim:
        return mul(input, other, out=out)
    check_operands(input, other)
    a, b = input._data.shape, other._data.shape
    if a[-1] != b[-1]:
        raise ShapeError(
            "inner() the last dimension must match on both input tensors but got shapes "
            f"{list(a)} and {list(b)}"
        )
    found = MATMUL(_rows(input), _rows(other), tx=False, ty=True)
    return into(out, reshape(found, a[:-1] + b[:-1]))


def outer(input: Tensor, vec2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """All products of the elements of two vectors: (n,) and (m,) give (n, m)."""
    _check_ndim("outer", (input, 1), (vec2, 1))
    return mul(unsqueeze(input, 1), vec2, out=out)


ger = outer


def _add_product(
    input: Tensor, product: Tensor, beta: float, alpha: float, out: Tensor | None
) -> Tensor:
    """``beta * input + alpha * product``; with beta 0 the input's NaNs do not count."""
    whole = not product.dtype.is_floating_point
    if whole and not (isinstance(beta, int) and isinstance(alpha, int)):
        raise DTypeError("for integer tensors, beta and alpha must be integers")
    input = expand(input, product._data.shape)
    if alpha != 1:
        product = mul(product, alpha)
    if beta == 0:
        return into(out, product)
    return add(input if beta == 1 else mul(input, beta), product, out=out)


def addmm(
    input: Tensor,
    mat1: Tensor,
    mat2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: Tensor | None = None,
) -> Tensor:
    """``beta * input + alpha * (mat1 @ mat2)``; the input broadcasts."""
    check_operands(input, mat1, mat2)
    return _add_product(input, mm(mat1, mat2), beta, alpha, out)


def addmv(
    input: Tensor,
    mat: Tensor,
    vec: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: Tensor | None = None,
) -> Tensor:
    """``beta * input + alpha * (mat @ vec)``; the input broadcasts."""
    check_operands(input, mat, vec)
    return _add_product(input, mv(mat, vec), beta, alpha, out)


def baddbmm(
    input: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    out: Tensor | None = None,
) -> Tensor:
    """``beta * input + alpha * bmm(batch1, batch2)``; the input broadcasts."""
    check_operands(input, batch1, batch2)
    return _add_product(input, bmm(batch1, batch2), beta, alpha, out)


def tensordot(a: Tensor, b: Tensor, dims: Any = 2, *, out: Tensor | None = None) -> Tensor:
    """Sum products over dimensions: the last ``dims`` of a with the first of b, or two lists."""
    check_operands(a, b)
    over_a, over_b = _contracted(a.ndim, b.ndim, dims)
    sizes_a = [a._data.shape[d] for d in over_a]
    sizes_b = [b._data.shape[d] for d in over_b]
    if sizes_a != sizes_b:
        raise ShapeError(
            f"contracted dimensions need to match, but dims {show(over_a)} of the first have "
            f"sizes {show(sizes_a)} and dims {show(over_b)} of the second {show(sizes_b)}"
        )
    free_a = [d for d in range(a.ndim) if d not in over_a]
    free_b = [d for d in range(b.ndim) if d not in over_b]
    shape = [a._data.shape[d] for d in free_a] + [b._data.shape[d] for d in free_b]
    k = math.prod(sizes_a)
    left = reshape(permute(a, free_a + over_a), (math.prod(shape[: len(free_a)]), k))
    right = reshape(permute(b, over_b + free_b), (k, math.prod(shape[len(free_a) :])))
    return into(out, reshape(MATMUL(left, right, tx=False, ty=False), shape))


def _contracted(a: int, b: int, dims: Any) -> tuple[list[int], list[int]]:
    if isinstance(dims, int):
        if not 0 <= dims <= min(a, b):
            raise ShapeError(f"tensordot expects 0 <= dims <= {min(a, b)}, got {dims}")
        return list(range(a - dims, a)), list(range(dims))
    first, second = ([d] if isinstance(d, int) else list(d) for d in dims)
    if len(first) != len(second):
        raise ShapeError(f"both dimension lists should have same length, got {first} and {second}")
    return [normalize_dim(d, a) for d in first], [normalize_dim(d, b) for d in second]


def kron(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The Kronecker product: every element of ``input`` times all of ``other``."""
    n = max(input.ndim, other.ndim)
    a = (1,) * (n - input.ndim) + input._data.shape
    b = (1,) * (n - other.ndim) + other._data.shape
    spread_a = reshape(input, [size for pair in zip(a, (1,) * n, strict=True) for size in pair])
    spread_b = reshape(other, [size for pair in zip((1,) * n, b, strict=True) for size in pair])
    shape = [x * y for x, y in zip(a, b, strict=True)]
    return into(out, reshape(mul(spread_a, spread_b), shape))


def multi_dot(tensors: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """The product of several matrices, in the cheapest order; the ends may be vectors."""
    if len(tensors) < 2:
        raise ArgumentError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    first, last = tensors[0], tensors[-1]
    chain = [unsqueeze(first, 0) if first.ndim == 1 else first, *tensors[1:-1]]
    chain.append(unsqueeze(last, 1) if last.ndim == 1 else last)
    _check_ndim("multi_dot", *((x, 2) for x in chain))
    sizes = [x._data.shape[0] for x in chain] + [chain[-1]._data.shape[1]]
    found = _in_order(chain, _cheapest_splits(sizes), 0, len(chain) - 1)
    dropped = (first._data.shape[:1] if first.ndim > 1 else ()) + last._data.shape[1:]
    return into(out, reshape(found, dropped))


def _cheapest_splits(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Where to cut each run of matrices i..j (Cormen et al., Introduction to Algorithms, 15.2)."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    cut = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j], cut[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )
    return cut


def _in_order(chain: list[Tensor], cut: dict[tuple[int, int], int], i: int, j: int) -> Tensor:
    if i == j:
        return chain[i]
    k = cut[i, j]
    return mm(_in_order(chain, cut, i, k), _in_order(chain, cut, k + 1, j))


def chain_matmul(*matrices: Tensor, out: Tensor | None = None) -> Tensor:
    """The product of several matrices, in the cheapest order."""
    return matrices[0] if len(matrices) == 1 else multi_dot(matrices, out=out)
