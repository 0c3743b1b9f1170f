"""Scaled dot-product attention, as a composite that never holds all scores at once.

Queries are worked on in blocks of rows, which see only the keys they may. Forward keeps the
log-sum-exp of every row's scores, from which backward computes the weights anew
(Dao et al. 2022, arXiv:2205.14135).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion import blas
from ganglion.errors import ArgumentError, DTypeError, IndexingError, ShapeError
from ganglion.ops.composite import through
from ganglion.ops.create import arange
from ganglion.ops.matmul import MATMUL
from ganglion.ops.movement import expand, reshape, squeeze, unsqueeze
from ganglion.ops.random import dropout_mask
from ganglion.ops.record import Op, Saved
from ganglion.ops.select import where
from ganglion.shapes import Meta, Shape, broadcast_shapes, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]

ROWS = 32  # queries of one block
_HALF = 2  # bytes


# --- kernels --------------------------------------------------------------------------------------


def _turned(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def _blocks(
    q: Array, k: Array, mask: Array | None, causal: bool, scale: float
) -> Iterator[tuple[slice, slice, Array]]:
    """Rows of queries, the keys they may see, and their scores."""
    queries, keys = q.shape[-2], k.shape[-2]
    q, k = q * q.dtype.type(scale), _turned(k)
    if mask is not None:
        mask = np.broadcast_to(mask, (*mask.shape[:-2], queries, keys))
    for start in range(0, queries, ROWS):
        rows = slice(start, min(start + ROWS, queries))
        seen = slice(min(rows.stop, keys) if causal else keys)
        scores = blas.matmul(q[..., rows, :], k[..., seen])
        if mask is not None:
            _add_mask(scores, mask[..., rows, seen])
        if causal:
            later = scores[..., start:]
            np.copyto(later, -np.inf, where=np.tri(*later.shape[-2:]) == 0)
        yield rows, seen, scores


def _add_mask(scores: Array, mask: Array) -> None:
    if mask.dtype == bool:
        np.copyto(scores, -np.inf, where=~mask)
    else:
        scores += mask


def _or_zero(top: Array) -> Array:
    """What is subtracted from scores: 0 for rows that see no key, whose weights are then 0."""
    return np.where(np.isneginf(top), top.dtype.type(0), top)


def _in_float32(narrowed: int) -> Callable[..., Any]:
    """Half precision is computed in float32, and so many results are rounded back."""

    def of(kernel: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(kernel)
        def run(*arrays: Array | None, **params: Any) -> tuple[Array, ...]:
            first: Any = arrays[0]
            if first.itemsize != _HALF:
                return kernel(*arrays, **params)  # type: ignore[no-any-return]
            wide = [_wide(a) for a in arrays]
            outs = kernel(*wide, **params)
            return (*(a.astype(first.dtype) for a in outs[:narrowed]), *outs[narrowed:])

        return run

    return of


def _wide(a: Array | None) -> Array | None:
    return a.astype(np.float32) if a is not None and a.itemsize == _HALF else a


@_in_float32(narrowed=1)
def _attention_array(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    keep: Array | None,
    causal: bool,
    scale: float,
) -> tuple[Array, Array]:
    out = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    lse = np.empty(q.shape[:-1], q.dtype)
    for rows, seen, weights in _blocks(q, k, mask, causal, scale):
        top = np.maximum.reduce(weights, axis=-1, keepdims=True)
        weights -= _or_zero(top)
        np.exp(weights, out=weights)
        total = np.add.reduce(weights, axis=-1, keepdims=True)
        lse[..., rows] = (np.log(total) + top)[..., 0]
        total[total == 0] = 1
        if keep is not None:
            weights *= keep[..., rows, seen]
        np.divide(blas.matmul(weights, v[..., seen, :]), total, out=out[..., rows, :])
    return out, lse


@_in_float32(narrowed=3)
def _attention_grad_array(
    g: Array,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    keep: Array | None,
    out: Array,
    lse: Array,
    causal: bool,
    scale: float,
) -> tuple[Array, Array, Array]:
    dq, dk, dv = np.empty(q.shape, q.dtype), np.zeros(k.shape, k.dtype), np.zeros(v.shape, v.dtype)
    lse, means = _or_zero(lse)[..., None], np.vecdot(g, out)[..., None]
    for rows, seen, weights in _blocks(q, k, mask, causal, scale):
        weights -= lse[..., rows, :]
        np.exp(weights, out=weights)
        pushed = g[..., rows, :]
        slopes = blas.matmul(pushed, _turned(v[..., seen, :]))
        kept = weights
        if keep is not None:
            kept = weights * keep[..., rows, seen]
            slopes *= keep[..., rows, seen]
        dv[..., seen, :] += blas.matmul(_turned(kept), pushed)
        slopes -= means[..., rows, :]
        slopes *= weights
        dq[..., rows, :] = blas.matmul(slopes, k[..., seen, :])
        dk[..., seen, :] += blas.matmul(_turned(slopes), q[..., rows, :])
    dq *= q.dtype.type(scale)
    dk *= q.dtype.type(scale)
    return dq, dk, dv


# --- the same in ops ------------------------------------------------------------------------------


def _product(x: Tensor, y: Tensor, tx: bool = False, ty: bool = False) -> Tensor:
    return MATMUL(x, y, tx=tx, ty=ty)  # type: ignore[no-any-return]


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    scores = _product(q * scale, k, ty=True)
    if mask is not None:
        is_bool = mask.dtype is dt.bool_
        scores = where(mask, scores, -math.inf) if is_bool else scores + mask
    if causal:
        queries, keys = scores._data.shape[-2:]
        past = unsqueeze(arange(queries), 1) >= arange(keys)
        scores = where(past, scores, -math.inf)
    return scores


def _or_zero_ops(top: Tensor) -> Tensor:
    return where(top == -math.inf, 0.0, top)  # type: ignore[no-any-return]


def _dropped(weights: Tensor, keep: Tensor | None) -> Tensor:
    return weights if keep is None else weights * keep


def _attention_ops(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    keep: Tensor | None,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    scores = _scores(q, k, mask, causal, scale)
    top = _or_zero_ops(scores.amax(-1, keepdim=True).detach())
    weights = (scores - top).exp()
    total = weights.sum(-1, keepdim=True)
    nothing = total == 0
    total = where(nothing, 1.0, total)
    lse = squeeze(where(nothing, -math.inf, total.log() + top), -1)
    return _product(_dropped(weights, keep), v) / total, lse


def _attention_grad_ops(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    keep: Tensor | None,
    out: Tensor,
    lse: Tensor,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    scores = _scores(q, k, mask, causal, scale)
    weights = (scores - unsqueeze(_or_zero_ops(lse), -1)).exp()
    slopes = _dropped(_product(g, v, ty=True), keep)
    slopes = (slopes - (g * out).sum(-1, keepdim=True)) * weights
    dv = _product(_dropped(weights, keep), g, tx=True)
    return _product(slopes, k) * scale, _product(slopes, q, tx=True) * scale, dv


# --- records --------------------------------------------------------------------------------------

_by_parts = through(_attention_ops)


def _attention_rule(s: Saved, g: Any, dlse: Any) -> Any:
    """A mask's gradient, and that of the log-sums in second order, take all the scores."""
    if s.needs[3] or dlse is not None:
        return _by_parts(s, g, dlse)
    return *ATTENTION_GRAD(g, *s.inputs, *s.out, **s.params), None, None


