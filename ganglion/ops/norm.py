"""Layer, group and root-mean-square normalization over trailing dimensions, as composites.

The weight and bias broadcast against the input, so that group normalization is layer
normalization of an input seen as (N, groups, channels of a group, positions).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion import blas
from ganglion.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from ganglion.ops.composite import through
from ganglion.ops.create import zeros
from ganglion.ops.movement import cast, reshape
from ganglion.ops.record import Op, Saved
from ganglion.ops.reduce import sum_to, total
from ganglion.shapes import Meta, Shape, broadcast_shapes, reduced, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
Dims = tuple[int, ...]

LONG = 1 << 14  # rows whose sums NumPy takes pairwise, lest rounding errors pile up


# --- kernels --------------------------------------------------------------------------------------


def _rows(x: Array, dims: Dims) -> Array:
    """``x`` in row-major order as (rows, elements normalized together)."""
    split = x.ndim - len(dims)
    return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))


def _means(rows: Array) -> Array:
    """The mean of every row, as a column."""
    n = rows.shape[1]
    if n >= LONG:
        sums = np.add.reduce(rows, axis=1, keepdims=True)
    else:  # a product is five times faster
        sums = blas.matmul(rows, np.ones((n, 1), rows.dtype))
    sums /= n
    return sums


def _mean_products(a: Array, b: Array) -> Array:
    """The mean of every row of ``a * b``, as a column."""
    n = a.shape[1]
    sums: Array = np.vecdot(a, b) if n < LONG else np.add.reduce(a * b, axis=1)
    sums /= n
    return sums[:, None]


def _reciprocal_root(squares: Array, eps: float) -> Array:
    squares += eps
    np.sqrt(squares, out=squares)
    return np.reciprocal(squares, out=squares)


def _column(shape: Shape, dims: Dims) -> Shape:
    """The shape of one number per row."""
    return reduced(shape, dims, keepdim=True)


def _total_to(x: Array, shape: Shape) -> Array:
    """Sum over the dimensions in which ``shape`` broadcasts to ``x``'s."""
    lead = x.ndim - len(shape)
    grown = [i + lead for i, n in enumerate(shape) if n == 1 != x.shape[i + lead]]
    dims = (*range(lead), *grown)
    return np.asarray(total(x, dims) if dims else x.copy()).reshape(shape)


def _scaled(y: Array, weight: Array | None, bias: Array | None) -> Array:
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y


def _layer_norm_array(
    x: Array, weight: Array | None, bias: Array | None, dims: Dims, eps: float
) -> tuple[Array, Array, Array]:
    rows, column = _rows(x, dims), _column(x.shape, dims)
    mean = _means(rows)
    y = rows - mean
    rstd = _reciprocal_root(_mean_products(y, y), eps)
    y *= rstd
    return _scaled(y.reshape(x.shape), weight, bias), mean.reshape(column), rstd.reshape(column)


def _rms_norm_array(x: Array, weight: Array | None, dims: Dims, eps: float) -> tuple[Array, Array]:
    rows = _rows(x, dims)
    rstd = _reciprocal_root(_mean_products(rows, rows), eps)
    y = (rows * rstd).reshape(x.shape)
    return _scaled(y, weight, None), rstd.reshape(_column(x.shape, dims))


def _layer_norm_grad_array(
    g: Array, x: Array, weight: Array | None, mean: Array, rstd: Array, dims: Dims
) -> tuple[Array, Array, Array]:
    y = np.subtract(x, mean, order="C")
    dx, dweight = _normalized_grad(g, y, weight, rstd, dims)
    dx -= _means(dx)
    dx = dx.reshape(x.shape)
    dx *= rstd
    shape = () if weight is None else weight.shape
    return dx, dweight, np.zeros((), x.dtype) if weight is None else _total_to(g, shape)


def _rms_norm_grad_array(
    g: Array, x: Array, weight: Array | None, rstd: Array, dims: Dims
) -> tuple[Array, Array]:
    dx, dweight = _normalized_grad(g, x.copy(order="C"), weight, rstd, dims)
    dx = dx.reshape(x.shape)
    dx *= rstd
    return dx, dweight


