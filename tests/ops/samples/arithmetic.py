"""Arithmetic: functions, operators with numbers and tensors, in place, and with ``out=``."""

import operator
from math import inf, nan

from tests.ops.samples import ALL, FLOATS, INTEGERS, NUMBERS, SINGLES, Refused, Sample, t, values


def operated(function, *inputs, **options):
    """A sample of a Python operator, named after it."""

    def call(lib, *args):
        return function(*args)

    call.__name__ = function.__name__
    return Sample(call, *inputs, **options)


ABOVE = {"low": 0.5, "high": 3}  # away from 0; integers 1 to 3
BASE = {"low": 0.2, "high": 2.5}
SPECIAL = values([0.0, -0.0, 1, -1.5, 3, inf, -inf, nan])
AROUND = {"low": -7, "high": 7, "grad": False}

BASIC = [
    sample
    for name in ("add", "sub", "mul", "div", "true_divide")
    for sample in (
        Sample(name, t(3, 4), t(4, **ABOVE), dtypes=NUMBERS),
        Sample(name, t(3, 1), t(1, 4, **ABOVE), dtypes=NUMBERS),
        Sample(name, t(), t(2, **ABOVE)),
        Sample(name, t(0, 3), t(3)),
        Sample(name, t(2, 3), 3, dtypes=NUMBERS),
        Sample(name, t(2, 3), 2.5, dtypes=NUMBERS),
        Sample(
            name, t(3), t(3, dtype="float64", **ABOVE), dtypes=ALL if name != "sub" else NUMBERS
        ),
        Sample(name, t(3), t(dtype="float64", **ABOVE), dtypes=NUMBERS),
        Sample(name, t(3), t(3, dtype="int16", **ABOVE), dtypes=NUMBERS),
        Sample(name, t(3, grad=False), t(3, grad=False, **ABOVE), out=t(3, grad=False)),
        Sample(f"Tensor.{name}_", t(3, 4), t(4, **ABOVE)),
        Sample(f"Tensor.{name}", t(3, 4), t(4, **ABOVE)),
        Sample(name, SPECIAL, values([2.0, -1, 0, -0.0, inf, inf, 1, 1]), smooth=False),
    )
]
BASIC += [
    Sample("add", t(3), t(3), dtypes=("bool",)),
    Sample("mul", t(3), t(3), dtypes=("bool",)),
    Sample("add", t(3), t(3, dtype="bool"), dtypes=ALL),
    Sample("mul", t(3), True, dtypes=ALL),
    Sample("add", t(3), 1, dtypes=ALL),
    Sample("add", t(3), 300, dtypes=("uint8", "int8", "int16")),
    Sample("mul", t(3), -1, dtypes=("uint8",)),
    Sample("add", values([200, 100, 250]), values([100, 27, 6]), dtypes=("uint8",)),
    Sample("add", values([127, -128]), values([1, -1]), dtypes=("int8",)),
    Sample("mul", values([2**62, 3]), values([4, 5]), dtypes=("int64",)),
    Sample("add", t(3), t(3), alpha=2, dtypes=NUMBERS),
    Sample("add", t(3), t(3, dtype="float32"), alpha=0.5),
    Sample("sub", t(3), 4, alpha=3, dtypes=NUMBERS),
    Sample("Tensor.add_", t(3), t(3), alpha=-1.5),
    Sample("Tensor.sub_", t(3), t(3), alpha=2),
    Sample("rsub", t(3), t(3), dtypes=NUMBERS),
    Sample("rsub", t(3), 10, alpha=2, dtypes=NUMBERS),
    Sample("Tensor.add_", t(3), 1, dtypes=NUMBERS),
    Sample("Tensor.mul_", t(3, dtype="float32", grad=False), t(3, grad=False)),
    Sample("subtract", t(3), t(3)),
    Sample("multiply", t(3), t(3)),
    Sample("divide", t(3), t(3, **ABOVE)),
]

