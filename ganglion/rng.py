"""Random numbers as a pure function of (seed, offset): Philox-4x32-10 in NumPy.

A random call is named by a 64-bit ``seed``, the key, and a 64-bit ``offset``. Block ``b`` of
the call is the cipher of the 128-bit counter ``(b, offset)``, lowest words first: four words
of 32 bits. A call uses one offset whatever its size, and its caller moves on by one.

Every function has the prefix property: the first k values of n are the same for all n >= k.
Bits, uniforms, masks, integers and permutations are the same on every machine; normals go
through NumPy's log, sin and cos and agree to 4 ulp.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import ganglion.dtypes as dt
from ganglion.errors import ArgumentError, DTypeError

Words = NDArray[np.uint32]
Longs = NDArray[np.uint64]
Array = NDArray[Any]
Convert = Callable[[Words, Array], None]

ROUNDS: Final = 10
MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS: Final = (0x9E3779B9, 0xBB67AE85)
LOW: Final = 0xFFFFFFFF
FULL: Final = 0xFFFFFFFFFFFFFFFF
# Blocks made at a time: three buffers of 128 KiB stay in L2, and a ufunc call costs less than
# its loop. It divides 2**32, so the high word of the block number is constant in a chunk.
CHUNK: Final = 8192


def _long(value: int) -> Longs:
    """A 0-d array, the operand that ufuncs take with the least overhead."""
    return np.array(value, np.uint64)


_M0, _M1 = map(_long, MULTIPLIERS)
_LOW, _32 = _long(LOW), _long(32)
_spare: list[Longs] = []


class _Scratch:
    """Buffers for ``count`` blocks: ``even`` holds words 0 and 2, ``odd`` words 1 and 3."""

    def __init__(self, memory: Longs, count: int) -> None:
        parts = memory[:, : 2 * count]
        self.even, self.odd, self.product = (part.reshape(2, count) for part in parts[:3])
        self.words = parts[3].view("<u8").reshape(count, 2)


@contextmanager
def _memory() -> Iterator[Longs]:
    """Lend memory for a chunk's scratch; it is kept, as first touching pages costs more than use.

    Threads and interrupted calls each get their own: taking from a list is atomic.
    """
    try:
        memory = _spare.pop()
    except IndexError:
        memory = np.empty((4, 2 * CHUNK), np.uint64)
    try:
        yield memory
    finally:
        _spare.append(memory)


@lru_cache(maxsize=64)
def _key_schedule(seed: int) -> list[tuple[int, int]]:
    k0, k1 = seed & LOW, seed >> 32 & LOW
    s0, s1 = KEY_STEPS
    return [((k0 + i * s0) & LOW, (k1 + i * s1) & LOW) for i in range(ROUNDS)]


@lru_cache(maxsize=64)
def _key_arrays(seed: int) -> list[tuple[Longs, Longs]]:
    return [(_long(k0), _long(k1)) for k0, k1 in _key_schedule(seed)]


def _two_rounds(s: _Scratch, seed: int, offset: int, first: int) -> None:
    """Start from the counters and do two rounds, each with one word pair constant in a chunk."""
    (k0, k1), (k2, k3) = _key_schedule(seed)[:2]
    (x0, x2), (x1, x3), p = s.even, s.odd, s.product[0]
    constant = (offset & LOW) * MULTIPLIERS[1]
    following = (constant >> 32 ^ first >> 32 ^ k0) * MULTIPLIERS[0]
    np.multiply(np.arange(first & LOW, (first & LOW) + len(p), dtype=np.uint64), _M0, p)
    np.right_shift(p, _32, x2)
    np.bitwise_xor(x2, _long(offset >> 32 & LOW ^ k1), x2)
    np.bitwise_and(p, _LOW, x3)
    np.multiply(x2, _M1, p)
    np.right_shift(p, _32, x0)
    np.bitwise_xor(x0, _long(constant & LOW ^ k2), x0)
    np.bitwise_and(p, _LOW, x1)
    np.bitwise_xor(x3, _long(following >> 32 ^ k3), x2)
    x3.fill(following & LOW)


def _blocks(s: _Scratch, seed: int, offset: int, first: int) -> Words:
    """The words of the blocks from ``first`` on, one chunk at most: a view of ``s.words``."""
    _two_rounds(s, seed, offset, first)
    even, odd, product = s.even, s.odd, s.product
    (x0, x2), (x1, x3), (p1, p0) = even, odd, product
    for k0, k1 in _key_arrays(seed)[2:]:
        np.multiply(x0, _M0, p0)
        np.multiply(x2, _M1, p1)
        np.bitwise_xor(x1, k0, x1)
        np.bitwise_xor(x3, k1, x3)
        np.right_shift(product, _32, even)
        np.bitwise_xor(even, odd, even)
        np.bitwise_and(product, _LOW, odd)
    np.left_shift(odd, _32, odd)
    np.bitwise_or(even, odd, s.words.T)
    words: Words = s.words.view("<u4").reshape(-1)
    return words


def _fill(out: Array, words_each: int, seed: int, offset: int, convert: Convert) -> None:
    """Fill ``out`` chunk by chunk; ``convert(words, values)`` may spoil the words it reads."""
    seed, offset = seed & FULL, offset & FULL
    blocks, each = -(-len(out) * words_each // 4), CHUNK * 4 // words_each
    with _memory() as memory:
        for first in range(0, blocks, CHUNK):
            # two blocks at least: ufuncs take their slow path for arrays of one element
            scratch = _Scratch(memory, min(CHUNK, max(2, blocks - first)))
            words = _blocks(scratch, seed, offset, first)
            values = out[first // CHUNK * each :][:each]
            convert(words[: len(values) * words_each], values)


def random_bits(seed: int, offset: int, n: int) -> Words:
    """``n`` words of 32 random bits: block after block, the four words of each in order."""
    out = np.empty(n, np.uint32)
    _fill(out, 1, seed, offset, lambda words, values: np.copyto(values, words))
    return out


def _random_longs(seed: int, offset: int, n: int) -> Longs:
    """``n`` words of 64 random bits, each from two words of 32, the low one first."""
    out = np.empty(n, np.uint64)
    _fill(out, 2, seed, offset, lambda words, values: np.copyto(values, words.view("<u8")))
    return out


def _fractions32(words: Words, values: Array) -> None:
    np.right_shift(words, 8, words)
    np.copyto(values, words.view("<i4"))  # the conversion from signed integers is a vector one
    np.multiply(values, np.float32(2.0**-24), values)


def _fractions64(words: Words, values: Array) -> None:
    longs = words.view("<u8")
    np.right_shift(longs, 11, longs)
    np.copyto(values, longs.view("<i8"))
    np.multiply(values, 2.0**-53, values)


class _Float(NamedTuple):
    """How a floating type is drawn."""

    words: int
    step: float  # distance of neighbouring uniforms
    fractions: Convert


_FLOATS: Final = {
    np.dtype("float32"): _Float(1, 2.0**-24, _fractions32),
    np.dtype("float64"): _Float(2, 2.0**-53, _fractions64),
}


def _float(given: Any) -> tuple[np.dtype[Any], _Float]:
    numpy = dt.as_dtype(given).numpy
    if numpy not in _FLOATS:
        raise DTypeError(
            f"random floats are drawn as float32 or float64, got {numpy.name}; "
            "draw float32 and convert the result"
        )
    return numpy, _FLOATS[numpy]


def uniform(seed: int, offset: int, n: int, dtype: Any = "float32") -> Array:
    """``n`` uniform floats in [0, 1).

    float32: ``(word >> 8) * 2**-24``. float64: ``(pair >> 11) * 2**-53`` of two words, the low
    one first.
    """
    numpy, kind = _float(dtype)
    out = np.empty(n, numpy)
    _fill(out, kind.words, seed, offset, kind.fractions)
    return out


def normal(seed: int, offset: int, n: int, dtype: Any = "float32") -> Array:
    """``n`` standard normal floats by Box-Muller, computed in ``dtype`` itself.

    Values 2i and 2i+1 are ``r cos(t)`` and ``r sin(t)`` of the uniforms u, v at 2i and 2i+1,
    with ``r = sqrt(-2 log(u + step))`` and ``t = 2 pi v``; the step, 2**-24 or 2**-53, moves u
    to (0, 1]. So float32 reaches 5.77 and float64 8.57.
    """
    numpy, kind = _float(dtype)
    out = np.empty(n + n % 2, numpy)

    def convert(words: Words, values: Array) -> None:
        kind.fractions(words, values)
        _box_muller(values.reshape(-1, 2), kind.step)

    _fill(out, kind.words, seed, offset, convert)
    return out[:n]


def _box_muller(pairs: Array, step: float) -> None:
    """Replace pairs of uniforms by pairs of normals; ``step`` and pi round to their type."""
    radius, angle = pairs[:, 0] + pairs.dtype.type(step), pairs[:, 1] * pairs.dtype.type(math.tau)
    np.log(radius, radius)
    np.multiply(radius, pairs.dtype.type(-2), radius)
    np.sqrt(radius, radius)
    np.multiply(radius, np.cos(angle), pairs[:, 0])
    np.multiply(radius, np.sin(angle), pairs[:, 1])


def bernoulli_mask(seed: int, offset: int, p: float, n: int) -> NDArray[np.bool_]:
    """``n`` booleans, ``uniform(seed, offset, n) < p`` with ``p`` rounded to float32."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"a probability lies between 0 and 1, got {p}")
    # (word >> 8) < t is word < t * 256; a threshold of 2**32 fits no word, so compare with <=
    threshold = math.ceil(float(np.float32(p)) * 2**24) * 256 - 1
    if threshold < 0:
        return np.zeros(n, np.bool_)
    out = np.empty(n, np.bool_)
    last = np.uint32(threshold)

    def convert(words: Words, values: Array) -> None:
        np.less_equal(words, last, values)

    _fill(out, 1, seed, offset, convert)
    return out