def _normalized_grad(
    g: Array, y: Array, weight: Array | None, rstd: Array, dims: Dims
) -> tuple[Array, Array]:
    """What both gradients share; ``y``, the centred input, is overwritten.

    Returns rows ``d - y * mean(d * y)``, with d the gradient of the normalized y, and the weight's
    gradient (0 without a weight).
    """
    y *= rstd
    dweight = np.zeros((), y.dtype) if weight is None else _total_to(g * y, weight.shape)
    d = _rows(np.asarray(g if weight is None else g * weight), dims)
    rows = _rows(y, dims)
    rows *= _mean_products(d, rows)
    return np.subtract(d, rows, out=rows), dweight


# --- the same in ops ------------------------------------------------------------------------------


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _layer_norm_ops(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, dims: Dims, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.mean(dims, keepdim=True)
    centred = x - mean
    rstd = ((centred * centred).mean(dims, keepdim=True) + eps).rsqrt()
    return _affine(centred * rstd, weight, bias), mean, rstd


def _rms_norm_ops(
    x: Tensor, weight: Tensor | None, dims: Dims, eps: float
) -> tuple[Tensor, Tensor]:
    rstd = ((x * x).mean(dims, keepdim=True) + eps).rsqrt()
    return _affine(x * rstd, weight, None), rstd


def _weight_grads(weight: Tensor | None, *grads: Tensor) -> tuple[Tensor, ...]:
    if weight is None:
        return tuple(zeros((), dtype=g.dtype) for g in grads)
    return tuple(sum_to(g, weight._data.shape) for g in grads)


def _layer_norm_grad_ops(
    g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, rstd: Tensor, dims: Dims
) -> tuple[Tensor, ...]:
    y = (x - mean) * rstd
    d = _affine(g, weight, None)
    d = d - d.mean(dims, keepdim=True) - y * (d * y).mean(dims, keepdim=True)
    return d * rstd, *_weight_grads(weight, g * y, g)


def _rms_norm_grad_ops(
    g: Tensor, x: Tensor, weight: Tensor | None, rstd: Tensor, dims: Dims
) -> tuple[Tensor, ...]:
    y = x * rstd
    d = _affine(g, weight, None)
    d = d - y * (d * y).mean(dims, keepdim=True)
    return d * rstd, *_weight_grads(weight, g * y)


# --- rules ----------------------------------------------------------------------------------------


def _count(shape: Shape, dims: Dims) -> int:
    return math.prod(shape[d] for d in dims)


def _layer_norm_rule(s: Saved, g: Any, dmean: Any, drstd: Any) -> tuple[Any, ...]:
    """Gradients of the statistics arise when gradients are differentiated."""
    x, weight, mean, rstd = s.x, s.y, s.output(1), s.output(2)
    dims, n = s["dims"], _count(s.shapes[0], s["dims"])
    dx = dweight = dbias = None
    if g is not None:
        dx, dweight, dbias = LAYER_NORM_GRAD(g, x, weight, mean, rstd, dims=dims)
    if dmean is not None:
        dx = _plus(dx, dmean / n)
    if drstd is not None:
        dx = _plus(dx, drstd * rstd**3 * (x - mean) / -n)
    return dx, dweight, dbias


def _rms_norm_rule(s: Saved, g: Any, drstd: Any) -> tuple[Any, ...]:
    x, weight, rstd = s.x, s.y, s.output(1)
    dims, n = s["dims"], _count(s.shapes[0], s["dims"])
    dx = dweight = None
    if g is not None:
        dx, dweight = RMS_NORM_GRAD(g, x, weight, rstd, dims=dims)
    if drstd is not None:
        dx = _plus(dx, drstd * rstd**3 * x / -n)
    return dx, dweight


def _plus(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a + b


# --- records --------------------------------------------------------------------------------------


def _checked(x: Meta, *others: Meta | None) -> Meta:
    for other in others:
        if other is not None and broadcast_shapes(x.shape, other.shape) != x.shape:
            raise ShapeError(
                f"a weight or bias of shape {show(other.shape)} does not broadcast to the input's "
                f"shape {show(x.shape)}"
            )
    return x


def _statistic(x: Meta, dims: Dims) -> Meta:
    return Meta(_column(x.shape, dims), x.dtype)


def _infer_layer_norm(
    x: Meta, weight: Meta | None, bias: Meta | None, dims: Dims, eps: float
) -> tuple[Meta, ...]:
    statistic = _statistic(x, dims)
    return _checked(x, weight, bias), statistic, statistic


def _infer_rms_norm(x: Meta, weight: Meta | None, dims: Dims, eps: float) -> tuple[Meta, ...]:
    return _checked(x, weight), _statistic(x, dims)


def _weight_meta(x: Meta, weight: Meta | None) -> Meta:
    return Meta(() if weight is None else weight.shape, x.dtype)


# inputs: x, and weight and bias or None; outputs: y, and the mean and 1 / standard deviation
LAYER_NORM = Op(
    "layer_norm",
    "norm",
    _layer_norm_array,
    _infer_layer_norm,
    vjp=_layer_norm_rule,
    saves="xy12",
    vjp_takes_none=True,
    outputs=3,
    decompose=_layer_norm_ops,
    heavy=1 << 22,
    flops=lambda x, weight, bias, dims, eps: 8 * x.numel,
)
# outputs: gradients of x, weight and bias (which have one shape; 0 without a weight)
LAYER_NORM_GRAD = Op(
    "layer_norm_grad",
    "norm",
    _layer_norm_grad_array,
    lambda g, x, weight, mean, rstd, dims: (x, _weight_meta(x, weight), _weight_meta(x, weight)),
    vjp=through(_layer_norm_grad_ops),
    saves="*",
    outputs=3,
    decompose=_layer_norm_grad_ops,
    heavy=1 << 22,
    flops=lambda g, x, weight, mean, rstd, dims: 13 * x.numel,
)
RMS_NORM = Op(
    "rms_norm",
    "norm",
    _rms_norm_array,
    _infer_rms_norm,
    vjp=_rms_norm_rule,
    saves="xy1",
    vjp_takes_none=True,
    outputs=2,
    decompose=_rms_norm_ops,
    heavy=1 << 21,
    flops=lambda x, weight, dims, eps: 4 * x.numel,
)
RMS_NORM_GRAD = Op(
    "rms_norm_grad",
    "norm",
    _rms_norm_grad_array,
    lambda g, x, weight, rstd, dims: (x, _weight_meta(x, weight)),
    vjp=through(_rms_norm_grad_ops),
    saves="*",
    outputs=2,
    decompose=_rms_norm_grad_ops,
    heavy=1 << 22,
    flops=lambda g, x, weight, rstd, dims: 9 * x.numel,
)


# --- public functions -----------------------------------------------------------------------------


def _trailing(
    name: str, input: Tensor, normalized_shape: Sequence[int], **affine: Tensor | None
) -> Dims:
    """The dimensions that ``normalized_shape`` names, after checking it and the parameters."""
    if isinstance(normalized_shape, int):
        raise ArgumentTypeError(
            f"{name}(): argument 'normalized_shape' must be tuple of ints, not int; give "
            f"({normalized_shape},)"
        )
    shape, given = tuple(normalized_shape), input._data.shape
    if not shape:
        raise ShapeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least "
            f"one element, but got normalized_shape = {list(shape)}"
        )
    for what, parameter in affine.items():
        if parameter is not None and parameter._data.shape != shape:
            raise ShapeError(
                f"Expected {what} to be of same shape as normalized_shape, but got {what} of shape "
                f"{list(parameter._data.shape)} and normalized_shape = {list(shape)}"
            )
    if given[-len(shape) :] != shape:
        raise ShapeError(
            f"Given normalized_shape={list(shape)}, expected input with shape "
            f"[*, {', '.join(map(str, shape))}], but got input of size{list(given)}"
        )
    _check_dtypes(name, input, *affine.values())
    return tuple(range(len(given) - len(shape), len(given)))


def _check_dtypes(name: str, input: Tensor, *parameters: Tensor | None) -> None:
    kind = input.dtype
    if not kind.is_floating_point:
        raise DTypeError(f"{name} is not implemented for {kind.name}; convert the input to floats")
    for parameter in parameters:
        mixed = parameter is not None and parameter.dtype is not kind
        if mixed and (kind.itemsize > 2 or parameter.dtype is not dt.float32):  # type: ignore[union-attr]
            raise DTypeError(
                f"{name}: mixed dtype: an input of {kind.name} expects parameters of {kind.name}, "
                f"got {parameter.dtype.name}"  # type: ignore[union-attr]
            )


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last dimensions.

    The variance is the biased one; weight and bias have ``normalized_shape``
    (Ba et al. 2016, arXiv:1607.06450).
    """
    dims = _trailing("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    return _standardized(input, weight, bias, dims, eps)


def _standardized(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, dims: Dims, eps: float
) -> Tensor:
    wide = _wide(x, weight, bias)
    inside = None if weight is None else bias
    found = LAYER_NORM(wide, weight, inside, dims=dims, eps=float(eps))[0]
    found = found if bias is inside else found + bias
    return found if wide is x else cast(found, x.dtype)


def _wide(x: Tensor, *parameters: Tensor | None) -> Tensor:
    """``x`` in its parameters' dtype, in which it is then computed."""
    given = next((p for p in parameters if p is not None), x)
    return x if x.dtype is given.dtype else cast(x, given.dtype)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last dimensions.

    ``eps`` defaults to the dtype's (float32's for half precision); weight has ``normalized_shape``
    (Zhang and Sennrich 2019, arXiv:1910.07467).
    """
    dims = _trailing("rms_norm", input, normalized_shape, weight=weight)
    if eps is None:
        eps = dt.finfo(dt.float64 if input.dtype is dt.float64 else dt.float32).eps
    wide = _wide(input, weight)
    found: Tensor = RMS_NORM(wide, weight, dims=dims, eps=float(eps))[0]
    return found if wide is input else cast(found, input.dtype)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer normalization of each of ``num_groups`` groups of channels of (N, C, ...).

    Weight and bias have one number per channel (Wu and He 2018, arXiv:1803.08494).
    """
    shape = input._data.shape
    _check_groups(shape, num_groups)
    _check_dtypes("group_norm", input, weight, bias)
    parts = (num_groups, shape[1] // num_groups)
    weight = _per_channel(weight, "weight", shape, parts)
    bias = _per_channel(bias, "bias", shape, parts)
    x = reshape(input, (shape[0], *parts, math.prod(shape[2:])))
    return reshape(_standardized(x, weight, bias, (2, 3), eps), shape)


def _check_groups(shape: Shape, groups: int) -> None:
    if len(shape) < 2:
        raise ShapeError(
            f"Expected at least 2 dimensions for input tensor but received {len(shape)}"
        )
    if groups <= 0:
        raise ArgumentError(f"Expected num groups to be greater than 0, got {groups}")
    if shape[1] % groups:
        raise ShapeError(
            "Expected number of channels in input to be divisible by num_groups, but got input of "
            f"shape {list(shape)} and num_groups={groups}"
        )
    if math.prod(shape) == groups:
        raise ArgumentError(
            f"Expected more than 1 value per channel when training, got input size {list(shape)}"
        )


def _per_channel(parameter: Tensor | None, what: str, shape: Shape, parts: Shape) -> Tensor | None:
    if parameter is None:
        return None
    if parameter._data.shape != shape[1:2]:
        raise ShapeError(
            f"Expected {what} to be a vector of size equal to the number of channels in input, but "
            f"got {what} of shape {list(parameter._data.shape)} and input of shape {list(shape)}"
        )
    return reshape(parameter, (*parts, 1))
