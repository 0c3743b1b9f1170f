"""Ops that only NumPy computes, between native parts of a program."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.compiler import native
from ganglion.compiler.trace import trace
from tests.compiler.kernels.sweeps import agree


def sorted_rows(x):
    values, places = gg.sort(x * 2 + 1, 1, descending=True)
    return values * 3, places + 1


def best(x):
    values, places = gg.topk(x.exp(), 3, 0)
    return (values / values.sum(0)) @ x[:3].T, places


def middle(x):
    return x - gg.median(x * 2, 1, keepdim=True).values, gg.median(x)


def most_common(x):
    return gg.mode((x * 3).round(), 1).values + x.sum(1)


def bounds(x):
    edges = gg.cumsum(x.abs().sum(0), 0)
    return gg.searchsorted(edges, x.abs() * 9) + 1, gg.histc(x, 5) / 2


def members(x):
    whole = (x * 2).round()
    return gg.where(gg.isin(whole, whole[0]), x, -x)


def sorted_twice(x):
    first = gg.argsort(x + 1, 1)
    return gg.gather(x, 1, gg.argsort(first * 2, 1)) * 2


def stored(x):
    y = x * 2
    y[:, 1:3] = gg.sort(y[:, :2], 0).values
    return y + gg.argsort(y.T, 0).T


@pytest.mark.parametrize(
    "function",
    [sorted_rows, best, middle, most_common, bounds, members, sorted_twice, stored],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("shape", [(5, 7), (33, 70)])
def test_host_calls_in_the_middle_of_a_program(function, shape):
    gg.manual_seed(0)
    x = gg.randn(*shape)
    agree(function, x, exact=False)
    hosted = [
        launch.host is not None for launch in native.build(trace(function, x)).schedule.launches
    ]
    assert any(hosted)
    assert not all(hosted)


def test_gradients_through_a_sort():
    gg.manual_seed(0)

    def slopes(x):
        x = x.detach().requires_grad_()
        loss = (gg.sort(x * 2, 1).values * gg.arange(8.0)).sum() + gg.topk(x, 2, 0).values.prod()
        return gg.autograd.grad(loss, x)[0]

    agree(slopes, gg.randn(6, 8), exact=False)


def test_random_orders_are_those_of_eager_execution():
    def shuffled(x):
        order = gg.randperm(40)
        drawn = gg.multinomial(gg.softmax(x.sum(1), 0), 5)
        return x[order] * 2, gg.randperm(7) + 1, drawn

    x, compiled = gg.randn(40, 6), gg.compile(shuffled)
    results = []
    for function in (shuffled, compiled):
        gg.manual_seed(3)
        results.append([y.numpy() for _ in range(2) for y in function(x)])
    for want, found in zip(*results, strict=True):
        np.testing.assert_array_equal(found, want)


def test_a_state_is_read_and_written_around_a_host_call():
    memory = gg.zeros(4, 9)

    def step(x):
        memory.add_(gg.sort(x + memory, 1).values)
        return gg.argsort(memory, 1) * 2

    x = gg.randn(4, 9)
    built = native.build(trace(step, x))
    state = np.zeros((4, 9), np.float32)
    for _ in range(2):
        want = step(x)
        (found,) = built([x.numpy()], [state])
        np.testing.assert_array_equal(found, want.numpy())
        np.testing.assert_array_equal(state, memory.numpy())
