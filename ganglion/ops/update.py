"""Optimizer updates: one op per parameter, overwriting the parameter and its slots.

Learning rates and other numbers that may change between steps are inputs, never params.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.ops.record import Op
from ganglion.shapes import Meta

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
BLOCK = 65536  # elements worked on at a time: few enough to stay in the caches between passes
SMALL = 4096  # elements below which cutting into blocks costs more than it saves


class _Scratch(threading.local):
    """Two blocks of working space per dtype and thread."""

    def __init__(self) -> None:
        self.blocks: dict[Any, tuple[Array, Array]] = {}

    def of(self, dtype: Any) -> tuple[Array, Array]:
        """The blocks of a dtype."""
        found = self.blocks.get(dtype)
        if found is None:
            found = self.blocks[dtype] = (np.empty(BLOCK, dtype), np.empty(BLOCK, dtype))
        return found


_scratch = _Scratch()


def _blocks(p: Array, *slots: Array | None) -> Iterator[tuple[Any, ...]]:
    """Aligned blocks of arrays of one shape, then two scratch blocks of the same length.

    Small arrays, and those that are not contiguous, are one block as they are.
    """
    size, arrays = p.size, (p, *slots)
    if size <= SMALL or not all(a is None or a.flags.c_contiguous for a in arrays):
        yield (*arrays, np.empty_like(p), np.empty_like(p))
        return
    flat = [None if a is None else a.reshape(-1) for a in arrays]
    s, t = _scratch.of(p.dtype)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        cut = [None if a is None else a[start:stop] for a in flat]
        yield (*cut, s[: stop - start], t[: stop - start])


def _infer_update(*donated: int) -> Callable[..., Any]:
    def infer(*metas: Any, **params: Any) -> Any:
        found = tuple(metas[i] for i in donated)
        return found if len(found) > 1 else found[0]

    return infer


def _update(name: str, kernel: Any, donates: tuple[int, ...], decompose: Any, flops: int) -> Op:
    return Op(
        name,
        "update",
        kernel,
        _infer_update(*donates),
        outputs=len(donates),
        donates=donates,
        in_float32=False,
        decompose=decompose,
        flops=lambda p, *rest, **params: flops * (p.numel if isinstance(p, Meta) else 1),
    )


def _directed(g: Array, p: Array, wd: float, maximize: bool, s: Array) -> Array:
    """The gradient to descend along, with weight decay added; ``s`` is overwritten if needed."""
    if maximize:
        g = np.negative(g, out=s)
    if wd:
        if g is s:
            g += p * p.dtype.type(wd)
        else:
            np.multiply(p, wd, out=s)
            g = np.add(s, g, out=s)
    return g


def _directed_ops(g: Tensor, p: Tensor, wd: float, maximize: bool) -> Tensor:
    g = -g if maximize else g
    none = isinstance(wd, int | float) and not wd  # a number that may change is a tensor
    return g if none else g + p * wd


ACCUMULATE = _update(  # a gradient into the sum of those before it
    "accumulate", lambda total, g: np.add(total, g, out=total), (0,), lambda total, g: total + g, 1
)


# --- SGD ------------------------------------------------------------------------------------------


def _sgd_array(
    p: Array, g: Array, buf: Array | None, lr: float, momentum: float, dampening: float,
    wd: float, *, nesterov: bool, maximize: bool, first: bool,
) -> Any:  # fmt: skip
    for p_, g_, b_, s, t in _blocks(p, g, buf):
        d = _directed(g_, p_, wd, maximize, s)
        if b_ is not None:
            d = _momentum(d, b_, momentum, dampening, nesterov, first, t)
        np.multiply(d, lr, out=s)
        p_ -= s
    return p if buf is None else (p, buf)


def _momentum(
    d: Array, buf: Array, momentum: float, dampening: float, nesterov: bool, first: bool, t: Array
) -> Array:
    if first:
        buf[...] = d
    else:
        buf *= momentum
        buf += np.multiply(d, 1 - dampening, out=t)
    if not nesterov:
        return buf
    np.multiply(buf, momentum, out=t)
    return np.add(t, d, out=t)


def _sgd_plain_array(p: Array, g: Array, lr: float, wd: float, *, maximize: bool) -> Any:
    return _sgd_array(p, g, None, lr, 0, 0, wd, nesterov=False, maximize=maximize, first=False)


def _sgd_ops(
    p: Tensor, g: Tensor, buf: Tensor, lr: Any, momentum: Any, dampening: Any, wd: Any,
    *, nesterov: bool, maximize: bool, first: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    d = _directed_ops(g, p, wd, maximize)
    buf = d if first else buf * momentum + d * (1 - dampening)
    return p - (d + buf * momentum if nesterov else buf) * lr, buf


SGD = _update(
    "sgd_update",
    _sgd_plain_array,
    (0,),
    lambda p, g, lr, wd, *, maximize: p - _directed_ops(g, p, wd, maximize) * lr,
    2,
)
SGD_MOMENTUM = _update("sgd_momentum_update", _sgd_array, (0, 2), _sgd_ops, 4)


# --- Adam and AdamW -------------------------------------------------------------------------------


def _adam_array(
    p: Array, g: Array, m: Array, v: Array, step: Array, top: Array | None, lr: float,
    beta1: float, beta2: float, eps: float, wd: float, *, decoupled: bool, maximize: bool,
) -> Any:  # fmt: skip
    step += 1
    taken = float(step)
    root = (1 - beta2**taken) ** 0.5
    # m / (sqrt(v) / root + eps) = root * m / (sqrt(v) + eps * root): one pass less
    size, eps = -lr * root / (1 - beta1**taken), eps * root
    for p_, g_, m_, v_, top_, s, t in _blocks(p, g, m, v, top):
        if decoupled and wd:
            p_ *= 1 - lr * wd
        d = _directed(g_, p_, 0 if decoupled else wd, maximize, s)
        np.subtract(d, m_, out=t)
        t *= 1 - beta1
        m_ += t
        np.multiply(d, d, out=t)
        t *= 1 - beta2
        v_ *= beta2
        v_ += t
        if top_ is not None:
            np.maximum(top_, v_, out=top_)
        np.sqrt(v_ if top_ is None else top_, out=t)
        t += eps
        np.divide(m_, t, out=t)
        t *= size
        p_ += t
    return (p, m, v, step) if top is None else (p, m, v, step, top)


def _adam_ops(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, step: Tensor, top: Tensor | None, lr: Any,
    beta1: Any, beta2: Any, eps: Any, wd: Any, *, decoupled: bool, maximize: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    step = step + 1
    t = step.double()
    size, root = lr / (1 - beta1**t), (1 - beta2**t).sqrt()
    if decoupled:
        p, wd = p * (1 - lr * wd), 0
    d = _directed_ops(g, p, wd, maximize)
    m = m + (d - m) * (1 - beta1)
    v = v * beta2 + d * d * (1 - beta2)
    top = None if top is None else top.maximum(v)
    p = p - m / ((v if top is None else top).sqrt() / root + eps) * size
    return (p, m, v, step) if top is None else (p, m, v, step, top)


def _without_top(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, called without the slot that only AMSGrad has."""
    return lambda *inputs, **flags: function(*inputs[:5], None, *inputs[5:], **flags)


