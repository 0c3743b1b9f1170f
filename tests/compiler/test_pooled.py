"""Pooling in the registers of a convolution."""

import numpy as np
import pytest

import ganglion as gg
import ganglion.nn.functional as F
from ganglion.compiler.plan import plan
from ganglion.compiler.simplify import expand
from ganglion.compiler.trace import trace


def random(*shape, double=False):
    found = np.random.default_rng(len(shape)).standard_normal(shape)
    return gg.tensor(found if double else found.astype(np.float32))


def kernels(function, *tensors):
    return [x.name for x in plan(expand(trace(function, *tensors).graph)).launches]


def block(x, w, b):
    return F.max_pool2d(F.relu(F.conv2d(x, w, b, padding=1)), 2)


def check(function, *tensors):
    """The compiled function against the eager one; its kernels' names."""
    found, expected = gg.compile(function)(*tensors), function(*tensors)
    for x, y in zip(*[v if isinstance(v, tuple) else (v,) for v in (found, expected)], strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=0, atol=2e-5 * abs(y.numpy()).max())
    return kernels(function, *tensors)


@pytest.mark.parametrize(("channels", "outs"), [(1, 5), (3, 17), (1, 48), (16, 16), (20, 33)])
@pytest.mark.parametrize("size", [(2, 3), (5, 7), (14, 14), (9, 30)])
def test_windows_are_reduced_before_anything_is_stored(channels, outs, size):
    names = check(block, random(3, channels, *size), random(outs, channels, 3, 3), random(outs))
    assert "pool" not in names
    assert "conv_direct" in names or "conv_winograd" in names


@pytest.mark.parametrize("window", [(1, 2), (2, 1)])
def test_windows_along_one_dimension(window):
    def call(x, w):
        return F.max_pool2d(F.conv2d(x, w), window)

    assert "pool" not in check(call, random(2, 3, 9, 9), random(8, 3, 3, 3))


def test_double_precision_and_groups():
    def call(x, w):
        return F.max_pool2d(F.conv2d(x, w, groups=4), 2)

    names = check(call, random(2, 8, 9, 9, double=True), random(12, 2, 3, 3, double=True))
    assert "pool" not in names


def test_positions_and_what_is_made_of_the_values():
    def call(x, w):
        values, positions = F.max_pool2d(F.conv2d(x, w), 2, return_indices=True)
        return values * 2 + 1, positions

    assert "pool" not in check(call, random(2, 3, 8, 8), random(16, 3, 3, 3))


def test_nan_is_largest():
    x = random(1, 3, 8, 8)
    x.numpy()[0, 0, 2, 5] = np.nan

    def call(x, w):
        return F.max_pool2d(F.conv2d(x, w), 2)

    w = random(16, 3, 3, 3)
    np.testing.assert_array_equal(
        np.isnan(gg.compile(call)(x, w).numpy()), np.isnan(call(x, w).numpy())
    )


@pytest.mark.parametrize(
    "pool",
    [
        lambda y: (F.max_pool2d(y, 2), y.sum()),
        lambda y: (F.max_pool2d(y, 2), y),
        lambda y: (F.max_pool2d(y, 3, 2),),
        lambda y: (F.max_pool2d(y, 2, padding=1),),
        lambda y: (F.max_pool2d(y, 2, ceil_mode=True),),
        lambda y: (F.max_pool2d(y[:, :, 1:], 2),),
        lambda y: (F.avg_pool2d(y, 2),),
    ],
)
def test_other_pooling_reads_what_is_stored(pool):
    assert "pool" in check(
        lambda x, w: pool(F.conv2d(x, w)), random(2, 3, 9, 9), random(8, 3, 3, 3)
    )


@pytest.mark.parametrize("channels", [1, 3, 16])
def test_a_part_of_an_image_is_surrounded_by_zeros_and_not_by_the_rest(channels):
    def call(x, w):
        return F.conv2d(x[:, :, 1:-1, 1:-1], w, padding=1)

    def twice(x, w, v):
        return F.conv2d(F.conv2d(x, v, padding=1)[:, :, 1:-1, 2:], w, padding=1)

    x, w = random(2, channels, 14, 14), random(16, channels, 3, 3)
    check(call, x, w)
    check(twice, x, w, random(channels, channels, 3, 3))