def _infer_attention(
    q: Meta, k: Meta, v: Meta, mask: Meta | None, keep: Meta | None, causal: bool, scale: float
) -> tuple[Meta, Meta]:
    if q.shape[:-2] != k.shape[:-2] or k.shape[:-1] != v.shape[:-1] or q.shape[-1] != k.shape[-1]:
        raise ShapeError(
            "attention takes queries (..., L, E), keys (..., S, E) and values (..., S, F), got "
            f"{show(q.shape)}, {show(k.shape)} and {show(v.shape)}"
        )
    wide = dt.float32 if q.dtype.itemsize == _HALF else q.dtype
    return Meta((*q.shape[:-1], v.shape[-1]), q.dtype), Meta(q.shape[:-1], wide)


def _attention_flops(q: Meta, k: Meta, v: Meta, *rest: Any, causal: bool, scale: float) -> int:
    pairs = q.numel // max(q.shape[-1], 1) * k.shape[-2]
    return pairs * (2 * q.shape[-1] + 2 * v.shape[-1] + 5) // (2 if causal else 1)


def _attention_grad_flops(g: Meta, q: Meta, k: Meta, v: Meta, *rest: Any, **params: Any) -> int:
    return 5 * _attention_flops(q, k, v, **params) // 2


# inputs: queries (..., L, E), keys (..., S, E), values (..., S, F); a mask that broadcasts to
# (..., L, S), bools (True: may see) or numbers to add, or None; what dropout multiplies the weights
# by, (..., L, S), or None. outputs: (..., L, F) and the log-sum-exp of each row's scores, (..., L)
ATTENTION = Op(
    "attention",
    "attention",
    _attention_array,
    _infer_attention,
    vjp=_attention_rule,
    saves="*o",
    vjp_takes_none=True,
    outputs=2,
    in_float32=False,
    decompose=_attention_ops,
    heavy=1 << 24,
    flops=_attention_flops,
)
# the gradients of queries, keys and values
ATTENTION_GRAD = Op(
    "attention_grad",
    "attention",
    _attention_grad_array,
    lambda g, q, k, v, mask, keep, out, lse, causal, scale: (q, k, v),
    vjp=through(_attention_grad_ops),
    saves="*",
    outputs=3,
    in_float32=False,
    decompose=_attention_grad_ops,
    heavy=1 << 24,
    flops=_attention_grad_flops,
)


