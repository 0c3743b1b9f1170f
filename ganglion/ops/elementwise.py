"""Elementwise math: arithmetic, comparisons, logic, and the functions of one variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.ops.record import Op, into
from ganglion.shapes import Meta, broadcast_shapes

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
Operand = "Tensor | float"


def shape_of(x: Any) -> tuple[int, ...]:
    return x.shape if isinstance(x, Meta) else ()


def joined(*operands: Any) -> Meta:
    """Broadcast shape and common dtype of operands that were promoted already."""
    dtype = next(x.dtype for x in operands if isinstance(x, Meta))
    return Meta(broadcast_shapes(*map(shape_of, operands)), dtype)


def compared(*operands: Any) -> Meta:
    return Meta(joined(*operands).shape, dt.bool_)


def binary(name: str, kernel: Any, x: Any, y: Any, saves: str = "", promote: Any = "same") -> Op:
    """A differentiable op of two operands with its two gradient rules."""
    return Op(name, "elementwise", kernel, joined, vjp=(x, y), saves=saves, promote=promote)


def unary(name: str, kernel: Any, rule: Any, saves: str = "", promote: Any = "float") -> Op:
    """A differentiable op of one operand with its gradient rule."""
    return Op(name, "elementwise", kernel, joined, vjp=(rule,), saves=saves, promote=promote)


def compare(name: str, kernel: Any) -> Op:
    return Op(name, "elementwise", kernel, compared, promote="same")


ADD = binary("add", np.add, lambda s, g: g, lambda s, g: g)
SUB = binary("sub", np.subtract, lambda s, g: g, lambda s, g: -g)
MUL = binary("mul", np.multiply, lambda s, g: g * s.y, lambda s, g: g * s.x, "xy")
DIV = binary(
    "div",
    np.true_divide,
    lambda s, g: g / s.y,
    lambda s, g: -g * (s.x / s.y) / s.y,
    "xy",
    promote="float",
)
NEG = unary("neg", np.negative, lambda s, g: -g, promote="none")
EXP = unary("exp", np.exp, lambda s, g: g * s.out, "o")
LOG = unary("log", np.log, lambda s, g: g / s.x, "x")
GT = compare("gt", np.greater)


def add(input: Tensor, other: Operand, *, alpha: float = 1, out: Tensor | None = None) -> Tensor:
    """``input + alpha * other``."""
    if alpha != 1:
        other = other * alpha
    return into(out, ADD(input, other))


def sub(input: Tensor, other: Operand, *, alpha: float = 1, out: Tensor | None = None) -> Tensor:
    """``input - alpha * other``."""
    if alpha != 1:
        other = other * alpha
    return into(out, SUB(input, other))


def mul(input: Tensor, other: Operand, *, out: Tensor | None = None) -> Tensor:
    """``input * other``."""
    return into(out, MUL(input, other))


def div(input: Tensor, other: Operand, *, out: Tensor | None = None) -> Tensor:
    """``input / other``."""
    return into(out, DIV(input, other))


def neg(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """``-input``."""
    return into(out, NEG(input))


def exp(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    return into(out, EXP(input))
