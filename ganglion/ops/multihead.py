"""Multi-head attention as a function of its weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ganglion.dtypes as dt
from ganglion.errors import ArgumentError, DTypeError, ShapeError
from ganglion.ops.attention import scaled_dot_product_attention
from ganglion.ops.create import zeros
from ganglion.ops.join import cat, chunk, split
from ganglion.ops.matmul import linear, matmul
from ganglion.ops.movement import expand, permute, reshape, squeeze, transpose, unsqueeze
from ganglion.ops.pad import pad
from ganglion.ops.random import dropout_mask
from ganglion.ops.select import where
from ganglion.ops.softmax import softmax
from ganglion.shapes import show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor


# --- the parts ------------------------------------------------------------------------------------


@dataclass
class _Heads:
    """Queries, keys and values (N, heads, length, width), and what is added to the scores."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None  # (1 or N, 1 or heads, L, S)
    padding: Tensor | None  # (N, 1, 1, S)

    def append(self, key: Tensor, value: Tensor) -> None:
        """Add keys and values that every query may see."""
        self.k, self.v = cat((self.k, key), 2), cat((self.v, value), 2)
        more = key._data.shape[2]
        self.mask, self.padding = (
            None if x is None else pad(x, (0, more)) for x in (self.mask, self.padding)
        )

    def added(self) -> Tensor | None:
        """Both masks together."""
        if self.mask is None or self.padding is None:
            return self.mask if self.padding is None else self.padding
        return self.mask + self.padding

    def fused(self, dropout: float, causal: bool) -> Tensor:
        """The output alone."""
        return scaled_dot_product_attention(self.q, self.k, self.v, self.added(), dropout, causal)

    def weighted(self, dropout: float, average: bool) -> tuple[Tensor, Tensor]:
        """The output and the weights, of each head or their mean."""
        scores = matmul(self.q * math.sqrt(1 / self.q._data.shape[-1]), transpose(self.k, -2, -1))
        added = self.added()
        weights = softmax(scores if added is None else added + scores, -1)
        if dropout:
            weights = weights * dropout_mask(weights._data.shape, dropout, weights.dtype)
        return matmul(weights, self.v), weights.mean(1) if average else weights


def once_each(function: Callable[[Tensor], Tensor], *tensors: Tensor) -> list[Tensor]:
    """``function`` of each; a tensor given twice gives one result twice."""
    found: dict[int, Tensor] = {}
    for x in tensors:
        if id(x) not in found:
            found[id(x)] = function(x)
    return [found[id(x)] for x in tensors]


def _packed(
    query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, ...]:
    """Projections by one weight (3E, E), in as few products as there are different inputs."""
    if query is key is value:
        return chunk(linear(query, weight, bias), 3, -1)
    width = weight._data.shape[1]
    sizes = (width, 2 * width) if key is value else (width,) * 3
    weights = split(weight, sizes)
    biases = (None,) * len(sizes) if bias is None else split(bias, sizes)
    found = [linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=False)]
    return (found[0], *chunk(found[1], 2, -1)) if key is value else tuple(found)


