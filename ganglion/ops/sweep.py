"""What ops compute whose elements depend on an order: running values, and scatters.

The record of such an op has ``sweep(*inputs, **params) -> Scan | Scatter``, written in the language
of ``ops/scalar.py``. Inputs are functions of indexes, as in ``element`` rules; numbers are
functions of no index, and inputs left out are None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ganglion.dtypes as dt
from ganglion.ops.record import OPS
from ganglion.ops.scalar import (
    INDEX,
    NoRule,
    Scalar,
    Source,
    cast,
    const,
    ne,
    unflat,
    where,
)
from ganglion.ops.transcendental import logaddexp
from ganglion.shapes import Meta, Shape

Index = tuple[Scalar, ...]
Carried = tuple[Scalar, ...]
Kind = Literal["set", "sum", "prod", "max", "min"]


@dataclass(frozen=True)
class Scan:
    """Values carried along a dimension, from its end if ``reverse``.

    ``first(index)`` is what is carried away from the first place, ``following(index, *carried)``
    from each later one, and ``result(*carried)`` the element of the result there.
    """

    dim: int
    reverse: bool
    first: Callable[[Index], Carried]
    following: Callable[..., Carried]
    result: Callable[..., Scalar]


@dataclass(frozen=True)
class Scatter:
    """A copy of ``base`` (None: zeros) into which the elements of a box are combined.

    ``target(*index)`` is the place in the result for an element of the box ``over``, and
    ``value(*index)`` the element. They come in row-major order. Places outside the result are
    left out; eagerly, they are errors.
    """

    kind: Kind
    base: Source | None
    over: Shape
    target: Callable[..., Sequence[Scalar]]
    value: Callable[..., Scalar]


# --- running values -------------------------------------------------------------------------------


def linear_scan(a: Source, b: Source, dim: int, reverse: bool) -> Scan:
    """``y[i] = a[i] * y[i - 1] + b[i]``."""
    return Scan(
        dim,
        reverse,
        lambda i: (b(*i),),
        lambda i, y: (a(*i) * y + b(*i),),
        lambda y: y,
    )


def running(combine: Callable[[Scalar, Scalar], Scalar]) -> Callable[..., Scan]:
    """The rule of sums and the like: in float64 or int64, as PyTorch does."""

    def rule(x: Source, dim: int, reverse: bool) -> Scan:
        real = x.dtype.is_floating_point
        wide = dt.float64 if real else dt.int64

        def element(index: Index) -> Scalar:
            return cast(x(*index), wide)

        return Scan(
            dim,
            reverse,
            lambda i: (element(i),),
            lambda i, total: (combine(total, element(i)),),
            lambda total: cast(total, x.dtype if real else wide),
        )

    return rule


cumsum = running(lambda x, y: x + y)
cumprod = running(lambda x, y: x * y)
logcumsumexp = running(logaddexp)


def record_holder(is_record: Callable[[Scalar, Scalar], Scalar]) -> Callable[..., Scan]:
    """The rule of the place of the best element so far; NaN is best, and the last of equals."""

    def rule(x: Source, dim: int) -> Scan:
        def following(index: Index, best: Scalar, place: Scalar) -> Carried:
            found = x(*index)
            better = is_record(found, best) | ne(found, found)
            here = index[dim] if index else place
            return where(better, found, best), where(better, here, place)

        return Scan(
            dim, False, lambda i: (x(*i), const(0, INDEX)), following, lambda best, place: place
        )

    return rule


cummax = record_holder(lambda x, best: x >= best)
cummin = record_holder(lambda x, best: x <= best)


# --- positions read from tensors ------------------------------------------------------------------


def _position(found: Scalar, size: int, wrap: bool = False) -> Scalar:
    at = cast(found, INDEX)
    return where(at < 0, at + size, at) if wrap else at


def _broadcast(x: Source, dtype: dt.dtype) -> Callable[..., Scalar]:
    """An input that may be a number, or broadcast."""

    def value(*index: Scalar) -> Scalar:
        own = index[len(index) - len(x.shape) :]
        places = (i if n != 1 else 0 for i, n in zip(own, x.shape, strict=True))
        return cast(x(*places), dtype)

    return value


def _along(
    kind: Kind, base: Source | None, at: Source, src: Source, dim: int, shape: Shape
) -> Scatter:
    """Positions along one dimension; an index that is smaller elsewhere leaves the rest alone."""

    def target(*index: Scalar) -> Index:
        return (*index[:dim], _position(at(*index), shape[dim]), *index[dim + 1 :])

    dtype = src.dtype if base is None else base.dtype
    return Scatter(kind, base, at.shape, target, _broadcast(src, dtype))


def scatter_add(x: Source | None, at: Source, src: Source, dim: int, shape: Shape) -> Scatter:
    """Elements added at positions along a dimension."""
    return _along("sum", x, at, src, dim, shape)


def scatter(x: Source, at: Source, src: Source, dim: int) -> Scatter:
    """Elements put at positions along a dimension; the last one stays."""
    return _along("set", x, at, src, dim, x.shape)


_KINDS: Mapping[str, Kind] = {"prod": "prod", "amax": "max", "amin": "min"}


def scatter_reduce(x: Source, at: Source, src: Source, dim: int, reduce: str) -> Scatter:
    """Elements combined with what stands at positions along a dimension."""
    return _along(_KINDS[reduce], x, at, src, dim, x.shape)


def _at_positions(
    kind: Kind, base: Source | None, at: Source, value: Source, shape: Shape, dims: Shape,
    wrap: bool,
) -> Scatter:  # fmt: skip
    """Positions in some dimensions, laid out as NumPy does."""
    several = len(dims) > 1
    block = at.shape[several:]
    before = dims[0] if dims[-1] - dims[0] == len(dims) - 1 else 0
    after = before + len(block)
    kept = tuple(n for d, n in enumerate(shape) if d not in dims)

    def target(*index: Scalar) -> Index:
        rest = iter((*index[:before], *index[after:]))
        inside = index[before:after]
        found: list[Scalar] = []
        for d, n in enumerate(shape):
            if d in dims:
                at_d = at(dims.index(d), *inside) if several else at(*inside)
                found.append(_position(at_d, n, wrap))
            else:
                found.append(next(rest))
        return tuple(found)

    dtype = value.dtype if base is None else base.dtype
    over = (*kept[:before], *block, *kept[before:])
    return Scatter(kind, base, over, target, _broadcast(value, dtype))


def index_add(
    x: Source | None, at: Source, value: Source, shape: Shape, dims: Shape, wrap: bool
) -> Scatter:
    """Elements added at positions in some dimensions."""
    return _at_positions("sum", x, at, value, shape, dims, wrap)


def index_put(x: Source, at: Source, value: Source, dims: Shape, wrap: bool) -> Scatter:
    """Elements put at positions in some dimensions; the last one stays."""
    return _at_positions("set", x, at, value, x.shape, dims, wrap)


def embedding_grad(g: Source, at: Source, rows: int) -> Scatter:
    """Rows added up by number."""

    def target(*index: Scalar) -> Index:
        return _position(at(*index[:-1]), rows), index[-1]

    return Scatter("sum", None, g.shape, target, g)


# --- positions known beforehand -------------------------------------------------------------------


def add_strided(x: Source, shape: Shape, size: Shape, stride: Shape, offset: int) -> Scatter:
    """The elements of a strided view added up where they came from."""

    def target(*index: Scalar) -> Index:
        number = const(offset, INDEX)
        for i, step in zip(index, stride, strict=True):
            number = number + i * step
        return unflat(number, shape)

    return Scatter("sum", None, size, target, x)


def _scalars(index: Sequence[Scalar | int]) -> Index:
    return tuple(const(i, INDEX) if isinstance(i, int) else i for i in index)


@dataclass(eq=False)
class _Place:
    """A source whose elements are nothing but their own indexes."""

    shape: Shape
    dtype: dt.dtype

    def __call__(self, *index: Scalar | int) -> Scalar:
        return Scalar("load", (self, *_scalars(index)), self.dtype)


@dataclass(eq=False)
class _Seen:
    """A view of a source."""

    base: Source
    op_name: str
    params: Mapping[str, Any]
    shape: Shape
    dtype: dt.dtype

    def __call__(self, *index: Scalar | int) -> Scalar:
        rule = OPS[self.op_name].element
        assert rule is not None, self.op_name
        return rule(_scalars(index), self.base, **self.params)  # type: ignore[no-any-return]


def write_view(base: Source, value: Source, chain: Any) -> Scatter:
    """Elements put where a chain of views shows them."""
    seen: Source = _Place(base.shape, base.dtype)
    for name, pairs in chain:
        op, params = OPS[name], dict(pairs)
        meta = op.infer(Meta(seen.shape, seen.dtype), **params)
        if op.element is None or meta.dtype is not seen.dtype:
            raise NoRule(f"a store through a view by {name}")
        seen = _Seen(seen, name, params, meta.shape, meta.dtype)
    view = seen

    def target(*index: Scalar) -> Index:
        return view(*index).args[1:]

    return Scatter("set", base, view.shape, target, _broadcast(value, base.dtype))
