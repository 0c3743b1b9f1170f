"""The language in which a record says what one element of its result is.

A ``Scalar`` is an expression over numbers: constants, indexes, elements of the inputs, and a small
set of instructions that every processor has. An elementwise record gives ``scalar(x, y, **params)
-> Scalar``; other records give ``element(index, x, y, **params) -> Scalar``, where ``index`` is a
tuple of index expressions and ``x(i, j)`` is an element of an input. The compiler turns these
into loops; ``evaluate`` computes them with NumPy. Functions such as ``exp`` are written in this
language too (``ops/transcendental.py``).

Operators work as on NumPy scalars of one dtype; a Python number takes the other operand's dtype.
Integers wrap around. ``x / y`` is floating division, ``x // y`` and ``x % y`` round towards zero
and are for integers; the divisor must not be zero. Comparisons give bools; equality is
``eq(x, y)``, since ``==`` compares expressions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

import ganglion.dtypes as dt
from ganglion.shapes import Shape

Array = np.ndarray[Any, Any]
T = TypeVar("T")
INDEX = dt.int64


class Scalar:
    """An expression: an instruction, its arguments and the dtype of its value.

    ``known`` is for what is found out about it and is worth keeping, by name.
    """

    __slots__ = ("args", "dtype", "known", "op")

    def __init__(self, op: str, args: tuple[Any, ...], dtype: dt.dtype) -> None:
        self.op, self.args, self.dtype = op, args, dtype
        self.known: dict[str, Any] | None = None

    def keep(self, name: str, value: T) -> T:
        """The value, known from now on."""
        if self.known is None:
            self.known = {}
        self.known[name] = value
        return value

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(map(repr, self.args))})"

    def __add__(self, other: Scalar | float) -> Scalar:
        return binary("add", self, other)

    def __radd__(self, other: float) -> Scalar:
        return binary("add", other, self)

    def __sub__(self, other: Scalar | float) -> Scalar:
        return binary("sub", self, other)

    def __rsub__(self, other: float) -> Scalar:
        return binary("sub", other, self)

    def __mul__(self, other: Scalar | float) -> Scalar:
        return binary("mul", self, other)

    def __rmul__(self, other: float) -> Scalar:
        return binary("mul", other, self)

    def __truediv__(self, other: Scalar | float) -> Scalar:
        return binary("div", self, other)

    def __rtruediv__(self, other: float) -> Scalar:
        return binary("div", other, self)

    def __floordiv__(self, other: Scalar | int) -> Scalar:
        return binary("quotient", self, other)

    def __mod__(self, other: Scalar | int) -> Scalar:
        return binary("remainder", self, other)

    def __neg__(self) -> Scalar:
        return Scalar("neg", (self,), self.dtype)

    def __and__(self, other: Scalar | int) -> Scalar:
        return binary("and", self, other)

    def __or__(self, other: Scalar | int) -> Scalar:
        return binary("or", self, other)

    def __xor__(self, other: Scalar | int) -> Scalar:
        return binary("xor", self, other)

    def __invert__(self) -> Scalar:
        return binary("xor", self, True if self.dtype is dt.bool_ else -1)

    def __lshift__(self, other: Scalar | int) -> Scalar:
        return binary("shl", self, other)

    def __rshift__(self, other: Scalar | int) -> Scalar:
        return binary("shr", self, other)

    def __lt__(self, other: Scalar | float) -> Scalar:
        return compare("lt", self, other)

    def __le__(self, other: Scalar | float) -> Scalar:
        return compare("le", self, other)

    def __gt__(self, other: Scalar | float) -> Scalar:
        return compare("gt", self, other)

    def __ge__(self, other: Scalar | float) -> Scalar:
        return compare("ge", self, other)

    def __bool__(self) -> bool:
        raise TypeError("a Scalar has no value yet; choose with where(condition, x, y)")


class NoRule(Exception):
    """Raised by an ``element`` rule that cannot serve the params: the kernel is called instead."""


class Source(Protocol):
    """An input as an ``element`` rule sees it: a function from indexes to elements."""

    shape: Shape
    dtype: dt.dtype

    def __call__(self, *index: Scalar | int) -> Scalar: ...


# --- making expressions ---------------------------------------------------------------------------


def const(value: float, dtype: dt.dtype) -> Scalar:
    """A number; what is not whole is cut for an integer."""
    if dtype in dt.HALVES:  # in which nothing is computed
        with np.errstate(over="ignore"):
            rounded = float(dtype.numpy.type(value))
        return Scalar("cast", (Scalar("const", (rounded,), dt.float32),), dtype)
    if type(value) is float and not dtype.is_floating_point:
        value = bool(value) if dtype is dt.bool_ else int(value)
    return Scalar("const", (value,), dtype)


def _pair(x: Scalar | float, y: Scalar | float) -> tuple[Scalar, Scalar]:
    dtype = x.dtype if isinstance(x, Scalar) else y.dtype  # type: ignore[union-attr]
    x = x if isinstance(x, Scalar) else const(x, dtype)
    y = y if isinstance(y, Scalar) else const(y, dtype)
    if x.dtype is not y.dtype:
        raise TypeError(f"operands of different dtypes, {x.dtype} and {y.dtype}: {x!r}, {y!r}")
    return x, y


def binary(op: str, x: Scalar | float, y: Scalar | float) -> Scalar:
    """An instruction on two operands of one dtype; index arithmetic is simplified."""
    x, y = _pair(x, y)
    if x.dtype is INDEX and op in _FOLDED:
        found = _folded(op, x, y)
        if found is not None:
            return found
    return Scalar(op, (x, y), x.dtype)


def compare(how: str, x: Scalar | float, y: Scalar | float) -> Scalar:
    """lt, le, gt, ge, eq or ne; all but ne are False for NaN."""
    return Scalar(how, _pair(x, y), dt.bool_)


def eq(x: Scalar | float, y: Scalar | float) -> Scalar:
    """Whether two values are equal."""
    return compare("eq", x, y)


def ne(x: Scalar | float, y: Scalar | float) -> Scalar:
    """Whether two values differ; NaN differs from everything."""
    return compare("ne", x, y)


def where(condition: Scalar, x: Scalar | float, y: Scalar | float) -> Scalar:
    """``x`` where the condition holds, else ``y``; both are computed."""
    x, y = _pair(x, y)
    return Scalar("select", (condition, x, y), x.dtype)


def rarely(condition: Scalar, x: Scalar, y: Scalar | float) -> Scalar:
    """As ``where``; the condition hardly ever holds, so that ``x`` may be computed on demand."""
    x, y = _pair(x, y)
    return Scalar("rarely", (condition, x, y), x.dtype)


def guarded(condition: Scalar, x: Scalar, y: Scalar | float) -> Scalar:
    """As ``where``; ``x`` is computed only where the condition holds.

    So its loads may lie outside the inputs elsewhere.
    """
    x, y = _pair(x, y)
    return Scalar("guarded", (condition, x, y), x.dtype)


def scale(x: Scalar, n: Scalar, product: Scalar) -> Scalar:
    """``x * 2 ** n`` for a whole float ``n``, rounded once; ``product`` says it in other words.

    An instruction of its own on some processors; elsewhere ``product`` is computed.
    """
    return Scalar("scale", (x, n, product), x.dtype)


def cast(x: Scalar, dtype: dt.dtype) -> Scalar:
    """The value in another dtype; floats to integers towards zero, in range, else PyTorch's."""
    return x if x.dtype is dtype else Scalar("cast", (x,), dtype)


