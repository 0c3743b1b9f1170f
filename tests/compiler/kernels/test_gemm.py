import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Epilogue, Layout, packed, stored
from ganglion.compiler.kernels.choice import chunks, pose
from ganglion.compiler.kernels.gemm import product
from ganglion.compiler.kernels.tile import AVX2, AVX512
from ganglion.compiler.text import const, first_lanes
from tests.compiler.kernels.plans import CompiledPlan

FLOATS = (dt.float32, dt.float64)
INTEGERS = (dt.int16, dt.int32, dt.int64)
THREADS = (1, 2, 3, 7)


@st.composite
def layouts(draw, dtype, shape):
    """Any order of the dimensions in memory, gaps between them, an offset, shared batches."""
    order = draw(st.permutations(range(len(shape))))
    gaps = draw(st.sampled_from([(0,), (0, 3)]))
    shared = draw(st.booleans())
    strides, step = [0] * len(shape), 1
    for dim in order:
        if shared and dim < len(shape) - 2:
            continue
        strides[dim] = step
        step = step * shape[dim] + draw(st.sampled_from(gaps))
    offset = draw(st.sampled_from([0, 5]))
    return Layout(dtype, shape, tuple(strides), offset, offset + step)


@st.composite
def products(draw, dtypes=FLOATS, longest=70):
    dtype = draw(st.sampled_from(dtypes))
    m, n, k = (draw(st.integers(1, most)) for most in (40, 70, longest))
    batch = draw(st.sampled_from([(), (), (3,), (2, 3)]))
    if batch:
        m, n = (draw(st.sampled_from([1, size])) for size in (m, n))
    a = draw(layouts(dtype, (*batch, m, k)))
    b = draw(layouts(dtype, (*batch, k, n)))
    order = draw(st.permutations(range(len(batch) + 2)))
    shape = (*batch, m, n)
    strides, step = [0] * len(shape), 1
    for dim in order:
        strides[dim], step = step, step * shape[dim]
    return a, b, Layout(dtype, shape, tuple(strides), 2, step + 2)


def filled(layout, seed):
    """Random numbers, equal along shared dimensions."""
    rng = np.random.default_rng(seed)
    shared = tuple(1 if s == 0 else n for n, s in zip(layout.shape, layout.strides, strict=True))
    if layout.dtype.is_floating_point:
        some = rng.standard_normal(shared)
    else:
        some = rng.integers(-9, 9, shared)
    return np.broadcast_to(some.astype(layout.dtype.numpy), layout.shape)


def expected(x, y):
    return x.astype(np.float64) @ y if x.dtype.kind == "f" else x @ y


def check(found, x, y):
    reference = expected(x, y)
    if x.dtype.kind != "f":
        np.testing.assert_array_equal(found, reference)
        return
    size = max(1.0, abs(reference).max(initial=0))
    error = 4 * np.sqrt(x.shape[-1] + 1) * np.finfo(x.dtype).eps * size
    np.testing.assert_allclose(found, reference, rtol=0, atol=error)


def run(a, b, c, target=AVX512):
    """The result, checked to have the same bits for any number of threads."""
    plan = CompiledPlan(product(a, b, stored(c), c.shape, target=target))
    x, y = filled(a, 1), filled(b, 2)
    operands = ((a, x), (b, y), (c, None))
    first, *others = [plan(operands, threads=t)[2] for t in THREADS]
    for other in others:
        np.testing.assert_array_equal(first, other)
    check(first, x, y)
    return first


@settings(max_examples=60, deadline=None)
@given(products())
def test_any_strides_and_tails(given_layouts):
    run(*given_layouts)


@settings(max_examples=15, deadline=None)
@given(products(INTEGERS, longest=20))
def test_integers_are_exact(given_layouts):
    run(*given_layouts)


@settings(max_examples=20, deadline=None)
@given(products())
def test_smaller_registers_give_the_same_bits(given_layouts):
    wide, narrow = (run(*given_layouts, target) for target in (AVX512, AVX2))
    np.testing.assert_array_equal(wide, narrow)


def plain(*shapes, dtype=dt.float32):
    return [packed(dtype, shape) for shape in shapes]


def turned(layout):
    *steps, s, t = layout.strides
    *shape, m, n = layout.shape
    return Layout(layout.dtype, (*shape, n, m), (*steps, t, s))


@pytest.mark.parametrize(
    ("m", "n", "k"), [(20, 33, 4096), (20, 33, 5003), (3, 10, 40009), (1, 1, 1_500_007)]
)
def test_a_long_sum_over_a_small_result_is_cut_into_chunks(m, n, k):
    a, b, c = plain((k, m), (k, n), (m, n))
    a = turned(a)
    assert chunks(pose(a, b, c.shape))[0] > 1
    run(a, b, c)


