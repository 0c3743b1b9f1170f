"""Functions of two variables, and those with special points: hypot, logaddexp, xlogy, sinc."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import DTypeError
from ganglion.ops import powers, scalar, transcendental, trigonometric
from ganglion.ops.elementwise import Array, binary, joined, of_one, of_two, unary
from ganglion.ops.movement import zeros_of
from ganglion.ops.record import Op, Saved, into
from ganglion.ops.scalar import Scalar
from ganglion.ops.select import WHERE

if TYPE_CHECKING:
    from ganglion.tensor import Tensor


# --- two variables --------------------------------------------------------------------------------

ATAN2 = binary(
    "atan2",
    np.arctan2,
    lambda s, g: g * s.y / (s.x * s.x + s.y * s.y),
    lambda s, g: -g * s.x / (s.x * s.x + s.y * s.y),
    "xy",
    promote="float",
    scalar=trigonometric.atan2,
)
HYPOT = binary(
    "hypot",
    np.hypot,
    lambda s, g: g * (s.x / s.out),
    lambda s, g: g * (s.y / s.out),
    ("xo", "yo"),
    promote="float",
    scalar=powers.hypot,
)
LOGADDEXP = binary(
    "logaddexp",
    np.logaddexp,
    lambda s, g: g / (1 + (s.y - s.x).exp()),
    lambda s, g: g / (1 + (s.x - s.y).exp()),
    "xy",
    promote="float",
    scalar=transcendental.logaddexp,
)
LOGADDEXP2 = binary(
    "logaddexp2",
    np.logaddexp2,
    lambda s, g: g / (1 + (s.y - s.x).exp2()),
    lambda s, g: g / (1 + (s.x - s.y).exp2()),
    "xy",
    promote="float",
    scalar=transcendental.logaddexp2,
)
COPYSIGN = binary(
    "copysign",
    np.copysign,
    lambda s, g: g * WHERE(s.x == 0, 0, s.out / s.x),
    lambda s, g: zeros_of(g),
    ("xo", ""),
    promote="float",
    scalar=scalar.copysign,
)


def _next_scalar(x: Scalar, y: Scalar) -> Scalar:
    """One step of the number's bits; from 0 to the least denormal."""
    raw = scalar.bits(x, dt.int32 if x.dtype is dt.float32 else dt.int64)
    step = scalar.where((y > x) ^ (x < 0), scalar.const(1, raw.dtype), -1)
    least = scalar.copysign(scalar.bits(scalar.const(1, raw.dtype), x.dtype), y)
    moved = scalar.where(scalar.eq(x, 0), least, scalar.bits(raw + step, x.dtype))
    nan = scalar.ne(x, x) | scalar.ne(y, y)
    return scalar.where(nan, x + y, scalar.where(scalar.eq(x, y), y, moved))


NEXTAFTER = Op(
    "nextafter", "elementwise", np.nextafter, joined, promote="float", scalar=_next_scalar
)

atan2 = arctan2 = of_two(ATAN2, "The angle of the point (other, input), in (-pi, pi].")
hypot = of_two(HYPOT, "``sqrt(input^2 + other^2)`` without overflow.")
logaddexp = of_two(LOGADDEXP, "``log(e^input + e^other)`` without overflow.")
logaddexp2 = of_two(LOGADDEXP2, "``log2(2^input + 2^other)`` without overflow.")
copysign = of_two(COPYSIGN, "The size of ``input`` with the sign of ``other``.")
nextafter = of_two(NEXTAFTER, "The next floating-point number after ``input`` towards ``other``.")


def _heaviside_scalar(x: Scalar, y: Scalar) -> Scalar:
    if x.dtype is dt.bool_:
        return x | y
    above = scalar.where(x > 0, scalar.const(1, x.dtype), 0)
    found = scalar.where(scalar.eq(x, 0), y, above)
    return scalar.where(scalar.ne(x, x), x, found)


HEAVISIDE = Op(
    "heaviside",
    "elementwise",
    lambda x, y: np.heaviside(x, y).astype(x.dtype),
    joined,
    scalar=_heaviside_scalar,
)


