import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion import rng
from ganglion.errors import ArgumentError, DTypeError

longs = st.integers(0, 2**64 - 1)
DRAWS = {
    "bits": rng.random_bits,
    "float32": rng.uniform,
    "float64": lambda seed, offset, n: rng.uniform(seed, offset, n, "float64"),
    "normal32": rng.normal,
    "normal64": lambda seed, offset, n: rng.normal(seed, offset, n, "float64"),
    "mask": lambda seed, offset, n: rng.bernoulli_mask(seed, offset, 0.3, n),
    "narrow": lambda seed, offset, n: rng.integers(seed, offset, -7, 1000, n),
    "wide": lambda seed, offset, n: rng.integers(seed, offset, -(2**63), 2**63 - 1, n),
}
every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


def cipher(counter, key):
    """One block, straight from the paper, in Python integers."""
    x, k = list(counter), list(key)
    for _ in range(10):
        a, b = x[0] * 0xD2511F53, x[2] * 0xCD9E8D57
        low = 0xFFFFFFFF
        x = [b >> 32 ^ x[1] ^ k[0], b & low, a >> 32 ^ x[3] ^ k[1], a & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return x


def split(value):
    return value & 0xFFFFFFFF, value >> 32


def block(seed, offset, index):
    scratch = rng._Scratch(np.empty((4, 2), np.uint64), 1)
    return rng._blocks(scratch, seed, offset, index).tolist()


# counter, key and result of philox4x32-10 in Random123's file of known answers
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    c, k, words = ([int(w, 16) for w in text.split()] for text in (counter, key, expected))
    assert block(k[0] | k[1] << 32, c[2] | c[3] << 32, c[0] | c[1] << 32) == words
    assert cipher(c, k) == words


@given(longs, longs, longs)
def test_any_block_equals_the_paper(seed, offset, index):
    assert block(seed, offset, index) == cipher((*split(index), *split(offset)), split(seed))


def test_words_come_block_after_block_across_chunks():
    seed, offset, n = 2**63 + 12345, 2**40 + 3, 4 * rng.CHUNK + 9
    words = rng.random_bits(seed, offset, n)
    assert words.dtype == np.uint32
    for index in (0, 1, rng.CHUNK - 1, rng.CHUNK, rng.CHUNK + 1):
        expected = cipher((index, 0, *split(offset)), split(seed))
        assert words[4 * index : 4 * index + 4].tolist() == expected
    assert words[-1] == cipher((rng.CHUNK + 2, 0, *split(offset)), split(seed))[0]


@every_draw
@given(st.integers(0, 200), st.integers(0, 200))
def test_the_first_values_do_not_depend_on_how_many_are_drawn(draw, k, more):
    np.testing.assert_array_equal(draw(5, 6, k), draw(5, 6, k + more)[:k])


@every_draw
def test_the_prefix_property_holds_across_chunks(draw):
    n = 4 * rng.CHUNK + 101
    long = draw(5, 6, n)
    for k in (n // 2 - 1, n // 2, 4 * rng.CHUNK - 1, 4 * rng.CHUNK + 1, n - 1):
        np.testing.assert_array_equal(draw(5, 6, k), long[:k])


@every_draw
def test_seeds_and_offsets_matter_in_all_their_bits(draw):
    base = draw(1, 2, 64)
    for bit in range(0, 64, 7):
        assert not np.array_equal(base, draw(1 ^ 1 << bit, 2, 64))
        assert not np.array_equal(base, draw(1, 2 ^ 1 << bit, 64))
    assert np.array_equal(base, draw(1, 2, 64))


def test_negative_seeds_are_taken_modulo_two_to_the_64():
    assert np.array_equal(rng.random_bits(-1, 0, 8), rng.random_bits(2**64 - 1, 0, 8))


@every_draw
@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_small_counts_give_exactly_that_many(draw, n):
    assert draw(1, 2, n).shape == (n,)


def test_uniforms_are_the_upper_bits_of_the_words():
    words = rng.random_bits(3, 4, 100).tolist()
    single = rng.uniform(3, 4, 100)
    double = rng.uniform(3, 4, 50, np.float64)
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    assert single.tolist() == [(w >> 8) * 2.0**-24 for w in words]
    pairs = [low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True)]
    assert double.tolist() == [(p >> 11) * 2.0**-53 for p in pairs]


def test_floats_of_other_widths_are_refused():
    for draw in (rng.uniform, rng.normal):
        with pytest.raises(DTypeError, match="draw float32 and convert"):
            draw(1, 2, 3, "float16")


def normals_in_double(uniforms, step):
    """Box-Muller in float64 from the radius and angle that the float type can hold."""
    kind = uniforms.dtype.type
    u = (uniforms[0::2] + kind(step)).astype(np.float64)
    angle = (uniforms[1::2] * kind(math.tau)).astype(np.float64)
    radius = np.sqrt(-2 * np.log(u))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)


