"""Losses and other compositions of ops; ``ganglion.nn.functional`` shows them all."""

from __future__ import annotations

import warnings

from ganglion.dispatch import write
from ganglion.errors import ArgumentError, DTypeError, ShapeError
from ganglion.ops.random import dropout_mask
from ganglion.ops.select import where
from ganglion.ops.softmax import CROSS_ENTROPY, log_softmax
from ganglion.shapes import broadcast_shapes, show
from ganglion.tensor import Tensor

REDUCTIONS = ("none", "mean", "sum")


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """``losses`` as they are, their mean, or their sum."""
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    _check_reduction(reduction)
    return losses


def _check_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")


def legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """PyTorch's deprecated ``size_average`` and ``reduce`` in terms of ``reduction``."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def check_pair(name: str, input: Tensor, target: Tensor) -> None:
    """Refuse a prediction and a target that would silently broadcast to a larger shape."""
    given, wanted = input._data.shape, target._data.shape
    if given == wanted:
        return
    joined = broadcast_shapes(given, wanted)
    if joined not in (given, wanted):
        raise ShapeError(
            f"{name}: input of shape {show(given)} and target of shape {show(wanted)} would "
            f"broadcast to {show(joined)}, comparing every prediction with other samples' targets. "
            "Give both the same shape, e.g. target.unsqueeze(1) or input.squeeze(1)."
        )
    warnings.warn(
        f"Using a target size ({show(wanted)}) that is different to the input size "
        f"({show(given)}). Please ensure they have the same size.",
        stacklevel=3,
    )


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Mean absolute error, ``|input - target|``."""
    check_pair("l1_loss", input, target)
    losses = (input - target).abs()
    return _weighted(losses, weight, legacy_reduction(size_average, reduce, reduction))


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Mean squared error, ``(input - target)^2``."""
    check_pair("mse_loss", input, target)
    losses = (input - target).square()
    return _weighted(losses, weight, legacy_reduction(size_average, reduce, reduction))


def _weighted(losses: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    if weight is None:
        return reduced(losses, reduction)
    if weight._data.shape != losses._data.shape:
        raise ArgumentError("Weights and input must have the same size.")
    if reduction == "mean":
        return (losses * weight).sum() / weight.sum()
    return reduced(losses * weight, reduction)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """Squared error up to ``delta``, linear beyond (Huber 1964)."""
    if delta <= 0:
        raise ArgumentError(f"huber_loss does not support non-positive values for delta: {delta}")
    check_pair("huber_loss", input, target)
    error = (input - target).abs()
    losses = where(error <= delta, 0.5 * error * error, delta * (error - 0.5 * delta))
    return _weighted(losses, weight, reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """Huber's loss divided by ``beta``; L1 when ``beta`` is 0."""
    if beta < 0:
        raise ArgumentError(f"smooth_l1_loss does not support negative values for beta: {beta}")
    check_pair("smooth_l1_loss", input, target)
    error = (input - target).abs()
    if beta != 0:
        error = where(error < beta, 0.5 * error * error / beta, error - 0.5 * beta)
    return reduced(error, legacy_reduction(size_average, reduce, reduction))


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``-(t log p + (1 - t) log(1 - p))`` of probabilities; logarithms are clamped at -100."""
    if input._data.shape != target._data.shape:
        raise ArgumentError(
            f"Using a target size ({show(target.shape)}) that is different to the input size "
            f"({show(input.shape)}) is deprecated. Please ensure they have the same size."
        )
    hit, miss = input.log().clamp(min=-100), (-input).log1p().clamp(min=-100)
    losses = -(target * hit + (1 - target) * miss)
    if weight is not None:
        losses = losses * weight
    return reduced(losses, legacy_reduction(size_average, reduce, reduction))


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of ``sigmoid(input)``, computed stably from the logits."""
    if input._data.shape != target._data.shape:
        raise ArgumentError(
            f"Target size ({show(target.shape)}) must be the same as input size "
            f"({show(input.shape)})"
        )
    soft = (-input.abs()).exp().log1p() + (-input).clamp(min=0)  # -log(sigmoid(input))
    if pos_weight is None:
        losses = (1 - target) * input + soft
    else:
        losses = (1 - target) * input + (1 + (pos_weight - 1) * target) * soft
    if weight is not None:
        losses = losses * weight
    return reduced(losses, legacy_reduction(size_average, reduce, reduction))


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """``target * (log target - input)`` with ``input`` in log space (Kullback-Leibler)."""
    check_pair("kl_div", input, target)
    if log_target:
        losses = target.exp() * (target - input)
    else:
        losses = target.xlogy(target) - target * input
    reduction = legacy_reduction(size_average, reduce, reduction)
    if reduction == "batchmean":
        return losses.sum() / input.shape[0] if input.ndim else losses.sum()
    return reduced(losses, reduction)