def bits(x: Scalar, dtype: dt.dtype) -> Scalar:
    """The same bits read as another dtype of the same width."""
    return x if x.dtype is dtype else Scalar("bits", (x,), dtype)


def lshr(x: Scalar, by: Scalar | int) -> Scalar:
    """Shifted right, zeros coming in from the left."""
    return binary("lshr", x, by)


def fma(x: Scalar, y: Scalar | float, z: Scalar | float) -> Scalar:
    """``x * y + z``, rounded once."""
    return Scalar("fma", (x, _pair(x, y)[1], _pair(x, z)[1]), x.dtype)


def _unary(op: str) -> Callable[[Scalar], Scalar]:
    def function(x: Scalar) -> Scalar:
        return Scalar(op, (x,), x.dtype)

    function.__name__, function.__doc__ = op, f"The processor's {op}."
    return function


sqrt, floor, ceil, trunc, rint, absolute = map(
    _unary, ("sqrt", "floor", "ceil", "trunc", "rint", "abs")
)


def copysign(x: Scalar, sign: Scalar) -> Scalar:
    """The magnitude of one with the sign of the other."""
    return Scalar("copysign", (x, sign), x.dtype)


def maximum(x: Scalar, y: Scalar | float) -> Scalar:
    """The greater; NaN if either is."""
    x, y = _pair(x, y)
    picked = where(y > x, y, x)
    return where(ne(y, y), y, picked) if _may_be_nan(y) else picked


