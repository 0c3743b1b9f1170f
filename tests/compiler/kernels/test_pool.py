import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ganglion.dtypes as dt
from ganglion.compiler.kernel import packed, stored
from ganglion.compiler.kernels.axes import channels_last
from ganglion.compiler.kernels.pool import (
    adaptive_avg_pool,
    adaptive_avg_pool_grad,
    avg_pool,
    avg_pool_grad,
    max_pool,
    max_pool_gather,
    max_pool_grad,
)
from ganglion.ops.adaptive import ADAPTIVE_AVG_POOL, ADAPTIVE_AVG_POOL_GRAD
from ganglion.ops.pool import (
    AVG_POOL,
    AVG_POOL_GRAD,
    MAX_POOL,
    MAX_POOL_GATHER,
    MAX_POOL_GRAD,
)
from tests.compiler.kernels.plans import CompiledPlan, same_bits

THREADS = (1, 2, 3, 7)


def image(kind, dtype, shape):
    halo = ((1, 2),) * (len(shape) - 2)
    make = {
        "first": packed,
        "last": channels_last,
        "around": lambda dtype, shape: channels_last(dtype, shape, halo),
    }
    return make[kind](dtype, tuple(shape))


def random(shape, dtype=dt.float32, seed=0):
    """Few different numbers, so that there are equal ones."""
    values = np.random.default_rng(seed).integers(-9, 9, shape)
    return (values / (2 if dtype.is_floating_point else 1)).astype(dtype.numpy)


def run(plan, operands):
    """All operands after a run, the same for any number of threads."""
    compiled = CompiledPlan(plan)
    found = compiled(operands)
    for threads in THREADS[1:]:
        for x, y in zip(compiled(operands, threads), found, strict=True):
            assert same_bits(x, y)
    return found


@st.composite
def problems(draw, dilated=True):
    """The shape of an image, the sizes of windows, and how images lie in memory."""
    rank = draw(st.integers(1, 3))
    size, kernel, stride, padding, dilation = [], [], [], [], []
    for _ in range(rank):
        k = draw(st.integers(1, 4 if rank < 3 else 3))
        d = draw(st.sampled_from([1, 1, 2])) if dilated else 1
        p = draw(st.integers(0, k // 2))
        kernel.append(k)
        stride.append(draw(st.integers(1, 5)))
        padding.append(p)
        dilation.append(d)
        size.append(max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 6)))
    window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    channels = draw(st.sampled_from([1, 3, 8, 16, 21, 67]))
    shape = (draw(st.integers(1, 3)), channels, *size)
    params = {name: tuple(value) for name, value in window.items()}
    return shape, params, draw(st.booleans()), draw(st.sampled_from(["first", "last", "around"]))


@settings(max_examples=25, deadline=None)
@given(problem=problems(), dtype=st.sampled_from([dt.float32, dt.float64, dt.int32, dt.uint8]))
def test_maxima_and_their_positions(problem, dtype):
    shape, window, ceil_mode, kind = problem
    x = random(shape, dtype)
    if dtype.is_floating_point:
        x[np.random.default_rng(1).random(shape) < 0.05] = np.nan
    values, positions = MAX_POOL.kernel(x, ceil_mode=ceil_mode, **window)
    source = image(kind, dtype, shape)
    targets = image(kind, dtype, values.shape), image(kind, dt.uint8, values.shape)
    plan = max_pool(source, *targets, ceil_mode=ceil_mode, **window)
    _, *found = run(plan, [(source, x), (targets[0], None), (targets[1], None)])
    np.testing.assert_array_equal(found[0], values)
    np.testing.assert_array_equal(found[1], positions)
    alone = max_pool(source, targets[0], None, ceil_mode=ceil_mode, **window)
    np.testing.assert_array_equal(run(alone, [(source, x), (targets[0], None)])[1], values)


@settings(max_examples=25, deadline=None)
@given(problem=problems())
def test_gradients_go_to_the_positions_and_come_from_there(problem):
    shape, window, ceil_mode, kind = problem
    x = random(shape)
    values, positions = MAX_POOL.kernel(x, ceil_mode=ceil_mode, **window)
    g = random(values.shape, seed=1)
    whole, part = image(kind, dt.float32, shape), image(kind, dt.float32, g.shape)
    places = image(kind, dt.uint8, g.shape)
    plan = max_pool_grad(part, places, stored(whole), shape[2:], **window)
    found = run(plan, [(part, g), (places, positions), (whole, None)])[2]
    expected = MAX_POOL_GRAD.kernel(g, positions, size=shape[2:], **window)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    plan = max_pool_gather(whole, places, stored(part), **window)
    found = run(plan, [(whole, x), (places, positions), (part, None)])[2]
    np.testing.assert_array_equal(found, MAX_POOL_GATHER.kernel(x, positions, **window))