def heaviside(input: Tensor, values: Tensor, *, out: Tensor | None = None) -> Tensor:
    """0 below zero, 1 above, ``values`` (of the same dtype) at zero."""
    if input.dtype is not values.dtype:
        raise DTypeError(
            "heaviside is not yet implemented for tensors with different dtypes: "
            f"{input.dtype.name} and {values.dtype.name}"
        )
    return into(out, HEAVISIDE(input, values))


def _xlogy(x: Any, y: Any) -> Any:
    log = np.log(np.asarray(y, np.result_type(x, y)))
    return np.where(np.equal(x, 0) & ~np.isnan(y), 0, x * log).astype(log.dtype)


def _xlogy_scalar(x: Scalar, y: Scalar) -> Scalar:
    found = x * transcendental.log(y)
    return scalar.where(scalar.eq(x, 0) & scalar.eq(y, y), 0.0, found)


XLOGY: Op = binary(
    "xlogy",
    _xlogy,
    lambda s, g: WHERE((s.x == 0) & (s.y <= 0), 0, XLOGY(g, s.y)),
    lambda s, g: g * s.x / s.y,
    "xy",
    promote="float",
    scalar=_xlogy_scalar,
)

xlogy = of_two(XLOGY, "``input * log(other)``; 0 where ``input`` is 0.")


# --- one variable ---------------------------------------------------------------------------------


def _logit(x: Array, eps: float | None) -> Any:
    if eps is not None:
        x = x.clip(eps, 1 - eps)
    return np.log(x / (1 - x))


def _logit_rule(s: Saved, g: Tensor) -> Tensor:
    x, eps = s.x, s["eps"]
    low, outside = (0.0, math.nan) if eps is None else (eps, 0.0)
    inside = (x >= low) & (x <= 1 - low)
    return WHERE(inside, g / (x * (1 - x)), outside)  # type: ignore[no-any-return]


def _logit_scalar(x: Scalar, eps: float | None) -> Scalar:
    if eps is not None:
        x = transcendental.limited(x, eps, 1 - eps)
    return transcendental.log(x / (1 - x))


LOGIT = Op(
    "logit",
    "elementwise",
    _logit,
    lambda x, eps: x,
    vjp=(_logit_rule,),
    saves="x",
    promote="float",
    scalar=_logit_scalar,
)


def logit(input: Tensor, eps: float | None = None, *, out: Tensor | None = None) -> Tensor:
    """``log(input / (1 - input))``, of ``input`` limited to [eps, 1 - eps] if given."""
    return into(out, LOGIT(input, eps=eps))


def _sinc_rule(s: Saved, g: Tensor) -> Any:
    angle = s.x * math.pi
    slope = (angle * angle.cos() - angle.sin()) / (angle * s.x)
    return g * WHERE(s.x == 0, 0, slope)


SINC = unary("sinc", np.sinc, _sinc_rule, "x", scalar=trigonometric.sinc)

sinc = of_one(SINC, "``sin(pi input) / (pi input)``; 1 at 0.")


def _replaced(x: Array, nan: float, posinf: float, neginf: float) -> Array:
    out = x.copy()
    if x.dtype.kind == "f":
        np.copyto(out, nan, where=np.isnan(x))
        np.copyto(out, posinf, where=x == np.inf)
        np.copyto(out, neginf, where=x == -np.inf)
    return out


def _replaced_scalar(x: Scalar, nan: float, posinf: float, neginf: float) -> Scalar:
    if not x.dtype.is_floating_point:
        return x
    found = scalar.where(scalar.eq(x, math.inf), posinf, x)
    found = scalar.where(scalar.eq(x, -math.inf), neginf, found)
    return scalar.where(scalar.ne(x, x), nan, found)


NAN_TO_NUM = Op(
    "nan_to_num",
    "elementwise",
    _replaced,
    lambda x, nan, posinf, neginf: x,
    vjp=(lambda s, g: g * s.x.isfinite(),),
    saves="x",
    scalar=_replaced_scalar,
)


def nan_to_num(
    input: Tensor,
    nan: float = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """NaN and infinities replaced by numbers: 0 and the dtype's limits unless given."""
    limit = dt.finfo(input.dtype).max if input.dtype.is_floating_point else 0
    top = limit if posinf is None else posinf
    bottom = -limit if neginf is None else neginf
    value = NAN_TO_NUM(input, nan=nan, posinf=top, neginf=bottom)
    return into(out, value)
