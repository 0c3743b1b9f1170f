"""Views and writes through them, alone and as random programs beside PyTorch."""

from contextlib import nullcontext

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import ganglion

# --- random programs: each step does the same in both libraries -----------------------------------


def _dim(x, n):
    return n % x.ndim


def _slice(x, n):
    dim = _dim(x, n)
    size = x.shape[dim]
    return x[(*(slice(None),) * dim, slice(n % (size + 1), None, 1 + n % 2))]


def _select(x, n):
    dim = _dim(x, n)
    return x.select(dim, n % x.shape[dim])


VIEWS = {
    "slice": _slice,
    "select": _select,
    "transpose": lambda x, n: x.transpose(_dim(x, n), -1),
    "flat": lambda x, n: x.view(-1),
    "unsqueeze": lambda x, n: x.unsqueeze(n % (x.ndim + 1)),
    "diagonal": lambda x, n: x.diagonal(n % 3 - 1),
    "fold": lambda x, n: x.view(2, -1),
    "expand": lambda x, n: x.unsqueeze(0).expand(2, *x.shape),
    "detach": lambda x, n: x.detach(),
    "self": lambda x, n: x[...],
    "chunk": lambda x, n: x.narrow(0, 0, x.shape[0] // 2),
}
WRITES = {
    "scale": lambda x, y, n: x.mul_(n),
    "add": lambda x, y, n: x.add_(y),
    "mul": lambda x, y, n: x.mul_(y),
    "square": lambda x, y, n: x.mul_(x),
    "exp": lambda x, y, n: x.sin_(),
    "copy": lambda x, y, n: x.copy_(y),
    "zero": lambda x, y, n: x.zero_(),
    "item": lambda x, y, n: x.__setitem__(n % x.shape[0], 3.0),
    "row": lambda x, y, n: x.__setitem__(n % x.shape[0], y[0]),
    "rows": lambda x, y, n: x.__setitem__([0, x.shape[0] - 1], y),
    "mask": lambda x, y, n: x.__setitem__(x > n - 2, y.sum()),
    "masked": lambda x, y, n: x.masked_fill_(x > n - 2, 2.0),
}
NEW = {
    "product": lambda x, y: x * y,
    "sine": lambda x, y: x.sin(),
    "copy": lambda x, y: x.clone(),
    "total": lambda x, y: x + y.sum(),
}

TABLES = {"view": VIEWS, "write": WRITES, "new": NEW}
counts = st.integers(0, 7)
steps = st.tuples(
    st.sampled_from(
        [(kind, name) for kind, table in TABLES.items() for name in table]
    ),
    counts,
    counts,
    counts,
    st.sampled_from([False] * 7 + [True]),
)


class Machine:
    """A leaf, tensors made from it and not, and the steps of a program in one library."""

    def __init__(self, lib):
        self.lib = lib
        values = np.linspace(-1, 1.5, 12).reshape(3, 4)
        self.leaf = lib.tensor(values, requires_grad=True)
        self.tensors = [self.leaf * 2, lib.tensor(values + 1), self.leaf]

    def step(self, step):
        (kind, name), i, j, n, quiet = step
        x, y = (self.tensors[k % len(self.tensors)] for k in (i, j))
        with self.lib.no_grad() if quiet else nullcontext():
            if kind == "view":
                self.tensors.append(VIEWS[name](x, n))
            elif kind == "new":
                self.tensors.append(NEW[name](x, y))
            else:
                WRITES[name](x, y, n)

    def gradient(self):
        total = sum((x * (k + 1)).sum() for k, x in enumerate(self.tensors))
        total.backward()
        return self.leaf.grad


def attempt(function, *args):
    """The result, or the error that was raised."""
    try:
        return function(*args)
    except (RuntimeError, IndexError, ValueError, ZeroDivisionError) as error:
        return error


def agree(mine, other, what):
    failed = isinstance(mine, Exception), isinstance(other, Exception)
    assert failed[0] == failed[1], f"{what}: {mine!r}, PyTorch: {other!r}"
    return failed[0]


@given(st.lists(steps, max_size=12))
def test_random_programs_of_views_and_writes_do_as_pytorch(program):
    torch = pytest.importorskip("torch")
    mine, other = Machine(ganglion), Machine(torch)
    for step in program:
        agree(attempt(mine.step, step), attempt(other.step, step), step)
    for x, y in zip(mine.tensors, other.tensors, strict=True):
        np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), rtol=1e-12)

    found, expected = attempt(mine.gradient), attempt(other.gradient)
    if not agree(found, expected, "backward"):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-9, atol=1e-9)
