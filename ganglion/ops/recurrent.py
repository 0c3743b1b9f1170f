"""Recurrent layers: one layer in one direction over a whole sequence, as composites.

Sequences are (time, batch, features). A layer's kernel projects all inputs in one product and
then walks through time. Backward, its kernel walks back and gives the gradients of what entered
the gates; those of inputs, weights and biases are products and sums over all steps at once, ops
of their own. Here: what the layers share, and the plain layer; ``lstm`` and ``gru`` follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion import blas
from ganglion.errors import ShapeError
from ganglion.ops.activation import relu, tanh
from ganglion.ops.composite import through
from ganglion.ops.join import cat, stack, unbind
from ganglion.ops.matmul import MATMUL, linear
from ganglion.ops.movement import SLICE, reshape, unsqueeze
from ganglion.ops.record import Op, Saved
from ganglion.ops.reduce import SUM
from ganglion.ops.select import where
from ganglion.shapes import Meta, Shape, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- what the layers' kernels share ---------------------------------------------------------------


def walk(length: int, reverse: bool) -> range:
    """The steps in the order in which a layer takes them."""
    return range(length - 1, -1, -1) if reverse else range(length)


def projected(x: Array, w_ih: Array, *biases: Array | None) -> Array:
    """What inputs and biases add to the gates, for all steps in one product."""
    steps, batch, width = x.shape
    out = blas.matmul(x.reshape(steps * batch, width), w_ih.T)
    for bias in biases:
        if bias is not None:
            out += bias
    return out.reshape(steps, batch, len(w_ih))


def parts(a: Array, count: int) -> list[Array]:
    """Views of equal parts of the last dimension."""
    width = a.shape[-1] // count
    return [a[..., i * width : (i + 1) * width] for i in range(count)]


def earlier(first: Array, states: Array, reverse: bool) -> Array:
    """The state that each step started from."""
    return np.concatenate((states[1:], first[None]) if reverse else (first[None], states[:-1]))


def at(x: Array | None, t: int) -> Array | None:
    """One step of a sequence, if there is one."""
    return None if x is None else x[t]


def total(*terms: Any) -> Any:
    """The sum of the arrays, or tensors, that are there; None if there are none."""
    given = [t for t in terms if t is not None]
    return sum(given[1:], given[0]) if given else None


# --- what their decompositions and rules share ----------------------------------------------------


def each_step(x: Tensor | None, length: int) -> Sequence[Tensor | None]:
    """The steps of a sequence, or as many Nones."""
    return (None,) * length if x is None else unbind(x, 0)


def in_time(found: Sequence[Tensor], reverse: bool) -> Tensor:
    """A sequence from its steps in the order in which a layer takes them."""
    return stack(found[::-1] if reverse else found)


def rows(x: Tensor) -> Tensor:
    """All steps one below the other."""
    steps, batch, width = x._data.shape
    return reshape(x, (steps * batch, width))


def before(first: Tensor, states: Tensor, reverse: bool) -> Tensor:
    """The state that each step started from."""
    if reverse:
        return cat((SLICE(states, key=(slice(1, None),)), unsqueeze(first, 0)))
    return cat((unsqueeze(first, 0), SLICE(states, key=(slice(-1),))))


def back(pre: Tensor, weight: Tensor) -> Tensor:
    """A gradient carried back through ``x @ weight.T``."""
    return MATMUL(pre, weight, tx=False, ty=False)  # type: ignore[no-any-return]


def first_step(x: Tensor, reverse: bool) -> Tensor:
    """The step that a layer takes first."""
    return SLICE(x, key=(-1 if reverse else 0,))  # type: ignore[no-any-return]


def weight_grads(
    s: Saved, pre_x: Tensor, pre_h: Tensor, earlier: Tensor, place: int
) -> list[Tensor | None]:
    """Gradients of x, and of w_ih, w_hh, b_ih and b_hh (inputs ``place`` on), if wanted.

    ``pre_x`` and ``pre_h`` are those of what x and h added to the gates.
    """
    x, w_ih, needs = s.inputs[0], s.inputs[place], s.needs
    by_x, by_h = rows(pre_x), rows(pre_h)
    return [
        reshape(back(by_x, w_ih), s.shapes[0]) if needs[0] else None,
        MATMUL(by_x, rows(x), tx=True, ty=False) if needs[place] else None,
        MATMUL(by_h, rows(earlier), tx=True, ty=False) if needs[place + 1] else None,
        SUM(by_x, dims=(0,), keepdim=False) if needs[place + 2] else None,
        SUM(by_h, dims=(0,), keepdim=False) if needs[place + 3] else None,
    ]


# --- shapes and costs -----------------------------------------------------------------------------


def check_layer(
    name: str, gates: int, x: Meta, h: Meta, w_ih: Meta, w_hh: Meta, *biases: Meta | None
) -> tuple[int, int, int]:
    """(steps, batch, hidden size), after checking that the shapes belong together."""
    if x.ndim != 3 or not x.shape[0]:
        raise ShapeError(
            f"{name}: Expected sequence length to be larger than 0 in RNN, in a sequence (time, "
            f"batch, features); got shape {show(x.shape)}"
        )
    steps, batch, width = x.shape
    entering = w_ih.shape[0]
    wanted: tuple[tuple[str, Meta | None, Shape], ...] = (
        ("w_ih", w_ih, (entering, width)),
        ("w_hh", w_hh, (entering, h.shape[-1])),
        ("h", h, (batch, h.shape[-1])),
        *((what, b, (entering,)) for what, b in zip(("b_ih", "b_hh"), biases, strict=True)),
    )
    for what, meta, shape in wanted:
        if meta is not None and meta.shape != shape:
            raise ShapeError(
                f"{name}: for input {show(x.shape)} and hidden size {entering // gates}, {what} "
                f"has shape {show(shape)}, got {show(meta.shape)}"
            )
    return steps, batch, entering // gates


def layer_flops(x: Meta, w_ih: Meta, w_hh: Meta) -> int:
    """FLOPs of the products of a whole layer."""
    steps, batch, width = x.shape
    return 2 * steps * batch * w_ih.shape[0] * (width + w_hh.shape[1])


def walk_flops(gates: Meta, w_hh: Meta) -> int:
    """FLOPs of walking back."""
    return 2 * gates.shape[0] * gates.shape[1] * w_hh.shape[0] * w_hh.shape[1]


# --- the plain layer: tanh or relu ----------------------------------------------------------------


def _rnn_array(
    x: Array,
    h: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    reverse: bool,
    nonlinearity: str,
) -> Array:
    y = projected(x, w_ih, b_ih, b_hh)
    turned = np.ascontiguousarray(w_hh.T)
    for t in walk(len(x), reverse):
        now = y[t]
        now += blas.matmul(h, turned)
        if nonlinearity == "tanh":
            np.tanh(now, out=now)
        else:
            np.maximum(now, 0, out=now)
        h = now
    return y


def _rnn_grad_array(dy: Array, y: Array, w_hh: Array, reverse: bool, nonlinearity: str) -> Array:
    pre = 1 - np.square(y) if nonlinearity == "tanh" else (y > 0).astype(y.dtype)
    dh = None
    for t in reversed(walk(len(y), reverse)):
        pre[t] *= total(dh, dy[t])
        dh = blas.matmul(pre[t], w_hh)
    return pre


def _rnn_ops(
    x: Tensor,
    h: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    reverse: bool,
    nonlinearity: str,
) -> Tensor:
    entered = unbind(linear(x, w_ih, b_ih), 0)
    found = []
    for t in walk(len(entered), reverse):
        pre = entered[t] + linear(h, w_hh, b_hh)
        h = tanh(pre) if nonlinearity == "tanh" else relu(pre)
        found.append(h)
    return in_time(found, reverse)


def _rnn_grad_ops(dy: Tensor, y: Tensor, w_hh: Tensor, reverse: bool, nonlinearity: str) -> Tensor:
    given, states = unbind(dy, 0), unbind(y, 0)
    dh: Tensor | None = None
    found = []
    for t in reversed(walk(len(states), reverse)):
        pushed, state = total(dh, given[t]), states[t]
        if nonlinearity == "tanh":
            pre = pushed * (1 - state * state)
        else:
            pre = where(state > 0, pushed, 0.0)
        found.append(pre)
        dh = back(pre, w_hh)
    return in_time(found, not reverse)


def _rnn_rule(s: Saved, dy: Tensor) -> tuple[Any, ...]:
    h, w_hh, y, reverse = s.inputs[1], s.inputs[3], s.out, s["reverse"]
    pre = RNN_GRAD(dy, y, w_hh, **s.params)
    dx, *weights = weight_grads(s, pre, pre, before(h, y, reverse), 2)
    dh = back(first_step(pre, reverse), w_hh) if s.needs[1] else None
    return dx, dh, *weights


def _infer_rnn(x: Meta, h: Meta, *weights: Any, reverse: bool, nonlinearity: str) -> Meta:
    return Meta(check_layer("rnn_layer", 1, x, h, *weights), x.dtype)


# inputs: x (T, B, I), h (B, H), w_ih (H, I), w_hh (H, H), b_ih and b_hh (H,) or None;
# output: all states (T, B, H)
RNN = Op(
    "rnn_layer",
    "recurrent",
    _rnn_array,
    _infer_rnn,
    vjp=_rnn_rule,
    saves="*o",
    decompose=_rnn_ops,
    heavy=1 << 23,
    flops=lambda x, h, w_ih, w_hh, *biases, **params: layer_flops(x, w_ih, w_hh),
)
# inputs: gradient of the states, the states, w_hh; output: gradient of what the nonlinearity took
RNN_GRAD = Op(
    "rnn_layer_grad",
    "recurrent",
    _rnn_grad_array,
    lambda dy, y, w_hh, reverse, nonlinearity: y,
    vjp=through(_rnn_grad_ops),
    saves="*",
    decompose=_rnn_grad_ops,
    heavy=1 << 23,
    flops=lambda dy, y, w_hh, **params: walk_flops(y, w_hh),
)
