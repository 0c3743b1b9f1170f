"""Jacobians, Hessians and their products, against PyTorch."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import AutogradError, ShapeError
from tests.autograd.parity import assert_parity

torch = pytest.importorskip("torch")


def vector(lib, n=3, start=0.5):
    return lib.from_numpy(np.linspace(start, start + 1, n))


def pair(x, y):
    return x * y.sum(), (x * x).sum() + y.exp()


def flat(found):
    """Tuples of tuples of tensors as one list."""
    return [one for part in found for one in flat(part)] if isinstance(found, tuple) else [found]


def jacobians(lib):
    f = lib.autograd.functional
    x, y = vector(lib), vector(lib, 2)
    yield f.jacobian(lambda x: x * x.sum(), x)
    yield f.jacobian(pair, (x, y))
    yield f.jacobian(lambda x: x.sum(), x.reshape(1, 3))
    yield f.jacobian(lambda x: x.outer(x), x)


def products(lib):
    f = lib.autograd.functional
    x, y, v = vector(lib), vector(lib, 2), vector(lib, 3, -1.0)
    yield f.vjp(lambda x: x * x.sum(), x, v)
    yield f.vjp(lambda x: x.exp().sum(), x)
    yield f.jvp(lambda x: x * x.sum(), x, v)
    yield f.jvp(pair, (x, y), (v, y))
    yield f.vjp(pair, (x, y), (v, y))


def second_order(lib):
    f = lib.autograd.functional
    x, y, v = vector(lib), vector(lib, 2), vector(lib, 3, -1.0)

    def scalar(x, y):
        return (x * x * x).sum() * y.sum() + y.exp().sum()

    yield f.hessian(lambda x: (x.sin() * x).sum(), x)
    yield f.hessian(scalar, (x, y))
    yield f.hvp(lambda x: (x**3).sum(), x, v)
    yield f.vhp(lambda x: (x**3).sum() * x[0], x, v)
    yield f.hvp(scalar, (x, y), (v, y))


@pytest.mark.parametrize("program", [jacobians, products, second_order])
def test_results_equal_pytorch(program):
    assert_parity(lambda lib: flat(tuple(program(lib))), torch, rtol=1e-12)


def test_results_have_no_history_unless_wanted():
    x = vector(gg).requires_grad_()
    plain = gg.autograd.functional.jacobian(lambda x: x * x, x)
    tracked = gg.autograd.functional.jacobian(lambda x: x * x, x, create_graph=True)
    assert not plain.requires_grad
    (g,) = gg.autograd.grad(tracked.sum(), x)
    assert g.tolist() == [2.0, 2.0, 2.0]
    assert x.grad is None


def test_independence_is_zero_or_refused():
    x = vector(gg)
    assert gg.autograd.functional.jacobian(lambda x: gg.ones(2), x).tolist() == [[0.0] * 3] * 2
    with pytest.raises(AutogradError, match="does not depend on input 0"):
        gg.autograd.functional.jacobian(lambda x: gg.ones(2), x, strict=True)


def test_nothing_in_gives_nothing_out():
    found = gg.autograd.functional.jacobian(lambda x: x[:0], vector(gg))
    assert found.shape == (0, 3)


def test_grad_mode_does_not_matter():
    with gg.no_grad():
        found = gg.autograd.functional.jacobian(lambda x: x * x, vector(gg))
    assert found.diagonal().tolist() == [1.0, 2.0, 3.0]


def test_errors_name_the_shapes():
    with pytest.raises(ShapeError, match="single element, got \\(3,\\)"):
        gg.autograd.functional.hessian(lambda x: x, vector(gg))
    with pytest.raises(ShapeError, match=r"shapes of the inputs, \(3,\); got \(2,\)"):
        gg.autograd.functional.jvp(lambda x: x, vector(gg), vector(gg, 2))
    with pytest.raises(ShapeError, match="v can only be left out"):
        gg.autograd.functional.vjp(lambda x: x, vector(gg))
