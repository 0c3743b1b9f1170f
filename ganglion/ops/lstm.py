"""The long short-term memory layer (Hochreiter and Schmidhuber 1997), gates i, f, g, o.

    i, f, o = sigmoid(W x + b + U h + b'), g = tanh(the same), c = f c + i g, h = o tanh(c)

With a projection (Sak et al. 2014, arXiv:1402.1128), h is ``w_hr`` times that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion import blas
from ganglion.errors import ShapeError
from ganglion.ops.activation import sigmoid, tanh
from ganglion.ops.composite import through
from ganglion.ops.join import cat, chunk, unbind
from ganglion.ops.matmul import MATMUL, linear
from ganglion.ops.movement import reshape
from ganglion.ops.record import Op, Saved
from ganglion.ops.recurrent import (
    at,
    back,
    before,
    check_layer,
    each_step,
    earlier,
    first_step,
    in_time,
    layer_flops,
    parts,
    projected,
    rows,
    total,
    walk,
    walk_flops,
    weight_grads,
)
from ganglion.shapes import Meta, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- kernels --------------------------------------------------------------------------------------


def _sigmoid_by_tanh(hidden: int, dtype: Any) -> tuple[Array, Array]:
    """Factor and shift with ``sigmoid(x) = tanh(x * factor) * factor + shift``; 1 and 0 for g.

    So one tanh serves all four gates.
    """
    factor = np.repeat(np.array([0.5, 0.5, 1, 0.5], dtype), hidden)
    return factor, 1 - factor


def _lstm_array(
    x: Array,
    h: Array,
    c: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    w_hr: Array | None,
    reverse: bool,
) -> tuple[Array, Array, Array]:
    factor, shift = _sigmoid_by_tanh(c.shape[1], x.dtype)
    gates = projected(x, w_ih, b_ih, b_hh)
    gates *= factor
    turned = np.multiply(w_hh.T, factor, order="C")
    y, cells = (np.empty((len(x), *state.shape), x.dtype) for state in (h, c))
    for t in walk(len(x), reverse):
        now = gates[t]
        now += blas.matmul(h, turned)
        np.tanh(now, out=now)
        now *= factor
        now += shift
        i, f, g, o = parts(now, 4)
        c = np.multiply(f, c, out=cells[t])
        c += i * g
        out = np.tanh(c)
        out *= o
        y[t] = out if w_hr is None else blas.matmul(out, w_hr.T)
        h = y[t]
    return y, cells, gates


def _lstm_grad_array(
    dy: Array | None,
    dcells: Array | None,
    dgates: Array | None,
    c: Array,
    cells: Array,
    gates: Array,
    w_hh: Array,
    w_hr: Array | None,
    reverse: bool,
) -> tuple[Array, Array]:
    order = walk(len(cells), reverse)
    i, f, g, o = parts(gates, 4)
    pre, out = _slopes(gates, g), np.tanh(cells)
    given = None if dgates is None else dgates * pre
    for part, factor in zip(parts(pre, 4), (g, earlier(c, cells, reverse), i, out), strict=True):
        part *= factor  # dc times the first three, dh times the last, will be the gradients
    dh_to_dc = o * (1 - np.square(out))
    by_gate = pre.reshape(*cells.shape[:2], 4, cells.shape[2])
    dh, dc = None, np.zeros(c.shape, c.dtype)
    for t in reversed(order):
        dh = total(dh, at(dy, t))
        if dh is not None and w_hr is not None:
            dh = blas.matmul(dh, w_hr)
        dh = np.zeros(c.shape, c.dtype) if dh is None else dh
        dc += dh * dh_to_dc[t]
        if dcells is not None:
            dc += dcells[t]
        by_gate[t, :, :3] *= dc[:, None]
        by_gate[t, :, 3] *= dh
        if given is not None:
            pre[t] += given[t]
        dc *= f[t]
        dh = blas.matmul(pre[t], w_hh)
    return pre, dc


def _slopes(gates: Array, g: Array) -> Array:
    """``s (1 - s)`` of the sigmoids and ``1 - g^2`` of gate g."""
    slopes = 1 - gates
    slopes *= gates
    np.subtract(1, np.square(g), out=parts(slopes, 4)[2])
    return slopes


# --- the same in ops ------------------------------------------------------------------------------


def _lstm_ops(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    w_hr: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, ...]:
    entered = unbind(linear(x, w_ih, b_ih), 0)
    found = []
    for t in walk(len(entered), reverse):
        i, f, g, o = chunk(entered[t] + linear(h, w_hh, b_hh), 4, 1)
        i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * tanh(c)
        h = h if w_hr is None else linear(h, w_hr)
        found.append((h, c, cat((i, f, g, o), 1)))
    return tuple(in_time(list(each), reverse) for each in zip(*found, strict=True))


def _lstm_grad_ops(
    dy: Tensor | None,
    dcells: Tensor | None,
    dgates: Tensor | None,
    c: Tensor,
    cells: Tensor,
    gates: Tensor,
    w_hh: Tensor,
    w_hr: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    states, each_gates = unbind(cells, 0), unbind(gates, 0)
    order = walk(len(states), reverse)
    dys, dcs, dgs = (each_step(d, len(states)) for d in (dy, dcells, dgates))
    dh: Any = None
    dc: Any = c * 0
    found = []
    for t in reversed(order):
        i, f, g, o = chunk(each_gates[t], 4, 1)
        dh = total(dh, dys[t])
        if dh is not None and w_hr is not None:
            dh = back(dh, w_hr)
        dh = c * 0 if dh is None else dh
        out = tanh(states[t])
        dc = total(dc, dh * o * (1 - out * out), dcs[t])
        started = c if t == order[0] else states[t - order.step]
        pushed = total(cat((dc * g, dc * started, dc * i, dh * out), 1), dgs[t])
        pre = pushed * cat((i * (1 - i), f * (1 - f), 1 - g * g, o * (1 - o)), 1)
        found.append(pre)
        dc, dh = dc * f, back(pre, w_hh)
    return in_time(found, not reverse), dc


# --- records --------------------------------------------------------------------------------------


def _lstm_rule(s: Saved, dy: Any, dcells: Any, dgates: Any) -> tuple[Any, ...]:
    _, h, c, _, w_hh, _, _, w_hr = s.inputs
    y, cells, gates = s.out
    reverse = s["reverse"]
    pre, dc = LSTM_GRAD(dy, dcells, dgates, c, cells, gates, w_hh, w_hr, reverse=reverse)
    dx, *weights = weight_grads(s, pre, pre, before(h, y, reverse), 3)
    dh = back(first_step(pre, reverse), w_hh) if s.needs[1] else None
    dw_hr = _projection_grad(s, dy, pre) if s.needs[7] else None
    return dx, dh, dc, *weights, dw_hr


def _projection_grad(s: Saved, dy: Tensor | None, pre: Tensor) -> Tensor:
    h, w_hh = s.inputs[1], s.inputs[4]
    y, cells, gates = s.out
    carried = reshape(back(rows(pre), w_hh), y._data.shape)  # to the state before each step
    reached = total(dy, before(h * 0, carried, not s["reverse"]))
    out = chunk(gates, 4, 2)[3] * tanh(cells)
    return MATMUL(rows(reached), rows(out), tx=True, ty=False)  # type: ignore[no-any-return]


def _infer_lstm(x: Meta, h: Meta, c: Meta, *weights: Any, reverse: bool) -> tuple[Meta, Meta, Meta]:
    *matrices, w_hr = weights
    steps, batch, hidden = check_layer("lstm_layer", 4, x, h, *matrices)
    out = h.shape[1]
    if c.shape != (batch, hidden) or (w_hr is None and out != hidden):
        raise ShapeError(
            f"lstm_layer: for input {show(x.shape)} and hidden size {hidden}, c has shape "
            f"{show((batch, hidden))} and h too without a projection; got {show(c.shape)} and "
            f"{show(h.shape)}"
        )
    if w_hr is not None and w_hr.shape != (out, hidden):
        raise ShapeError(
            f"lstm_layer: w_hr has shape {show((out, hidden))}, not {show(w_hr.shape)}"
        )
    sizes = (out, hidden, 4 * hidden)
    y, cells, gates = (Meta((steps, batch, size), x.dtype) for size in sizes)
    return y, cells, gates


# inputs: x (T, B, I), h (B, P), c (B, H), w_ih (4H, I), w_hh (4H, P), b_ih and b_hh (4H,) or None,
# w_hr (P, H) or None (then P = H); outputs: states (T, B, P), cells (T, B, H), and the gates after
# their nonlinearities (T, B, 4H)
LSTM = Op(
    "lstm_layer",
    "recurrent",
    _lstm_array,
    _infer_lstm,
    vjp=_lstm_rule,
    saves="*o",
    vjp_takes_none=True,
    outputs=3,
    decompose=_lstm_ops,
    heavy=1 << 23,
    flops=lambda x, h, c, w_ih, w_hh, *rest, **params: layer_flops(x, w_ih, w_hh),
)
# inputs: gradients of states, cells and gates, each or None; c, cells, gates, w_hh, w_hr;
# outputs: gradients of what entered the gates (T, B, 4H), and of c
LSTM_GRAD = Op(
    "lstm_layer_grad",
    "recurrent",
    _lstm_grad_array,
    lambda dy, dcells, dgates, c, cells, gates, w_hh, w_hr, reverse: (gates, c),
    vjp=through(_lstm_grad_ops),
    saves="*",
    vjp_takes_none=True,
    outputs=2,
    decompose=_lstm_grad_ops,
    heavy=1 << 23,
    flops=lambda *metas, **params: walk_flops(metas[5], metas[6]),
)
