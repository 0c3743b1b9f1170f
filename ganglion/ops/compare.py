"""Comparisons, tests for special values, logic, and bits."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import ArgumentError, DTypeError
from ganglion.ops import scalar
from ganglion.ops.create import full
from ganglion.ops.elementwise import Array, compared, joined, of_one, of_two, predicate
from ganglion.ops.record import Op
from ganglion.ops.scalar import Scalar
from ganglion.shapes import Meta

if TYPE_CHECKING:
    from ganglion.tensor import Tensor


# --- comparisons ----------------------------------------------------------------------------------


def _compare(name: str, ufunc: Any) -> Op:
    """Two-byte floats are compared as they are: a number is rounded to them first."""

    def kernel(x: Any, y: Any) -> Any:
        if isinstance(y, float) and x.itemsize == 2:
            y = x.dtype.type(y)
        return ufunc(x, y)

    def rule(x: Scalar, y: Scalar) -> Scalar:
        return scalar.compare(name, _comparable(x), _comparable(y))

    return Op(name, "elementwise", kernel, compared, promote="same", in_float32=False, scalar=rule)


def _comparable(x: Scalar) -> Scalar:
    return scalar.cast(x, dt.float32) if x.dtype in dt.HALVES else x


EQ = _compare("eq", np.equal)
NE = _compare("ne", np.not_equal)
LT = _compare("lt", np.less)
LE = _compare("le", np.less_equal)
GT = _compare("gt", np.greater)
GE = _compare("ge", np.greater_equal)

eq = of_two(EQ, "Whether elements are equal.")
ne = not_equal = of_two(NE, "Whether elements differ.")
lt = less = of_two(LT, "Whether ``input < other``.")
le = less_equal = of_two(LE, "Whether ``input <= other``.")
gt = greater = of_two(GT, "Whether ``input > other``.")
ge = greater_equal = of_two(GE, "Whether ``input >= other``.")


def _close(x: Any, y: Any, rtol: float, atol: float, equal_nan: bool) -> Any:
    if x.dtype.kind != "f":
        x, y = x.astype(np.float64), y.astype(np.float64)
    same = x == y
    if equal_nan:
        same |= np.isnan(x) & np.isnan(y)
    apart = np.abs(x - y)
    return same | (np.isfinite(apart) & (apart <= atol + np.abs(rtol * y)))


def _infer_close(x: Meta, y: Meta, rtol: float, atol: float, equal_nan: bool) -> Meta:
    return compared(x, y)


def _close_scalar(x: Scalar, y: Scalar, rtol: float, atol: float, equal_nan: bool) -> Scalar:
    if not x.dtype.is_floating_point:
        x, y = scalar.cast(x, dt.float64), scalar.cast(y, dt.float64)
    same = scalar.eq(x, y)
    if equal_nan:
        same = same | (scalar.ne(x, x) & scalar.ne(y, y))
    apart = scalar.absolute(x - y)
    return same | ((apart < math.inf) & (apart <= scalar.absolute(y * rtol) + atol))


ISCLOSE = Op("isclose", "elementwise", _close, _infer_close, scalar=_close_scalar)


def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether ``|input - other| <= atol + rtol * |other|``; infinities must be equal."""
    if input.dtype is not other.dtype:
        raise DTypeError(
            f"isclose compares tensors of one dtype: {input.dtype.name} did not match "
            f"{other.dtype.name}"
        )
    if rtol < 0 or atol < 0:
        raise ArgumentError(f"rtol and atol must be >= 0, got rtol={rtol}, atol={atol}")
    return ISCLOSE(  # type: ignore[no-any-return]
        input, other, rtol=float(rtol), atol=float(atol), equal_nan=equal_nan
    )


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close, as ``isclose`` says."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all().item())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and elements."""
    if input._data.shape != other._data.shape:
        return False
    return bool(eq(input, other).all().item())


def _isin(elements: Array, among: Array, invert: bool) -> Array:
    return np.isin(elements, among, invert=invert)


ISIN = Op(
    "isin",
    "index",
    _isin,
    lambda elements, among, invert: Meta(elements.shape, dt.bool_),
    promote="same",
    runs="host",
)