ADAM = _update("adam_update", _without_top(_adam_array), (0, 2, 3, 4), _without_top(_adam_ops), 14)
AMSGRAD = _update("amsgrad_update", _adam_array, (0, 2, 3, 4, 5), _adam_ops, 15)


# --- Adagrad --------------------------------------------------------------------------------------


def _adagrad_array(
    p: Array, g: Array, total: Array, step: Array, lr: float, lr_decay: float, wd: float,
    eps: float, *, maximize: bool,
) -> Any:  # fmt: skip
    step += 1
    size = -lr / (1 + (float(step) - 1) * lr_decay)
    for p_, g_, a_, s, t in _blocks(p, g, total):
        d = _directed(g_, p_, wd, maximize, s)
        a_ += np.multiply(d, d, out=t)
        np.sqrt(a_, out=t)
        t += eps
        np.divide(d, t, out=t)
        t *= size
        p_ += t
    return p, total, step


def _adagrad_ops(
    p: Tensor, g: Tensor, total: Tensor, step: Tensor, lr: Any, lr_decay: Any, wd: Any, eps: Any,
    *, maximize: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    step = step + 1
    d = _directed_ops(g, p, wd, maximize)
    total = total + d * d
    size = lr / (1 + (step.double() - 1) * lr_decay)
    return p - d / (total.sqrt() + eps) * size, total, step


ADAGRAD = _update("adagrad_update", _adagrad_array, (0, 2, 3), _adagrad_ops, 8)


# --- RMSprop --------------------------------------------------------------------------------------


def _rmsprop_array(
    p: Array, g: Array, v: Array, mean: Array | None, buf: Array | None, step: Array, lr: float,
    alpha: float, eps: float, wd: float, momentum: float, *, maximize: bool,
) -> Any:  # fmt: skip
    step += 1
    for p_, g_, v_, a_, b_, s, t in _blocks(p, g, v, mean, buf):
        d = _directed(g_, p_, wd, maximize, s)
        v_ *= alpha
        v_ += np.multiply(np.multiply(d, d, out=t), 1 - alpha, out=t)
        if a_ is None:
            np.sqrt(v_, out=t)
        else:
            a_ += np.multiply(np.subtract(d, a_, out=t), 1 - alpha, out=t)
            np.multiply(a_, a_, out=t)
            np.sqrt(np.subtract(v_, t, out=t), out=t)
        t += eps
        np.divide(d, t, out=t)
        if b_ is None:
            t *= lr
        else:
            b_ *= momentum
            b_ += t
            np.multiply(b_, lr, out=t)
        p_ -= t
    return tuple(a for a in (p, v, mean, buf, step) if a is not None)


def _rmsprop_ops(
    p: Tensor, g: Tensor, v: Tensor, mean: Tensor | None, buf: Tensor | None, step: Tensor,
    lr: Any, alpha: Any, eps: Any, wd: Any, momentum: Any, *, maximize: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    step = step + 1
    d = _directed_ops(g, p, wd, maximize)
    v = v * alpha + d * d * (1 - alpha)
    mean = None if mean is None else mean + (d - mean) * (1 - alpha)
    spread = v if mean is None else v - mean * mean
    move = d / (spread.sqrt() + eps)
    if buf is not None:
        move = buf = buf * momentum + move
    return tuple(a for a in (p - move * lr, v, mean, buf, step) if a is not None)


def _rmsprop(name: str, mean: bool, buf: bool) -> Op:
    """One record per set of slots: absent ones are not inputs."""
    donates = (0, *range(2, 4 + mean + buf))

    def spread(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        rest = list(inputs[3:])
        slots = [rest.pop(0) if present else None for present in (mean, buf)]
        return (*inputs[:3], *slots, *rest)

    return _update(
        name,
        lambda *inputs, **flags: _rmsprop_array(*spread(inputs), **flags),
        donates,
        lambda *inputs, **flags: _rmsprop_ops(*spread(inputs), **flags),
        12,
    )


RMSPROP = {
    (mean, buf): _rmsprop(f"rmsprop{'_centered' * mean}{'_momentum' * buf}_update", mean, buf)
    for mean in (False, True)
    for buf in (False, True)
}
