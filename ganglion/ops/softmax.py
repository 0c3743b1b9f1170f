"""Softmax, log-softmax and their use in cross-entropy: composites with one-pass kernels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import IndexingError, ShapeError
from ganglion.ops.composite import through
from ganglion.ops.create import arange
from ganglion.ops.movement import cast
from ganglion.ops.record import Op, Saved
from ganglion.ops.select import where
from ganglion.shapes import Meta, normalize_dim, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


def _shifted(x: Array, dim: int) -> Array:
    """``x`` minus its largest along ``dim``, in row-major order."""
    top = np.maximum.reduce(x, axis=dim, keepdims=True, initial=-np.inf)
    return np.subtract(x, top, order="C")


def _softmax_array(x: Array, dim: int) -> Array:
    e = _shifted(x, dim) if x.ndim else np.zeros_like(x)
    np.exp(e, out=e)
    e /= np.add.reduce(e, axis=dim if x.ndim else None, keepdims=True)
    return e


def _log_softmax_array(x: Array, dim: int) -> Array:
    out = _shifted(x, dim) if x.ndim else np.zeros_like(x)
    out -= np.log(np.add.reduce(np.exp(out), axis=dim if x.ndim else None, keepdims=True))
    return out


def _softmax_ops(x: Tensor, dim: int) -> Tensor:
    e = (x - x.amax(dim, keepdim=True).detach()).exp()
    return e / e.sum(dim, keepdim=True)


def _log_softmax_ops(x: Tensor, dim: int) -> Tensor:
    shifted = x - x.amax(dim, keepdim=True).detach()
    return shifted - shifted.exp().sum(dim, keepdim=True).log()


def _softmax_rule(s: Saved, g: Tensor) -> Tensor:
    out: Tensor = s.out
    weighted = g * out
    return weighted - out * weighted.sum(s["dim"], keepdim=True)


def _log_softmax_rule(s: Saved, g: Tensor) -> Tensor:
    shares: Tensor = s.out.exp()
    return g - shares * g.sum(s["dim"], keepdim=True)


SOFTMAX = Op(
    "softmax",
    "rowwise",
    _softmax_array,
    lambda x, dim: x,
    vjp=(_softmax_rule,),
    saves="o",
    decompose=_softmax_ops,
    heavy=1 << 21,
    flops=lambda x, dim: 5 * x.numel,
)
LOG_SOFTMAX = Op(
    "log_softmax",
    "rowwise",
    _log_softmax_array,
    lambda x, dim: x,
    vjp=(_log_softmax_rule,),
    saves="o",
    decompose=_log_softmax_ops,
    heavy=1 << 21,
    flops=lambda x, dim: 5 * x.numel,
)


def _implicit_dim(ndim: int) -> int:
    return 0 if ndim in (0, 1, 3) else 1


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dt.dtype | None = None
) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``dim``."""
    x = input if dtype is None else cast(input, dtype)
    at = _implicit_dim(x.ndim) if dim is None else normalize_dim(dim, x.ndim)
    return SOFTMAX(x, dim=at)  # type: ignore[no-any-return]


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dt.dtype | None = None
) -> Tensor:
    """``x - log(sum(exp(x)))`` along ``dim``."""
    x = input if dtype is None else cast(input, dtype)
    at = _implicit_dim(x.ndim) if dim is None else normalize_dim(dim, x.ndim)
    return LOG_SOFTMAX(x, dim=at)  # type: ignore[no-any-return]


# --- cross-entropy of (rows, classes) logits with class indices -----------------------------------


def _places(x: Array, target: Array, ignore: int) -> tuple[Array, Array | None]:
    """Where each row's class lies in the flat scores, and which rows count (None: all).

    An ignored row points at its first class. Classes out of range are an error.
    """
    rows, classes = x.shape
    starts = np.arange(0, rows * classes, classes)
    # seen as unsigned, negative classes are large
    in_range = not rows or np.maximum.reduce(target.view(_UNSIGNED[target.itemsize])) < classes
    if in_range and not 0 <= ignore < classes:
        return starts + target, None
    counted = target != ignore
    bad = counted & ((target < 0) | (target >= classes))
    if bad.any():
        raise IndexingError(
            f"Target {target[bad][0]} is out of bounds: class indices must lie in [0, "
            f"{classes - 1}] for input of shape {show(x.shape)} (or equal ignore_index {ignore})"
        )
    return starts + np.where(counted, target, 0), counted


