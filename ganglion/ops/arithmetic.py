"""Arithmetic of two and more operands: + - * / // % **, and their fused forms."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import ArgumentError, DTypeError
from ganglion.ops import powers, quotients, scalar
from ganglion.ops.elementwise import (
    BOOLS,
    Array,
    binary,
    joined,
    of_two,
    unary,
)
from ganglion.ops.movement import cast, zeros_of
from ganglion.ops.record import Op, Saved, into
from ganglion.ops.scalar import Scalar
from ganglion.ops.select import WHERE
from ganglion.shapes import Meta

if TYPE_CHECKING:
    from ganglion.ops.elementwise import Operand
    from ganglion.tensor import Tensor


# --- + - * / --------------------------------------------------------------------------------------

_MINUS = "Subtraction, the `-` operator, with {} not supported. {}"
_ON_MASKS = "use the `~` or `logical_not()` operator instead."


def _subtracted(x: Any, y: Any) -> Meta:
    found = joined(x, y)
    if found.dtype is dt.bool_:
        raise DTypeError(
            _MINUS.format("two bool tensors is", "Use the `^` or `logical_xor()` operator instead.")
        )
    return found


def _negated(x: Meta) -> Meta:
    if x.dtype is dt.bool_:
        raise DTypeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to "
            f"invert a mask, {_ON_MASKS}"
        )
    return x


ADD = binary(
    "add",
    np.add,
    lambda s, g: g,
    lambda s, g: g,
    scalar=lambda x, y: x | y if x.dtype is dt.bool_ else x + y,
)
SUB = binary(
    "sub",
    np.subtract,
    lambda s, g: g,
    lambda s, g: -g,
    infer=_subtracted,
    scalar=operator.sub,
)
MUL = binary(
    "mul",
    np.multiply,
    lambda s, g: g * s.y,
    lambda s, g: g * s.x,
    ("y", "x"),
    scalar=lambda x, y: x & y if x.dtype is dt.bool_ else x * y,
)
DIV = binary(
    "div",
    np.true_divide,
    lambda s, g: g / s.y,
    lambda s, g: -g * (s.x / s.y) / s.y,
    ("y", "xy"),
    promote="float",
    scalar=operator.truediv,
)
NEG = unary(
    "neg", np.negative, lambda s, g: -g, promote="none", infer=_negated, scalar=operator.neg
)


def _scaled(name: str, input: Any, other: Any, alpha: float) -> Any:
    """``alpha * other``, of a kind of number that the result can hold."""
    if isinstance(alpha, float) and not _has_float(input) and not _has_float(other):
        raise DTypeError(
            f"{name}: For integral input tensors, argument alpha must not be a floating point "
            f"number, got {alpha}"
        )
    return other * alpha


def _has_float(x: Any) -> bool:
    return isinstance(x, float) or (hasattr(x, "dtype") and x.dtype.category == dt.FLOATING)


def add(input: Tensor, other: Operand, *, alpha: float = 1, out: Tensor | None = None) -> Tensor:
    """``input + alpha * other``."""
    if alpha != 1:
        other = _scaled("add", input, other, alpha)
    value = ADD(input, other)
    return value if out is None else into(out, value)


def _is_bool(x: Any) -> bool:
    return x is True or x is False or (hasattr(x, "_data") and x._data.dtype in BOOLS)


def sub(input: Operand, other: Operand, *, alpha: float = 1, out: Tensor | None = None) -> Tensor:
    """``input - alpha * other``."""
    if _is_bool(input) != _is_bool(other):
        raise DTypeError(
            _MINUS.format("a bool tensor is", f"If you are trying to invert a mask, {_ON_MASKS}")
        )
    if alpha != 1:
        other = _scaled("sub", input, other, alpha)
    value = SUB(input, other)
    return value if out is None else into(out, value)


def rsub(input: Tensor, other: Operand, *, alpha: float = 1) -> Tensor:
    """``other - alpha * input``."""
    return sub(other, input, alpha=alpha)


mul = of_two(MUL, "``input * other``.")


def neg(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``-input``."""
    value = NEG(input)
    return value if out is None else into(out, value)


