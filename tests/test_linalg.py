"""Norms and products under PyTorch's `linalg` names."""

import math

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import ArgumentError, ShapeError

torch = pytest.importorskip("torch")


def assert_same(call, *shapes):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    mine = [gg.tensor(a, requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    found, expected = call(gg.linalg, *mine), call(torch.linalg, *other)
    np.testing.assert_allclose(found.numpy(force=True), expected.detach().numpy(), rtol=1e-12)
    found.sum().backward()
    expected.sum().backward()
    for x, y in zip(mine, other, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("order", [None, "fro", 1, -1, math.inf, -math.inf])
@pytest.mark.parametrize("dim", [(0, 1), (1, 0), None])
@pytest.mark.parametrize("keepdim", [False, True])
def test_matrix_norms(order, dim, keepdim):
    assert_same(lambda lib, x: lib.norm(x, order, dim, keepdim=keepdim), (3, 4))


@pytest.mark.parametrize("order", [None, 0.5, 1, 2, 3, math.inf, -math.inf])
def test_vector_norms(order):
    assert_same(lambda lib, x: lib.norm(x, order, 1), (3, 4))
    assert_same(lambda lib, x: lib.norm(x, order), (5,))


def test_norms_of_batches():
    assert_same(lambda lib, x: lib.matrix_norm(x), (2, 3, 4))
    assert_same(lambda lib, x: lib.matrix_norm(x, 1, (0, 2)), (2, 3, 4))
    assert_same(lambda lib, x: lib.norm(x), (2, 3, 4))


def test_vecdot():
    assert_same(lambda lib, x, y: lib.vecdot(x, y), (2, 3), (3,))
    assert_same(lambda lib, x, y: lib.vecdot(x, y, dim=0), (2, 3), (2, 1))


@pytest.mark.parametrize("order", [2, -2, "nuc", 3])
def test_norms_of_singular_values_are_refused(order):
    with pytest.raises(ArgumentError, match="'fro', 1, -1, inf or -inf"):
        gg.linalg.matrix_norm(gg.ones(2, 2), order)


def test_a_matrix_norm_needs_two_dimensions():
    for call in (
        lambda: gg.linalg.matrix_norm(gg.ones(3)),
        lambda: gg.linalg.norm(gg.ones(3), "fro", 0),
    ):
        with pytest.raises(ShapeError, match="two dimensions"):
            call()