def minimum(x: Scalar, y: Scalar | float) -> Scalar:
    """The lesser; NaN if either is."""
    x, y = _pair(x, y)
    picked = where(y < x, y, x)
    return where(ne(y, y), y, picked) if _may_be_nan(y) else picked


def _may_be_nan(x: Scalar) -> bool:
    return x.dtype.is_floating_point and (x.op != "const" or x.args[0] != x.args[0])


# --- indexes --------------------------------------------------------------------------------------

_numbers = itertools.count()


def index(extent: int) -> Scalar:
    """A new index that runs from 0 to ``extent`` - 1."""
    return Scalar("index", (next(_numbers), extent), INDEX)


def indexes(shape: Sequence[int]) -> tuple[Scalar, ...]:
    """One index for each dimension; 0 for those of size one."""
    return tuple(index(size) if size != 1 else const(0, INDEX) for size in shape)


def reduce(kind: str, shape: Sequence[int], body: Callable[..., Scalar]) -> Scalar:
    """sum, prod, max, min, and or or over all elements of a box; ``body`` takes its indexes.

    max and min are NaN if any element is.
    """
    inside = indexes(shape)
    value = body(*inside)
    bound = tuple(i for i in inside if i.op == "index")
    return Scalar("reduce", (kind, bound, value), value.dtype) if bound else value


def flat(index: Sequence[Scalar | int], shape: Sequence[int]) -> Scalar:
    """The number of an element in row-major order."""
    found = const(0, INDEX)
    for i, size in zip(index, shape, strict=True):
        found = found * size + i
    return found


def unflat(number: Scalar, shape: Sequence[int]) -> tuple[Scalar, ...]:
    """The indexes of an element from its number in row-major order."""
    found: list[Scalar] = []
    for size in reversed(shape[1:]):
        found.append(number % size if size > 1 else const(0, INDEX))
        number = number // max(size, 1)
    return (number, *reversed(found)) if shape else ()


