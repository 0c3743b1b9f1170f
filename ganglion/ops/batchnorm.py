"""Batch normalization (Ioffe & Szegedy 2015, arXiv:1502.03167) over any number of dimensions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.dispatch import write
from ganglion.errors import ArgumentError, DTypeError, ShapeError
from ganglion.gradmode import no_grad
from ganglion.ops.composite import through
from ganglion.ops.movement import cast, reshape
from ganglion.ops.record import Op, Saved
from ganglion.ops.reduce import MEAN, SUM
from ganglion.ops.unary import rsqrt
from ganglion.shapes import Meta, Shape, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- kernels: x as (N, C, everything else) --------------------------------------------------------


def _planes(x: Array) -> Array:
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def _column(x: Any) -> Any:
    """Values of channels (C,), shaped to meet ``_planes``."""
    return x[:, None]


def _total(x: Array) -> Array:
    """Sums over all but the channels."""
    found: Array = np.add.reduce(x, axis=(0, 2))
    return found


def _products(x: Array, y: Array) -> Array:
    """``_total(x * y)``."""
    found: Array = np.einsum("ncp,ncp->c", x, y)
    return found


def _count(shape: Shape) -> int:
    return math.prod(shape) // shape[1] if shape[1] else 0


def _batch_norm_array(
    x: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    planes, count = _planes(x), _count(x.shape)
    mean = _total(planes) / count
    y = planes - _column(mean)
    var = _products(y, y) / count
    scale = 1 / np.sqrt(var + eps)
    y *= _column(scale if weight is None else scale * weight)
    if bias is not None:
        y += _column(bias)
    return y.reshape(x.shape), mean, var


def _batch_norm_grad_array(
    g: Array, x: Array, weight: Array | None, mean: Array, var: Array, eps: float
) -> tuple[Array, Array, Array]:
    gs, count = _planes(g), _count(x.shape)
    scale = 1 / np.sqrt(var + eps)
    deviation = _planes(x) - _column(mean)
    total, along = _total(gs), _products(gs, deviation) * scale
    deviation *= _column(along * scale / count)  # becomes the gradient, step by step
    deviation += _column(total / count)
    np.subtract(gs, deviation, out=deviation)
    deviation *= _column(scale if weight is None else scale * weight)
    return deviation.reshape(x.shape), along, total


# --- the same in ops ------------------------------------------------------------------------------


def _dims(x: Tensor) -> Shape:
    return (0, *range(2, x.ndim))


def _of_channels(x: Tensor, like: Tensor) -> Tensor:
    """Values of channels (C,), shaped to meet ``like``."""
    return reshape(x, (-1, *(1,) * (like.ndim - 2)))


def _batch_norm_ops(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    mean = MEAN(x, dims=_dims(x), keepdim=False)
    deviation = x - _of_channels(mean, x)
    var = MEAN(deviation * deviation, dims=_dims(x), keepdim=False)
    scale = rsqrt(var + eps)
    y = deviation * _of_channels(scale if weight is None else scale * weight, x)
    return (y if bias is None else y + _of_channels(bias, x)), mean, var


def _batch_norm_grad_ops(
    g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    scale, count = rsqrt(var + eps), _count(x._data.shape)
    normal = (x - _of_channels(mean, x)) * _of_channels(scale, x)
    total: Tensor = SUM(g, dims=_dims(x), keepdim=False)
    along: Tensor = SUM(g * normal, dims=_dims(x), keepdim=False)
    dx = g - (normal * _of_channels(along, x) + _of_channels(total, x)) / count
    return dx * _of_channels(scale if weight is None else scale * weight, x), along, total


def _batch_norm_rule(s: Saved, g: Any, g_mean: Any, g_var: Any) -> tuple[Any, ...]:
    """Through the output; and, when gradients are differentiated again, through the moments."""
    x, mean, var = s.x, s.output(1), s.output(2)
    dx = dw = db = None
    if g is not None:
        dx, dw, db = BATCH_NORM_GRAD(g, x, s.y, mean, var, eps=s["eps"])
    count = _count(s.shapes[0])
    if g_mean is not None:
        dx = _plus(dx, _of_channels(g_mean / count, x))
    if g_var is not None:
        dx = _plus(dx, (x - _of_channels(mean, x)) * _of_channels(g_var * (2 / count), x))
    return dx, dw, db


def _plus(x: Tensor | None, y: Tensor) -> Tensor:
    return y if x is None else x + y


def _infer(x: Meta, weight: Meta | None, bias: Meta | None, eps: float) -> tuple[Meta, ...]:
    if x.ndim < 2:
        raise ShapeError(f"batch_norm needs an input (N, C, ...), got shape {show(x.shape)}")
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None and given.shape != x.shape[1:2]:
            raise _wrong_size(name, x.shape, given.shape)
    channels = Meta(x.shape[1:2], x.dtype)
    return x, channels, channels


def _wrong_size(name: str, x: Shape, given: Shape) -> ShapeError:
    return ShapeError(
        f"{name} should contain {x[1]} elements not {math.prod(given)}: the input has shape "
        f"{show(x)}, and dimension 1 counts channels"
    )


# x (N, C, ...) to the normalized x, and each channel's mean and (biased) variance
BATCH_NORM: Op = Op(
    "batch_norm",
    "norm",
    _batch_norm_array,
    _infer,
    vjp=_batch_norm_rule,
    saves="xy12",
    outputs=3,
    vjp_takes_none=True,
    decompose=_batch_norm_ops,
    heavy=1 << 22,
    flops=lambda x, *rest, eps: 7 * x.numel,
)
# gradients of x, weight and bias, whether or not there are weight and bias
BATCH_NORM_GRAD: Op = Op(
    "batch_norm_grad",
    "norm",
    _batch_norm_grad_array,
    lambda g, x, weight, mean, var, eps: (x, mean, mean),
    vjp=through(_batch_norm_grad_ops),
    saves="*",
    outputs=3,
    decompose=_batch_norm_grad_ops,
    heavy=1 << 22,
    flops=lambda g, x, *rest, eps: 10 * x.numel,
)


# --- public functions -----------------------------------------------------------------------------


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias``, channel by channel; input (N, C, ...).

    In ``training`` with the batch's own moments, which then move the running ones by ``momentum``
    (the variance unbiased, in place); otherwise with the running ones.
    """
    _check(input, running_mean, running_var, weight, bias)
    if training:
        return _trained(input, running_mean, running_var, weight, bias, momentum, eps)
    if running_mean is None or running_var is None:
        raise ArgumentError("running_mean and running_var must be defined in evaluation mode")
    if eps < 0:
        raise ArgumentError(f"batch_norm eps must be non-negative, but got {eps}")
    scale = rsqrt(running_var + eps)
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale
    shift = shift if bias is None else shift + bias
    return _as(input * _of_channels(scale, input) + _of_channels(shift, input), input.dtype)


