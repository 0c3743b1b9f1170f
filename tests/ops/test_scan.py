"""Running sums and products: what the table of samples does not see."""

import math

import numpy as np
import pytest

import ganglion as gg
from ganglion.ops import scan


def tensor(array, **options):
    return gg.tensor(np.asarray(array, np.float64), **options)


def test_float32_sums_are_accumulated_in_float64():
    x = np.full(100_000, 0.1, np.float32)
    exact = np.cumsum(x.astype(np.float64))
    np.testing.assert_allclose(gg.cumsum(gg.tensor(x), 0).numpy(), exact, rtol=1e-7)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dim", [0, 1])
def test_linear_scan_is_the_recurrence(dim, reverse):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 4, 5))
    found = scan.LINEAR_SCAN(tensor(a), tensor(b), dim=dim, reverse=reverse).numpy()
    a, b, y = (np.moveaxis(v, dim, 0)[:: -1 if reverse else 1] for v in (a, b, found))
    np.testing.assert_array_equal(y[0], b[0])
    np.testing.assert_allclose(y[1:], a[1:] * y[:-1] + b[1:], rtol=1e-12)


def test_shift_moves_either_way_and_fills():
    x = tensor([[1, 2, 3]])
    assert scan.SHIFT(x, dim=1, by=1, fill=9).tolist() == [[9, 1, 2]]
    assert scan.SHIFT(x, dim=1, by=-2, fill=0).tolist() == [[3, 0, 0]]
    assert scan.SHIFT(tensor(5), dim=0, by=1, fill=7).item() == 7


def test_product_of_others_needs_no_division():
    assert scan.product_of_others(tensor([2, 0, 5]), 0).tolist() == [0, 10, 0]
    assert scan.product_of_others(tensor([2, 3, 5]), 0).tolist() == [15, 10, 6]


@pytest.mark.parametrize("zeros", [[], [1], [0, 3]])
def test_gradients_of_cumprod_through_zeros_equal_pytorch(zeros):
    torch = pytest.importorskip("torch")
    x = np.array([1.5, -2.0, 0.5, 3.0, -1.0])
    x[zeros] = 0
    weight = np.arange(1.0, 6.0)
    mine = tensor(x, requires_grad=True)
    other = torch.tensor(x, requires_grad=True)
    (first,) = gg.autograd.grad(
        (gg.cumprod(mine, 0) * tensor(weight)).sum(), mine, create_graph=True
    )
    (reference,) = torch.autograd.grad(
        (torch.cumprod(other, 0) * torch.tensor(weight)).sum(), other, create_graph=True
    )
    np.testing.assert_allclose(first.detach().numpy(), reference.detach().numpy(), rtol=1e-12)
    (second,) = gg.autograd.grad((first * first).sum(), mine)
    (reference,) = torch.autograd.grad((reference * reference).sum(), other)
    np.testing.assert_allclose(second.numpy(), reference.numpy(), rtol=1e-12)


def test_logcumsumexp_of_nothing_yet_passes_no_gradient():
    x = tensor([-math.inf, -math.inf, 1.0, 2.0], requires_grad=True)
    y = gg.logcumsumexp(x, 0)
    assert y.tolist()[:3] == [-math.inf, -math.inf, 1.0]
    (found,) = gg.autograd.grad(y.sum(), x)
    share = math.exp(1 - y[3].item())
    np.testing.assert_allclose(found.numpy(), [0, 0, 1 + share, 1 - share], rtol=1e-12)


def test_gradients_of_logcumsumexp_do_not_overflow():
    x = tensor([-900.0, 900.0, 899.0], requires_grad=True)
    (found,) = gg.autograd.grad(gg.logcumsumexp(x, 0).sum(), x)
    tail = 1 / (1 + math.e)
    np.testing.assert_allclose(found.numpy(), [1, 2 - tail, tail], rtol=1e-12)


def test_cummax_points_at_the_last_of_equal_records():
    found = gg.cummax(tensor([1, 3, 3, 2, 3]), 0)
    assert found.indices.tolist() == [0, 1, 2, 2, 4]
    assert found.values.tolist() == [1, 3, 3, 3, 3]