OPERATORS = [
    sample
    for function in (operator.add, operator.sub, operator.mul, operator.truediv)
    for sample in (
        operated(function, t(3), t(2, 3, **ABOVE), dtypes=NUMBERS),
        operated(function, t(3, **ABOVE), 2),
        operated(function, 2, t(3, **ABOVE), dtypes=NUMBERS),
        operated(function, 0.1, t(3, **ABOVE), dtypes=NUMBERS),
    )
]
OPERATORS += [
    sample
    for function in (operator.floordiv, operator.mod)
    for sample in (
        operated(function, t(9, **AROUND), t(9, grad=False, **ABOVE), dtypes=NUMBERS),
        operated(function, t(9, **AROUND), 2, dtypes=NUMBERS),
        operated(function, t(9, **AROUND), 1.5, dtypes=NUMBERS),
        operated(function, 7, t(9, grad=False, **ABOVE), dtypes=NUMBERS),
        operated(function, t(9, grad=False), -0.7),
    )
]
OPERATORS += [
    sample
    for function in (operator.iadd, operator.isub, operator.imul, operator.itruediv)
    for sample in (operated(function, t(2, 3), t(3, **ABOVE)), operated(function, t(3), 3))
]
OPERATORS += [
    operated(operator.ifloordiv, t(5, **AROUND), 2, dtypes=NUMBERS),
    operated(operator.imod, t(5, **AROUND), 2, dtypes=NUMBERS),
    operated(operator.ipow, t(5, **BASE), 2, dtypes=NUMBERS),
    operated(operator.neg, t(3, 2), dtypes=NUMBERS),
    operated(operator.pos, t(3, 2), dtypes=NUMBERS),
    operated(operator.abs, t(3, 2), dtypes=NUMBERS),
    Sample("neg", t(3), dtypes=NUMBERS),
    Sample("neg", t(), out=t(grad=False), dtypes=INTEGERS),
    Sample("Tensor.neg_", t(2, 3)),
    Sample("negative", values([1, 0, 128, 255]), dtypes=("uint8",)),
]

DIVIDENDS = [5.5, -5.5, 7, -7, 0, 3, -3, inf, nan, 1]
DIVISORS = [2.0, 2, -2, -2, 3, 0, 0, 2, 1, inf]
FLOOR = "floor_divide"  # PyTorch has no gradient of it


def slope(name, low, high):
    return {"low": low, "high": high, "grad": name != FLOOR}


ROUNDED = [
    sample
    for name, kwargs in (
        ("floor_divide", {}),
        ("remainder", {}),
        ("fmod", {}),
        ("div", {"rounding_mode": "floor"}),
        ("div", {"rounding_mode": "trunc"}),
    )
    for sample in (
        Sample(
            name, t(9, **slope(name, -7, 7)), t(9, **slope(name, 0.5, 3)), dtypes=NUMBERS, **kwargs
        ),
        Sample(
            name,
            t(9, **slope(name, -7, 7)),
            t(9, **slope(name, -3, -0.5)),
            dtypes=NUMBERS[1:],
            **kwargs,
        ),
        Sample(name, t(9, **slope(name, -7, 7)), 2, dtypes=ALL, **kwargs),
        Sample(name, t(9, **slope(name, -7, 7)), -1.5, dtypes=NUMBERS, **kwargs),
        Sample(
            name,
            values(DIVIDENDS, grad=name != FLOOR),
            values(DIVISORS, grad=name != FLOOR),
            smooth=False,
            dtypes=("float32", "float64"),
            **kwargs,
        ),
        Sample(name, t(2, 1, **slope(name, -7, 7)), t(3, **slope(name, 0.5, 3)), **kwargs),
        Sample(name, t(0, grad=name != FLOOR), t(0, grad=name != FLOOR), dtypes=NUMBERS, **kwargs),
        Sample(
            f"Tensor.{name}_",
            t(5, **slope(name, -7, 7)),
            t(5, **slope(name, 0.5, 3)),
            dtypes=NUMBERS,
            **kwargs,
        ),
    )
]
ROUNDED += [Sample("remainder", 7, t(4, grad=False, **ABOVE), dtypes=NUMBERS)]

EXPONENTS = (0, 1, 2, 3, 0.5, -0.5, -1, -2, 2.5, -1.7)
POWERS = [Sample("pow", t(3, 4, **BASE), exponent) for exponent in EXPONENTS]
POWERS += [
    Sample("pow", t(3, 4), 3),
    Sample("pow", t(3, 4), 2, dtypes=ALL),
    Sample("pow", t(3, low=-3, high=3), 3, dtypes=INTEGERS),
    Sample("pow", t(3, 4, **BASE), t(4)),
    Sample("pow", t(3, 4, low=0, high=4), t(4, low=0, high=3), dtypes=INTEGERS),
    Sample(
        "pow", values([1, -1, -1, 2, -3, 7]), values([-1, -1, -2, -1, -2, 0]), dtypes=("int64",)
    ),
    Sample("pow", values([1, 2, 3]), values([0, 3, 2]), dtypes=NUMBERS, smooth=False),
    Sample("pow", 2, t(4, low=0), dtypes=ALL),
    Sample("pow", 0.5, t(4), dtypes=NUMBERS),
    Sample("pow", 0, values([0.0, 1, 2]), smooth=False),
    Sample("pow", -2.0, values([0.0, 1, 2]), smooth=False),
    Sample("pow", values([0.0, 0, 0, 2, -2, -2]), values([0.0, 1, 2, 0, 2, 3]), smooth=False),
    Sample("pow", values([0.0, -1, 2]), 0, smooth=False),
    Sample("pow", values([0.0, 1, 4]), 0.5, smooth=False),
    Sample("pow", t(3, dtype="int64", low=1), t(3), dtypes=FLOATS),
    Sample("pow", t(3, **BASE), t(3, dtype="int32"), dtypes=FLOATS),
    Sample("pow", t(3, **BASE), 2.0, dtypes=NUMBERS),
    Sample("pow", SPECIAL, 2, smooth=False),
    Sample("pow", SPECIAL, 0.5, smooth=False, dtypes=SINGLES),
    Sample("pow", SPECIAL, -1, smooth=False),
    Sample("pow", t(3, grad=False, **BASE), 1.5, out=t(3, grad=False)),
    Sample("Tensor.pow_", t(3, **BASE), 1.5),
    Sample("Tensor.pow", t(3, **BASE), t(3)),
    operated(operator.pow, t(3, **BASE), t(3)),
    operated(operator.pow, t(3), 2, dtypes=NUMBERS),
    operated(operator.pow, 3, t(3)),
    Sample("float_power", t(3, **BASE), 2, dtypes=ALL),
    Sample("float_power", t(3, **BASE), t(3)),
    Sample("ldexp", t(3), t(3, dtype="int32"), dtypes=FLOATS),
]