def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Whether each element is (``invert``: is not) among ``test_elements``, in any order."""
    tensors = [full((), x) if isinstance(x, (int, float)) else x for x in (elements, test_elements)]
    return ISIN(*tensors, invert=invert)  # type: ignore[no-any-return]


# --- special values -------------------------------------------------------------------------------


def _of_floats(test: Any) -> Any:
    """A test that no integer passes."""
    return lambda x: test(x) if x.dtype.is_floating_point else scalar.const(False, dt.bool_)


def _is_finite(x: Scalar) -> Scalar:
    if not x.dtype.is_floating_point:
        return scalar.const(True, dt.bool_)
    return scalar.absolute(x) < math.inf


def _signbit_scalar(x: Scalar) -> Scalar:
    if x.dtype.is_floating_point:
        x = scalar.bits(x, dt.int32 if x.dtype is dt.float32 else dt.int64)
    return x < 0 if x.dtype.signed else scalar.const(False, dt.bool_)


ISNAN = predicate("isnan", np.isnan, _of_floats(lambda x: scalar.ne(x, x)))
ISINF = predicate("isinf", np.isinf, _of_floats(lambda x: scalar.eq(scalar.absolute(x), math.inf)))
ISFINITE = predicate("isfinite", np.isfinite, _is_finite)
ISNEGINF = predicate(
    "isneginf", lambda x: np.equal(x, -np.inf), _of_floats(lambda x: scalar.eq(x, -math.inf))
)
ISPOSINF = predicate(
    "isposinf", lambda x: np.equal(x, np.inf), _of_floats(lambda x: scalar.eq(x, math.inf))
)
SIGNBIT = predicate(
    "signbit", lambda x: np.signbit(x) if x.dtype.kind == "f" else np.less(x, 0), _signbit_scalar
)

isnan = of_one(ISNAN, "Whether elements are NaN.")
isinf = of_one(ISINF, "Whether elements are infinite.")
isfinite = of_one(ISFINITE, "Whether elements are neither infinite nor NaN.")
isneginf = of_one(ISNEGINF, "Whether elements are minus infinity.")
isposinf = of_one(ISPOSINF, "Whether elements are plus infinity.")
signbit = of_one(SIGNBIT, "Whether the sign bit is set (-0.0 has it).")


# --- logic: everything but 0 is true --------------------------------------------------------------


def _of_truth(combine: Any) -> Any:
    return lambda x, y: combine(scalar.cast(x, dt.bool_), scalar.cast(y, dt.bool_))


LOGICAL_NOT = predicate("logical_not", np.logical_not, lambda x: ~scalar.cast(x, dt.bool_))
LOGICAL_AND = predicate("logical_and", np.logical_and, _of_truth(operator.and_))
LOGICAL_OR = predicate("logical_or", np.logical_or, _of_truth(operator.or_))
LOGICAL_XOR = predicate("logical_xor", np.logical_xor, _of_truth(operator.xor))

logical_not = of_one(LOGICAL_NOT, "Whether elements are zero.")
logical_and = of_two(LOGICAL_AND, "Whether both are nonzero.")
logical_or = of_two(LOGICAL_OR, "Whether at least one is nonzero.")
logical_xor = of_two(LOGICAL_XOR, "Whether exactly one is nonzero.")


# --- bits -----------------------------------------------------------------------------------------


def _infer_bits(*operands: Any) -> Meta:
    found = joined(*operands)
    if found.dtype.is_floating_point:
        raise DTypeError(
            f"bitwise operations take integers and bools, got {found.dtype.name}; convert first"
        )
    return found


def _infer_shift(x: Any, y: Any) -> Meta:
    found = _infer_bits(x, y)
    if found.dtype is dt.bool_:
        raise DTypeError("shifts are not implemented for bool; convert to an integer dtype")
    return found


def _bits(name: str, kernel: Any, rule: Any, infer: Any = _infer_bits) -> Op:
    return Op(name, "elementwise", kernel, infer, promote="same", scalar=rule)


def _shift(name: str, ufunc: Any, rule: Any) -> Op:
    def kernel(x: Any, y: Any) -> Any:
        if np.result_type(x, y).kind == "b":
            raise TypeError(name)
        return ufunc(x, y)

    return _bits(name, kernel, rule, _infer_shift)


def _fits(x: Scalar, by: Scalar) -> Scalar:
    """Whether a shift leaves something of ``x``."""
    fits = by < 8 * x.dtype.itemsize
    return fits & (by >= 0) if x.dtype.signed else fits


def _shifted_left(x: Scalar, by: Scalar) -> Scalar:
    fits = _fits(x, by)
    return scalar.where(fits, x << scalar.where(fits, by, 0), 0)


def _shifted_right(x: Scalar, by: Scalar) -> Scalar:
    fits, last = _fits(x, by), 8 * x.dtype.itemsize - 1
    if x.dtype.signed:
        return x >> scalar.where(fits, by, last)
    return scalar.where(fits, scalar.lshr(x, scalar.where(fits, by, 0)), 0)


BITWISE_NOT = _bits("bitwise_not", np.invert, operator.invert)
BITWISE_AND = _bits("bitwise_and", np.bitwise_and, operator.and_)
BITWISE_OR = _bits("bitwise_or", np.bitwise_or, operator.or_)
BITWISE_XOR = _bits("bitwise_xor", np.bitwise_xor, operator.xor)
LEFT_SHIFT = _shift("bitwise_left_shift", np.left_shift, _shifted_left)
RIGHT_SHIFT = _shift("bitwise_right_shift", np.right_shift, _shifted_right)

bitwise_not = of_one(BITWISE_NOT, "All bits flipped; of bools, not.")
bitwise_and = of_two(BITWISE_AND, "The bits set in both.")
bitwise_or = of_two(BITWISE_OR, "The bits set in at least one.")
bitwise_xor = of_two(BITWISE_XOR, "The bits set in exactly one.")
bitwise_left_shift = of_two(LEFT_SHIFT, "``input * 2 ** other``, losing what overflows.")
bitwise_right_shift = of_two(RIGHT_SHIFT, "``input // 2 ** other``, keeping the sign.")
