"""Random draws: the right bits, the right laws, in the right order."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import ganglion as gg
from ganglion import rng
from ganglion.compiler.interpret import run
from ganglion.compiler.trace import trace
from ganglion.errors import ArgumentError, AutogradError
from ganglion.ops.random import mask

N = 20000


@pytest.fixture(autouse=True)
def _seeded():
    gg.manual_seed(1234)


def assert_law(x, mean, std):
    """The sample mean lies within five of its standard deviations, the spread within 6 %."""
    assert float(x.mean()) == pytest.approx(mean, abs=5 * std / math.sqrt(x.numel()))
    assert float(x.std()) == pytest.approx(std, rel=0.06)


def test_draws_are_philox_at_successive_offsets():
    first, second = gg.rand(5), gg.randn(5)
    np.testing.assert_array_equal(first.numpy(), rng.uniform(1234, 0, 5))
    np.testing.assert_array_equal(second.numpy(), rng.normal(1234, 1, 5))


def test_a_longer_draw_begins_with_the_shorter():
    short = gg.rand(3)
    gg.manual_seed(1234)
    assert gg.rand(100)[:3].tolist() == short.tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_floats_of_every_width(dtype):
    d = getattr(gg, dtype)
    u, z = gg.rand(N, dtype=d), gg.randn(N, dtype=d)
    assert u.dtype is z.dtype is d
    assert_law(u.double(), 0.5, math.sqrt(1 / 12))
    assert_law(z.double(), 0, 1)
    assert bool((u >= 0).all())


def test_uniforms_are_below_one():
    assert bool((gg.rand(N) < 1).all())


def test_randint_covers_its_range_evenly():
    x = gg.randint(-2, 3, (N,))
    assert x.dtype is gg.int64
    counts = np.bincount(x.numpy() + 2, minlength=5)
    assert counts.min() > N / 5 * 0.93
    assert counts.sum() == N


def test_randint_arguments_may_be_named():
    assert gg.randint(high=3, size=(2,)).shape == (2,)
    assert gg.randint(5, 6, size=(2,)).tolist() == [5, 5]
    assert gg.randint(low=5, high=6, size=(2,)).tolist() == [5, 5]


def test_randperm_is_a_permutation():
    x = gg.randperm(100)
    assert sorted(x.tolist()) == list(range(100))
    assert x.tolist() != list(range(100))
    assert gg.randperm(0).shape == (0,)


def test_normal_takes_numbers_and_tensors():
    assert_law(gg.normal(2.0, 3.0, (N,)), 2, 3)
    assert_law(gg.normal(gg.full((N,), 2.0), 3.0), 2, 3)
    assert_law(gg.normal(2.0, gg.full((N,), 3.0)), 2, 3)
    assert gg.normal(gg.zeros(2, 1), gg.ones(3)).shape == (2, 3)


def test_bernoulli_follows_each_probability():
    x = gg.bernoulli(gg.tensor([0.0, 0.25, 1.0]).expand(N, 3))
    assert x[:, 0].sum() == 0
    assert x[:, 2].sum() == N
    assert float(x[:, 1].mean()) == pytest.approx(0.25, abs=0.02)


def test_a_mask_is_scaled_where_it_keeps():
    kept = mask((N,), 0.75)
    assert kept.dtype is gg.bool
    gg.manual_seed(1234)
    scaled = mask((N,), 0.75, scale=4 / 3, dtype=gg.float32)
    assert scaled.tolist() == (kept.float() * (4 / 3)).tolist()
    assert float(scaled.mean()) == pytest.approx(1, abs=0.03)
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        mask((2,), 1.5)


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_follows_the_weights(replacement):
    weights = gg.tensor([1.0, 0.0, 3.0]).expand(5000, 3)
    found = gg.multinomial(weights, 2, replacement)
    assert found.shape == (5000, 2)
    assert not bool((found == 1).any())
    assert float((found[:, 0] == 2).float().mean()) == pytest.approx(0.75, abs=0.04)
    if not replacement:
        assert bool((found[:, 0] != found[:, 1]).all())


def test_multinomial_never_draws_a_trailing_weight_of_zero():
    assert set(gg.multinomial(gg.tensor([1.0, 1.0, 0.0]), 1000, True).tolist()) == {0, 1}


def test_multinomial_needs_enough_categories():
    with pytest.raises(ArgumentError, match="different categories"):
        gg.multinomial(gg.tensor([1.0, 0.0, 0.0]), 2)


LAWS = [
    ("uniform_", (-1, 3), 1, math.sqrt(16 / 12)),
    ("normal_", (2, 3), 2, 3),
    ("bernoulli_", (0.3,), 0.3, math.sqrt(0.21)),
    ("exponential_", (2.0,), 0.5, 0.5),
    ("log_normal_", (0, 0.25), math.exp(1 / 32), math.exp(1 / 32) * math.sqrt(math.expm1(1 / 16))),
    ("geometric_", (0.25,), 4, math.sqrt(12)),
    ("random_", (10,), 4.5, math.sqrt(99 / 12)),
    ("random_", (-3, 3), -0.5, math.sqrt(35 / 12)),
]


@pytest.mark.parametrize(("name", "args", "mean", "std"), LAWS)
def test_a_tensor_is_filled_in_place(name, args, mean, std):
    x = gg.empty(N)
    assert getattr(x, name)(*args) is x
    assert_law(x, mean, std)


def test_cauchy_has_its_quartiles():
    x = gg.empty(N).cauchy_(1, 2).numpy()
    assert np.quantile(x, [0.25, 0.5, 0.75]) == pytest.approx([-1, 1, 3], abs=0.15)


@pytest.mark.parametrize(
    ("dtype", "most"), [("float32", 2**24), ("int8", 127), ("bool", 1), ("bfloat16", 2**8)]
)
def test_random_fills_all_that_the_dtype_counts(dtype, most):
    x = gg.empty(N, dtype=getattr(gg, dtype)).random_().double()
    assert x.min() < 0.05 * most + 1
    assert 0.95 * most <= float(x.max()) <= most


def test_bernoulli_in_place_takes_a_tensor_of_probabilities():
    x = gg.empty(2, 3, dtype=gg.int64).bernoulli_(gg.tensor([0.0, 1.0, 1.0]))
    assert x.tolist() == [[0, 1, 1], [0, 1, 1]]


def test_a_leaf_that_wants_gradients_is_filled_only_without_recording():
    x = gg.empty(3, requires_grad=True)
    with pytest.raises(AutogradError, match="leaf"):
        x.uniform_()
    with gg.no_grad():
        assert x.uniform_(1, 2).min() >= 1
    assert x.requires_grad


def test_filling_a_view_fills_its_base():
    x = gg.zeros(2, 3)
    x[0].uniform_(1, 2)
    assert bool((x[0] >= 1).all())
    assert x[1].tolist() == [0, 0, 0]


def test_two_threads_never_draw_at_one_offset():
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: gg.rand(1).item(), range(400)))
    gg.manual_seed(1234)
    assert sorted(drawn) == sorted(gg.rand(1).item() for _ in range(400))


def test_a_trace_draws_what_eager_execution_would():
    def step(x):
        noise = gg.empty(2, 3).exponential_() + gg.bernoulli(x) + gg.randperm(3)
        return gg.rand(2, 3) * noise + gg.multinomial(x, 3)

    x = gg.full((2, 3), 0.5)
    program = trace(step, x)
    eager = [step(x).tolist(), step(x).tolist()]
    state = gg.get_rng_state().tolist()
    gg.manual_seed(1234)
    assert [run(program, x).tolist(), run(program, x).tolist()] == eager
    assert gg.get_rng_state().tolist() == state