_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def _cross_entropy_array(x: Array, target: Array, ignore: int, reduction: str) -> Array:
    shifted = _shifted(x, 1)
    places, counted = _places(x, target, ignore)
    losses: Array = np.log(np.add.reduce(np.exp(shifted), axis=1))
    losses -= shifted.reshape(-1).take(places)
    if counted is not None:
        losses[~counted] = 0
    if reduction == "none":
        return losses
    total = np.add.reduce(losses)
    if reduction == "mean":
        total = total / total.dtype.type(_count(x, counted))
    return np.asarray(total)


def _count(x: Array, counted: Array | None) -> int:
    return len(x) if counted is None else int(np.count_nonzero(counted))


def _cross_entropy_grad_array(
    x: Array, target: Array, g: Array, ignore: int, reduction: str
) -> Array:
    out = _softmax_array(x, 1)
    places, counted = _places(x, target, ignore)
    flat = out.reshape(-1)
    flat[places] -= 1
    if counted is not None:
        out[~counted] = 0
    scale = g / g.dtype.type(_count(x, counted)) if reduction == "mean" else g
    out *= scale[:, None] if reduction == "none" else scale
    return out


def _valid(target: Tensor, ignore: int, like: Tensor) -> Tensor:
    return cast(target != ignore, like.dtype)


def _hits(x: Tensor, target: Tensor, ignore: int) -> Tensor:
    """Which scores are those of the rows' classes."""
    classes = arange(x._data.shape[1], dtype=target.dtype)
    found: Tensor = target.masked_fill(target == ignore, 0).unsqueeze(1) == classes
    return found


def _known(x: Tensor, target: Tensor, ignore: int) -> Tensor:
    """1 for rows that count, 0 for ignored ones, NaN for classes out of range."""
    in_range = (target >= 0) & (target < x._data.shape[1]) | (target == ignore)
    counted: Tensor = where(in_range, _valid(target, ignore, x), math.nan)
    return counted


def _cross_entropy_ops(x: Tensor, target: Tensor, ignore: int, reduction: str) -> Tensor:
    scores: Tensor = where(_hits(x, target, ignore), _log_softmax_ops(x, 1), 0.0)
    losses: Tensor = -scores.sum(1) * _known(x, target, ignore)
    if reduction == "none":
        return losses
    total: Tensor = losses.sum()
    return total / _valid(target, ignore, x).sum() if reduction == "mean" else total


def _cross_entropy_grad_ops(
    x: Tensor, target: Tensor, g: Tensor, ignore: int, reduction: str
) -> Tensor:
    scale = g.unsqueeze(1) if reduction == "none" else g
    scale = scale / _valid(target, ignore, x).sum() if reduction == "mean" else scale
    hits = cast(_hits(x, target, ignore), x.dtype)
    differences: Tensor = _softmax_ops(x, 1) - hits
    return differences * (_known(x, target, ignore).unsqueeze(1) * scale)


def _infer_cross_entropy(x: Meta, target: Meta, ignore: int, reduction: str) -> Meta:
    if target.shape != x.shape[:1]:
        raise ShapeError(
            f"Expected input batch_size ({x.shape[0]}) to match target batch_size: input is "
            f"{show(x.shape)}, target {show(target.shape)}"
        )
    return Meta(x.shape[:1] if reduction == "none" else (), x.dtype)


CROSS_ENTROPY_GRAD = Op(
    "cross_entropy_grad",
    "rowwise",
    _cross_entropy_grad_array,
    lambda x, target, g, ignore, reduction: x,
    vjp=through(_cross_entropy_grad_ops),
    saves="*",
    decompose=_cross_entropy_grad_ops,
    flops=lambda x, target, g, ignore, reduction: 7 * x.numel,
)
CROSS_ENTROPY = Op(
    "cross_entropy",
    "rowwise",
    _cross_entropy_array,
    _infer_cross_entropy,
    vjp=(lambda s, g: CROSS_ENTROPY_GRAD(s.x, s.y, g, **s.params), None),
    saves="xy",
    decompose=_cross_entropy_ops,
    flops=lambda x, target, ignore, reduction: 5 * x.numel,
)