def test_normals_are_box_muller_within_four_ulp():
    expected = normals_in_double(rng.uniform(3, 4, 100_000), 2.0**-24)
    found = rng.normal(3, 4, 100_000)
    assert found.dtype == np.float32
    assert (np.abs(found - expected) <= 4 * np.spacing(np.abs(expected).astype(np.float32))).all()


def test_double_normals_are_box_muller():
    expected = normals_in_double(rng.uniform(3, 4, 10_000, "float64"), 2.0**-53)
    found = rng.normal(3, 4, 10_000, "float64")
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_the_largest_normals_are_finite():
    for kind, step, largest in ((np.float32, 2.0**-24, 5.77), (np.float64, 2.0**-53, 8.57)):
        pairs = np.zeros((1, 2), kind)
        rng._box_muller(pairs, step)
        assert pairs[0] == pytest.approx([largest, 0], abs=0.01)


@given(st.floats(0, 1), st.integers(0, 2**64 - 1))
def test_a_mask_is_a_comparison_of_uniforms(p, seed):
    expected = rng.uniform(seed, 1, 500) < np.float32(p)
    np.testing.assert_array_equal(rng.bernoulli_mask(seed, 1, p, 500), expected)


def test_masks_of_certainty_and_at_a_uniform_itself():
    assert not rng.bernoulli_mask(1, 2, 0.0, 40_000).any()
    assert rng.bernoulli_mask(1, 2, 1.0, 40_000).all()
    u = rng.uniform(1, 2, 1)[0]
    assert not rng.bernoulli_mask(1, 2, float(u), 1)[0]
    assert rng.bernoulli_mask(1, 2, float(np.nextafter(u, np.float32(1))), 1)[0]


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_probabilities_outside_zero_and_one_are_refused(p):
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        rng.bernoulli_mask(1, 2, p, 3)


bounds = st.tuples(st.integers(-(2**63), 2**63), st.integers(-(2**63), 2**63))


@given(bounds.filter(lambda b: b[0] != b[1]))
def test_integers_follow_their_formula(two):
    low, high = sorted(two)
    words = rng.random_bits(8, 9, 64).tolist()
    bits = [a | b << 32 for a, b in zip(words[::2], words[1::2], strict=True)]
    span = high - low
    expected = [low + (b * span >> 64 if span <= 2**32 else b % span) for b in bits]
    found = rng.integers(8, 9, low, high, 32)
    assert found.dtype == np.int64
    assert found.tolist() == expected
    assert found.min() >= low
    assert found.max() < high


@pytest.mark.parametrize("span", [1, 2, 10, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64])
def test_integers_stay_in_range_at_the_edges(span):
    low = -(2**63)
    found = rng.integers(1, 2, low, low + span, 1000).tolist()
    assert low <= min(found) <= max(found) < low + span
    assert max(found) - min(found) >= 0.9 * (span - 1)


@pytest.mark.parametrize(("low", "high"), [(3, 3), (4, 3), (0, 2**63 + 1), (-(2**63) - 1, 0)])
def test_empty_and_too_wide_ranges_are_refused(low, high):
    with pytest.raises(ArgumentError, match="low < high"):
        rng.integers(1, 2, low, high, 3)


@given(st.integers(0, 3000), longs, longs)
def test_a_permutation_holds_every_number_once(n, seed, offset):
    order = rng.permutation(n, seed, offset)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(n))


