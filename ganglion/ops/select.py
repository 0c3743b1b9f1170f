"""Choosing between values: where, masks, extremes and bounds; filling and copying in place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.dispatch import mode, write
from ganglion.errors import ArgumentError, DTypeError, ShapeError
from ganglion.ops import scalar
from ganglion.ops.create import full
from ganglion.ops.elementwise import BOOLS, Array, binary, choose, joined, of_two, shape_of
from ganglion.ops.movement import cast, expand, zeros_of
from ganglion.ops.record import Op, Saved, into
from ganglion.ops.scalar import Scalar
from ganglion.shapes import Meta, broadcast_shapes

if TYPE_CHECKING:
    from ganglion.ops.elementwise import Operand
    from ganglion.tensor import Tensor


# --- where ----------------------------------------------------------------------------------------


def _infer_where(condition: Meta, x: Any, y: Any) -> Meta:
    if condition.dtype is not dt.bool_:
        raise DTypeError(
            "where expected condition to be a boolean tensor, but got a tensor with dtype "
            f"{condition.dtype.name}"
        )
    values = joined(*(v for v in (x, y) if isinstance(v, Meta)))
    return Meta(broadcast_shapes(condition.shape, shape_of(x), shape_of(y)), values.dtype)


WHERE: Op = Op(
    "where",
    "elementwise",
    choose,
    _infer_where,
    vjp=(None, lambda s, g: WHERE(s.x, g, 0), lambda s, g: WHERE(s.x, 0, g)),
    saves="x",
    promote="same",
    keeps=(0,),
    scalar=scalar.where,
)


def where(
    condition: Tensor,
    input: Operand | None = None,
    other: Operand | None = None,
    *,
    out: Tensor | None = None,
) -> Any:
    """``input`` where ``condition`` holds, else ``other``; the indices where it holds if alone."""
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if isinstance(input, (int, float)) and isinstance(other, (int, float)):
        input = full((), input, dtype=dt.promote_types(dt.of_scalar(input), dt.of_scalar(other)))
    if condition.dtype is dt.uint8:
        condition = condition != 0
    return into(out, WHERE(condition, input, other))


def masked_fill(input: Tensor, mask: Tensor, value: Operand) -> Tensor:
    """``value`` (a number or 0-d tensor) where ``mask`` holds, else ``input``."""
    if mask._data.dtype not in BOOLS:
        raise DTypeError(
            f"masked_fill only supports boolean masks, but got mask with dtype {mask.dtype.name}"
        )
    if not isinstance(value, (int, float)):
        value = cast(_single("masked_fill", value), input.dtype)
    elif not input.dtype.is_floating_point:
        value = full((), value, dtype=input.dtype)
    return WHERE(mask, value, input)  # type: ignore[no-any-return]


def _single(name: str, value: Tensor) -> Tensor:
    if value.ndim:
        raise ShapeError(
            f"{name} only supports a 0-dimensional value tensor, but got tensor with "
            f"{value.ndim} dimension(s)."
        )
    return value


# --- extremes -------------------------------------------------------------------------------------


def _extreme(name: str, kernel: Any, rule: Any, sign: int) -> Op:
    """The winner takes the gradient; a tie is shared."""

    def share(g: Tensor, mine: Any, other: Any) -> Any:
        loses = mine < other if sign > 0 else mine > other
        return WHERE(mine == other, g / 2, g).masked_fill(loses, 0)

    return binary(
        name,
        kernel,
        lambda s, g: share(g, s.x, s.y),
        lambda s, g: share(g, s.y, s.x),
        "xy",
        scalar=rule,
    )


def _extreme_number(name: str, kernel: Any, rule: Any, sign: int) -> Op:
    """Numbers win over NaN, and a tie goes to the first."""

    def first(x: Any, y: Any) -> Any:
        return ((x >= y) if sign > 0 else (x <= y)) | (y != y)  # the last: is NaN

    return binary(
        name,
        kernel,
        lambda s, g: WHERE(first(s.x, s.y), g, 0),
        lambda s, g: WHERE(first(s.x, s.y), 0, g),
        "xy",
        scalar=rule,
    )


def _number(x: Scalar, y: Scalar, wins: Scalar) -> Scalar:
    """``x`` if it wins or ``y`` is NaN."""
    return scalar.where(wins | scalar.ne(y, y), x, y)


MAXIMUM = _extreme("maximum", np.maximum, scalar.maximum, 1)
MINIMUM = _extreme("minimum", np.minimum, scalar.minimum, -1)
FMAX = _extreme_number("fmax", np.fmax, lambda x, y: _number(x, y, x >= y), 1)
FMIN = _extreme_number("fmin", np.fmin, lambda x, y: _number(x, y, x <= y), -1)

maximum = of_two(MAXIMUM, "The larger of two; NaN if either is.")
minimum = of_two(MINIMUM, "The smaller of two; NaN if either is.")
fmax = of_two(FMAX, "The larger of two; a number rather than NaN.")
fmin = of_two(FMIN, "The smaller of two; a number rather than NaN.")


# --- bounds ---------------------------------------------------------------------------------------


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float))


def _clamp_array(x: Array, low: Any, high: Any) -> Any:
    if x.dtype.kind == "f" and all(b is None or _is_number(b) for b in (low, high)):
        return x.clip(-math.inf if low is None else low, math.inf if high is None else high)
    out = x if low is None else np.maximum(x, low)
    return out if high is None else np.minimum(out, high)


def _infer_clamp(x: Meta, low: Any, high: Any) -> Meta:
    return joined(x, *(b for b in (low, high) if b is not None))


def _inside(s: Saved, g: Tensor) -> Any:
    """Where neither bound cut."""
    x, low, high = s.x, s.y, s.z
    kept = x <= high if low is None else x >= low
    return WHERE(kept if low is None or high is None else kept & (x <= high), g, 0)


def _below(s: Saved, g: Tensor) -> Any:
    x, low, high = s.x, s.y, s.z
    return WHERE(x < low if high is None else (x < low) & (low < high), g, 0)


def _above(s: Saved, g: Tensor) -> Any:
    x, low, high = s.x, s.y, s.z
    return WHERE(x > high if low is None else (x > high) | (low > high), g, 0)


def _clamp_scalar(x: Scalar, low: Scalar | None, high: Scalar | None) -> Scalar:
    found = x if low is None else scalar.maximum(x, low)
    return found if high is None else scalar.minimum(found, high)


CLAMP = Op(
    "clamp",
    "elementwise",
    _clamp_array,
    _infer_clamp,
    vjp=(_inside, _below, _above),
    saves="xyz",
    promote="same",
    scalar=_clamp_scalar,
)


def clamp(
    input: Tensor,
    min: Operand | None = None,
    max: Operand | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """``input`` limited to [min, max], numbers or tensors; one of them may be left out."""
    if min is None and max is None:
        raise ArgumentError("clamp: at least one of 'min' or 'max' must not be None")
    value = CLAMP(input, min, max)
    return value if out is None else into(out, value)


clip = clamp


def clamp_min(input: Tensor, min: Operand, *, out: Tensor | None = None) -> Tensor:
    """``input``, at least ``min``."""
    return clamp(input, min, out=out)


def clamp_max(input: Tensor, max: Operand, *, out: Tensor | None = None) -> Tensor:
    """``input``, at most ``max``."""
    return clamp(input, max=max, out=out)


# --- in place -------------------------------------------------------------------------------------


def _overwrite(x: Array, value: Array) -> Array:
    out = np.empty_like(x)
    out[...] = value
    return out


OVERWRITE = binary(
    "overwrite",
    _overwrite,
    lambda s, g: zeros_of(g),
    lambda s, g: g,
    promote="none",
    scalar=lambda x, value: scalar.cast(value, x.dtype),
)


def _store(target: Tensor, value: Tensor) -> Tensor:
    """Write a value of the target's dtype, expanded, keeping both in the history."""
    if mode.grad and (target.requires_grad or value.requires_grad):
        return write(target, OVERWRITE(target, value))
    if value._data.shape != target._data.shape:
        value = expand(value, target._data.shape)
    return write(target, value)


def fill_(input: Tensor, value: Operand) -> Tensor:
    """Fill with one value (a number or 0-d tensor), in place."""
    if isinstance(value, (int, float)):
        return _store(input, full(input._data.shape, value, dtype=input.dtype))
    return _store(input, cast(_single("fill_", value), input.dtype))


def zero_(input: Tensor) -> Tensor:
    """Fill with zeros, in place."""
    return fill_(input, 0)


def copy_(input: Tensor, src: Operand, non_blocking: bool = False) -> Tensor:
    """Store ``src``, broadcast and converted, in place."""
    if isinstance(src, (int, float)):
        return fill_(input, src)
    return _store(input, src if src.dtype is input.dtype else cast(src, input.dtype))


def masked_fill_(input: Tensor, mask: Tensor, value: Operand) -> Tensor:
    """Store ``value`` where ``mask`` holds, in place."""
    return write(input, masked_fill(input, mask, value))
