"""Reductions: what the table of samples does not see."""

import math

import numpy as np
import pytest

import ganglion as gg
from ganglion.compiler import interpret, trace
from ganglion.ops import moments, reduce
from ganglion.ops.record import OPS

FAMILIES = (reduce, moments)
COMPOSITES = [
    op
    for op in OPS.values()
    if op.decompose and any(op is x for m in FAMILIES for x in vars(m).values())
]
OPTIONS = {
    "mean": [{}],
    "var": [{"correction": 1}, {"correction": 0}],
    "std": [{"correction": 1}],
    "logsumexp": [{}],
    "vector_norm": [{"p": p} for p in (0.0, 0.5, 1.0, 2.0, 3.0, math.inf, -math.inf)],
}


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def tensor(array, **options):
    return gg.tensor(np.asarray(array), **options)


@pytest.mark.parametrize("op", COMPOSITES, ids=repr)
@pytest.mark.parametrize("dims", [(0,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_decompositions_equal_the_kernels(op, dims, keepdim):
    x = tensor(random(3, 4, 2))
    for options in OPTIONS[op.name]:
        kernel = op(x, dims=dims, keepdim=keepdim, **options)
        pieces = op.decompose(x, dims=dims, keepdim=keepdim, **options)
        assert kernel.shape == pieces.shape
        np.testing.assert_allclose(kernel.numpy(), pieces.numpy(), rtol=1e-12)


def test_every_composite_is_compared_with_its_pieces():
    assert {op.name for op in COMPOSITES} == set(OPTIONS)


def test_logsumexp_decomposes_around_infinities():
    x = tensor([[-math.inf, -math.inf], [math.inf, 1.0], [1000.0, 1001.0]])
    pieces = moments.LOGSUMEXP.decompose(x, dims=(1,), keepdim=False)
    np.testing.assert_allclose(pieces.numpy(), [-math.inf, math.inf, 1001.3132616875182])


@pytest.mark.parametrize("shape", [(100_000, 3), (70_001, 2, 2)])
def test_long_columns_of_float32_are_summed_accurately(shape):
    x = (random(*shape) + 3).astype(np.float32)
    exact = x.astype(np.float64).sum(0)
    np.testing.assert_allclose(gg.sum(tensor(x), 0).numpy(), exact, rtol=1e-6)
    np.testing.assert_allclose(gg.mean(tensor(x), 0).numpy(), exact / len(x), rtol=1e-6)


@pytest.mark.parametrize("rows", [511, 512, 513, 768, 769, 1024])
@pytest.mark.parametrize("dims", [(0,), (0, 1), (0, 2)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_blocks_leave_out_no_row(rows, dims, keepdim):
    x = np.arange(rows * 6.0).reshape(rows, 2, 3)
    found = gg.sum(tensor(x), dims, keepdim)
    np.testing.assert_array_equal(found.numpy(), x.sum(dims, keepdims=keepdim))


def test_blocks_keep_nan_and_infinity():
    x = np.zeros((2000, 4))
    x[1999, 0], x[3, 1], x[5, 2], x[1500, 2] = np.nan, np.inf, np.inf, -np.inf
    np.testing.assert_array_equal(gg.sum(tensor(x), 0).numpy(), [np.nan, np.inf, np.nan, 0])


def test_half_sums_round_once():
    x = gg.ones(5000).half()
    assert gg.sum(x).item() == 5000.0
    assert gg.mean(x * 60000).item() == pytest.approx(60000, rel=1e-3)


def test_max_returns_values_and_indices_by_name():
    found = tensor([[1.0, 5.0], [7.0, 2.0]]).max(1)
    values, indices = found
    assert found.values is values
    assert found.indices is indices
    assert values.tolist() == [5.0, 7.0]
    assert indices.tolist() == [1, 0]
    assert indices.dtype is gg.int64


def test_aminmax_names_its_ends():
    found = gg.aminmax(tensor([3.0, -1.0, 2.0]))
    assert (found.min.item(), found.max.item()) == (-1.0, 3.0)


def test_gradient_of_max_goes_to_the_first_of_equals_along_a_dim_and_is_shared_without():
    x = tensor([[2.0, 2.0, 1.0]], requires_grad=True)
    (along,) = gg.autograd.grad(gg.max(x, 1).values.sum(), x)
    (overall,) = gg.autograd.grad(gg.max(x), x)
    assert along.tolist() == [[1.0, 0.0, 0.0]]
    assert overall.tolist() == [[0.5, 0.5, 0.0]]


def test_out_receives_values_and_indices():
    values, indices = gg.empty(0), gg.empty(0, dtype=gg.int64)
    found = gg.max(tensor([[1.0, 5.0]], dtype=gg.float32), 1, out=(values, indices))
    assert found.values is values
    assert (values.tolist(), indices.tolist()) == ([5.0], [1])


@pytest.mark.parametrize(
    ("x", "options", "expected"),
    [
        ([4.0], {}, math.nan),
        ([4.0], {"correction": 0}, 0.0),
        ([1.0, 2.0], {"correction": 3}, math.inf),
        ([], {}, math.nan),
    ],
)
def test_variance_without_degrees_of_freedom(x, options, expected):
    np.testing.assert_equal(gg.var(tensor(x, dtype=gg.float64), **options).item(), expected)


def test_variance_does_not_cancel():
    x = tensor(random(1000) + 1e6)
    assert gg.var(x).item() == pytest.approx(np.var(x.numpy(), ddof=1), rel=1e-10)


def test_std_of_equal_elements_passes_no_gradient_in_either_order():
    x = tensor([2.0, 2.0, 2.0], requires_grad=True)
    (first,) = gg.autograd.grad(gg.std(x), x, create_graph=True)
    (second,) = gg.autograd.grad(first.sum(), x)
    assert first.tolist() == second.tolist() == [0.0, 0.0, 0.0]


def test_vector_norm_of_zero_passes_no_gradient():
    x = tensor([0.0, 0.0], requires_grad=True)
    for order in (0.5, 1, 2, 3, math.inf):
        (found,) = gg.autograd.grad(moments.vector_norm(x, order), x)
        assert found.tolist() == [0.0, 0.0], order


def test_product_is_differentiated_through_zeros_three_times():
    x = tensor([0.0, 3.0, 0.0], requires_grad=True)
    (first,) = gg.autograd.grad(gg.prod(x), x, create_graph=True)
    (second,) = gg.autograd.grad(first[0], x, create_graph=True)
    (third,) = gg.autograd.grad(second[1], x)
    assert first.tolist() == [0.0, 0.0, 0.0]
    assert second.tolist() == [0.0, 0.0, 3.0]
    assert third.tolist() == [0.0, 0.0, 1.0]


def test_sum_to_undoes_broadcasting():
    x = gg.ones(5, 2, 3)
    assert reduce.sum_to(x, (2, 1)).tolist() == [[15.0], [15.0]]
    assert reduce.sum_to(x, ()).item() == 30.0
    assert reduce.sum_to(x, (5, 2, 3)) is x


STEPS = {
    "extremes": lambda x: x.max(1).values * x.amin(1) + x.max() - gg.aminmax(x).min,
    "moments": lambda x: x.std(1) * x.var() + x.mean(1) + x.norm(3) + x.logsumexp(1),
    "products": lambda x: x.prod(1) + x.cumprod(1).sum(1) + x.cumsum(0).nansum(1),
    "running": lambda x: x.logcumsumexp(1).sum(1) + x.cummax(1).values.sum(1) + x.diff(dim=1).sum(),
    "order": lambda x: x.sort(1).values.cumprod(1).sum(1) + x.topk(2).values.sum(1),
    "ranks": lambda x: x.median(1).values + x.median() + x.kthvalue(2).values + x.quantile(0.3),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_traced_steps_give_the_same_values_and_gradients(step):
    weight = gg.tensor(random(3, 4), requires_grad=True)

    def train(x):
        loss = step(x * weight).sum()
        loss.backward()
        return loss

    x = tensor(random(3, 4, seed=1))
    program = trace.trace(train, x)
    eager, expected = train(x).item(), weight.grad
    weight.grad = None
    for decomposed in (False, True):
        found = interpret.run(program, x, decomposed=decomposed)
        assert found.item() == pytest.approx(eager, rel=1e-12)
        np.testing.assert_allclose(weight.grad.numpy(), expected.numpy(), rtol=1e-10)
