"""Gradients through decompositions, to any order."""

import numpy as np

import ganglion as gg
from ganglion.nn.functional import batch_norm


def by_ops(x, w):
    deviation = x - x.mean(0)
    return deviation / ((deviation * deviation).mean(0) + 1e-5).sqrt() * w


def by_composite(x, w):
    return batch_norm(x, None, None, w, training=True)


def repeated_gradients(function, order):
    rng = np.random.default_rng(0)
    x, w = (gg.tensor(rng.uniform(-2, 2, n), requires_grad=True) for n in [(3, 2), 2])
    total = (function(x, w) ** 3).sum()
    for _ in range(order):
        grads = gg.autograd.grad(total, [x, w], create_graph=True)
        total = sum((g * g * g.exp()).sum() for g in grads)
    return [g.detach().numpy() for g in grads]


def test_inputs_that_depend_on_each_other_are_not_counted_twice():
    """The gradient's inputs are x and, computed from it, its moments."""
    for order in (1, 2, 3):
        pairs = zip(
            repeated_gradients(by_composite, order), repeated_gradients(by_ops, order), strict=True
        )
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, rtol=1e-7)
