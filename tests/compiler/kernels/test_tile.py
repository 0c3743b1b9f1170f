import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Kernel, packed
from ganglion.compiler.kernels.tile import AVX2, dots, natural_lanes, tile, transpose
from ganglion.compiler.text import vector
from tests.compiler.kernels.harness import run

DTYPES = (dt.float32, dt.float64)


def close(found, expected, k):
    error = 4 * np.sqrt(k + 1) * np.finfo(found.dtype).eps
    np.testing.assert_allclose(found, expected, rtol=0, atol=error * max(1, abs(expected).max()))


def arrays(dtype, *shapes):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype.numpy) for shape in shapes]


@settings(max_examples=25, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES), m=st.integers(1, 9), n=st.integers(1, 50),
    k=st.integers(1, 20), unroll=st.integers(1, 4),
)  # fmt: skip
def test_a_tile_is_a_product(dtype, m, n, k, unroll):
    a, b = arrays(dtype, (m, k), (k, n))
    layouts = [packed(dtype, s) for s in ((m, k), (k, n), (m, n))]
    element = layouts[0].stored
    lanes = natural_lanes(element)
    wide = -(-n // lanes)

    def emit(code, p, scratch, low, high):
        sums = tile(
            code, [r * k for r in range(m)], wide, k, p[0], 1, p[1], n,
            columns=n, element=element, unroll=unroll,
        )  # fmt: skip
        for r, row in enumerate(sums):
            for c in range(n):
                value = code.extract(row[c // lanes], c % lanes)
                code.store(value, code.at_index(p[2], r * n + c, element))

    *_, found = run(Kernel("tile", 0, emit, tuple(layouts), (0, 1), (2,), 1), (a, b, None))
    close(found, a.astype(np.float64) @ b, k)


def test_a_tile_goes_on_from_sums_with_a_run_time_k():
    a, b, c = arrays(dt.float32, (4, 30), (30, 32), (4, 32))
    layouts = tuple(packed(dt.float32, x.shape) for x in (a, b, c))

    def emit(code, p, scratch, low, high):
        places = [
            [code.at_index(p[2], r * 32 + v * 16, "float") for v in range(2)] for r in range(4)
        ]
        before = [[code.load(x, "<16 x float>") for x in row] for row in places]
        sums = tile(
            code, [r * 30 for r in range(4)], [0, 16], high, p[0], 1, p[1], 32, initial=before
        )
        for row, values in zip(places, sums, strict=True):
            for place, value in zip(row, values, strict=True):
                code.store(value, place)

    *_, found = run(Kernel("tile", 0, emit, layouts, (0, 1), (2,), 30), (a, b, c))
    close(found, c + a.astype(np.float64) @ b, 30)


@settings(max_examples=25, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES), m=st.integers(1, 7), n=st.integers(1, 16),
    k=st.integers(1, 70), target=st.sampled_from([AVX2, None]),
)  # fmt: skip
def test_dots_are_a_product_with_a_transpose(dtype, m, n, k, target):
    a, b = arrays(dtype, (m, k), (n, k))
    layouts = tuple(packed(dtype, s) for s in ((m, k), (n, k), (m, n)))
    element = layouts[0].stored
    n_tile = natural_lanes(element)
    options = {} if target is None else {"target": target}

    def emit(code, p, scratch, low, high):
        for first in range(0, n, n_tile):
            columns = range(first, min(n, first + n_tile))
            rows = [r * k for r in range(m)]
            at = [c * k for c in columns]
            for r, value in enumerate(
                dots(code, rows, at, k, p[0], p[1], element=element, **options)
            ):
                for lane, c in enumerate(columns):
                    place = code.at_index(p[2], r * n + c, element)
                    code.store(code.extract(value, lane), place)

    *_, found = run(Kernel("dots", 0, emit, layouts, (0, 1), (2,), 1), (a, b, None))
    close(found, a.astype(np.float64) @ b.T, k)


@pytest.mark.parametrize(("element", "dtype"), [("float", dt.float32), ("double", dt.float64)])
def test_transpose_turns_a_square_around(element, dtype):
    lanes = natural_lanes(element)
    (x,) = arrays(dtype, (lanes, lanes))
    layout = packed(dtype, x.shape)

    def emit(code, p, scratch, low, high):
        rows = [code.at_index(p[0], r * lanes, element) for r in range(lanes)]
        turned = transpose(code, [code.load(row, vector(element, lanes)) for row in rows])
        for r, value in enumerate(turned):
            code.store(value, code.at_index(p[1], r * lanes, element))

    _, found = run(Kernel("turn", 0, emit, (layout, layout), (0,), (1,), 1), (x, None))
    np.testing.assert_array_equal(found, x.T)
