"""Scalar expressions to instructions: a vector of neighbouring elements at a time.

An ``Emitter`` knows where each index stands. One of them, the lane index, stands at ``width``
consecutive places at once; expressions that depend on it become vectors, all others stay scalars
until they meet one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ganglion.dtypes as dt
from ganglion.compiler.baseline import float_to_half, half_to_float, rounded
from ganglion.compiler.kernel import Layout
from ganglion.compiler.text import Code, Index, Reg, const, consts, first_lanes, is_float, vector
from ganglion.ops.scalar import INDEX, Affine, Scalar, affine

# Types in registers. A bool is one bit there; floats of two bytes are their bits, as nothing is
# computed in them and LLVM would call a library for some vectors of theirs.
REGISTER = {
    dt.float32: "float", dt.float64: "double", dt.float16: "i16", dt.bfloat16: "i16",
    dt.bool_: "i1", dt.int8: "i8", dt.uint8: "i8", dt.int16: "i16", dt.int32: "i32",
    dt.int64: "i64",
}  # fmt: skip

Place = tuple[Index, int]  # where an index stands: known at run time, plus known now


class Emitter:
    """Writes expressions at one point of a loop nest.

    ``places``: where each index stands. ``lane``: the index that runs along the lanes, if any.
    ``sources``: pointer and layout of each buffer that is loaded from. ``known``: registers of
    expressions and of values that need no load. ``mask``: the lanes that exist, if not all do.
    """

    def __init__(
        self,
        code: Code,
        sources: Mapping[Any, tuple[Reg, Layout]],
        places: Mapping[Scalar, Place],
        lane: Scalar | None = None,
        width: int = 1,
        mask: Reg | None = None,
        known: Mapping[Any, Reg] | None = None,
    ) -> None:
        self.code, self.sources, self.places = code, sources, dict(places)
        self.lane, self.width, self.mask = lane, width, mask
        self.known: dict[Any, Reg] = dict(known or {})

    def value(self, e: Scalar) -> Reg:
        """The register of an expression: a scalar, or a vector of ``width`` lanes."""
        found = self.known.get(e)
        if found is None:
            found = self.known[e] = self._compute(e)
        return found

    def lanes(self, e: Scalar) -> Reg:
        """The same, always a vector."""
        return self.wide(self.value(e))

    def wide(self, x: Reg) -> Reg:
        """A scalar in all lanes; vectors as they are."""
        return self.code.splat(x, self.width) if x.lanes == 1 else x

    # --- instructions -------------------------------------------------------------------------

    def _compute(self, e: Scalar) -> Reg:
        if e.op == "const":
            return const(e.args[0], REGISTER[e.dtype])
        if e.dtype is INDEX and (sum_ := affine(e)) is not None:
            return self._position(sum_)
        if e.op == "load":
            return self._load(e.args[0], e.args[1:])
        if e.op == "scale":
            return self.value(e.args[2])
        if e.op in ("rarely", "guarded"):
            condition, x, y = e.args
            return self._on_demand(condition, x, y, guarded=e.op == "guarded")
        args = self._together([self.value(x) for x in e.args])
        return _INSTRUCTIONS[e.op](self.code, e, *args)

    def _together(self, args: list[Reg]) -> list[Reg]:
        """All scalars or all vectors."""
        if all(x.lanes == 1 for x in args):
            return args
        return [self.wide(x) for x in args]

    def _position(self, sum_: Affine) -> Reg:
        """An index expression as numbers."""
        moving, fixed, loose = self._offset(sum_)
        base = self.code.add(moving, fixed)
        step = sum_.terms.get(self.lane, 0) if self.lane is not None else 0
        found = Reg(str(base), "i64") if isinstance(base, int) else base
        if step and self.width > 1:
            ramp = consts([i * step for i in range(self.width)], "i64")
            found = self.code.op("add", self.code.splat(found, self.width), ramp)
        return found if loose is None else self._sum(found, loose)

    def _offset(self, sum_: Affine) -> tuple[Index, int, Reg | None]:
        """Where a sum of indexes stands at lane 0.

        The part that moves, the part that is fixed, and the sum of quotients and remainders.
        """
        moving: Index = 0
        fixed = sum_.constant
        loose: Reg | None = None
        for i, step in sum_.terms.items():
            if i in self.places:
                at, known = self.places[i]
                fixed += step * known
                moving = self.code.add(moving, self.code.mul(at, step))
                continue
            value = self._divided(i)
            if isinstance(value, int):
                fixed += step * value
                continue
            scaled = self.code.op("mul", value, const(step, value.type)) if step != 1 else value
            loose = scaled if loose is None else self._sum(loose, scaled)
        if isinstance(moving, int):
            return 0, moving + fixed, loose
        return moving, fixed, loose

    def _divided(self, i: Scalar) -> Index:
        """A quotient or remainder of a sum of indexes."""
        found = self.known.get(i)
        if found is None:
            number = affine(i.args[0])
            assert number is not None
            x, divisor = self._position(number), i.args[1].args[0]
            if x.lanes == 1:
                return self.code.divmod(x, divisor)[i.op == "remainder"]
            how = "udiv" if i.op == "quotient" else "urem"
            found = self.known[i] = self.code.op(how, x, const(divisor, x.type))
        return found

    def _on_demand(self, condition: Scalar, x: Scalar, y: Scalar, guarded: bool) -> Reg:
        """``x`` where the condition holds, computed only if it holds somewhere.

        If ``guarded``, memory is read only where it holds.
        """
        code, lanes = self.code, self.value(condition)
        if lanes.name in ("true", "false"):
            return self.value(x if lanes.name == "true" else y)
        usual = self.value(y)
        if lanes.lanes > 1 or not self._is_uniform(x):
            usual = self.wide(usual)
        mask = self.mask
        if guarded and lanes.lanes > 1:
            mask = lanes if mask is None else code.op("and", lanes, mask)
        before, yes, after = code.block, code.label("demanded"), code.label("after")
        wanted = lanes if lanes.lanes == 1 or mask is None or not guarded else mask
        code.branch(self._any(wanted), yes, after)
        code.at(yes)
        with code.scope():
            inside = Emitter(
                code, self.sources, self.places, self.lane, self.width, mask, self.known
            )
            demanded = inside.value(x)
            demanded = code.splat(demanded, usual.lanes) if demanded.lanes == 1 else demanded
            found = demanded if lanes.lanes == 1 else code.select(lanes, demanded, usual)
            last = code.block
            code.jump(after)
        code.at(after)
        return code.fresh(
            usual.type,
            f"phi {usual.type} [ {usual.name}, %{before} ], [ {found.name}, %{last} ]",
        )

    def _is_uniform(self, e: Scalar) -> bool:
        """Whether an expression is the same in all lanes, as far as can be told beforehand."""
        if self.width == 1:
            return True
        seen, waiting = {e}, [e]
        while waiting:
            x = waiting.pop()
            made = self.known.get(x) or (self.known.get(x.args[0]) if x.op == "load" else None)
            if x is self.lane or (made is not None and made.lanes > 1):
                return False
            parts = [a for a in x.args if isinstance(a, Scalar) and a not in seen]
            seen.update(parts)
            waiting += parts
        return True

    def _any(self, x: Reg) -> Reg:
        """Whether a lane is set."""
        while x.lanes > 1:
            pair = (
                self.code.halves(x)
                if x.lanes > 2
                else (self.code.extract(x, 0), self.code.extract(x, 1))
            )
            x = self.code.op("or", *pair)
        return x

    # --- memory -------------------------------------------------------------------------------

    def _load(self, source: Any, index: Sequence[Scalar]) -> Reg:
        if source in self.known:  # made at this very place
            return self.known[source]
        pointer, layout = self.sources[source]
        place, step = self._place(pointer, layout, index)
        if place.lanes > 1:
            return self._gathered(place, layout)
        element = layout.stored
        if step == 0 or self.width == 1:
            return self._from_memory(self.code.load(place, element), layout)
        if step != 1:
            ramp = consts([i * step for i in range(self.width)], "i64")
            return self._gathered(self.code.addresses(place, ramp, element), layout)
        type = vector(element, self.width)
        if self.mask is None:
            return self._from_memory(self.code.load(place, type), layout)
        return self._from_memory(self.code.masked_load(place, self.mask, const(0, type)), layout)

    def _gathered(self, places: Reg, layout: Layout) -> Reg:
        mask = self.mask or first_lanes(self.width, self.width)
        other = const(0, vector(layout.stored, self.width))
        return self._from_memory(self.code.gather(places, mask, other), layout)

    def _from_memory(self, x: Reg, layout: Layout) -> Reg:
        if layout.dtype is dt.bool_:
            return self.code.compare("ne", x, const(0, x.type))
        return self.code.convert("bitcast", x, REGISTER[layout.dtype])

    def _place(self, pointer: Reg, layout: Layout, index: Sequence[Scalar]) -> tuple[Reg, int]:
        """The address of lane 0 and the step between lanes, or a vector of addresses."""
        sum_ = Affine(layout.offset, {})
        loose: Reg | None = None
        for i, stride in zip(index, layout.strides, strict=True):
            term = affine(i)
            if term is not None:
                sum_ = sum_.plus(term, stride)
                continue
            value = self.value(i)
            scaled = self.code.op("mul", value, const(stride, value.type))
            loose = scaled if loose is None else self._sum(loose, scaled)
        moving, fixed, more = self._offset(sum_)
        if more is not None:
            loose = more if loose is None else self._sum(loose, more)
        step = sum_.terms.get(self.lane, 0) if self.lane is not None else 0
        start = self.code.at_index(pointer, moving, layout.stored)
        start = self.code.at_index(start, fixed, layout.stored)
        if loose is None:
            return start, step
        if loose.lanes == 1:
            return self.code.at_index(start, loose, layout.stored), step
        if step:
            ramp = consts([i * step for i in range(self.width)], "i64")
            loose = self.code.op("add", loose, ramp)
        return self.code.addresses(start, loose, layout.stored), step

    def _sum(self, x: Reg, y: Reg) -> Reg:
        x, y = self._together([x, y])
        return self.code.op("add", x, y)

    def store(self, source: Any, index: Sequence[Scalar], value: Reg) -> None:
        """Store an element, or a vector of them, where ``index`` says."""
        pointer, layout = self.sources[source]
        place, step = self._place(pointer, layout, index)
        value = _to_memory(self.code, value, layout)
        if self.width == 1 or (step == 0 and place.lanes == 1):
            self.code.store(value, place)
            return
        value = self.wide(value)
        if step == 1 and place.lanes == 1:
            if self.mask is None:
                self.code.store(value, place)
            else:
                self.code.masked_store(value, place, self.mask)
            return
        if place.lanes == 1:
            ramp = consts([i * step for i in range(self.width)], "i64")
            place = self.code.addresses(place, ramp, layout.stored)
        self.code.scatter(value, place, self.mask or first_lanes(self.width, self.width))


def _to_memory(code: Code, x: Reg, layout: Layout) -> Reg:
    return code.convert("zext" if layout.dtype is dt.bool_ else "bitcast", x, layout.stored)


# --- instructions ---------------------------------------------------------------------------------

_Instruction = Callable[..., Reg]


def _arithmetic(floating: str, signed: str, unsigned: str = "") -> _Instruction:
    def write(code: Code, e: Scalar, x: Reg, y: Reg) -> Reg:
        if is_float(x.type):
            return code.op(floating, x, y)
        return code.op(signed if e.dtype.is_signed or not unsigned else unsigned, x, y)

    return write


def _comparison(how: str) -> _Instruction:
    floating = {"eq": "oeq", "ne": "une"}.get(how, f"o{how}")

    def write(code: Code, e: Scalar, x: Reg, y: Reg) -> Reg:
        dtype = e.args[0].dtype
        if dtype in dt.HALVES:
            x, y = _widened(code, x, dtype), _widened(code, y, dtype)
        if is_float(x.type):
            return code.compare(floating, x, y)
        if how in ("eq", "ne"):
            return code.compare(how, x, y)
        return code.compare(f"{'s' if dtype.is_signed else 'u'}{how}", x, y)

    return write


def _intrinsic(name: str) -> _Instruction:
    return lambda code, e, *args: code.call(name, *args)


def _rounded(how: str) -> _Instruction:
    return lambda code, e, x: rounded(code, how, x)


def _negative(code: Code, e: Scalar, x: Reg) -> Reg:
    return code.fneg(x) if is_float(x.type) else code.op("sub", const(0, x.type), x)


def _absolute(code: Code, e: Scalar, x: Reg) -> Reg:
    if is_float(x.type):
        return code.call("fabs", x)
    if not e.dtype.is_signed:
        return x
    return code.select(code.compare("slt", x, const(0, x.type)), _negative(code, e, x), x)


def _select(code: Code, e: Scalar, condition: Reg, x: Reg, y: Reg) -> Reg:
    return code.select(condition, x, y)


def _bits(code: Code, e: Scalar, x: Reg) -> Reg:
    return code.convert("bitcast", x, REGISTER[e.dtype])


def _cast(code: Code, e: Scalar, x: Reg) -> Reg:
    source, target = e.args[0].dtype, e.dtype
    if source in dt.HALVES:
        x, source = _widened(code, x, source), dt.float32
    if target is dt.bool_:
        return code.compare("une" if is_float(x.type) else "ne", x, const(0, x.type))
    if target in dt.HALVES:
        how = "sitofp" if source.is_signed else "uitofp"
        return _narrowed(code, x if is_float(x.type) else code.convert(how, x, "float"), target)
    if source.is_floating_point:
        if target.is_floating_point:
            return _float_to_float(code, x, REGISTER[target])
        return _float_to_integer(code, x, REGISTER[target])
    if target.is_floating_point:
        return code.convert("sitofp" if source.is_signed else "uitofp", x, REGISTER[target])
    if target.itemsize < source.itemsize:
        return code.convert("trunc", x, REGISTER[target])
    return code.convert("sext" if source.is_signed else "zext", x, REGISTER[target])


def _float_to_float(code: Code, x: Reg, element: str) -> Reg:
    return code.convert("fpext" if element == "double" else "fptrunc", x, element)


def _widened(code: Code, x: Reg, dtype: dt.dtype) -> Reg:
    """The bits of a float of two bytes as a float32."""
    if dtype is dt.float16:
        return half_to_float(code, x)
    wide = code.convert("zext", x, "i32")
    return code.convert("bitcast", code.op("shl", wide, const(16, wide.type)), "float")


def _narrowed(code: Code, x: Reg, dtype: dt.dtype) -> Reg:
    """A float rounded to one of two bytes: its bits."""
    if dtype is dt.bfloat16:
        return _rounded_to_bfloat(code, _float_to_float(code, x, "float"))
    if x.element == "double":  # which processors do not do in one step
        x = _rounded_to_odd(code, x)
    return float_to_half(code, x)


def _rounded_to_odd(code: Code, x: Reg) -> Reg:
    """float64 as float32; where inexact, the neighbour with an odd last bit.

    So a second rounding, to fewer digits, gives what one rounding would.
    """
    near = code.convert("fptrunc", x, "float")
    back = code.convert("fpext", near, "double")
    raw = code.convert("bitcast", near, "i32")
    further = code.compare("ogt", code.call("fabs", back), code.call("fabs", x))
    raw = code.op("sub", raw, code.convert("zext", further, "i32"))
    raw = code.op("or", raw, code.convert("zext", code.compare("one", back, x), "i32"))
    return code.convert("bitcast", raw, "float")


def _rounded_to_bfloat(code: Code, x: Reg) -> Reg:
    """To the nearest, ties to even; NaN stays NaN."""
    raw = code.convert("bitcast", x, "i32")
    odd = code.op("and", code.op("lshr", raw, const(16, raw.type)), const(1, raw.type))
    rounded = code.op("add", code.op("add", raw, const(0x7FFF, raw.type)), odd)
    quiet = code.op("or", raw, const(0x400000, raw.type))
    picked = code.select(code.compare("uno", x, x), quiet, rounded)
    return code.convert("trunc", code.op("lshr", picked, const(16, raw.type)), "i16")


def _float_to_integer(code: Code, x: Reg, element: str) -> Reg:
    """Towards zero; NaN and what does not fit 64 bits give the least 64-bit number."""
    high = code.compare("olt", x, const(2.0**63, x.type))
    low = code.compare("oge", x, const(-(2.0**63), x.type))
    fits = code.op("and", high, low)
    wide = code.convert("fptosi", code.select(fits, x, const(0, x.type)), "i64")
    wide = code.select(fits, wide, const(-(2**63), wide.type))
    return code.convert("trunc", wide, element) if element != "i64" else wide


_INSTRUCTIONS: dict[str, _Instruction] = {
    "add": _arithmetic("fadd", "add"), "sub": _arithmetic("fsub", "sub"),
    "mul": _arithmetic("fmul", "mul"), "div": _arithmetic("fdiv", "sdiv"),
    "quotient": _arithmetic("fdiv", "sdiv", "udiv"),
    "remainder": _arithmetic("frem", "srem", "urem"),
    "and": _arithmetic("and", "and"), "or": _arithmetic("or", "or"),
    "xor": _arithmetic("xor", "xor"), "shl": _arithmetic("shl", "shl"),
    "shr": _arithmetic("ashr", "ashr", "lshr"), "lshr": _arithmetic("lshr", "lshr"),
    **{how: _comparison(how) for how in ("lt", "le", "gt", "ge", "eq", "ne")},
    "neg": _negative, "abs": _absolute, "select": _select, "cast": _cast, "bits": _bits,
    "fma": lambda code, e, x, y, z: code.fma(x, y, z),
    "sqrt": _intrinsic("sqrt"), "copysign": _intrinsic("copysign"),
    **{how: _rounded(how) for how in ("floor", "ceil", "trunc", "rint")},
}  # fmt: skip