def _check(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
) -> None:
    shape = input._data.shape
    if len(shape) < 2:
        raise ShapeError(f"batch_norm needs an input (N, C, ...), got shape {show(shape)}")
    if not input.dtype.is_floating_point:
        raise DTypeError(f"batch_norm needs a floating-point input, got {input.dtype.name}")
    if (running_mean is None) != (running_var is None):
        raise ArgumentError(
            "running_mean and running_var must either both be None or neither be None"
        )
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight}
    for name, x in (*given.items(), ("bias", bias)):
        if x is None:
            continue
        if x._data.shape != shape[1:2]:
            raise _wrong_size(name, shape, x._data.shape)
        if x.dtype is not input.dtype and (x.dtype is not dt.float32 or input.itemsize > 2):
            raise DTypeError(
                f"batch_norm: {name} is {x.dtype.name} and the input {input.dtype.name}; they "
                "should be the same, or float32 for an input of two bytes"
            )


def _as(x: Tensor, dtype: dt.dtype) -> Tensor:
    return x if x.dtype is dtype else cast(x, dtype)


def _trained(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | Tensor,
    eps: float,
) -> Tensor:
    count = _count(input._data.shape)
    if count == 1:
        raise ArgumentError(
            "Expected more than 1 value per channel when training, got input size "
            f"{show(input._data.shape)}; use a larger batch, or eval()"
        )
    if eps <= 0:
        raise ArgumentError(f"batch_norm eps must be positive during training, but got {eps}")
    others = [x.dtype for x in (running_mean, weight, bias) if x is not None]
    wide = next((dtype for dtype in others if dtype is not input.dtype), input.dtype)
    weight, bias = (x if x is None else _as(x, wide) for x in (weight, bias))
    y, mean, var = BATCH_NORM(_as(input, wide), weight, bias, eps=eps)
    if running_mean is not None and running_var is not None:
        with no_grad():
            _move(running_mean, mean, momentum)
            _move(running_var, var * (count / max(count - 1, 1)), momentum)
    return _as(y, input.dtype)


def _move(running: Tensor, new: Tensor, momentum: float | Tensor) -> None:
    write(running, _as(new * momentum + running * (1 - momentum), running.dtype))