class Affine:
    """``constant + sum(coefficient * index)``.

    An index is one that a loop runs, or the quotient or remainder of a sum by a constant.
    """

    __slots__ = ("constant", "terms")

    def __init__(self, constant: int, terms: Mapping[Scalar, int]) -> None:
        self.constant = constant
        self.terms = {i: c for i, c in terms.items() if c}
        if any(i.op == "quotient" for i in self.terms):
            self._rejoin()

    def _rejoin(self) -> None:
        """``b * (x // b) + x % b`` is ``x``."""
        for high in [i for i in self.terms if i.op == "quotient"]:
            step, (number, by) = self.terms.get(high, 0), high.args
            low = _split("remainder", number, by.args[0])
            part = self.terms.get(low, 0)
            if part and step == part * by.args[0]:
                whole = affine(number)
                assert whole is not None
                rest = {i: c for i, c in self.terms.items() if i is not high and i is not low}
                joined = Affine(self.constant, rest).plus(whole, part)
                self.constant, self.terms = joined.constant, joined.terms
                return

    def plus(self, other: Affine, times: int = 1) -> Affine:
        """``self + times * other``."""
        terms = dict(self.terms)
        for i, c in other.terms.items():
            terms[i] = terms.get(i, 0) + times * c
        return Affine(self.constant + times * other.constant, terms)

    @property
    def low(self) -> int:
        """The least value."""
        return self.constant + sum(c * (extent(i) - 1) for i, c in self.terms.items() if c < 0)

    @property
    def high(self) -> int:
        """The greatest value."""
        return self.constant + sum(c * (extent(i) - 1) for i, c in self.terms.items() if c > 0)

    def scalar(self) -> Scalar:
        """The same as an expression."""
        found = None
        for i, c in self.terms.items():
            term = i if c == 1 else Scalar("mul", (i, const(c, INDEX)), INDEX)
            found = term if found is None else Scalar("add", (found, term), INDEX)
        if found is None:
            return const(self.constant, INDEX)
        if self.constant:
            found = Scalar("add", (found, const(self.constant, INDEX)), INDEX)
        found.keep("affine", self)
        return found


def extent(i: Scalar) -> int:
    """How many values an index takes, from 0 on."""
    if i.op == "index":
        return int(i.args[1])
    by: int = i.args[1].args[0]
    if i.op == "remainder":
        return by
    number = affine(i.args[0])
    assert number is not None
    return number.high // by + 1


def affine(x: Scalar) -> Affine | None:
    """An index expression as a sum of indexes times constants, if it is one."""
    if x.known is not None and "affine" in x.known:
        return x.known["affine"]  # type: ignore[no-any-return]
    return x.keep("affine", _affine(x))


def _affine(x: Scalar) -> Affine | None:
    if x.op == "const":
        return Affine(x.args[0], {})
    if x.op == "index" or (x.op in ("quotient", "remainder") and _splits.get(_key(x)) is x):
        return Affine(0, {x: 1})
    if x.op not in ("add", "sub", "mul"):
        return None
    left = affine(x.args[0])
    right = None if left is None else affine(x.args[1])  # so that powers cost no more than sums
    if left is None or right is None or (x.op == "mul" and left.terms and right.terms):
        return None
    if x.op == "mul":
        constant, other = (left, right) if not left.terms else (right, left)
        return Affine(0, {}).plus(other, constant.constant)
    return left.plus(right, 1 if x.op == "add" else -1)


_FOLDED = frozenset({"add", "sub", "mul", "quotient", "remainder"})


def _folded(op: str, x: Scalar, y: Scalar) -> Scalar | None:
    """A simpler index expression, or None."""
    if x.op == y.op == "const":
        return _constant(op, x.args[0], y.args[0])
    left, right = affine(x), affine(y)
    if left is None or right is None:
        return _without_units(op, x, y)
    if op in ("add", "sub"):
        return left.plus(right, 1 if op == "add" else -1).scalar()
    if op == "mul":
        if left.terms and right.terms:
            return None
        constant, other = (left, right) if not left.terms else (right, left)
        return Affine(0, {}).plus(other, constant.constant).scalar()
    if right.terms or right.constant <= 0 or left.low < 0:
        return None
    return _divided(op, left, right.constant)


def _constant(op: str, x: int, y: int) -> Scalar:
    """The result of two numbers, wrapped around."""
    found = {"add": x + y, "sub": x - y, "mul": x * y}.get(op, 0)
    if op in ("quotient", "remainder"):
        found = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) if y else 0
        found = x - found * y if op == "remainder" else found
    return const((found + 2**63) % 2**64 - 2**63, INDEX)


