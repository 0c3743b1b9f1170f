"""Random numbers as expressions: the ``element`` rules of the ops in ``ops/random.py``.

The words are those of ``ganglion/rng.py``, Philox-4x32-10 on 64-bit integers; every element
computes the block that its words stand in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import ganglion.dtypes as dt
from ganglion.ops.places import Index
from ganglion.ops.scalar import (
    INDEX,
    Scalar,
    Source,
    cast,
    const,
    eq,
    flat,
    lshr,
    ne,
    sqrt,
    where,
)
from ganglion.ops.transcendental import log
from ganglion.ops.trigonometric import cos, sin
from ganglion.rng import KEY_STEPS, LOW, MULTIPLIERS, ROUNDS
from ganglion.shapes import Shape

Draw = Callable[[Source, Scalar, dt.dtype], Scalar]


class Block(NamedTuple):
    """Four words of 32 bits, each in a 64-bit integer."""

    a: Scalar
    b: Scalar
    c: Scalar
    d: Scalar


def _block(state: Source, number: Scalar) -> Block:
    seed, offset = state(0), state(1)
    keys = [seed & LOW, lshr(seed, 32)]
    a, b, c, d = number & LOW, lshr(number, 32), offset & LOW, lshr(offset, 32)
    for turn in range(ROUNDS):
        first, second = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        k0, k1 = (k + turn * s & LOW for k, s in zip(keys, KEY_STEPS, strict=True))
        a, b, c, d = lshr(second, 32) ^ b ^ k0, second & LOW, lshr(first, 32) ^ d ^ k1, first & LOW
    return Block(a, b, c, d)


def _word(state: Source, number: Scalar) -> Scalar:
    """32 random bits for each number."""
    block, place = _block(state, number // 4), number % 4
    odd = ne(place & 1, 0)
    return where(place < 2, where(odd, block.b, block.a), where(odd, block.d, block.c))


def _long(low: Scalar, high: Scalar) -> Scalar:
    return low | high << 32


def _longs(state: Source, number: Scalar) -> Scalar:
    """64 random bits for each number."""
    block = _block(state, number // 2)
    return where(eq(number % 2, 0), _long(block.a, block.b), _long(block.c, block.d))


def _fraction(word: Scalar) -> Scalar:
    """32 bits as a float32 in [0, 1)."""
    return cast(cast(lshr(word, 8), dt.int32), dt.float32) * 2.0**-24


def _long_fraction(long: Scalar) -> Scalar:
    """64 bits as a float64 in [0, 1)."""
    return cast(lshr(long, 11), dt.float64) * 2.0**-53


def _uniform(state: Source, number: Scalar, dtype: dt.dtype) -> Scalar:
    if dtype is dt.float64:
        return _long_fraction(_longs(state, number))
    return _fraction(_word(state, number))


def _uniform_pair(state: Source, pair: Scalar, dtype: dt.dtype) -> tuple[Scalar, Scalar, float]:
    """The uniforms at 2i and 2i + 1, and the distance of neighbours among them."""
    if dtype is dt.float64:
        block = _block(state, pair)
        return (
            _long_fraction(_long(block.a, block.b)),
            _long_fraction(_long(block.c, block.d)),
            2.0**-53,
        )
    block, first = _block(state, pair // 2), eq(pair % 2, 0)
    u, v = where(first, block.a, block.c), where(first, block.b, block.d)
    return _fraction(u), _fraction(v), 2.0**-24


def _normal(state: Source, number: Scalar, dtype: dt.dtype) -> Scalar:
    """Box and Muller: one of a pair."""
    u, v, step = _uniform_pair(state, number // 2, dtype)
    radius, angle = sqrt(log(u + step) * -2), v * math.tau
    return radius * where(eq(number % 2, 0), cos(angle), sin(angle))


# --- the ops --------------------------------------------------------------------------------------


def _scaled(
    draw: Draw, index: Index, state: Source, shape: Shape, dtype: dt.dtype, by: float, plus: float
) -> Scalar:
    """``draw * by + plus``, rounded after each step."""
    kind = dt.float64 if dtype is dt.float64 else dt.float32
    found = draw(state, flat(index, shape), kind)
    found = found * by if by != 1 else found
    return cast(found + plus if plus != 0 else found, dtype)


def uniform(
    index: Index, state: Source, shape: Shape, dtype: dt.dtype, low: float, high: float
) -> Scalar:
    """Floats in [low, high)."""
    return _scaled(_uniform, index, state, shape, dtype, high - low, low)


def normal(
    index: Index, state: Source, shape: Shape, dtype: dt.dtype, mean: float, std: float
) -> Scalar:
    """Normal floats."""
    return _scaled(_normal, index, state, shape, dtype, std, mean)


def mask(
    index: Index, state: Source, shape: Shape, dtype: dt.dtype, p: float, scale: float
) -> Scalar:
    """``scale`` with probability ``p``, else 0."""
    single = dt.float32.numpy.type(p)
    last = math.ceil(float(single) * 2**24) * 256 - 1  # as rng.bernoulli_mask
    found = _word(state, flat(index, shape)) <= last
    if not dtype.is_floating_point:
        return cast(found, dtype)
    kind = dt.float64 if dtype is dt.float64 else dt.float32
    return cast(where(found, const(scale, kind), 0.0), dtype)


def coins(index: Index, state: Source, p: Source) -> Scalar:
    """1 with the probability at hand, else 0."""
    draw = _uniform(state, flat(index, p.shape), p.dtype)
    return cast(draw < p(*index), p.dtype)


def integers(
    index: Index, state: Source, shape: Shape, dtype: dt.dtype, low: int, high: int
) -> Scalar:
    """Integers in [low, high)."""
    long = _longs(state, flat(index, shape))
    return cast(_below(long, high - low) + low, dtype)


def _below(long: Scalar, span: int) -> Scalar:
    """64 bits brought below a span, as in ``rng.integers``."""
    if span <= 1 << 32:
        low = lshr((long & LOW) * span, 32)
        return lshr(lshr(long, 32) * span + low, 32)
    if span >= 1 << 63:
        signed = span - (1 << 64)  # at most one span fits
        return long if not signed else where(_at_least(long, signed), long - signed, long)
    rest = long - ((lshr(long, 1) // span) << 1) * span
    return where(_at_least(rest, span), rest - span, rest)


def _at_least(x: Scalar, y: int) -> Scalar:
    """Whether ``x >= y``, both without a sign."""
    top = -(1 << 63)
    return (x ^ top) >= (y ^ top)


def advanced(index: Index, state: Source) -> Scalar:
    """The state of the next draw."""
    return state(*index) + where(eq(index[0], 1), const(1, INDEX), 0)