FUSED = [
    Sample("lerp", t(3, 4), t(4), 0.3),
    Sample("lerp", t(3, 4), t(4), 0.75),
    Sample("lerp", t(3, 4), t(4), t(3, 1)),
    Sample("lerp", t(3), t(3), t()),
    Sample("lerp", t(3), t(3), values([0.0, 1.0, 0.5])),
    Sample("Tensor.lerp_", t(3), t(3), 0.5),
    Sample("addcmul", t(3, 4), t(4), t(3, 1), dtypes=NUMBERS),
    Sample("addcmul", t(3), t(3), t(3), value=0.5),
    Sample("addcmul", t(3), t(3), t(3), value=-2, dtypes=INTEGERS),
    Sample("Tensor.addcmul_", t(3), t(3), t(3), value=2),
    Sample("addcdiv", t(3, 4), t(4), t(3, 1, **ABOVE)),
    Sample("addcdiv", t(3), t(3), t(3, **ABOVE), value=0.5),
    Sample("Tensor.addcdiv_", t(3), t(3), t(3, **ABOVE), value=2),
]

SAMPLES = BASIC + OPERATORS + ROUNDED + POWERS + FUSED

ON_BOOLS = "bool tensor"
BY_ZERO = "ZeroDivisionError"
VALUE = {"error": ValueError, "torch_error": RuntimeError}
REFUSED = [
    Refused("add", t(3, 4), t(5), match=r"\(3, 4\) and \(5,\) cannot be broadcast"),
    Refused("add", t(3), t(3), alpha=1.5, dtype="int64", match="alpha must not be a floating"),
    Refused("add", t(3), None, error=TypeError, match="tensor or a number, got None"),
    Refused("add", t(3), "a", error=TypeError, match="tensor or a number"),
    Refused("sub", t(3), t(3), dtype="bool", match=f"two {ON_BOOLS}s"),
    Refused("sub", t(3), True, dtype="bool", match=f"two {ON_BOOLS}s"),
    Refused("sub", t(3), 1, dtype="bool", match=f"with a {ON_BOOLS}"),
    Refused("sub", t(3), t(3, dtype="bool"), match=f"with a {ON_BOOLS}"),
    Refused("rsub", t(3), 1, dtype="bool", match=f"with a {ON_BOOLS}"),
    Refused("neg", t(3), dtype="bool", match=f"on a {ON_BOOLS}"),
    Refused("positive", t(3), dtype="bool", match=f"on a {ON_BOOLS}"),
    Refused("div", t(3), t(3), rounding_mode="up", **VALUE, match="rounding_mode to be one of"),
    Refused("Tensor.add_", t(3), 1.5, dtype="int64", match="can't be cast"),
    Refused("Tensor.div_", t(3), 2, dtype="int64", match="can't be cast"),
    Refused("Tensor.add_", t(3), t(2, 3), match="doesn't match the broadcast shape"),
    Refused("add", t(3), t(3), out=t(3, grad=False, dtype="int64"), match="can't be cast"),
    Refused("pow", t(3), -1, dtype="int64", match="negative integer powers"),
    Refused("pow", t(3), t(3), dtype="bool", match="bool"),
    Refused("floor_divide", t(3), t(3), dtype="bool", match="bool"),
    Refused("floor_divide", t(3), 0, dtype="int64", match=BY_ZERO),
    Refused("remainder", t(3), 0, dtype="int64", match=BY_ZERO),
    Refused("fmod", t(3), values([1, 0, 2]), dtype="int64", match=BY_ZERO),
    Refused("div", t(3), 0, rounding_mode="trunc", dtype="uint8", match=BY_ZERO),
    Refused("lerp", t(3), t(3, dtype="float64"), 0.5, match="expected dtype float32"),
    Refused("addcdiv", t(3), t(3), t(3), dtype="int64", match="Integer division with addcdiv"),
]
