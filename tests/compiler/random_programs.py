"""Small random programs over the ops that compiled steps are made of."""

from dataclasses import dataclass, field

import hypothesis.strategies as st
import numpy as np

import ganglion as gg

UNARY = ("exp", "tanh", "sigmoid", "relu", "square", "abs", "sin", "neg")
BINARY = ("add", "sub", "mul", "maximum", "minimum")
REDUCE = ("sum", "mean", "amax")
SIZES = (1, 2, 3, 5, 16, 17, 33)


@dataclass
class Recipe:
    """A program: what to start from, then rows of an op's name and what it takes."""

    shape: tuple[int, int]
    rows: list[tuple] = field(default_factory=list)
    learns: bool = False

    def arrays(self):
        """Two arguments and a parameter, well inside of what exp can take."""
        rng = np.random.default_rng(0)
        n, m = self.shape
        return [rng.uniform(-1, 1, s).astype(np.float32) for s in ((n, m), (m,), (m, m))]

    def step(self, w):
        """The program; with ``learns`` it also moves ``w`` against its gradient."""

        def run(x, y):
            w.grad = None
            found = [x, y, w]
            for row in self.rows:
                found.append(compute(*row, found))
            results = found[3:] or [x + y]
            if self.learns:
                loss = sum((r.mean() for r in results), start=(x @ w).mean())
                loss.backward()
                with gg.no_grad():
                    w.sub_(w.grad * 0.125)
            return [r.detach() for r in results]

        return run


def compute(name, a, b, choice, found):
    """One row on the values found so far."""
    x, y = found[a % len(found)], found[b % len(found)]
    if name in UNARY:
        return getattr(gg, name)(x.clamp(-4, 4) if name in ("exp", "square") else x)
    if name in BINARY:
        return getattr(gg, name)(x, like(y, x))
    if name in REDUCE:
        return getattr(gg, name)(x, x.ndim - 1 - choice % x.ndim, keepdim=choice % 3 == 0)
    return OTHERS[name](x, y, choice)


def like(y, x):
    """Something of ``y`` that broadcasts with ``x``."""
    return y if fits(x.shape, y.shape) else y.mean()


def fits(a, b):
    return all(p == q or 1 in (p, q) for p, q in zip(a[::-1], b[::-1], strict=False))


def product(x, y, choice):
    x, y = (t.reshape(1, -1) if t.ndim < 2 else t for t in (x, y))
    if x.shape[-1] == y.shape[-2]:
        return (x @ y) / x.shape[-1]
    return (x.transpose(-1, -2) @ x) / x.shape[-2]


def piece(x, y, choice):
    dim = choice % x.ndim
    return x.narrow(dim, 0, 1 + choice % x.shape[dim])


OTHERS = {
    "matmul": product,
    "softmax": lambda x, y, c: gg.softmax(x, dim=c % x.ndim),
    "transpose": lambda x, y, c: x.transpose(0, -1) if x.ndim > 1 else x + 1,
    "flatten": lambda x, y, c: x.reshape(-1),
    "cat": lambda x, y, c: gg.cat([x, x * 2], dim=c % x.ndim),
    "where": lambda x, y, c: gg.where(x > 0, x, like(y, x)),
    "narrow": piece,
    "flip": lambda x, y, c: x.flip(c % x.ndim),
    "unsqueeze": lambda x, y, c: x.unsqueeze(c % x.ndim) if x.ndim < 4 else x,
}


def keep_dims(rows):
    """Rows whose values have a dimension at least: what reduces keeps it."""
    return [(name, a, b, 3 * c if name in REDUCE else c) for name, a, b, c in rows]


recipes = st.builds(
    Recipe,
    st.tuples(st.sampled_from(SIZES), st.sampled_from(SIZES)),
    st.lists(
        st.tuples(
            st.sampled_from([*UNARY, *BINARY, *REDUCE, *OTHERS]),
            st.integers(0, 9), st.integers(0, 9), st.integers(0, 5),
        ),
        min_size=1,
        max_size=10,
    ).map(keep_dims),
    st.booleans(),
)  # fmt: skip