def _split(x: Tensor, heads: int) -> Tensor:
    """(length, N, E) to (N, heads, length, E / heads)."""
    length, batch, width = x._data.shape
    return permute(reshape(x, (length, batch, heads, width // heads)), (1, 2, 0, 3))


def _merged(x: Tensor) -> Tensor:
    """Back again."""
    batch, heads, length, width = x._data.shape
    return reshape(permute(x, (2, 0, 1, 3)), (length, batch, heads * width))


def _additive(mask: Tensor, name: str, dtype: dt.dtype) -> Tensor:
    """A mask to add to scores; bools hide where they are True."""
    if mask.dtype.is_floating_point:
        return mask
    if mask.dtype is not dt.bool_:
        raise DTypeError(
            f"only bool and floating types of {name} are supported, got {mask.dtype.name}"
        )
    hidden: Tensor = where(mask, -math.inf, zeros((), dtype=dtype))
    return hidden


# --- checks ---------------------------------------------------------------------------------------


def _check_ranks(query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> None:
    ndim = query.ndim
    if ndim not in (2, 3):
        raise ShapeError(
            "query should be unbatched 2D or batched 3D tensor but received "
            f"{ndim}-D query tensor of shape {show(query._data.shape)}"
        )
    kind = "batched (3-D)" if ndim == 3 else "unbatched (2-D)"
    if key.ndim != ndim or value.ndim != ndim:
        raise ShapeError(
            f"For {kind} `query`, expected `key` and `value` to be {ndim}-D but found "
            f"{key.ndim}-D and {value.ndim}-D tensors respectively"
        )
    if padding is not None and padding.ndim != ndim - 1:
        raise ShapeError(
            f"For {kind} `query`, expected `key_padding_mask` to be `None` or {ndim - 1}-D but "
            f"found {padding.ndim}-D tensor instead"
        )


def _check_sizes(
    query: Tensor, key: Tensor, value: Tensor, width: int, heads: int, separate: bool
) -> None:
    if query._data.shape[-1] != width:
        raise ShapeError(
            f"was expecting embedding dimension of {width}, but got {query._data.shape[-1]}"
        )
    if width % heads:
        raise ArgumentError(f"embed_dim {width} not divisible by num_heads {heads}")
    end = -1 if separate else None  # each has a weight of its own, and may have its own width
    if key._data.shape[:end] != value._data.shape[:end]:
        raise ShapeError(
            f"key shape {show(key._data.shape)} does not match value shape "
            f"{show(value._data.shape)}"
        )


def _in_heads(mask: Tensor, batch: int, heads: int, scores: tuple[int, int]) -> Tensor:
    """``attn_mask``, checked, as (1 or N, 1 or heads, L, S)."""
    whole = {2: scores, 3: (batch * heads, *scores)}.get(mask.ndim)
    if mask._data.shape != whole:
        expected = f"{show(scores)} or {show((batch * heads, *scores))}"
        raise ShapeError(
            f"The shape of the {mask.ndim}D attn_mask is {show(mask._data.shape)}, but should be "
            f"{expected}."
        )
    return reshape(mask, (*((1, 1) if mask.ndim == 2 else (batch, heads)), *scores))


def _as_keys(padding: Tensor, batch: int, keys: int) -> Tensor:
    """``key_padding_mask``, checked, as (N, 1, 1, S)."""
    if padding._data.shape != (batch, keys):
        raise ShapeError(
            f"Expected key_padding_mask of shape {show((batch, keys))}, but got "
            f"{show(padding._data.shape)}"
        )
    return reshape(padding, (batch, 1, 1, keys))


def _static(given: Tensor, name: str, batch: int, heads: int, width: int) -> Tensor:
    """Keys or values (N * heads, S, E / heads) in place of projected ones."""
    shape = given._data.shape
    if len(shape) != 3 or shape[0] != batch * heads or shape[2] != width:
        raise ShapeError(
            f"expecting {name} of shape ({batch * heads}, S, {width}), but got {show(shape)}"
        )
    return reshape(given, (batch, heads, *shape[1:]))


# --- the function ---------------------------------------------------------------------------------


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention of ``num_heads`` heads between projections (Vaswani et al. 2017, 1706.03762).

    Query (L, N, E), key and value (S, N, width), without N if unbatched. Masks are bools (True: not
    seen) or numbers to add: ``key_padding_mask`` (N, S), ``attn_mask`` (L, S) or (N * heads, L, S).
    ``is_causal`` says that ``attn_mask`` is the causal one. Returns the output (L, N, E) and, with
    ``need_weights``, the weights (N, L, S), or (N, heads, L, S) if not averaged.
    """
    _check_ranks(query, key, value, key_padding_mask)
    _check_sizes(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight)
    if is_causal and attn_mask is None:
        raise ArgumentError("Need attn_mask if specifying the is_causal hint.")
    causal = is_causal and key_padding_mask is None and not need_weights
    batched = query.ndim == 3
    if not batched:
        query, key, value = once_each(lambda x: unsqueeze(x, 1), query, key, value)
        key_padding_mask = None if key_padding_mask is None else unsqueeze(key_padding_mask, 0)
    weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    entered = _projections(
        query, key, value, weights if use_separate_proj_weight else in_proj_weight, in_proj_bias
    )
    it = _in_parts(entered, num_heads, static_k, static_v)
    _mask(it, None if causal else attn_mask, key_padding_mask)
    _extend(it, num_heads, bias_k, bias_v, add_zero_attn, static_k is None and static_v is None)
    shares = None
    if need_weights:
        out, shares = it.weighted(dropout_p if training else 0.0, average_attn_weights)
    else:
        out = it.fused(dropout_p if training else 0.0, causal)
    out = linear(_merged(out), out_proj_weight, out_proj_bias)
    if batched:
        return out, shares
    return squeeze(out, 1), None if shares is None else squeeze(shares, 0)


def _projections(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weights: Tensor | tuple[Tensor | None, ...] | None,
    bias: Tensor | None,
) -> tuple[Tensor, ...]:
    if isinstance(weights, tuple):
        biases = (None,) * 3 if bias is None else chunk(bias, 3)
        if any(w is None for w in weights):
            raise ArgumentError("use_separate_proj_weight needs q_, k_ and v_proj_weight")
        each = zip((query, key, value), weights, biases, strict=True)
        return tuple(linear(x, w, b) for x, w, b in each)  # type: ignore[arg-type]
    if weights is None:
        raise ArgumentError("use_separate_proj_weight is False but in_proj_weight is None")
    return _packed(query, key, value, weights, bias)


def _in_parts(
    entered: tuple[Tensor, ...], heads: int, static_k: Tensor | None, static_v: Tensor | None
) -> _Heads:
    q, k, v = (_split(x, heads) for x in entered)
    batch, _, _, width = q._data.shape
    if static_k is not None:
        k = _static(static_k, "static_k", batch, heads, width)
    if static_v is not None:
        v = _static(static_v, "static_v", batch, heads, width)
    return _Heads(q, k, v, None, None)


def _mask(it: _Heads, mask: Tensor | None, padding: Tensor | None) -> None:
    batch, heads, queries, _ = it.q._data.shape
    keys, dtype = it.k._data.shape[2], it.q.dtype
    if mask is not None and padding is not None and mask.dtype is not padding.dtype:
        warnings.warn(
            "Support for mismatched key_padding_mask and attn_mask is deprecated. Use same type "
            "for both instead.",
            stacklevel=3,
        )
    if mask is not None:
        it.mask = _in_heads(_additive(mask, "attn_mask", dtype), batch, heads, (queries, keys))
    if padding is not None:
        it.padding = _as_keys(_additive(padding, "key_padding_mask", dtype), batch, keys)


def _extend(
    it: _Heads,
    heads: int,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    zero: bool,
    projected: bool,
) -> None:
    """Append the learned key and value, and zeros."""
    if (bias_k is None) is not (bias_v is None):
        raise ArgumentError("bias_k and bias_v are given together, or not at all")
    batch, _, _, width = it.q._data.shape
    if bias_k is not None and bias_v is not None:
        if not projected:
            raise ArgumentError("bias cannot be added to static key or value.")
        shape = (1, batch, heads * width)
        it.append(*(_split(expand(b, shape), heads) for b in (bias_k, bias_v)))
    if zero:
        nothing = zeros((batch, heads, 1, width), dtype=it.q.dtype)
        it.append(nothing, nothing)
