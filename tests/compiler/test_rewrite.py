"""Gradients through max pooling, with less work and the same values."""

import numpy as np
import pytest

import ganglion as gg
import ganglion.nn.functional as F
from ganglion.compiler.simplify import expand
from ganglion.compiler.trace import trace

RNG = np.random.default_rng(0)


def image(*shape):
    """Whole numbers, so that there are equal ones, and zeros after ReLU."""
    return gg.tensor(RNG.integers(-3, 3, shape).astype(np.float32))


def gradients(x, b, kernel, stride, weights):
    """Of ReLU and pooling: for the input and for a bias of each channel."""
    x, b = x.detach().requires_grad_(), b.detach().requires_grad_()
    y = F.max_pool2d(F.relu(x * 1.5 + b.reshape(-1, 1, 1)), kernel, stride)
    (y * weights[..., : y.shape[2], : y.shape[3]]).sum().backward()
    return x.grad.detach(), b.grad.detach()


def ops(function, *arguments):
    return [node.op_name for node in expand(trace(function, *arguments).graph).topological()]


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (2, 1), (3, 3)])
@pytest.mark.parametrize("special", [None, np.nan, np.inf])
def test_gradients_through_relu_and_pooling(kernel, stride, special):
    x, b, weights = image(2, 5, 9, 8), image(5), image(2, 5, 9, 8)
    if special is not None:
        x.numpy()[0, 1, 3, 2] = special

    def call(x, b, weights):
        return gradients(x, b, kernel, stride, weights)

    assert "relu_grad" not in ops(call, x, b, weights)
    for found, expected in zip(gg.compile(call)(x, b, weights), call(x, b, weights), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-4)


def test_a_sum_over_space_is_that_of_the_pooled_gradient():
    def call(x, g):
        x = x.detach().requires_grad_()
        (F.max_pool2d(x, 2) * g).sum().backward()
        return x.grad.detach().sum((0, 2, 3)), x.grad.detach().sum((0, 1))

    x, g = image(4, 3, 8, 8), image(4, 3, 4, 4)
    assert ops(call, x, g).count("max_pool_grad") == 1, "part of space is summed as it was"
    for found, expected in zip(gg.compile(call)(x, g), call(x, g), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6)


def test_a_relu_after_pooling_stays():
    def call(x, g):
        x = x.detach().requires_grad_()
        (F.relu(F.max_pool2d(x, 2)) * g).sum().backward()
        return x.grad.detach()

    x, g = image(2, 3, 6, 6), image(2, 3, 3, 3)
    assert "relu_grad" in ops(call, x, g)
    np.testing.assert_array_equal(gg.compile(call)(x, g).numpy(), call(x, g).numpy())
