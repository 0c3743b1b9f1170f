import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ganglion as gg
import ganglion.dtypes as dt
from ganglion.compiler import native
from ganglion.compiler.kernel import packed
from ganglion.compiler.kernels import scan
from ganglion.compiler.trace import trace
from ganglion.ops.scan import LINEAR_SCAN
from tests.compiler.kernels.layouts import layouts
from tests.compiler.kernels.sweeps import agree, eager, run

NUMBERS = (dt.float32, dt.float64, dt.int64, dt.int32, dt.uint8, dt.bool_)
SUMS = ("cumsum", "cumprod")
RECORDS = ("cummax", "cummin")


@pytest.fixture(autouse=True, scope="module")
def many_tasks():
    """Small scans are cut into tasks too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "TASK", 64)
        yield


def filled(layout, seed=0):
    """Small numbers with ties; NaN and infinities among floats."""
    rng = np.random.default_rng(seed)
    if not layout.dtype.is_floating_point:
        return rng.integers(0, 4, layout.shape).astype(layout.dtype.numpy)
    found = rng.integers(-3, 4, layout.shape) * rng.standard_normal(layout.shape)
    return found.astype(layout.dtype.numpy)


@st.composite
def scans(draw, dtypes, inputs=1):
    sizes = st.sampled_from([1, 2, 3, 5, 8, 17, 33])
    shape = tuple(draw(st.lists(sizes, min_size=1, max_size=3)))
    dtype = draw(st.sampled_from(dtypes))
    given = [draw(layouts(dtype, shape)) for _ in range(inputs)]
    dim = draw(st.integers(0, len(shape) - 1))
    return given, dim, draw(st.booleans())


@settings(max_examples=40, deadline=None)
@given(st.data(), scans(NUMBERS), st.sampled_from(SUMS))
def test_sums_and_products_have_the_bits_of_numpy_in_any_layout(data, drawn, name):
    (x,), dim, reverse = drawn
    array, params = filled(x), {"dim": dim, "reverse": reverse}
    wide = x.dtype if x.dtype.is_floating_point else dt.int64
    found = run(name, [(x, array)], data.draw(layouts(wide, x.shape)), **params)
    np.testing.assert_array_equal(found, eager(name, [array], **params))


@settings(max_examples=20, deadline=None)
@given(st.data(), scans((dt.float32, dt.float64), inputs=2))
def test_a_linear_recurrence_has_the_bits_of_numpy_in_any_layout(data, drawn):
    (a, b), dim, reverse = drawn
    arrays, params = [filled(a, 1), filled(b, 2)], {"dim": dim, "reverse": reverse}
    result = data.draw(layouts(a.dtype, a.shape))
    found = run("linear_scan", list(zip((a, b), arrays, strict=True)), result, **params)
    np.testing.assert_array_equal(found, eager("linear_scan", arrays, **params))


@settings(max_examples=25, deadline=None)
@given(st.data(), scans(NUMBERS), st.sampled_from(RECORDS))
def test_records_stand_where_numpy_says(data, drawn, name):
    (x,), dim, _ = drawn
    array = filled(x)
    if x.dtype.is_floating_point:
        array[np.random.default_rng(3).random(x.shape) < 0.1] = np.nan
    found = run(name, [(x, array)], data.draw(layouts(dt.int64, x.shape)), dim=dim)
    np.testing.assert_array_equal(found, eager(name, [array], dim=dim))


@settings(max_examples=15, deadline=None)
@given(st.data(), scans((dt.float32, dt.float64)))
def test_sums_of_exponentials(data, drawn):
    (x,), dim, reverse = drawn
    array, params = filled(x) * 300, {"dim": dim, "reverse": reverse}
    array[np.random.default_rng(3).random(x.shape) < 0.1] = -np.inf
    found = run("logcumsumexp", [(x, array)], data.draw(layouts(x.dtype, x.shape)), **params)
    want = eager("logcumsumexp", [array], **params)
    np.testing.assert_allclose(found, want, rtol=1e-6 if x.dtype is dt.float32 else 1e-13)


def test_the_first_factor_of_a_recurrence_is_not_used():
    a, b = np.full((4, 20), np.nan, np.float32), np.zeros((4, 20), np.float32)
    a[:, 1:], b[:, 0] = 2, -0.0
    x = packed(dt.float32, a.shape)
    found = run("linear_scan", [(x, a), (x, b)], x, dim=1, reverse=False)
    assert (np.signbit(found[:, 0]) & (found == 0).all(1)).all()


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_programs_of_one_scan(dim):
    gg.manual_seed(0)
    for shape in ((4, 150, 40), (70, 3, 130)):
        x = gg.rand(*shape) + 0.5
        agree(lambda x: gg.cumsum(x, dim), x)
        agree(lambda x: (gg.cumsum(x.double(), dim), gg.cumprod(x, dim)), x)
        agree(lambda x: gg.cummax(x, dim).indices, x)
        agree(lambda x: LINEAR_SCAN(x, x, dim=dim, reverse=True), x)
        agree(lambda x: gg.logcumsumexp(x, dim), x, exact=False)


@pytest.mark.parametrize("dtype", [gg.float16, gg.bfloat16])
def test_two_byte_floats_are_summed_in_wider_ones(dtype):
    gg.manual_seed(0)
    agree(lambda x: gg.cumsum(x, 1), gg.randn(37, 70).to(dtype))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (0, 3), (1, 1), (1000,)])
def test_unusual_shapes(shape):
    agree(lambda x: gg.cumsum(x, 0), gg.ones(shape))
    agree(lambda x: gg.cumsum(x, -1), gg.ones(shape).int())


def test_gradients_of_scans():
    gg.manual_seed(0)

    def slopes(x):
        x = x.detach().requires_grad_()
        y = gg.cumprod(x, 1).sum() + gg.logcumsumexp(x, 0).sum() + gg.cummax(x, 1).values.sum()
        return gg.autograd.grad(y + (gg.cumsum(x, 1) ** 2).sum(), x)[0]

    agree(slopes, gg.rand(9, 21), exact=False)


def test_only_large_scans_along_neighbours_are_turned_around():
    small, large = gg.ones(4, scan.SMALL // 8), gg.ones(64, scan.SMALL // 8)
    for x, dim, turned in ((large, 1, True), (large, 0, False), (small, 1, False)):
        step = native.build(trace(lambda x, d=dim: gg.cumsum(x, d), x))
        names = [launch.name for launch in step.schedule.launches]
        assert names == (["copy", "scan", "copy"] if turned else ["scan"])
