"""Recurrent cells against PyTorch's."""

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from tests.nn.twins import close, twins

CELLS = [
    ("RNNCell", {}),
    ("RNNCell", {"nonlinearity": "relu", "bias": False}),
    ("LSTMCell", {}),
    ("LSTMCell", {"bias": False}),
    ("GRUCell", {}),
    ("GRUCell", {"bias": False}),
]
every_cell = pytest.mark.parametrize(("name", "options"), CELLS, ids=str)


def drawn(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype("f")


def states(lib, name, *shape):
    h = lib.tensor(drawn(*shape), requires_grad=True)
    c = lib.tensor(drawn(*shape) * 2, requires_grad=True)
    return ((h, c), (h, c)) if name == "LSTMCell" else (h, (h,))


@every_cell
@pytest.mark.parametrize("shape", [(2,), ()], ids=["batched", "unbatched"])
def test_steps_equal_pytorchs(name, options, shape):
    torch = pytest.importorskip("torch")
    mine, other = twins(name, 3, 4, **options)
    assert repr(mine) == repr(other)
    assert list(mine.state_dict()) == list(other.state_dict())
    found = []
    for lib, cell in ((gg, mine), (torch, other)):
        x = lib.tensor(drawn(*shape, 3), requires_grad=True)
        hx, leaves = states(lib, name, *shape, 4)
        once = cell(x, hx)
        outs = cell(x * 2, once) + cell(x) if name == "LSTMCell" else (cell(x * 2, once), cell(x))
        sum(out.square().sum() for out in outs).backward()
        found.append([*outs, x.grad, *(h.grad for h in leaves)])
        found[-1] += [p.grad for p in cell.parameters()]
    for a, b in zip(*found, strict=True):
        close(a, b)


@every_cell
def test_parameters_start_from_pytorchs_law(name, options):
    gg.manual_seed(0)
    for parameter in getattr(nn, name)(30, 64, **options).parameters():
        values = parameter.detach().numpy()
        assert abs(values).max() <= 1 / 8
        assert values.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.2)


@every_cell
def test_refused_arguments(name, options):
    cell = getattr(nn, name)(3, 4, **options)
    with pytest.raises(ValueError, match=f"{name}: Expected input to be 1D or 2D, got 3D"):
        cell(gg.randn(1, 2, 3))
    with pytest.raises(ValueError, match="Expected hidden to be 1D or 2D, got 3D"):
        cell(gg.randn(2, 3), states(gg, name, 1, 2, 4)[0])
    with pytest.raises(RuntimeError, match="got 5, expected 3"):
        cell(gg.randn(2, 5))
    with pytest.raises(RuntimeError, match=r"h has shape \(2, 5\)|w_hh has shape"):
        cell(gg.randn(2, 3), states(gg, name, 2, 5)[0])


def test_an_unknown_nonlinearity():
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: sine"):
        nn.RNNCell(3, 4, nonlinearity="sine")(gg.randn(2, 3))