def _without_units(op: str, x: Scalar, y: Scalar) -> Scalar | None:
    if y.op == "const" and y.args[0] == (0 if op in ("add", "sub") else 1):
        return const(0, INDEX) if op == "remainder" else x
    if x.op == "const" and x.args[0] == 0 and op in ("add", "mul"):
        return y if op == "add" else x
    return None


def _divided(op: str, x: Affine, by: int) -> Scalar | None:
    """Quotient or remainder of a sum, multiples of ``by`` taken out first."""
    multiples = {i: c // by for i, c in x.terms.items() if c % by == 0}
    rest = Affine(x.constant % by, {i: c for i, c in x.terms.items() if c % by})
    if rest.low < 0:
        multiples, rest = {}, x
    whole = Affine((x.constant - rest.constant) // by, multiples)
    if rest.high < by:
        return rest.scalar() if op == "remainder" else whole.scalar()
    part = _split(op, rest.scalar(), by)
    return part if op == "remainder" else whole.plus(Affine(0, {part: 1})).scalar()


_splits: dict[Any, Scalar] = {}  # one object for each quotient and remainder, to compare by


def _key(x: Scalar) -> Any:
    number = affine(x.args[0])
    by = x.args[1]
    if number is None or by.op != "const":
        return None
    return x.op, number.constant, frozenset(number.terms.items()), by.args[0]


def _split(op: str, number: Scalar, by: int) -> Scalar:
    made = Scalar(op, (number, const(by, INDEX)), INDEX)
    return _splits.setdefault(_key(made), made)


# --- NumPy ----------------------------------------------------------------------------------------


def evaluate(
    x: Scalar, known: Mapping[Scalar, Any], loads: Callable[..., Any] | None = None
) -> Any:
    """The value with NumPy, for given values of the free expressions (indexes, operands).

    ``loads(source, *indexes)`` looks elements up; guarded ones may ask for what does not exist.
    Values are arrays that broadcast together.
    """
    found: dict[Scalar, Any] = dict(known)

    def compute(e: Scalar) -> Any:
        if e.op == "const":
            return e.dtype.numpy.type(e.args[0])
        if e.op == "reduce":
            kind, bound, body = e.args
            return _reduced(kind, bound, body, known, loads)
        args = [found.get(a, a) if isinstance(a, Scalar) else a for a in e.args]
        if e.op == "load":
            assert loads is not None
            return loads(*args)
        return _NUMPY[e.op](e.dtype.numpy, *args)

    waiting = [x]
    with np.errstate(all="ignore"):
        while waiting:
            e = waiting[-1]
            inner = () if e in found or e.op == "reduce" else e.args
            missing = [a for a in inner if isinstance(a, Scalar) and a not in found]
            waiting += missing
            if not missing:
                found[e] = found[e] if e in found else compute(e)
                waiting.pop()
    return found[x]


def _reduced(
    kind: str,
    bound: Sequence[Scalar],
    body: Scalar,
    known: Mapping[Scalar, Any],
    loads: Callable[..., Any] | None,
) -> Any:
    """A reduction, over new axes in front of all others."""
    rank = max(map(np.ndim, known.values()), default=0)
    axes = tuple(range(len(bound)))
    ranges = {i: np.arange(extent(i)).reshape(-1, *(1,) * (rank + k)) for k, i in enumerate(bound)}
    values = evaluate(body, {**known, **ranges}, loads)
    shape = (*map(extent, reversed(bound)), *(1,) * rank)
    every = np.broadcast_to(values, np.broadcast_shapes(shape, np.shape(values)))
    return _REDUCTIONS[kind](every, axes)


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda x, axes: np.add.reduce(x, axes, x.dtype),
    "prod": lambda x, axes: np.multiply.reduce(x, axes, x.dtype),
    "max": np.maximum.reduce, "min": np.minimum.reduce,
    "and": np.logical_and.reduce, "or": np.logical_or.reduce,
}  # fmt: skip


def _lshr(_: Any, x: Any, by: Any) -> Any:
    unsigned = np.dtype(f"u{np.asarray(x).dtype.itemsize}")
    return (np.asarray(x).view(unsigned) >> np.asarray(by).view(unsigned)).view(np.asarray(x).dtype)


def _quotient(d: Any, x: Any, y: Any) -> Any:
    down = np.floor_divide(x, y)
    inexact = np.not_equal(down * y, x) & (np.less(x, 0) != np.less(y, 0))
    return np.asarray(down + inexact.astype(d), d)


def _fma(d: Any, x: Any, y: Any, z: Any) -> Any:
    if d == np.float32:
        return (np.asarray(x, np.float64) * np.asarray(y, np.float64) + z).astype(d)
    product, low = _exact_product(x, y)
    total = product + z
    back = total - product
    low = low + ((product - (total - back)) + (z - back))
    return np.where(np.isfinite(total) & np.isfinite(low), total + low, total)


def _exact_product(x: Any, y: Any) -> tuple[Any, Any]:
    """A product of float64 and its rounding error (Dekker 1971)."""
    product = np.multiply(x, y)
    (x1, x2), (y1, y2) = _halves(x), _halves(y)
    return product, x2 * y2 - (((product - x1 * y1) - x2 * y1) - x1 * y2)


def _halves(x: Any) -> tuple[Any, Any]:
    upper = (np.asarray(x).view(np.int64) & -(1 << 27)).view(np.float64)
    return upper, x - upper


def _cast(d: Any, x: Any) -> Any:
    x = np.asarray(x)
    if d.kind in "iu" and x.dtype.kind in "fV":  # NaN and what does not fit: int64's minimum
        wide = x.astype(np.float64)
        fits = (wide >= -(2.0**63)) & (wide < 2.0**63)
        whole = np.where(fits, wide, 0).astype(np.int64)
        return np.where(fits, whole, np.iinfo(np.int64).min).astype(d)
    if d.name == "bfloat16" and x.itemsize > 4:  # as PyTorch, by way of float32
        x = x.astype(np.float32)
    return x.astype(d)


_NUMPY: dict[str, Callable[..., Any]] = {
    "add": lambda d, x, y: np.add(x, y), "sub": lambda d, x, y: np.subtract(x, y),
    "mul": lambda d, x, y: np.multiply(x, y), "div": lambda d, x, y: np.divide(x, y),
    "quotient": _quotient, "remainder": lambda d, x, y: np.fmod(x, y),
    "neg": lambda d, x: np.negative(x), "and": lambda d, x, y: np.bitwise_and(x, y),
    "or": lambda d, x, y: np.bitwise_or(x, y), "xor": lambda d, x, y: np.bitwise_xor(x, y),
    "shl": lambda d, x, y: np.left_shift(x, y), "shr": lambda d, x, y: np.right_shift(x, y),
    "lshr": _lshr, "lt": lambda d, x, y: np.less(x, y), "le": lambda d, x, y: np.less_equal(x, y),
    "gt": lambda d, x, y: np.greater(x, y), "ge": lambda d, x, y: np.greater_equal(x, y),
    "eq": lambda d, x, y: np.equal(x, y), "ne": lambda d, x, y: np.not_equal(x, y),
    "select": lambda d, c, x, y: np.where(c, x, y), "rarely": lambda d, c, x, y: np.where(c, x, y),
    "guarded": lambda d, c, x, y: np.where(c, x, y),
    "scale": lambda d, x, n, product: product, "fma": _fma,
    "cast": _cast, "bits": lambda d, x: np.asarray(x).view(d),
    "sqrt": lambda d, x: np.sqrt(x), "floor": lambda d, x: np.floor(x),
    "ceil": lambda d, x: np.ceil(x), "trunc": lambda d, x: np.trunc(x),
    "rint": lambda d, x: np.rint(x), "abs": lambda d, x: np.abs(x),
    "copysign": lambda d, x, y: np.copysign(x, y),
}  # fmt: skip
