"""Views and writes through them, alone and as random programs beside PyTorch."""

from contextlib import nullcontext

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

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

steps = st.one_of(
    st.tuples(st.sampled_from(sorted(VIEWS)), st.integers(0, 9), st.integers(0, 5)),
    st.tuples(st.sampled_from(sorted(WRITES)), st.integers(0, 9), st.integers(0, 9), st.integers(0, 3)),
    st.tuples(st.sampled_from(sorted(NEW)), st.integers(0, 9), st.integers(0, 9)),
)
