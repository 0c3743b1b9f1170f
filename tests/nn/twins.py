"""One layer in both libraries, with the same state."""

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn


def twins(name, *args, **kwargs):
    """Ganglion's layer and PyTorch's, the first loaded with the state of the second."""
    torch = pytest.importorskip("torch")
    mine, other = getattr(nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs)
    mine.load_state_dict({k: gg.tensor(v.numpy()) for k, v in other.state_dict().items()})
    return mine, other


def close(mine, other, what=""):
    """Equal shapes, and values up to rounding in float32."""
    mine, other = mine.detach().numpy(), other.detach().numpy()
    assert mine.shape == other.shape, what
    np.testing.assert_allclose(mine, other, rtol=2e-4, atol=2e-5, err_msg=what)


def assert_twins_agree(mine, other, *shape, **kwargs):
    """Outputs, gradients of input and parameters, state and repr."""
    torch = pytest.importorskip("torch")
    assert repr(mine) == repr(other)
    assert list(mine.state_dict()) == list(other.state_dict())
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    x, y = gg.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    found, expected = mine(x, **kwargs), other(y, **kwargs)
    if isinstance(expected, tuple):
        assert (found[1].numpy() == expected[1].numpy()).all()
        found, expected = found[0], expected[0]
    close(found, expected, "output")
    if found.requires_grad:
        found.square().sum().backward()
        expected.square().sum().backward()
        close(x.grad, y.grad, "gradient of the input")
    for (name, p), q in zip(mine.named_parameters(), other.parameters(), strict=True):
        close(p.grad, q.grad, f"gradient of {name}")
    for (name, p), q in zip(mine.named_buffers(), other.buffers(), strict=True):
        close(p, q, name)