# --- classification -------------------------------------------------------------------------------


def _rows(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, d1, ...) or (C,) scores and (N, d1, ...) classes as (rows, C) and (rows,)."""
    if input.ndim == 1:
        if target.ndim:
            raise ShapeError(
                f"input of shape {show(input.shape)} is one sample, so target must be a 0-d class "
                f"index, got shape {show(target.shape)}"
            )
        return input.unsqueeze(0), target.unsqueeze(0)
    if input.ndim < 1 or target._data.shape != (input._data.shape[0], *input._data.shape[2:]):
        raise ArgumentError(
            f"Expected input batch_size and trailing sizes to match target's: input (N, C, d1, ...)"
            f" is {show(input.shape)} and target (N, d1, ...) is {show(target.shape)}"
        )
    if input.ndim == 2:
        return input, target
    last = input.movedim(1, -1)
    return last.reshape(-1, input.shape[1]), target.reshape(-1)


def _check_class_indices(name: str, target: Tensor) -> None:
    if target.dtype.is_floating_point:
        raise DTypeError(f"{name} expected class indices of dtype int64, got {target.dtype}")


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``-weight[target] * input[target]`` of log-probabilities (N, C, d1, ...)."""
    _check_class_indices("nll_loss", target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    rows, classes = _rows(input, target)
    losses, weights = _nll_rows(rows, classes, weight, ignore_index)
    if reduction == "mean":
        return losses.sum() / weights.sum()
    return reduced(losses.reshape(target.shape), reduction)


def _nll_rows(
    rows: Tensor, classes: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Per-row losses and the weights they were given (0 for ignored rows)."""
    ignored = classes == ignore_index
    index = classes.masked_fill(ignored, 0)
    weights = (~ignored).to(rows.dtype)
    if weight is not None:
        _check_weight(weight, rows.shape[1])
        weights = weights * weight.index_select(0, index)
    picked = rows.gather(1, index.unsqueeze(1)).squeeze(1)
    return -picked.masked_fill(ignored, 0) * weights, weights


def _check_weight(weight: Tensor, classes: int) -> None:
    if weight._data.shape != (classes,):
        raise ShapeError(
            f"weight tensor should be defined either for all {classes} classes or no classes but "
            f"got weight tensor of shape: {show(weight.shape)}"
        )


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits (N, C, d1, ...) with class indices (N, d1, ...) or probabilities.

    ``label_smoothing`` in [0, 1] mixes the target with the uniform distribution
    (Szegedy et al. 2015, arXiv:1512.00567).
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    _check_reduction(reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ArgumentError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if target.dtype.is_floating_point:
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    rows, classes = _rows(input, target)
    if weight is None and label_smoothing == 0.0:
        losses: Tensor = CROSS_ENTROPY(rows, classes, ignore=ignore_index, reduction=reduction)
        return losses.reshape(target.shape) if reduction == "none" else losses
    scores = log_softmax(rows, 1)
    losses, weights = _nll_rows(scores, classes, weight, ignore_index)
    if label_smoothing:
        smooth = _smooth_rows(scores, classes, weight, ignore_index)
        losses = losses * (1 - label_smoothing) + smooth * (label_smoothing / rows.shape[1])
    if reduction == "mean":
        return losses.sum() / weights.sum()
    return reduced(losses.reshape(target.shape), reduction)


def _smooth_rows(
    scores: Tensor, classes: Tensor, weight: Tensor | None, ignore_index: int
) -> Tensor:
    total = (scores if weight is None else scores * weight).sum(1)
    return -total.masked_fill(classes == ignore_index, 0)


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    if input._data.shape != target._data.shape:
        raise ShapeError(
            "cross_entropy with class probabilities expects input and target of one shape, got "
            f"{show(input.shape)} and {show(target.shape)}"
        )
    at = 0 if input.ndim == 1 else 1
    classes = input.shape[at]
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    scores = log_softmax(input, at)
    if weight is not None:
        _check_weight(weight, classes)
        scores = scores * weight.reshape(-1, *[1] * (input.ndim - at - 1))
    losses = -(scores * target).sum(at)
    return reduced(losses, reduction)


# --- regularization -------------------------------------------------------------------------------


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero elements with probability ``p`` and scale the rest by ``1 / (1 - p)``.

    Srivastava et al. 2014. Without ``training`` the input itself.
    """
    if not 0.0 <= p <= 1.0:
        raise ArgumentError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0:
        return input
    kept = input * dropout_mask(input._data.shape, p, input.dtype)
    return write(input, kept) if inplace else kept
