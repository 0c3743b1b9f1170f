"""What the least of the targets, x86-64 without SSE4.1 and F16C, has no instructions for.

LLVM would call the C library for each lane. Other targets have the instructions, and use them.
"""

from __future__ import annotations

from typing import Final

from ganglion.compiler.text import Code, Reg, const

_WHOLE: Final = {"float": 2.0**23, "double": 2.0**52}  # from here on, all floats are whole numbers


def rounded(code: Code, how: str, x: Reg) -> Reg:
    """``rint``, ``floor``, ``ceil`` or ``trunc``."""
    if code.module.fma:
        return code.call(how, x)
    size = code.call("fabs", x)
    near = _nearest(code, size if how == "trunc" else x)
    one = const(1.0, x.type)
    if how in ("floor", "trunc"):
        above = code.compare("ogt", near, size if how == "trunc" else x)
        near = code.select(above, code.fsub(near, one), near)
    if how == "ceil":
        near = code.select(code.compare("olt", near, x), code.fadd(near, one), near)
    whole = code.compare("olt", size, const(_WHOLE[x.element], x.type))
    return code.select(whole, code.call("copysign", near, x), x)


def _nearest(code: Code, x: Reg) -> Reg:
    """The nearest whole number, ties to even, of what is not one anyway."""
    large = code.call("copysign", const(_WHOLE[x.element], x.type), x)
    return code.fsub(code.fadd(x, large), large)


def half_to_float(code: Code, x: Reg) -> Reg:
    """The bits of a float16 as a float32."""
    if code.module.fma:
        return code.convert("fpext", code.convert("bitcast", x, "half"), "float")
    bits = code.convert("zext", x, "i32")

    def number(value: int) -> Reg:
        return const(value, bits.type)

    size = code.op("and", bits, number(0x7FFF))
    moved = code.op("shl", size, number(13))
    normal = code.convert("bitcast", code.op("add", moved, number(112 << 23)), "float")
    special = code.convert("bitcast", code.op("or", moved, number(0x7FC00000)), "float")
    infinite = code.convert("bitcast", number(0x7F800000), "float")
    special = code.select(code.compare("eq", size, number(0x7C00)), infinite, special)
    count = code.convert("sitofp", size, "float")
    tiny = code.fmul(count, const(2.0**-24, count.type))
    found = code.select(code.compare("ult", size, number(0x7C00)), normal, special)
    found = code.select(code.compare("ult", size, number(0x400)), tiny, found)
    sign = code.op("shl", code.op("and", bits, number(0x8000)), number(16))
    return code.convert("bitcast", code.op("or", code.convert("bitcast", found, "i32"), sign),
                        "float")  # fmt: skip


def float_to_half(code: Code, x: Reg) -> Reg:
    """A float32 rounded to float16, to the nearest, ties to even: its bits."""
    if code.module.fma:
        return code.convert("bitcast", code.convert("fptrunc", x, "half"), "i16")
    bits = code.convert("bitcast", x, "i32")

    def number(value: int) -> Reg:
        return const(value, bits.type)

    size = code.op("and", bits, number(0x7FFFFFFF))
    last = code.op("and", code.op("lshr", size, number(13)), number(1))
    moved = code.op("sub", size, number((112 << 23) - 0xFFF))
    normal = code.op("lshr", code.op("add", moved, last), number(13))
    half = const(0.5, x.type)
    tiny = code.fadd(code.convert("bitcast", size, "float"), half)  # its last place is 2**-24
    tiny = code.op("sub", code.convert("bitcast", tiny, "i32"), number(0x3F000000))
    payload = code.op("and", code.op("lshr", size, number(13)), number(0x3FF))
    nan = code.op("or", payload, number(0x7E00))
    large = code.select(code.compare("ugt", size, number(0x7F800000)), nan, number(0x7C00))
    found = code.select(code.compare("ult", size, number(143 << 23)), normal, large)
    found = code.select(code.compare("ult", size, number(113 << 23)), tiny, found)
    sign = code.op("and", code.op("lshr", bits, number(16)), number(0x8000))
    return code.convert("trunc", code.op("or", found, sign), "i16")
