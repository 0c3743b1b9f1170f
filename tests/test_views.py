"""Views and writes through them, alone and as random programs beside PyTorch."""

import re
from contextlib import nullcontext

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import ganglion
from ganglion.errors import AutogradError

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
    "copy": lambda x, y, n: x.copy_(y.reshape(x.shape)),
    "zero": lambda x, y, n: x.zero_(),
    "item": lambda x, y, n: x.__setitem__(n % x.shape[0], 3.0),
    "row": lambda x, y, n: x.__setitem__(n % x.shape[0], y[0]),
    "rows": lambda x, y, n: x.__setitem__([0, x.shape[0] - 1], y),
    "mask": lambda x, y, n: x.__setitem__(x > n - 1.837, y.sum()),
    "masked": lambda x, y, n: x.masked_fill_(x > n - 1.837, 2.0),
}
NEW = {
    "product": lambda x, y: x * y,
    "sine": lambda x, y: x.sin(),
    "copy": lambda x, y: x.clone(),
    "total": lambda x, y: x + y.sum(),
}

TABLES = {"view": VIEWS, "write": WRITES, "new": NEW}
# PyTorch refuses operands that overlap what is written; copies may have other strides there
LENIENT = re.compile("written-to tensor refer|view size is not compatible")
START = np.linspace(-1, 1.5, 12).reshape(3, 4)
counts = st.integers(0, 7)
steps = st.tuples(
    st.sampled_from([(kind, name) for kind, table in TABLES.items() for name in table]),
    counts,
    counts,
    counts,
    st.sampled_from([False] * 7 + [True]),
)


class Machine:
    """A leaf, tensors made from it and not, and the steps of a program in one library."""

    def __init__(self, lib, values=START):
        self.lib = lib
        self.leaf = lib.tensor(values, requires_grad=True)
        self.tensors = [self.leaf * 2, lib.tensor(START + 1), self.leaf]

    def step(self, step):
        (kind, name), i, j, n, quiet = step
        x, y = (self.tensors[k % len(self.tensors)] for k in (i, j))
        if self.lib is not ganglion:  # PyTorch takes a stale view for a leaf until asked
            attempt(lambda: x.grad_fn)
        with self.lib.no_grad() if quiet else nullcontext():
            if kind == "view":
                self.tensors.append(VIEWS[name](x, n))
            elif kind == "new":
                self.tensors.append(NEW[name](x, y))
            elif name in {"scale", "add"} or 0 not in x.stride():  # both refuse repeated elements
                WRITES[name](x, y if y is x else y.clone(), n)  # PyTorch is wrong on overlaps

    def total(self):
        return sum((x * (k + 1)).sum() for k, x in enumerate(self.tensors))

    def gradient(self):
        self.total().backward()
        return self.leaf.grad.numpy()


def attempt(function, *args):
    """The result, or the error that was raised."""
    try:
        return function(*args)
    except (RuntimeError, IndexError, ValueError, ZeroDivisionError) as error:
        return error


def failed(outcome):
    return isinstance(outcome, Exception)


def slope(program, direction):
    """The derivative of a program's total by central differences."""

    def value(step):
        machine = Machine(ganglion, START + step * direction)
        for each in program:
            attempt(machine.step, each)
        return machine.total().item()

    return (value(1e-6) - value(-1e-6)) / 2e-6


@given(st.lists(steps, max_size=12))
def test_random_programs_of_views_and_writes_do_as_pytorch(program):
    torch = pytest.importorskip("torch")
    mine, other = Machine(ganglion), Machine(torch)
    done = []
    for step in program:
        expected = attempt(other.step, step)
        if failed(expected) and LENIENT.search(str(expected)):
            continue
        done.append(step)
        result = attempt(mine.step, step)
        assert failed(result) == failed(expected), f"{step}: {result!r}, PyTorch: {expected!r}"
    for x, y in zip(mine.tensors, other.tensors, strict=True):
        np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), rtol=1e-12)
    result, expected = attempt(mine.gradient), attempt(other.gradient)
    if not failed(expected):
        assert not failed(result), f"PyTorch has a gradient: {result!r}"
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)
    elif not failed(result) and not any(step[-1] or step[0][1] == "detach" for step in done):
        direction = np.cos(START * 5)  # x.mul_(x) and the like are right here, and refused there
        found, allowed = (result * direction).sum(), 1e-7 * (1 + abs(mine.total().item()))
        np.testing.assert_allclose(found, slope(done, direction), rtol=1e-3, atol=allowed)


# --- single cases ---------------------------------------------------------------------------------


def test_a_write_reaches_the_base_through_a_reshape_only_its_own_strides_allow():
    w = ganglion.arange(6.0).reshape(2, 3).requires_grad_()
    x = w.t() * 2  # keeps the transposed order in memory
    assert not x.is_contiguous()
    x.t().view(-1)[1:4] *= 10
    (x * ganglion.arange(6.0).reshape(3, 2)).sum().backward()
    assert w.grad.tolist() == [[0, 40, 80], [20, 6, 10]]


def test_a_write_into_a_view_is_seen_by_its_brothers_and_their_views():
    w = ganglion.ones(4, requires_grad=True)
    x = w * 1
    left, whole = x[:2], x.view(2, 2)
    row = whole[0]
    left.mul_(5)
    (row.sum() + whole[1].sum() * 2).backward()
    assert row.tolist() == [5, 5]
    assert w.grad.tolist() == [5, 5, 2, 2]


def test_views_of_a_detached_tensor_write_its_history_and_not_the_base_s():
    w = ganglion.ones(2, requires_grad=True)
    x = ganglion.zeros(3)
    y = x.detach()
    y[1:].add_(w * 3)
    assert not x.requires_grad
    assert x.tolist() == [0, 3, 3]
    y.sum().backward()
    assert w.grad.tolist() == [3, 3]


def test_a_view_made_a_leaf_starts_a_history_of_its_own():
    x = ganglion.ones(3)
    leaf = x[:2].requires_grad_()
    with pytest.raises(AutogradError, match="view of a leaf"):
        leaf[:1].mul_(2)
    (leaf * 3).sum().backward()
    assert leaf.grad.tolist() == [3, 3]
    assert not x.requires_grad


def test_gradients_of_gradients_flow_through_writes():
    w = ganglion.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x = w * w
    x[1:] *= w[:2]
    (first,) = ganglion.autograd.grad(x.sum(), w, create_graph=True)
    first.sum().backward()
    # x = (a², b²a, c²b): first order sums to 2a + 2ab + b² + 2bc + c²
    assert w.grad.tolist() == [2 + 4, 2 + 4 + 6, 4 + 6]


def test_chains_of_views_are_followed_without_recursion():
    w = ganglion.ones(2, requires_grad=True)
    x = y = w * 1
    for _ in range(1000):
        y = y[:]
    x.mul_(2)
    y.sum().backward()
    assert w.grad.tolist() == [2, 2]
