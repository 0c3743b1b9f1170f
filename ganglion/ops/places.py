"""Where elements come from: the ``element`` rules of views, movements, indexing and reductions.

Each takes the index of an element of the result, the inputs as functions of indexes, and the
op's params. Positions read from tensors are limited to what exists; eagerly, others are errors.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import ganglion.dtypes as dt
from ganglion.ops.record import OPS
from ganglion.ops.scalar import (
    INDEX,
    NoRule,
    Scalar,
    Source,
    bits,
    cast,
    const,
    eq,
    flat,
    guarded,
    lshr,
    maximum,
    minimum,
    ne,
    reduce,
    unflat,
    where,
)
from ganglion.shapes import Meta, Shape, infer_size

Index = tuple[Scalar, ...]


def _replaced(index: Index, dim: int, i: Scalar) -> Index:
    return (*index[:dim], i, *index[dim + 1 :])


# --- views ----------------------------------------------------------------------------------------


def same(index: Index, x: Source) -> Scalar:
    """The input itself."""
    return x(*index)


def viewed(index: Index, x: Source, shape: Shape) -> Scalar:
    """Elements in row-major order under another shape."""
    whole = infer_size(shape, math.prod(x.shape))
    return x(*unflat(flat(index, whole), x.shape))


def permuted(index: Index, x: Source, dims: Shape) -> Scalar:
    """Dimensions in another order."""
    return x(*(index[dims.index(d)] for d in range(len(dims))))


def expanded(index: Index, x: Source, shape: Shape) -> Scalar:
    """Dimensions of size 1 repeated, new ones in front."""
    own = index[len(shape) - len(x.shape) :]
    return x(*(i if n != 1 else 0 for i, n in zip(own, x.shape, strict=True)))


def sliced(index: Index, x: Source, key: tuple[Any, ...]) -> Scalar:
    """A basic index: integers, slices and None."""
    places: list[Scalar | int] = []
    left = iter(index)
    for k in key:
        if k is None:
            next(left)
            continue
        size = x.shape[len(places)]
        if isinstance(k, slice):
            start, _, step = k.indices(size)
            places.append(next(left) * step + start)
        else:
            places.append(k % size)
    return x(*places, *left)


def windowed(index: Index, x: Source, dim: int, size: int, step: int) -> Scalar:
    """Windows of ``size``, ``step`` apart; the last index runs inside them."""
    *front, inside = index
    front[dim] = front[dim] * step + inside
    return x(*front)


def strided(index: Index, x: Source, size: Shape, stride: Shape, offset: int) -> Scalar:
    """Any strides over the elements in row-major order."""
    number = const(offset, INDEX)
    for i, step in zip(index, stride, strict=True):
        number = number + i * step
    return x(*unflat(number, x.shape))


def diagonal(index: Index, x: Source, offset: int, dim1: int, dim2: int) -> Scalar:
    """Diagonals over two dimensions, as the last one."""
    *rest, k = index
    at = {dim1: k + max(-offset, 0), dim2: k + max(offset, 0)}
    left = iter(rest)
    return x(*(at[d] if d in at else next(left) for d in range(len(x.shape))))


# --- the other way: elements that may come from the input -----------------------------------------


def _all(conditions: Sequence[Scalar]) -> Scalar:
    return functools.reduce(operator.and_, conditions)


def embedded(index: Index, x: Source, shape: Shape, key: tuple[Any, ...], fill: float) -> Scalar:
    """The input at a basic index of a constant."""
    if 0 in x.shape:
        return const(fill, x.dtype)
    places, conditions = unsliced(index, shape, key)
    found = x(*places)
    return guarded(_all(conditions), found, fill) if conditions else found


def unsliced(
    index: Sequence[Scalar], shape: Shape, key: tuple[Any, ...]
) -> tuple[list[Scalar], list[Scalar]]:
    """Where an element of a tensor stands in its slice, and what holds if it does."""
    places: list[Scalar] = []
    conditions: list[Scalar] = []
    left = iter(zip(index, shape, strict=True))
    for k in key:
        if k is None:
            places.append(const(0, INDEX))
            continue
        i, size = next(left)
        if isinstance(k, slice):
            place, inside = _unsliced_dim(i, size, k)
            places.append(place)
            conditions += inside
        elif size > 1:
            conditions.append(eq(i, k % size))
    return [*places, *(i for i, _ in left)], conditions


def _unsliced_dim(i: Scalar, size: int, key: slice) -> tuple[Scalar, list[Scalar]]:
    start, _, step = key.indices(size)
    count = len(range(*key.indices(size)))
    if step < 0:
        start, step, i = size - 1 - start, -step, size - 1 - i
    place, conditions = i - start, []
    if start:
        conditions.append(i >= start)
    if start + count * step < size:
        conditions.append(i < start + count * step)
    if step > 1:
        conditions.append(eq(place % step, 0))
        place = place // step
    return place, conditions


Chain = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]


def written(index: Index, base: Source, value: Source, chain: Chain) -> Scalar:
    """``value`` where a chain of views shows the element, else what was there."""
    places, shape, conditions = list(index), base.shape, list[Scalar]()
    for name, pairs in chain:
        params = dict(pairs)
        after = OPS[name].infer(Meta(shape, base.dtype), **params).shape
        if name == "slice":
            places, inside = unsliced(places, shape, params["key"])
            conditions += inside
        elif name == "permute":
            places = [places[d] for d in params["dims"]]
        elif name == "view":
            places = list(unflat(flat(places, shape), after))
        elif name != "alias":
            raise NoRule(f"a store through a view by {name}")
        shape = after
    own = places[len(places) - len(value.shape) :]
    found = value(*(i if n != 1 else 0 for i, n in zip(own, value.shape, strict=True)))
    return guarded(_all(conditions), found, base(*index)) if conditions else found


def read_as(index: Index, x: Source, dtype: dt.dtype) -> Scalar:
    """The same bits as another dtype, whose elements may be several or a part of one."""
    have, want = x.dtype.itemsize, dtype.itemsize
    if have == want:
        return _of_bits(_bits(x(*index)), dtype)
    *lead, i = index
    if have > want:
        count = have // want
        found = lshr(cast(_bits(x(*lead, i // count)), dt.int64), i % count * (8 * want))
    else:
        count, ones = want // have, (1 << 8 * have) - 1
        parts = [cast(_bits(x(*lead, i * count + k)), dt.int64) & ones for k in range(count)]
        found = functools.reduce(operator.or_, (p << 8 * have * k for k, p in enumerate(parts)))
    return _of_bits(cast(found, _whole(want)), dtype)


def _whole(size: int) -> dt.dtype:
    """The signed integers of so many bytes."""
    return next(d for d in (dt.int8, dt.int16, dt.int32, dt.int64) if d.itemsize == size)


def _bits(x: Scalar) -> Scalar:
    """A value's bits as an integer."""
    whole = _whole(x.dtype.itemsize)
    return cast(x, whole) if x.dtype is dt.bool_ else bits(x, whole)