def test_a_permutation_sorts_the_keys_and_keeps_equal_ones_in_order(monkeypatch):
    keys = rng.random_bits(1, 2, 2000).view(np.uint64)
    assert np.array_equal(rng.permutation(1000, 1, 2), np.argsort(keys, kind="stable"))
    monkeypatch.setattr(rng, "_random_longs", lambda *_: keys % np.uint64(10))
    expected = np.argsort(keys % np.uint64(10), kind="stable")
    assert np.array_equal(rng.permutation(1000, 1, 2), expected)


def test_every_permutation_of_four_is_equally_likely():
    seen = [tuple(rng.permutation(4, 1, offset)) for offset in range(2400)]
    counts = np.unique(seen, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert chi_square(counts) < 49.7  # 23 degrees of freedom, 1 in 1000


def chi_square(counts):
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


def kolmogorov(values, cdf):
    """The largest distance of two distribution functions, times sqrt(n); 1.95 is 1 in 1000."""
    values = np.sort(values)
    n = len(values)
    expected = cdf(values)
    above = np.arange(1, n + 1) / n - expected
    below = expected - np.arange(n) / n
    return max(above.max(), below.max()) * math.sqrt(n)


N = 200_000


def test_every_byte_of_the_words_is_uniform():
    counts = [
        np.bincount(b, minlength=256) for b in rng.random_bits(7, 8, N).view("u1").reshape(-1, 4).T
    ]
    assert max(map(chi_square, counts)) < 341  # 255 degrees of freedom, 4 trials, under 1 in 1000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniforms_are_uniform(dtype):
    u = rng.uniform(7, 8, N, dtype).astype(np.float64)
    assert 0 <= u.min() < u.max() < 1
    assert kolmogorov(u, lambda x: x) < 1.95
    assert abs(u.mean() - 0.5) < 4 / math.sqrt(12 * N)
    assert abs(u.var() - 1 / 12) < 4 / math.sqrt(180 * N)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_are_normal(dtype):
    z = rng.normal(7, 8, N, dtype).astype(np.float64)
    phi = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))
    assert kolmogorov(z, phi) < 1.95
    moments = [(z**k).mean() for k in (1, 2, 3, 4)]
    errors = [math.sqrt(v / N) for v in (1, 2, 15, 96)]
    for found, expected, error in zip(moments, (0, 1, 0, 3), errors, strict=True):
        assert abs(found - expected) < 4 * error
    assert abs(np.corrcoef(z[::2], z[1::2])[0, 1]) < 4 / math.sqrt(N / 2)


def test_integers_and_masks_have_the_right_frequencies():
    counts = np.bincount(rng.integers(7, 8, 0, 10, N), minlength=10)
    assert chi_square(counts) < 27.9  # 9 degrees of freedom, 1 in 1000
    share = rng.bernoulli_mask(7, 8, 0.1, N).mean()
    assert abs(share - 0.1) < 4 * math.sqrt(0.09 / N)


@pytest.mark.parametrize(("seed", "offset"), [(7, 9), (8, 8), (7, 8 + 2**32), (7 + 2**32, 8)])
def test_neighbouring_streams_are_not_correlated(seed, offset):
    a = rng.uniform(7, 8, N, "float64")
    b = rng.uniform(seed, offset, N, "float64")
    for lag in (0, 1, 2, 4):
        found = np.corrcoef(a[lag:], b[: N - lag])[0, 1]
        assert abs(found) < 4 / math.sqrt(N)


def test_draws_in_several_threads_do_not_meet():
    expected = [rng.random_bits(1, k, 50_000) for k in range(8)]
    found = [None] * 8

    def work(k):
        for _ in range(5):
            found[k] = rng.random_bits(1, k, 50_000)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_draw_inside_a_draw_does_not_disturb_it():
    out = np.empty(8, np.uint32)

    def convert(words, values):
        rng.random_bits(9, 9, 8)
        values[:] = words

    rng._fill(out, 1, 1, 2, convert)
    np.testing.assert_array_equal(out, rng.random_bits(1, 2, 8))