def div(
    input: Tensor,
    other: Operand,
    *,
    rounding_mode: str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """``input / other``; ``rounding_mode`` may be ``"floor"`` or ``"trunc"`` (towards zero)."""
    if rounding_mode is None:
        value = DIV(input, other)
    elif rounding_mode in _ROUNDED:
        value = _ROUNDED[rounding_mode](input, other)
    else:
        raise ArgumentError(
            "div expected rounding_mode to be one of None, 'trunc', or 'floor' but found "
            f"{rounding_mode!r}"
        )
    return value if out is None else into(out, value)


def true_divide(input: Tensor, other: Operand, *, out: Tensor | None = None) -> Tensor:
    """``input / other``."""
    return div(input, other, out=out)


# --- // % -----------------------------------------------------------------------------------------


def _check_integers(x: Any, y: Any) -> None:
    """Integers do not divide by zero, and bools not at all."""
    found = np.result_type(x, y)
    if found.kind == "b":
        raise DTypeError("integer division is not implemented for bool; convert to an integer type")
    if found.kind in "iu" and not np.all(y):
        raise DTypeError("ZeroDivisionError: integer division or remainder by zero")


def _integers_checked(kernel: Any) -> Any:
    def checked(x: Any, y: Any) -> Any:
        _check_integers(x, y)
        return kernel(x, y)

    return checked


def _truncated(x: Any, y: Any) -> Any:
    if np.result_type(x, y).kind == "f":
        return np.trunc(np.true_divide(x, y))
    return np.floor_divide(np.subtract(x, np.fmod(x, y)), y)


def _no_slope(s: Saved, g: Tensor) -> Tensor:
    return zeros_of(g)


FLOOR_DIVIDE = binary(
    "floor_divide",
    _integers_checked(np.floor_divide),
    _no_slope,
    _no_slope,
    scalar=quotients.floor_divide,
)
TRUNC_DIVIDE = binary(
    "trunc_divide",
    _integers_checked(_truncated),
    _no_slope,
    _no_slope,
    scalar=quotients.trunc_divide,
)
REMAINDER = binary(
    "remainder",
    _integers_checked(np.remainder),
    lambda s, g: g,
    lambda s, g: -g * FLOOR_DIVIDE(s.x, s.y),
    ("", "xy"),
    scalar=quotients.remainder,
)
FMOD = binary(
    "fmod",
    _integers_checked(np.fmod),
    lambda s, g: g,
    lambda s, g: -g * TRUNC_DIVIDE(s.x, s.y),
    ("", "xy"),
    scalar=quotients.fmod,
)
_ROUNDED = {"floor": FLOOR_DIVIDE, "trunc": TRUNC_DIVIDE}

floor_divide = of_two(FLOOR_DIVIDE, "``input // other``, rounded down.")
remainder = of_two(REMAINDER, "``input % other``, with the sign of ``other`` (as Python's).")
fmod = of_two(FMOD, "The remainder with the sign of ``input`` (as C's).")


# --- ** -------------------------------------------------------------------------------------------

_POWERS: dict[float, Any] = {
    0.5: np.sqrt,
    1: np.positive,
    2: np.square,
    3: lambda x: x * x * x,
    -0.5: lambda x: 1 / np.sqrt(x),
    -1: np.reciprocal,
    -2: lambda x: 1 / np.square(x),
}


def _power(x: Any, y: Any) -> Any:
    kind = np.result_type(x, y).kind
    if kind == "b":
        raise DTypeError("pow is not implemented for two bool operands; convert one to a number")
    if kind != "f":
        return _integer_power(x, y)
    if isinstance(y, (int, float)) and y in _POWERS:
        return _POWERS[y](x)
    return np.power(x, y)


def _integer_power(x: Any, y: Any) -> Any:
    if isinstance(y, int):
        if y < 0:
            raise DTypeError("Integers to negative integer powers are not allowed.")
        return np.power(x, y)
    out = np.power(x, np.maximum(y, 0))
    odd, flip = y % 2 != 0, np.equal(x, -1)  # below zero only 1 and -1 leave more than 0
    small = np.where(np.equal(x, 1) | (flip & ~odd), 1, np.where(flip, -1, 0))
    return np.where(np.less(y, 0), small, out).astype(out.dtype)


def _power_base(s: Saved, g: Tensor) -> Any:
    x, y = s.x, s.y
    if not isinstance(y, (int, float)):
        return g * WHERE(y == 0, 0, y * x ** (y - 1))
    if y == 0:
        return zeros_of(g)
    return g * x * 2 if y == 2 else g * (y * x ** (y - 1))


def _power_exponent(s: Saved, g: Tensor) -> Any:
    x, y = s.x, s.y
    if not isinstance(x, (int, float)):
        return g * WHERE((x == 0) & (y >= 0), 0, s.out * x.log())
    if x == 0:
        return g * WHERE(y >= 0, 0, s.out * -math.inf)
    return g * s.out * (math.log(x) if x > 0 else math.nan)


POW = binary("pow", _power, _power_base, _power_exponent, ("xy", "xyo"), scalar=powers.power)


def pow(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """``input ** exponent``; one of them may be a number."""
    value = POW(input, exponent)
    return value if out is None else into(out, value)


def float_power(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """``input ** exponent`` in float64."""
    wide = [x if isinstance(x, (int, float)) else cast(x, dt.float64) for x in (input, exponent)]
    return pow(*wide, out=out)


def ldexp(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``input * 2 ** other``."""
    if input.dtype.is_floating_point and not other.dtype.is_floating_point:
        other = cast(other, input.dtype)
    return mul(input, pow(2.0, other), out=out)


# --- fused ----------------------------------------------------------------------------------------


def _lerp(x: Array, end: Array, weight: Any) -> Any:
    """From the nearer end, so that both ends are exact."""
    span = end - x
    if isinstance(weight, (int, float)):
        return x + weight * span if abs(weight) < 0.5 else end - span * (1 - weight)
    return np.where(np.abs(weight) < 0.5, x + weight * span, end - span * (1 - weight))


def _lerp_scalar(x: Scalar, end: Scalar, weight: Scalar) -> Scalar:
    span = end - x
    near = scalar.fma(span, weight, x)
    return scalar.where(scalar.absolute(weight) < 0.5, near, scalar.fma(span, weight - 1, end))


LERP = Op(
    "lerp",
    "elementwise",
    _lerp,
    joined,
    vjp=(
        lambda s, g: g * (1 - s.z),
        lambda s, g: g * s.z,
        lambda s, g: g * (s.y - s.x),
    ),
    saves=("z", "z", "xy"),
    promote="float",
    scalar=_lerp_scalar,
)


def lerp(input: Tensor, end: Tensor, weight: Operand, *, out: Tensor | None = None) -> Tensor:
    """``input + weight * (end - input)``; ``input`` and ``end`` have one dtype."""
    if input.dtype is not end.dtype:
        raise DTypeError(
            f"lerp: expected dtype {input.dtype.name} for `end` but got dtype {end.dtype.name}"
        )
    value = LERP(input, end, weight)
    return value if out is None else into(out, value)


def addcmul(
    input: Tensor,
    tensor1: Tensor,
    tensor2: Tensor,
    *,
    value: float = 1,
    out: Tensor | None = None,
) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    return add(input, mul(tensor1, tensor2), alpha=value, out=out)


def addcdiv(
    input: Tensor,
    tensor1: Tensor,
    tensor2: Tensor,
    *,
    value: float = 1,
    out: Tensor | None = None,
) -> Tensor:
    """``input + value * tensor1 / tensor2`` of floating tensors."""
    if not _has_float(tensor1) and not _has_float(tensor2):
        raise DTypeError(
            "Integer division with addcdiv is no longer supported; compute "
            "input + value * (tensor1 / tensor2), or use div with rounding_mode='trunc'"
        )
    return add(input, div(tensor1, tensor2), alpha=value, out=out)
