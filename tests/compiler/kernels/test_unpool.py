import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ganglion.dtypes as dt
from ganglion.compiler.kernel import packed, stored
from ganglion.compiler.kernels.axes import channels_last
from ganglion.compiler.kernels.pool import max_pool_grad
from ganglion.ops.pool import MAX_POOL, MAX_POOL_GRAD
from tests.compiler.kernels.plans import CompiledPlan, same_bits

NOWHERE = 254


@st.composite
def problems(draw):
    """The shape of an image and a window that divides it."""
    window = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    size = [k * draw(st.integers(1, 4)) for k in window]
    channels = draw(st.sampled_from([1, 3, 16, 21, 67]))
    return (draw(st.integers(1, 3)), channels, *size), tuple(window)


def names(plan):
    return [kernel.name for kernel, _ in plan.steps]


@settings(max_examples=25, deadline=None)
@given(problem=problems(), makes=st.tuples(*[st.sampled_from([packed, channels_last])] * 3))
def test_windows_side_by_side_are_read_once(problem, makes):
    shape, window = problem
    rng, rank = np.random.default_rng(0), len(window)
    params = {"kernel": window, "stride": window, "padding": (0,) * rank, "dilation": (1,) * rank}
    x = rng.standard_normal(shape).astype(np.float32)
    values, positions = MAX_POOL.kernel(x, ceil_mode=False, **params)
    g = rng.standard_normal(values.shape).astype(np.float32)
    expected = MAX_POOL_GRAD.kernel(g, positions, size=shape[2:], **params)
    layouts = [
        make(dtype, tuple(a.shape))
        for make, dtype, a in zip(makes, (dt.float32, dt.uint8, dt.float32), (g, positions, x),
                                  strict=True)
    ]  # fmt: skip
    plan = max_pool_grad(*layouts[:2], stored(layouts[2]), shape[2:], **params)
    if np.prod(window) <= 16:
        assert names(plan)[-1] == "unpool"
    compiled = CompiledPlan(plan)
    operands = list(zip(layouts, (g, positions, None), strict=True))
    found = compiled(operands)[2]
    np.testing.assert_array_equal(found, expected)
    for threads in (2, 3, 7):
        assert same_bits(compiled(operands, threads)[2], found)


def test_a_position_that_no_element_has_takes_nothing():
    params = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}
    small, large = channels_last(dt.float32, (2, 16, 3, 3)), packed(dt.float32, (2, 16, 6, 6))
    places = channels_last(dt.uint8, small.shape)
    plan = max_pool_grad(small, places, stored(large), (6, 6), **params)
    nowhere = np.full(small.shape, NOWHERE, np.uint8)
    operands = [(small, np.ones(small.shape, np.float32)), (places, nowhere), (large, None)]
    assert not CompiledPlan(plan)(operands)[2].any()


@pytest.mark.parametrize("changed", [{"stride": (1, 1)}, {"padding": (1, 1)}])
def test_windows_that_overlap_or_reach_out_are_not_meant(changed):
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), **changed}
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)
    values, _ = MAX_POOL.kernel(x, ceil_mode=False, **window)
    g, places = packed(dt.float32, values.shape), packed(dt.uint8, values.shape)
    plan = max_pool_grad(g, places, stored(packed(dt.float32, x.shape)), (6, 6), **window)
    assert names(plan) == ["pool"]