def _of_bits(x: Scalar, dtype: dt.dtype) -> Scalar:
    """The value that an integer's bits stand for."""
    return cast(x, dtype) if dtype is dt.bool_ else bits(x, dtype)


def zeros(index: Index, x: Source) -> Scalar:
    """Zeros of the input's dtype."""
    return const(0, x.dtype)


def summed_windows(index: Index, x: Source, shape: Shape, dim: int, size: int, step: int) -> Scalar:
    """Windows added up where they came from."""
    count = x.shape[dim]

    def part(inside: Scalar) -> Scalar:
        start = index[dim] - inside
        found = x(*_replaced(index, dim, start // step), inside)
        fits = (start >= 0) & (start < count * step)
        return guarded(fits & eq(start % step, 0) if step > 1 else fits, found, 0)

    return reduce("sum", (size,), part)


def embedded_diagonal(
    index: Index, x: Source, shape: Shape, offset: int, dim1: int, dim2: int
) -> Scalar:
    """Matrices with the last dimension of the input on their diagonals."""
    if 0 in x.shape:
        return const(0, x.dtype)
    row, column = index[dim1], index[dim2]
    rest = [i for d, i in enumerate(index) if d not in (dim1, dim2)]
    found = x(*rest, row - max(-offset, 0))
    return guarded(eq(column - row, offset), found, 0)


def triangle(index: Index, x: Source, diagonal: int, upper: bool) -> Scalar:
    """Zeros above a diagonal, or below."""
    above = index[-1] - index[-2]
    return where(above >= diagonal if upper else above <= diagonal, x(*index), 0)


# --- movements ------------------------------------------------------------------------------------


def flipped(index: Index, x: Source, dims: Shape) -> Scalar:
    """Backwards along some dimensions."""
    pairs = enumerate(zip(index, x.shape, strict=True))
    return x(*(n - 1 - i if d in dims else i for d, (i, n) in pairs))


def rolled(index: Index, x: Source, shift: Shape, axis: Shape) -> Scalar:
    """Shifted around."""
    if not axis or 0 in x.shape:
        return x(*index)
    dim = axis[0] % len(x.shape)
    i, size = index[dim], x.shape[dim]
    by = shift[0] % size

    def rest(place: Scalar) -> Scalar:
        return rolled(_replaced(index, dim, place), x, shift[1:], axis[1:])

    if not by:
        return rest(i)
    return guarded(i >= by, rest(i - by), guarded(i < by, rest(i + (size - by)), 0))


def shifted(index: Index, x: Source, dim: int, by: int, fill: float) -> Scalar:
    """Moved along a dimension; ``fill`` comes in."""
    if not x.shape:
        return const(fill, x.dtype)
    place = index[dim] - by
    inside = place >= 0 if by > 0 else place < x.shape[dim]
    return guarded(inside, x(*_replaced(index, dim, place)), fill)


def concatenated(index: Index, *xs: Source, dim: int) -> Scalar:
    """One after the other along a dimension."""
    joined = [x for x in xs if len(x.shape) == len(index) and x.shape[dim]]
    found = const(0, xs[0].dtype)
    end = size = sum(x.shape[dim] for x in joined)
    for x in reversed(joined):
        start = end - x.shape[dim]
        place, inside = _unsliced_dim(index[dim], size, slice(start, end))
        part = x(*_replaced(index, dim, place))
        found = guarded(_all(inside), part, found) if inside else part
        end = start
    return found


def stacked(index: Index, *xs: Source, dim: int) -> Scalar:
    """Side by side along a new dimension."""
    at, rest = index[dim], (*index[:dim], *index[dim + 1 :])
    found = xs[-1](*rest)
    for k, x in reversed(list(enumerate(xs[:-1]))):
        found = guarded(eq(at, k), x(*rest), found)
    return found


# --- positions read from tensors ------------------------------------------------------------------


def _counted(found: Scalar, size: int) -> Scalar:
    """A position counted from the front, if it was counted from the end."""
    at = cast(found, INDEX)
    return where(at < 0, at + size, at)


def _position(found: Scalar, size: int, wrap: bool = False) -> tuple[Scalar, Scalar]:
    """A position that exists, and whether it is the one that was found."""
    at = _counted(found, size) if wrap else cast(found, INDEX)
    near = minimum(maximum(at, 0), max(size - 1, 0))
    return near, eq(near, at)


def _if_there(conditions: list[Scalar], found: Scalar) -> Scalar:
    """NaN where a position does not exist; integers have none, theirs is the nearest element."""
    if not found.dtype.is_floating_point:
        return found
    return where(_all(conditions), found, math.nan)


def gathered(index: Index, x: Source, at: Source, dim: int) -> Scalar:
    """Elements at positions along one dimension."""
    place, there = _position(at(*index), x.shape[dim])
    return _if_there([there], x(*_replaced(index, dim, place)))


def indexed(index: Index, x: Source, at: Source, dims: Shape, wrap: bool) -> Scalar:
    """Elements at positions in some dimensions, as NumPy lays them out."""
    several = len(dims) > 1
    size = len(at.shape) - several
    before = dims[0] if dims[-1] - dims[0] == len(dims) - 1 else 0
    block, kept = index[before : before + size], iter((*index[:before], *index[before + size :]))
    places: list[Scalar] = []
    conditions: list[Scalar] = []
    for d, n in enumerate(x.shape):
        if d in dims:
            found = at(dims.index(d), *block) if several else at(*block)
            place, there = _position(found, n, wrap)
            places.append(place)
            conditions.append(there)
        else:
            places.append(next(kept))
    return _if_there(conditions, x(*places))


def stacked_positions(index: Index, *parts: Source) -> Scalar:
    """Index tensors, broadcast, side by side along the first dimension."""
    at, rest = index[0], index[1:]

    def one(x: Source) -> Scalar:
        own = rest[len(rest) - len(x.shape) :]
        return cast(x(*(i if n != 1 else 0 for i, n in zip(own, x.shape, strict=True))), INDEX)

    found = one(parts[-1])
    for k, x in reversed(list(enumerate(parts[:-1]))):
        found = where(eq(at, k), one(x), found)
    return found


def wrapped(index: Index, at: Source, dim: int, size: int) -> Scalar:
    """Positions that may count from the end, counted from the start."""
    return _counted(at(*index), size)


def one_hot(index: Index, at: Source, classes: int) -> Scalar:
    """1 at each class number."""
    return cast(eq(cast(at(*index[:-1]), INDEX), index[-1]), INDEX)


# --- reductions -----------------------------------------------------------------------------------

Body = Callable[[Scalar], Scalar]
_EMPTY = {"sum": 0, "prod": 1, "and": True, "or": False}


def _over(index: Index, x: Source, dims: Shape, keepdim: bool, kind: str, body: Body) -> Scalar:
    """``body`` of the elements, reduced over dimensions; a single number has none to reduce."""
    dims = dims if x.shape else ()
    sizes = tuple(x.shape[d] for d in dims)
    kept = [i for d, i in enumerate(index) if not keepdim or d not in dims]

    def one(*inside: Scalar) -> Scalar:
        at = dict(zip(dims, inside, strict=True))
        left = iter(kept)
        return body(x(*(at[d] if d in at else next(left) for d in range(len(x.shape)))))

    if 0 in sizes and kind in _EMPTY:
        return const(_EMPTY[kind], one(*(const(0, INDEX) for _ in dims)).dtype)
    return reduce(kind, sizes, one)


def reduction(kind: str) -> Callable[..., Scalar]:
    """The rule of sums and products; integers become int64."""

    def widened(x: Scalar) -> Scalar:
        return x if x.dtype.is_floating_point else cast(x, dt.int64)

    def rule(index: Index, x: Source, dims: Shape, keepdim: bool) -> Scalar:
        return _over(index, x, dims, keepdim, kind, widened)

    return rule


def _ordered(x: Scalar) -> Scalar:
    """As a signed number or a float."""
    return x if x.dtype.signed else cast(x, dt.int16)


def extreme(kind: str) -> Callable[..., Scalar]:
    """The rule of the greatest and least element; NaN wins."""

    def rule(index: Index, x: Source, dims: Shape, keepdim: bool) -> Scalar:
        return cast(_over(index, x, dims, keepdim, kind, _ordered), x.dtype)

    return rule


def place_of_extreme(kind: str) -> Callable[..., Scalar]:
    """The rule of the first place of the extreme; NaN wins."""

    def rule(index: Index, x: Source, dim: int, keepdim: bool) -> Scalar:
        if not x.shape:
            return const(0, INDEX)
        size = x.shape[dim]
        best = _over(index, x, (dim,), keepdim, kind, _ordered)

        def place(i: Scalar) -> Scalar:
            value = _ordered(x(*index[:dim], i, *index[dim + keepdim :]))
            return where(eq(value, best) | ne(value, value), i, size)

        return reduce("min", (size,), place)

    return rule


def truth(kind: str) -> Callable[..., Scalar]:
    """The rule of all and any: ``and`` and ``or`` of what is not 0."""

    def rule(index: Index, x: Source, dims: Shape, keepdim: bool) -> Scalar:
        found = _over(index, x, dims, keepdim, kind, lambda value: cast(value, dt.bool_))
        return cast(found, dt.uint8) if x.dtype is dt.uint8 else found

    return rule
