"""Elementwise functions as methods and operators of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.ops import (
    activation,
    arithmetic,
    compare,
    error_function,
    gamma,
    select,
    special,
    unary,
)
from ganglion.ops.record import in_place

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Method = Callable[..., "Tensor"]


def _reflected(function: Method) -> Method:
    """The method for ``other <op> self``."""

    def method(self: Tensor, other: Any) -> Tensor:
        return function(other, self)

    return method


def _equality(function: Method) -> Method:
    """``==`` and ``!=`` leave what is neither tensor nor number to Python."""

    def method(self: Tensor, other: Any) -> Any:
        known = isinstance(other, (int, float, np.ndarray, np.generic)) or hasattr(other, "_data")
        return function(self, other) if known else NotImplemented

    return method


class Elementwise:
    """What tensors can do element by element."""

    # --- arithmetic
    add = arithmetic.add
    sub = subtract = arithmetic.sub
    mul = multiply = arithmetic.mul
    div = divide = arithmetic.div
    true_divide = arithmetic.true_divide
    floor_divide = arithmetic.floor_divide
    remainder = arithmetic.remainder
    fmod = arithmetic.fmod
    neg = negative = arithmetic.neg
    pow = arithmetic.pow
    float_power = arithmetic.float_power
    ldexp = arithmetic.ldexp
    lerp = arithmetic.lerp
    addcmul = arithmetic.addcmul
    addcdiv = arithmetic.addcdiv
    add_ = in_place(arithmetic.add)
    sub_ = subtract_ = in_place(arithmetic.sub)
    mul_ = multiply_ = in_place(arithmetic.mul)
    div_ = divide_ = in_place(arithmetic.div)
    true_divide_ = in_place(arithmetic.true_divide)
    floor_divide_ = in_place(arithmetic.floor_divide)
    remainder_ = in_place(arithmetic.remainder)
    fmod_ = in_place(arithmetic.fmod)
    neg_ = negative_ = in_place(arithmetic.neg)
    pow_ = in_place(arithmetic.pow)
    float_power_ = in_place(arithmetic.float_power)
    ldexp_ = in_place(arithmetic.ldexp)
    lerp_ = in_place(arithmetic.lerp)
    addcmul_ = in_place(arithmetic.addcmul)
    addcdiv_ = in_place(arithmetic.addcdiv)

    __add__ = __radd__ = arithmetic.add
    __sub__, __rsub__ = arithmetic.sub, arithmetic.rsub
    __mul__ = __rmul__ = arithmetic.mul
    __truediv__, __rtruediv__ = arithmetic.div, _reflected(arithmetic.div)
    __floordiv__, __rfloordiv__ = arithmetic.floor_divide, _reflected(arithmetic.floor_divide)
    __mod__, __rmod__ = arithmetic.remainder, _reflected(arithmetic.remainder)
    __pow__, __rpow__ = arithmetic.pow, _reflected(arithmetic.pow)
    __neg__ = arithmetic.neg
    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_
    __ifloordiv__, __imod__, __ipow__ = floor_divide_, remainder_, pow_

    # --- comparisons, logic, bits
    eq = compare.eq
    ne = not_equal = compare.ne
    lt = less = compare.lt
    le = less_equal = compare.le
    gt = greater = compare.gt
    ge = greater_equal = compare.ge
    isclose = compare.isclose
    allclose = compare.allclose
    equal = compare.equal
    isnan = compare.isnan
    isinf = compare.isinf
    isfinite = compare.isfinite
    isneginf = compare.isneginf
    isposinf = compare.isposinf
    signbit = compare.signbit
    logical_not = compare.logical_not
    logical_and = compare.logical_and
    logical_or = compare.logical_or
    logical_xor = compare.logical_xor
    bitwise_not = compare.bitwise_not
    bitwise_and = compare.bitwise_and
    bitwise_or = compare.bitwise_or
    bitwise_xor = compare.bitwise_xor
    bitwise_left_shift = compare.bitwise_left_shift
    bitwise_right_shift = compare.bitwise_right_shift
    eq_ = in_place(compare.eq)
    ne_ = not_equal_ = in_place(compare.ne)
    lt_ = less_ = in_place(compare.lt)
    le_ = less_equal_ = in_place(compare.le)
    gt_ = greater_ = in_place(compare.gt)
    ge_ = greater_equal_ = in_place(compare.ge)
    logical_not_ = in_place(compare.logical_not)
    logical_and_ = in_place(compare.logical_and)
    logical_or_ = in_place(compare.logical_or)
    logical_xor_ = in_place(compare.logical_xor)
    bitwise_not_ = in_place(compare.bitwise_not)
    bitwise_and_ = in_place(compare.bitwise_and)
    bitwise_or_ = in_place(compare.bitwise_or)
    bitwise_xor_ = in_place(compare.bitwise_xor)
    bitwise_left_shift_ = in_place(compare.bitwise_left_shift)
    bitwise_right_shift_ = in_place(compare.bitwise_right_shift)

    __eq__, __ne__ = _equality(compare.eq), _equality(compare.ne)  # type: ignore[assignment]
    __hash__ = object.__hash__
    __lt__, __le__, __gt__, __ge__ = compare.lt, compare.le, compare.gt, compare.ge
    __and__ = __rand__ = compare.bitwise_and
    __or__ = __ror__ = compare.bitwise_or
    __xor__ = __rxor__ = compare.bitwise_xor
    __lshift__, __rlshift__ = compare.bitwise_left_shift, _reflected(compare.bitwise_left_shift)
    __rshift__, __rrshift__ = compare.bitwise_right_shift, _reflected(compare.bitwise_right_shift)
    __invert__ = compare.bitwise_not
    __iand__, __ior__, __ixor__ = bitwise_and_, bitwise_or_, bitwise_xor_
    __ilshift__, __irshift__ = bitwise_left_shift_, bitwise_right_shift_

    # --- choosing
    masked_fill = select.masked_fill
    maximum = select.maximum
    minimum = select.minimum
    fmax = select.fmax
    fmin = select.fmin
    clamp = clip = select.clamp
    clamp_min = select.clamp_min
    clamp_max = select.clamp_max
    clamp_ = clip_ = in_place(select.clamp)
    clamp_min_ = in_place(select.clamp_min)
    clamp_max_ = in_place(select.clamp_max)
    masked_fill_ = select.masked_fill_
    fill_ = select.fill_
    zero_ = select.zero_
    copy_ = select.copy_

    def where(self, condition: Tensor, other: Any) -> Any:
        """``self`` where ``condition`` holds, else ``other``."""
        return select.where(condition, self, other)  # type: ignore[arg-type]

    # --- one variable
    abs = absolute = unary.abs
    positive = unary.positive
    sign = sgn = unary.sign
    square = unary.square
    sqrt = unary.sqrt
    rsqrt = unary.rsqrt
    reciprocal = unary.reciprocal
    exp = unary.exp
    exp2 = unary.exp2
    expm1 = unary.expm1
    log = unary.log
    log2 = unary.log2
    log10 = unary.log10
    log1p = unary.log1p
    sin = unary.sin
    cos = unary.cos
    tan = unary.tan
    asin = arcsin = unary.asin
    acos = arccos = unary.acos
    atan = arctan = unary.atan
    sinh = unary.sinh
    cosh = unary.cosh
    asinh = arcsinh = unary.asinh
    acosh = arccosh = unary.acosh
    atanh = arctanh = unary.atanh
    deg2rad = unary.deg2rad
    rad2deg = unary.rad2deg
    floor = unary.floor
    ceil = unary.ceil
    round = unary.round
    trunc = fix = unary.trunc
    frac = unary.frac
    abs_ = absolute_ = in_place(unary.abs)
    sign_ = sgn_ = in_place(unary.sign)
    square_ = in_place(unary.square)
    sqrt_ = in_place(unary.sqrt)
    rsqrt_ = in_place(unary.rsqrt)
    reciprocal_ = in_place(unary.reciprocal)
    exp_ = in_place(unary.exp)
    exp2_ = in_place(unary.exp2)
    expm1_ = in_place(unary.expm1)
    log_ = in_place(unary.log)
    log2_ = in_place(unary.log2)
    log10_ = in_place(unary.log10)
    log1p_ = in_place(unary.log1p)
    sin_ = in_place(unary.sin)
    cos_ = in_place(unary.cos)
    tan_ = in_place(unary.tan)
    asin_ = arcsin_ = in_place(unary.asin)
    acos_ = arccos_ = in_place(unary.acos)
    atan_ = arctan_ = in_place(unary.atan)
    sinh_ = in_place(unary.sinh)
    cosh_ = in_place(unary.cosh)
    asinh_ = arcsinh_ = in_place(unary.asinh)
    acosh_ = arccosh_ = in_place(unary.acosh)
    atanh_ = arctanh_ = in_place(unary.atanh)
    deg2rad_ = in_place(unary.deg2rad)
    rad2deg_ = in_place(unary.rad2deg)
    floor_ = in_place(unary.floor)
    ceil_ = in_place(unary.ceil)
    round_ = in_place(unary.round)
    trunc_ = fix_ = in_place(unary.trunc)
    frac_ = in_place(unary.frac)
    erf = error_function.erf
    erfc = error_function.erfc
    erfinv = error_function.erfinv
    lgamma = gamma.lgamma
    digamma = gamma.digamma
    logit = special.logit
    sinc = special.sinc
    nan_to_num = special.nan_to_num
    erf_ = in_place(error_function.erf)
    erfc_ = in_place(error_function.erfc)
    erfinv_ = in_place(error_function.erfinv)
    lgamma_ = in_place(gamma.lgamma)
    digamma_ = in_place(gamma.digamma)
    logit_ = in_place(special.logit)
    sinc_ = in_place(special.sinc)
    nan_to_num_ = in_place(special.nan_to_num)
    __abs__ = unary.abs
    __pos__ = unary.positive

    def polygamma(self, n: int) -> Tensor:
        """The ``n``-th derivative of ``digamma``."""
        return gamma.polygamma(n, self)  # type: ignore[arg-type]

    # --- two variables
    atan2 = arctan2 = special.atan2
    hypot = special.hypot
    logaddexp = special.logaddexp
    logaddexp2 = special.logaddexp2
    copysign = special.copysign
    nextafter = special.nextafter
    heaviside = special.heaviside
    xlogy = special.xlogy
    atan2_ = arctan2_ = in_place(special.atan2)
    hypot_ = in_place(special.hypot)
    copysign_ = in_place(special.copysign)
    nextafter_ = in_place(special.nextafter)
    heaviside_ = in_place(special.heaviside)
    xlogy_ = in_place(special.xlogy)

    # --- activations
    relu = activation.relu
    sigmoid = activation.sigmoid
    tanh = activation.tanh
    relu_ = in_place(activation.relu)
    sigmoid_ = in_place(activation.sigmoid)
    tanh_ = in_place(activation.tanh)