def integers(seed: int, offset: int, low: int, high: int, n: int) -> NDArray[np.int64]:
    """``n`` integers in [low, high), each from 64 random bits.

    Of ``span = high - low`` values none is likelier than another by more than ``span / 2**64``
    of its probability. Spans up to 2**32 take the high word of bits times span, wider ones the
    remainder. All of int64 is allowed: low = -2**63, high = 2**63.
    """
    if not -(2**63) <= low < high <= 2**63:
        raise ArgumentError(f"integers need low < high within int64, got low={low}, high={high}")
    span, start = high - low, _long(low & FULL)
    out = np.empty(n, np.uint64)

    def convert(words: Words, values: Array) -> None:
        _reduce(words.view("<u8"), span, values)
        np.add(values, start, values)

    _fill(out, 2, seed, offset, convert)
    return out.view(np.int64)


def _reduce(bits: Longs, span: int, out: Longs) -> None:
    if span <= 2**32:
        _multiply_shift(bits, _long(span), out)
    elif span <= FULL:
        np.remainder(bits, _long(span), out)
    else:
        np.copyto(out, bits)


def _multiply_shift(bits: Longs, span: Longs, out: Longs) -> None:
    """``bits * span >> 64`` for spans up to 2**32, in two halves that cannot overflow."""
    np.right_shift(bits, _32, out)
    np.multiply(out, span, out)
    np.bitwise_and(bits, _LOW, bits)
    np.multiply(bits, span, bits)
    np.right_shift(bits, _32, bits)
    np.add(out, bits, out)
    np.right_shift(out, _32, out)


def permutation(n: int, seed: int, offset: int) -> NDArray[np.int64]:
    """The numbers 0 to n - 1 in random order: the stable argsort of ``n`` 64-bit random keys."""
    keys = _random_longs(seed, offset, n)
    order = np.argsort(keys)
    ordered = keys[order]
    if (ordered[1:] == ordered[:-1]).any():  # the fast sort leaves the order of equal keys open
        order = np.argsort(keys, kind="stable")
    return order.astype(np.int64, copy=False)
