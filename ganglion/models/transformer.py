"""Decoder-only transformers, as GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

import math

from ganglion import nn
from ganglion.errors import ArgumentError, ShapeError
from ganglion.nn import functional as F
from ganglion.nn import init
from ganglion.shapes import show
from ganglion.tensor import Tensor


class CausalAttention(nn.Module):
    """Self-attention of several heads; each position sees itself and those before it."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to the same shape."""
        batch, steps, width = x.shape
        split = self.qkv(x).reshape(batch, steps, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind()
        dropout = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.out(seen.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and a two-layer network of four times the width, each added to its input.

    Each reads the input through a layer normalization (Xiong et al. 2020, arXiv:2002.04745).
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads, dropout)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to the same shape."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """Tokens (B, T), T up to ``context``, to logits of each one's successor (B, T, vocabulary).

    Weights start from N(0, 0.02), those of the layers added to the residual stream from
    N(0, 0.02 / sqrt(2 layers)), biases from 0.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        layers: int,
        heads: int,
        context: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ArgumentError(f"a width of {width} does not divide into {heads} heads")
        self.context = context
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        narrow = 0.02 / math.sqrt(2 * max(len(self.blocks), 1))
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                added = name.endswith(("attention.out.weight", "mlp.2.weight"))
                init.normal_(parameter, 0.0, narrow if added else 0.02)
            elif name.endswith("bias"):
                init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) integers to (B, T, vocabulary)."""
        steps = tokens.shape[-1]
        if tokens.ndim != 2 or steps > self.context:
            raise ShapeError(
                f"GPT takes tokens (B, T) with T up to its context of {self.context}, got shape "
                f"{show(tokens.shape)}"
            )
        x = self.dropout(self.tokens(tokens) + self.positions.weight[:steps])
        return self.head(self.norm(self.blocks(x)))  # type: ignore[no-any-return]


def gpt(
    vocabulary: int, width: int, layers: int, heads: int, context: int, dropout: float = 0.0
) -> GPT:
    """A GPT of ``layers`` blocks, ``width`` features and ``heads`` heads in each."""
    return GPT(vocabulary, width, layers, heads, context, dropout)
