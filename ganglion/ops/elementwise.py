"""What elementwise ops share: shape rules, records and public functions of one shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import ganglion.dtypes as dt
from ganglion.dispatch import bind
from ganglion.errors import ArgumentTypeError
from ganglion.ops.record import Op, Promote, into
from ganglion.shapes import Meta, Shape, broadcast_shapes

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

    Operand: TypeAlias = Tensor | float

Array = np.ndarray[Any, Any]
Function = Callable[..., "Tensor"]

BOOLS = frozenset({dt.bool_, np.dtype(bool)})
_SIGNED = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
_BRANCHY = 512  # elements up to which np.where is the faster choice


# --- shape rules ----------------------------------------------------------------------------------


def shape_of(x: Any) -> Shape:
    """The shape of an operand; numbers have none."""
    if isinstance(x, Meta):
        return x.shape
    if isinstance(x, (int, float)):
        return ()
    raise ArgumentTypeError(f"expected a tensor or a number, got {x!r}")


def joined(*operands: Any, **params: Any) -> Meta:
    """Broadcast shape and common dtype of operands that were promoted already."""
    dtype = next((x.dtype for x in operands if isinstance(x, Meta)), None)
    return Meta(broadcast_shapes(*map(shape_of, operands)), dtype or dt.of_scalar(operands[0]))


def compared(*operands: Any, **params: Any) -> Meta:
    """Booleans in the operands' broadcast shape."""
    return Meta(joined(*operands).shape, dt.bool_)


# --- records --------------------------------------------------------------------------------------


def unary(
    name: str,
    kernel: Any,
    rule: Any,
    saves: str = "",
    promote: Promote = "float",
    infer: Any = joined,
    scalar: Any = None,
) -> Op:
    """A differentiable op of one operand with its gradient rule."""
    return Op(
        name, "elementwise", kernel, infer, vjp=(rule,), saves=saves, promote=promote, scalar=scalar
    )


def binary(
    name: str,
    kernel: Any,
    x: Any,
    y: Any,
    saves: str | tuple[str, ...] = "",
    promote: Promote = "same",
    infer: Any = joined,
    scalar: Any = None,
) -> Op:
    """A differentiable op of two operands with its two gradient rules."""
    return Op(
        name, "elementwise", kernel, infer, vjp=(x, y), saves=saves, promote=promote, scalar=scalar
    )


def predicate(name: str, kernel: Any, scalar: Any) -> Op:
    """An op that answers with booleans."""
    return Op(name, "elementwise", kernel, compared, scalar=scalar)


# --- public functions -----------------------------------------------------------------------------


def of_one(op: Op, doc: str) -> Function:
    """The public function ``f(input, *, out=None)`` of an op."""

    def function(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        value = bind(op, (input,), {})
        return value if out is None else into(out, value)

    return _named(function, op, doc)


def of_two(op: Op, doc: str) -> Function:
    """The public function ``f(input, other, *, out=None)`` of an op."""

    def function(input: Tensor, other: Operand, *, out: Tensor | None = None) -> Tensor:
        value = bind(op, (input, other), {})
        return value if out is None else into(out, value)

    return _named(function, op, doc)


def _named(function: Function, op: Op, doc: str) -> Function:
    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = doc
    return function


# --- kernels --------------------------------------------------------------------------------------


def choose(condition: Array, x: Any, y: Any) -> Any:
    """``np.where``; large arrays by bit masks, which do not mind random conditions."""
    if condition.dtype != np.bool_:
        raise TypeError("the condition holds no booleans")
    if condition.size <= _BRANCHY:
        return np.where(condition, x, y)
    dtype = np.result_type(x, y)
    kind = _SIGNED[dtype.itemsize]
    x, y = np.asarray(x, dtype).view(kind), np.asarray(y, dtype).view(kind)
    mask = np.negative(condition.view(np.int8), dtype=kind)  # all bits, or none
    differing = np.bitwise_xor(x, y)
    same = differing.shape == mask.shape
    out = np.bitwise_and(differing, mask, out=mask if same else None)
    return np.bitwise_xor(out, y, out=out).view(dtype)