def test_chunks_of_batches():
    a, b, c = plain((2, 3, 180_007), (2, 180_007, 1), (2, 3, 1))
    assert chunks(pose(a, b, c.shape))[0] > 1
    run(a, b, c)


@pytest.mark.parametrize("turn_a", [False, True])
@pytest.mark.parametrize("turn_b", [False, True])
def test_rows_a_page_apart(turn_a, turn_b):
    m, n, k = 40, 1024, 1024
    a, b, c = plain((k, 1024) if turn_a else (m, k), (n, k) if turn_b else (k, n), (m, n))
    if turn_a:  # forty rows of a matrix with 1024
        a = Layout(a.dtype, (m, k), (1, 1024), 0, a.numel)
    b = turned(b) if turn_b else b
    run(a, b, c)


def test_one_row_in_each_batch_is_one_product():
    a, b, c = plain((64, 1, 32), (32, 48), (64, 1, 48))
    b = Layout(b.dtype, (64, 32, 48), (0, 48, 1), 0, b.numel)
    assert pose(a, b, c.shape).rows == 64
    run(a, b, c)


def test_a_sum_of_nothing_is_zero():
    a, b, c = plain((5, 0), (0, 37), (5, 37))
    plan = CompiledPlan(product(a, b, stored(c), c.shape))
    *_, found = plan([(layout, None) for layout in (a, b, c)])
    np.testing.assert_array_equal(found, np.zeros((5, 37)))


@pytest.mark.parametrize(("m", "n"), [(0, 3), (3, 0)])
def test_an_empty_result_needs_no_kernel(m, n):
    a, b, c = plain((m, 4), (4, n), (m, n))
    assert product(a, b, stored(c), c.shape).steps == ()


@pytest.mark.parametrize(("size", "most"), [((32, 10, 128), 2), ((2, 2, 2), 1)])
def test_small_products_are_not_cut_up(size, most):
    m, n, k = size
    a, b, c = plain((m, k), (k, n), (m, n))
    ((kernel, _),) = product(a, b, stored(c), c.shape).steps
    assert kernel.tasks <= most


@pytest.mark.parametrize("size", [(32, 128, 784), (128, 784, 32), (1024, 384, 128), (10, 784, 512)])
@pytest.mark.parametrize("threads", [2, 4, 8])
def test_large_products_have_even_shares(size, threads):
    m, n, k = size
    a, b, c = plain((m, k), (k, n), (m, n))
    kernel, _ = product(a, b, stored(c), c.shape).steps[-1]
    shares = np.diff([kernel.tasks * t // threads for t in range(threads + 1)])
    assert shares.max() <= 1.3 * shares.mean()


def momentum(layout):
    """An epilogue with a state: v = v / 2 + g, p = p - v."""

    def emit(code, pointers, tile):
        start = code.dot(tile.base, layout.strides)
        assert layout.strides[tile.lane_dim] == 1
        for offset, row in zip(tile.offsets, tile.registers, strict=True):
            at = np.dot(offset, layout.strides)
            for v, g in enumerate(row):
                mask = first_lanes(min(tile.columns - v * g.lanes, g.lanes), g.lanes)
                index = code.add(start, int(at) + v * g.lanes)
                places = [code.at_index(p, index, g.element) for p in pointers]
                p, old = (code.masked_load(x, mask, const(0, g.type)) for x in places)
                new = code.fma(old, const(0.5, g.type), g)
                code.masked_store(code.fsub(p, new), places[0], mask)
                code.masked_store(new, places[1], mask)

    return Epilogue(("momentum", layout), (layout, layout), (0, 1), (0, 1), emit)


@pytest.mark.parametrize("rows", [20, 9001])
def test_an_epilogue_that_updates_state_runs_once(rows):
    g, x, w = plain((rows, 21), (rows, 50), (21, 50))
    plan = CompiledPlan(product(turned(g), x, momentum(w), w.shape))
    given_g, given_x, p, v = (filled(layout, i) for i, layout in enumerate((g, x, w, w)))
    new = v / 2 + given_g.astype(np.float64).T @ given_x
    operands = ((turned(g), given_g.T), (x, given_x), (w, p), (w, v))
    for threads in THREADS:
        found_p, found_v = plan(operands, threads=threads)[2:4]
        np.testing.assert_allclose(found_v, new, atol=3e-4 * np.sqrt(rows / 20))
        np.testing.assert_allclose(found_p, p - new, atol=3e-4 * np.sqrt(rows / 20))