@settings(max_examples=25, deadline=None)
@given(
    problem=problems(dilated=False), include=st.booleans(),
    override=st.sampled_from([None, None, 7]), dtype=st.sampled_from([dt.float32, dt.float64]),
)  # fmt: skip
def test_means_and_their_gradient(problem, include, override, dtype):
    shape, window, ceil_mode, kind = problem
    del window["dilation"]
    window |= {
        "ceil_mode": ceil_mode, "count_include_pad": include, "divisor_override": override
    }  # fmt: skip
    x = random(shape, dtype)
    y = AVG_POOL.kernel(x, **window)
    if not np.isfinite(y).all():
        return  # a window without any cell that counts
    g = random(y.shape, dtype, seed=1)
    whole, part = image(kind, dtype, shape), image(kind, dtype, y.shape)
    found = run(avg_pool(whole, stored(part), **window), [(whole, x), (part, None)])[1]
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-5)
    plan = avg_pool_grad(part, stored(whole), shape[2:], **window)
    expected = AVG_POOL_GRAD.kernel(g, size=shape[2:], **window)
    found = run(plan, [(part, g), (whole, None)])[1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    size=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    out=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    channels=st.sampled_from([1, 5, 16, 40]),
    kind=st.sampled_from(["first", "last", "around"]),
)
def test_windows_spread_evenly(size, out, channels, kind):
    size, out = tuple(size), tuple(out[: len(size)])
    x, g = random((2, channels, *size)), random((2, channels, *out), seed=1)
    whole, part = image(kind, dt.float32, x.shape), image(kind, dt.float32, g.shape)
    found = run(adaptive_avg_pool(whole, stored(part), out), [(whole, x), (part, None)])[1]
    np.testing.assert_allclose(found, ADAPTIVE_AVG_POOL.kernel(x, size=out), rtol=0, atol=1e-5)
    plan = adaptive_avg_pool_grad(part, stored(whole), size)
    found = run(plan, [(part, g), (whole, None)])[1]
    expected = ADAPTIVE_AVG_POOL_GRAD.kernel(g, size=size)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_last_nan_is_the_largest():
    x = np.array([[[1.0, np.nan, 2.0, np.nan, -np.inf, -np.inf]]], np.float32)
    source, y = packed(dt.float32, x.shape), packed(dt.float32, (1, 1, 2))
    window = dict(kernel=(4,), stride=(2,), padding=(0,), dilation=(1,))
    plan = max_pool(source, y, packed(dt.uint8, y.shape), **window)
    _, values, positions = run(plan, [(source, x), (y, None), (packed(dt.uint8, y.shape), None)])
    assert np.isnan(values).all()
    assert positions.tolist() == [[[3, 1]]]


def test_large_windows_have_wide_positions():
    x = random((1, 16, 20, 20))
    window = dict(kernel=(17, 17), stride=(3, 3), padding=(0, 0), dilation=(1, 1))
    values, positions = MAX_POOL.kernel(x, ceil_mode=False, **window)
    assert positions.dtype == np.int32
    source, y = packed(dt.float32, x.shape), packed(dt.float32, values.shape)
    places = packed(dt.int32, values.shape)
    found = run(max_pool(source, y, places, **window), [(source, x), (y, None), (places, None)])
    np.testing.assert_array_equal(found[2], positions)
    g = random(values.shape, seed=1)
    plan = max_pool_grad(y, places, stored(source), (20, 20), **window)
    found = run(plan, [(y, g), (places, positions), (source, None)])[2]
    expected = MAX_POOL_GRAD.kernel(g, positions, size=(20, 20), **window)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 16, 1, 64), (1, 16, 64, 1), (1, 16, 8, 8)])
def test_one_image_is_shared_by_several_tasks(shape):
    x, window = channels_last(dt.float32, shape), dict(stride=(1, 1), padding=(0, 0))
    ((kernel, _),) = avg_pool(x, stored(x), kernel=(1, 1), **window).steps
    assert kernel.tasks >= min(8, math.prod(shape[2:]))


def test_an_empty_result_needs_no_kernel():
    x = packed(dt.float32, (0, 16, 8, 8))
    y = packed(dt.float32, (0, 16, 4, 4))
    window = dict(kernel=(2, 2), stride=(2, 2), padding=(0, 0))
    assert not avg_pool(x, stored(y), **window).steps
    assert not max_pool(x, y, packed(dt.uint8, y.shape), dilation=(1, 1), **window).steps
