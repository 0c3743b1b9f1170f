"""The gated recurrent unit layer (Cho et al. 2014, arXiv:1406.1078), gates r, z, n.

r, z = sigmoid(W x + b + U h + b'), n = tanh(W x + b + r (U h + b')), h = (1 - z) n + z h
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion import blas
from ganglion.ops.activation import sigmoid, sigmoid_array, tanh
from ganglion.ops.composite import through
from ganglion.ops.join import cat, chunk, unbind
from ganglion.ops.matmul import linear
from ganglion.ops.record import Op, Saved
from ganglion.ops.recurrent import (
    at,
    back,
    before,
    check_layer,
    each_step,
    earlier,
    in_time,
    layer_flops,
    parts,
    projected,
    total,
    walk,
    walk_flops,
    weight_grads,
)
from ganglion.shapes import Meta

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- kernels --------------------------------------------------------------------------------------


def _gru_array(
    x: Array,
    h: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    reverse: bool,
) -> tuple[Array, Array]:
    steps, (batch, hidden) = len(x), h.shape
    entered, turned = projected(x, w_ih, b_ih), np.ascontiguousarray(w_hh.T)
    y = np.empty((steps, batch, hidden), x.dtype)
    gates = np.empty((steps, batch, 4 * hidden), x.dtype)
    for t in walk(steps, reverse):
        inner = blas.matmul(h, turned)
        if b_hh is not None:
            inner += b_hh
        r, z, n, kept = parts(gates[t], 4)
        kept[...] = inner[:, 2 * hidden :]
        inner += entered[t]
        gates[t, :, : 2 * hidden] = sigmoid_array(inner[:, : 2 * hidden])
        np.multiply(r, kept, out=n)
        n += entered[t, :, 2 * hidden :]
        np.tanh(n, out=n)
        y[t] = n + z * (h - n)
        h = y[t]
    return y, gates


def _gru_grad_array(
    dy: Array | None,
    dgates: Array | None,
    h: Array,
    y: Array,
    gates: Array,
    w_hh: Array,
    reverse: bool,
) -> tuple[Array, Array, Array]:
    r, z, n, kept = parts(gates, 4)
    slopes = np.concatenate((r * (1 - r), z * (1 - z), 1 - np.square(n)), axis=2)
    pre_x = np.concatenate((kept, earlier(h, y, reverse) - n, 1 - z), axis=2)
    pre_x *= slopes  # times gradients of n, h and h, these will be the gradients of r, z and n
    pre_h, dh = np.empty_like(pre_x), np.zeros(h.shape, h.dtype)
    width = h.shape[1]
    given = None if dgates is None else dgates[..., : 3 * width] * slopes
    for t in reversed(walk(len(y), reverse)):
        dh = total(dh, at(dy, t))
        dr, dz, dn = parts(pre_x[t], 3)
        dz *= dh
        dn *= dh
        if given is not None:
            pre_x[t, :, width:] += given[t, :, width:]
        dr *= dn
        if given is not None:
            dr += given[t, :, :width]
        pre_h[t, :, : 2 * width] = pre_x[t, :, : 2 * width]
        dkept = np.multiply(dn, r[t], out=pre_h[t, :, 2 * width :])
        if dgates is not None:
            dkept += dgates[t, :, 3 * width :]
        dh = dh * z[t] + blas.matmul(pre_h[t], w_hh)
    return pre_x, pre_h, dh


# --- the same in ops ------------------------------------------------------------------------------


def _gru_ops(
    x: Tensor,
    h: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, ...]:
    entered = unbind(linear(x, w_ih, b_ih), 0)
    found = []
    for t in walk(len(entered), reverse):
        r, z, n = chunk(entered[t], 3, 1)
        inner_r, inner_z, kept = chunk(linear(h, w_hh, b_hh), 3, 1)
        r, z = sigmoid(r + inner_r), sigmoid(z + inner_z)
        n = tanh(n + r * kept)
        h = n + z * (h - n)
        found.append((h, cat((r, z, n, kept), 1)))
    return tuple(in_time(list(each), reverse) for each in zip(*found, strict=True))


def _gru_grad_ops(
    dy: Tensor | None,
    dgates: Tensor | None,
    h: Tensor,
    y: Tensor,
    gates: Tensor,
    w_hh: Tensor,
    reverse: bool,
) -> tuple[Tensor, ...]:
    states, each_gates = unbind(y, 0), unbind(gates, 0)
    order = walk(len(states), reverse)
    dys, dgs = (each_step(d, len(states)) for d in (dy, dgates))
    dh: Any = h * 0
    found = []
    for t in reversed(order):
        r, z, n, kept = chunk(each_gates[t], 4, 1)
        dh = total(dh, dys[t])
        started = h if t == order[0] else states[t - order.step]
        extra = dgs[t]
        dr, dz, dn, dkept = [None] * 4 if extra is None else chunk(extra, 4, 1)
        dn = total(dn, dh * (1 - z)) * (1 - n * n)
        dz = total(dz, dh * (started - n)) * z * (1 - z)
        dr = total(dr, dn * kept) * r * (1 - r)
        pre_h = cat((dr, dz, total(dkept, dn * r)), 1)
        found.append((cat((dr, dz, dn), 1), pre_h))
        dh = dh * z + back(pre_h, w_hh)
    pre_x, pre_h = (in_time(list(each), not reverse) for each in zip(*found, strict=True))
    return pre_x, pre_h, dh


# --- records --------------------------------------------------------------------------------------


def _gru_rule(s: Saved, dy: Any, dgates: Any) -> tuple[Any, ...]:
    h, w_hh, reverse = s.inputs[1], s.inputs[3], s["reverse"]
    y, gates = s.out
    pre_x, pre_h, dh = GRU_GRAD(dy, dgates, h, y, gates, w_hh, reverse=reverse)
    dx, *weights = weight_grads(s, pre_x, pre_h, before(h, y, reverse), 2)
    return dx, dh, *weights


def _infer_gru(x: Meta, h: Meta, *weights: Any, reverse: bool) -> tuple[Meta, Meta]:
    steps, batch, hidden = check_layer("gru_layer", 3, x, h, *weights)
    return Meta((steps, batch, hidden), x.dtype), Meta((steps, batch, 4 * hidden), x.dtype)


def _infer_gru_grad(
    dy: Meta | None,
    dgates: Meta | None,
    h: Meta,
    y: Meta,
    gates: Meta,
    w_hh: Meta,
    reverse: bool,
) -> tuple[Meta, Meta, Meta]:
    pre = Meta((*y.shape[:2], w_hh.shape[0]), y.dtype)
    return pre, pre, h


# inputs: x (T, B, I), h (B, H), w_ih (3H, I), w_hh (3H, H), b_ih and b_hh (3H,) or None;
# outputs: states (T, B, H), and r, z, n and what r multiplies, U h + b' (T, B, 4H)
GRU = Op(
    "gru_layer",
    "recurrent",
    _gru_array,
    _infer_gru,
    vjp=_gru_rule,
    saves="*o",
    vjp_takes_none=True,
    outputs=2,
    decompose=_gru_ops,
    heavy=1 << 23,
    flops=lambda x, h, w_ih, w_hh, *biases, **params: layer_flops(x, w_ih, w_hh),
)
# inputs: gradients of states and gates, each or None; h, states, gates, w_hh; outputs: gradients of
# what x and of what h added to the gates (T, B, 3H), and of h
GRU_GRAD = Op(
    "gru_layer_grad",
    "recurrent",
    _gru_grad_array,
    _infer_gru_grad,
    vjp=through(_gru_grad_ops),
    saves="*",
    vjp_takes_none=True,
    outputs=3,
    decompose=_gru_grad_ops,
    heavy=1 << 23,
    flops=lambda *metas, **params: walk_flops(metas[4], metas[5]),
)