# --- the function ---------------------------------------------------------------------------------


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``softmax(query key^T * scale + mask) value`` (Vaswani et al. 2017, arXiv:1706.03762).

    query (..., L, E), key (..., S, E), value (..., S, F) give (..., L, F). The mask broadcasts to
    (..., L, S): bools (True: may be seen) or numbers to add; ``is_causal`` lets row i see keys up
    to i. A row that sees no key is 0. ``scale`` defaults to 1 / sqrt(E). With ``enable_gqa``,
    dimension -3 holds heads, and several of query's share one of key and value.
    """
    _check_inputs(query, key, value, attn_mask, is_causal)
    if not 0.0 <= dropout_p <= 1.0:
        raise ArgumentError(f"dropout probability has to be between 0 and 1, but got {dropout_p}")
    if enable_gqa:
        heads = _heads(query)
        key, value = _shared(key, heads), _shared(value, heads)
    query, key, value = _aligned(query, key, value)
    shape = (*query._data.shape[:-1], key._data.shape[-2])
    _check_mask(attn_mask, shape)
    if not shape[-1]:
        return expand(value.sum(-2, keepdim=True), (*shape[:-1], value._data.shape[-1]))
    width = query._data.shape[-1]
    if scale is None:
        scale = 1 / math.sqrt(width) if width else 1.0
    keep = dropout_mask(shape, dropout_p, query.dtype) if dropout_p else None
    return ATTENTION(  # type: ignore[no-any-return]
        query, key, value, attn_mask, keep, causal=bool(is_causal), scale=float(scale)
    )[0]


def _check_inputs(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> None:
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise ShapeError(
            "Expected query, key, and value to all be at least 2 dimensional, but got query.dim: "
            f"{q.ndim} key.dim: {k.ndim} and value.dim: {v.ndim} instead."
        )
    kinds = [x.dtype for x in (q, k, v)]
    if len(set(kinds)) > 1 or not kinds[0].is_floating_point:
        raise DTypeError(
            "Expected query, key, and value to have the same floating dtype, but got query.dtype: "
            f"{kinds[0].name} key.dtype: {kinds[1].name} and value.dtype: {kinds[2].name} instead."
        )
    if mask is None:
        return
    if causal:
        raise ArgumentError("Explicit attn_mask should not be set when is_causal=True; give one")
    if mask.dtype not in (dt.bool_, dt.float32, kinds[0]):
        raise DTypeError(
            "Expected attn_mask dtype to be bool or float or to match query dtype, but got "
            f"attn_mask.dtype: {mask.dtype.name} and query.dtype: {kinds[0].name} instead."
        )


def _check_mask(mask: Tensor | None, shape: Shape) -> None:
    if mask is not None and broadcast_shapes(mask._data.shape, shape) != shape:
        raise ShapeError(
            f"attn_mask of shape {show(mask._data.shape)} does not broadcast to the scores' shape "
            f"(..., L, S) = {show(shape)}"
        )


def _heads(query: Tensor) -> int:
    if query.ndim < 3:
        raise IndexingError(
            "Dimension out of range: enable_gqa expects query (..., heads, L, E), got shape "
            f"{show(query._data.shape)}"
        )
    return query._data.shape[-3]  # type: ignore[no-any-return]


def _shared(x: Tensor, heads: int) -> Tensor:
    """Every head of key or value repeated for its group of query's heads."""
    *lead, own, length, width = x._data.shape
    if own == heads:
        return x
    if not own or heads % own:
        raise ShapeError(
            "Number of heads in key and value must divide the number of heads in query, but got "
            f"{own} and {heads}"
        )
    spread = expand(unsqueeze(x, -3), (*lead, own, heads // own, length, width))
    return reshape(spread, (*lead, heads, length, width))


def _aligned(q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
    """The three with the same leading dimensions."""
    if q._data.shape[-1] != k._data.shape[-1] or k._data.shape[-2] != v._data.shape[-2]:
        raise ShapeError(
            "attention takes query (..., L, E), key (..., S, E) and value (..., S, F), got shapes "
            f"{show(q._data.shape)}, {show(k._data.shape)} and {show(v._data.shape)}"
        )
    lead = broadcast_shapes(*(x._data.shape[:-2] for x in (q, k, v)))
    return [
        x if x._data.shape[:-2] == lead else expand(x, (*lead, *x._data.shape[-2:]))
        for x in (q, k, v)
    ]
