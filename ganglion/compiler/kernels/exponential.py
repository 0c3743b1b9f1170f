"""exp and what is made of it, on registers: one vector of floats or doubles at a time.

Powers of two come from the bits of a sum: adding 1.5 * 2**23 to a float leaves its nearest whole
number in the last bits. NaN stays NaN everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ganglion.compiler.text import Code, Reg, const


@dataclass(frozen=True)
class _Format:
    """What exp needs to know about a float format."""

    integer: str
    mantissa: int  # bits
    low: float  # the least x whose exp is a normal number
    high: float  # the greatest x whose exp is finite, half a bit less
    saturated: float  # tanh is 1 from here on
    ln2: tuple[float, float]  # ln 2 in two parts; the first times a whole number is exact
    power: tuple[float, ...]  # (exp(r) - 1 - r) / r**2, the highest power first

    @property
    def magic(self) -> float:
        return 1.5 * 2.0**self.mantissa


# The float's polynomial is a minimax fit on |r| <= ln(2) / 2, the double's is Taylor's.
_FORMATS = {
    "float": _Format(
        "i32", 23, -87.33, 88.37, 9.02, (0.693359375, -2.12194440e-4),
        (0.0013869963586330414, 0.008366252295672894, 0.04166744276881218, 0.1666654646396637,
         0.4999999701976776),
    ),
    "double": _Format(
        "i64", 52, -708.3, 709.4, 19.1, (float.fromhex("0x1.62e42fefa3800p-1"),
                                        float.fromhex("0x1.ef35793c76730p-45")),
        tuple(1 / math.factorial(n) for n in range(13, 1, -1)),
    ),
}  # fmt: skip


def exp(code: Code, x: Reg) -> Reg:
    """The exponential of x up to 88 (709); 0 where it is less than the least normal number."""
    form = _FORMATS[x.element]
    shifted, tail = _reduced(code, x)
    power = _times_power(code, code.fadd(tail, const(1, x.type)), shifted)
    vanishing = code.compare("olt", x, const(form.low, x.type))
    return code.select(vanishing, const(0, x.type), power)


def sigmoid(code: Code, x: Reg) -> Reg:
    """1 / (1 + exp(-x))."""
    form = _FORMATS[x.element]
    one = const(1, x.type)
    high = const(form.high, x.type)
    negative = code.fneg(x)
    bounded = code.select(code.compare("ogt", negative, high), high, negative)
    return code.fdiv(one, code.fadd(one, exp(code, bounded)))


def tanh(code: Code, x: Reg) -> Reg:
    """(exp(2x) - 1) / (exp(2x) + 1), without cancellation near 0."""
    limit = _FORMATS[x.element].saturated
    x = _clamped(code, x, -limit, limit)
    shifted, tail = _reduced(code, code.fadd(x, x))
    one = const(1, x.type)
    power = _times_power(code, one, shifted)
    less_one = code.fma(tail, power, code.fsub(power, one))
    return code.fdiv(less_one, code.fadd(less_one, const(2, x.type)))


# log(m) = g - g**2 / 2 + g**3 * P(g) with g = m - 1, for m from sqrt(1/2) to sqrt(2): minimax.
_LOG = (-0.07636439055204391, 0.12762217223644257, -0.13159610331058502, 0.14201579988002777,
        -0.166234090924263, 0.2000124156475067, -0.2500081956386566,
        0.3333333134651184)  # fmt: skip


def log(code: Code, x: Reg) -> Reg:
    """The natural logarithm of a normal number greater than 0."""
    if x.element == "float":
        return _log_float(code, x)
    guess = code.convert("fpext", _log_float(code, code.convert("fptrunc", x, "float")), "double")
    found = exp(code, guess)  # one step of Halley's method: the error goes to its third power
    wrong = code.fdiv(code.fsub(x, found), code.fadd(x, found))
    return code.fma(wrong, const(2, x.type), guess)


def _log_float(code: Code, x: Reg) -> Reg:
    type = x.type
    bits = code.convert("bitcast", x, "i32")
    above = code.op("sub", bits, const(0x3F3504F3, bits.type))  # from the square root of a half
    exponent = code.op("ashr", above, const(23, bits.type))
    mantissa = code.op("sub", bits, code.op("shl", exponent, const(23, bits.type)))
    n = code.convert("sitofp", exponent, "float")
    high, low = (const(part, type) for part in _FORMATS["float"].ln2)
    g = code.fsub(code.convert("bitcast", mantissa, "float"), const(1, type))
    square = code.fmul(g, g)
    y = code.fma(code.fmul(square, g), _polynomial(code, g, _LOG), code.fmul(n, low))
    y = code.fma(square, const(-0.5, type), y)
    return code.fma(n, high, code.fadd(g, y))


def _reduced(code: Code, x: Reg) -> tuple[Reg, Reg]:
    """A number whose last bits are n, and exp(r) - 1, where x = n * ln 2 + r."""
    form, type = _FORMATS[x.element], x.type
    magic = const(form.magic, type)
    shifted = code.fma(x, const(1 / math.log(2), type), magic)
    n = code.fsub(shifted, magic)
    r = code.fma(n, const(-form.ln2[0], type), x)
    r = code.fma(n, const(-form.ln2[1], type), r)
    tail = code.fma(_polynomial(code, r, form.power), code.fmul(r, r), r)
    return shifted, tail


def _polynomial(code: Code, x: Reg, coefficients: tuple[float, ...]) -> Reg:
    found = const(coefficients[0], x.type)
    for c in coefficients[1:]:
        found = code.fma(found, x, const(c, x.type))
    return found


def _times_power(code: Code, x: Reg, shifted: Reg) -> Reg:
    """``x * 2**n``, where the result is a normal number."""
    form = _FORMATS[x.element]
    n = code.convert("bitcast", shifted, form.integer)
    exponent = code.op("shl", n, const(form.mantissa, n.type))
    raw = code.op("add", code.convert("bitcast", x, form.integer), exponent)
    return code.convert("bitcast", raw, x.element)


def _clamped(code: Code, x: Reg, low: float, high: float) -> Reg:
    """Within bounds; NaN passes."""
    for how, bound in (("ogt", high), ("olt", low)):
        limit = const(bound, x.type)
        x = code.select(code.compare(how, x, limit), limit, x)
    return x
