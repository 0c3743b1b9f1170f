"""Multi-head attention as a module."""

from __future__ import annotations

from typing import Any

import ganglion.dtypes as dt
from ganglion.creation import empty
from ganglion.errors import ArgumentError
from ganglion.nn import init
from ganglion.nn.linear import Linear
from ganglion.nn.module import Module
from ganglion.nn.parameter import Parameter
from ganglion.ops.movement import transpose
from ganglion.ops.multihead import multi_head_attention_forward, once_each
from ganglion.tensor import Tensor


class MultiheadAttention(Module):
    """Attention of several heads between learned projections (Vaswani et al. 2017, 1706.03762).

    One weight ``in_proj_weight`` (3E, E) projects queries, keys and values of one width; else there
    are ``q_proj_weight`` (E, E), ``k_proj_weight`` (E, kdim) and ``v_proj_weight`` (E, vdim). They
    start from Glorot's uniform law, biases from 0. ``dropout`` zeroes weights while training;
    ``add_bias_kv`` appends a learned key and value, ``add_zero_attn`` zeros.
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_heads(embed_dim, num_heads)
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.head_dim = embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        packed = self.kdim == self.vdim == embed_dim
        shapes: dict[str, tuple[bool, tuple[int, ...]]] = {
            "q_proj_weight": (not packed, (embed_dim, embed_dim)),
            "k_proj_weight": (not packed, (embed_dim, self.kdim)),
            "v_proj_weight": (not packed, (embed_dim, self.vdim)),
            "in_proj_weight": (packed, (3 * embed_dim, embed_dim)),
            "in_proj_bias": (bias, (3 * embed_dim,)),
            "bias_k": (add_bias_kv, (1, 1, embed_dim)),
            "bias_v": (add_bias_kv, (1, 1, embed_dim)),
        }
        for name, (wanted, shape) in shapes.items():
            made = Parameter(empty(shape, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, made)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections of the inputs anew; biases become 0."""
        for projection in (
            self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        ):  # fmt: skip
            if projection is not None:
                init.xavier_uniform_(projection)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for drawn in (self.bias_k, self.bias_v):
            if drawn is not None:
                init.xavier_normal_(drawn)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Query (L, N, E), key (S, N, kdim), value (S, N, vdim) to (L, N, E), and the weights.

        With ``batch_first`` N comes first; unbatched inputs have no N. Masks are bools (True: not
        seen) or numbers to add: ``key_padding_mask`` (N, S), ``attn_mask`` (L, S) or
        (N * heads, L, S). Weights are (N, L, S), or (N, heads, L, S) if not averaged.
        """
        turned = self.batch_first and query.ndim == 3
        if turned:
            query, key, value = once_each(_turn, query, key, value)
        out, weights = multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads,
            self.in_proj_weight, self.in_proj_bias, self.bias_k, self.bias_v, self.add_zero_attn,
            self.dropout, self.out_proj.weight, self.out_proj.bias, self.training,
            key_padding_mask, need_weights, attn_mask,
            self.in_proj_weight is None,
            self.q_proj_weight, self.k_proj_weight, self.v_proj_weight,
            average_attn_weights=average_attn_weights, is_causal=is_causal,
        )  # fmt: skip
        return _turn(out) if turned else out, weights


def _turn(x: Tensor) -> Tensor:
    return transpose(x, 0, 1) if x.ndim == 3 else x


def _check_heads(embed_dim: int, num_heads: int) -> None:
    if embed_dim <= 0 or num_heads <= 0:
        raise ArgumentError(
            "embed_dim and num_heads must be greater than 0, got "
            f"embed_dim={embed_dim} and num_heads={num_heads} instead"
        )
    if embed_dim % num_heads:
        raise ArgumentError(
            f"embed_dim must be divisible by num_heads, got embed_dim={embed_dim} and "
            f"num_heads={num_heads}"
        )
