"""Comparisons, tests for special values, logic, bits."""

import operator
from math import inf, nan

from tests.ops.samples import ALL, EXACT, INTEGERS, SINGLES, Refused, Sample, t, values
from tests.ops.samples.arithmetic import operated

SPECIAL = values([0.0, -0.0, 1, -1, inf, -inf, nan])
OTHERS = values([0.0, 0, 2, -1, inf, 0, nan])

COMPARISONS = [
    sample
    for name in ("eq", "ne", "lt", "le", "gt", "ge")
    for sample in (
        Sample(name, t(5, 4), t(4), dtypes=ALL),
        Sample(name, values([1, 2, 3]), values([2, 2, 2]), dtypes=ALL),
        Sample(name, t(9), 1, dtypes=ALL),
        Sample(name, t(9), 0.5, dtypes=ALL),
        Sample(name, values([0.1, 0.2, 0.1]), 0.1),
        Sample(name, values([250, 3, 0]), -6, dtypes=("uint8",)),
        Sample(name, t(4), t(4, dtype="float64"), dtypes=ALL),
        Sample(name, t(4), t(dtype="int64"), dtypes=ALL),
        Sample(name, SPECIAL, OTHERS),
        Sample(name, t(0, 3), t(3)),
        Sample(name, t(3), t(3), out=t(3, dtype="bool")),
        Sample(name, t(3), t(3), out=t(3, grad=False)),
        Sample(f"Tensor.{name}", t(3), t(3)),
        Sample(f"Tensor.{name}_", t(3, grad=False), t(3, grad=False), dtypes=ALL),
        operated(getattr(operator, name), t(3), t(3)),
        operated(getattr(operator, name), 1, t(3)),
    )
]
COMPARISONS += [
    Sample("not_equal", t(3), t(3)),
    Sample("less", t(3), t(3)),
    Sample("less_equal", t(3), t(3)),
    Sample("greater", t(3), t(3)),
    Sample("greater_equal", t(3), t(3)),
    operated(operator.eq, t(3), None),
    operated(operator.ne, t(3), "a"),
]

CLOSE = [
    Sample("isclose", values([1.0, 1, inf, nan]), values([1.000001, 1.1, inf, nan])),
    Sample("isclose", values([1.0, nan]), values([1.0, nan]), equal_nan=True),
    Sample("isclose", t(9), t(9), rtol=0.1, atol=0.5, dtypes=ALL),
    Sample("isclose", t(3, 1), t(4), rtol=1.0),
    Sample("Tensor.isclose", t(3), t(3)),
    Sample("allclose", t(3), t(3), atol=9.0),
    Sample("allclose", t(3), t(3)),
    Sample("equal", t(3), t(3), dtypes=ALL),
    Sample("equal", t(3), t(3, 1)),
    Sample("equal", values([1, 2]), values([1, 2], dtype="int64"), dtypes=ALL),
    Sample("isin", t(9), t(3), dtypes=ALL[1:]),
    Sample("isin", t(2, 3), values([1, 2]), invert=True, dtypes=INTEGERS),
    Sample("isin", t(2, 3), 1, dtypes=INTEGERS),
    Sample("isin", 1, t(4), dtypes=INTEGERS),
]

SPECIALS = [
    sample
    for name in ("isnan", "isinf", "isfinite", "isneginf", "isposinf", "signbit", "logical_not")
    for sample in (
        Sample(name, SPECIAL, dtypes=("float16", *SINGLES)),
        Sample(name, t(4), dtypes=ALL),
        Sample(name, t()),
        Sample(f"Tensor.{name}", t(4)),
    )
]

LOGIC = [
    sample
    for name in ("logical_and", "logical_or", "logical_xor")
    for sample in (
        Sample(name, values([0, 0, 1, 2]), values([0, 1, 0, 3]), dtypes=ALL),
        Sample(name, t(2, 3), t(3, dtype="int64"), dtypes=ALL),
        Sample(name, t(3, dtype="bfloat16"), t(3), dtypes=ALL),
        Sample(f"Tensor.{name}_", t(3, grad=False), t(3), dtypes=ALL),
        Sample(name, t(3), t(3), out=t(3, dtype="bool")),
    )
]

BITS = [
    sample
    for name, function in (
        ("bitwise_and", operator.and_),
        ("bitwise_or", operator.or_),
        ("bitwise_xor", operator.xor),
    )
    for sample in (
        Sample(name, t(5, high=99), t(5, high=99), dtypes=EXACT),
        Sample(name, t(5, high=99), 5, dtypes=EXACT),
        Sample(name, 5, t(5, high=99), dtypes=EXACT),
        Sample(name, t(5), t(5, dtype="int16"), dtypes=EXACT),
        Sample(f"Tensor.{name}_", t(5), t(5), dtypes=EXACT),
        operated(function, t(4), t(4), dtypes=EXACT),
        operated(function, t(4), True, dtypes=EXACT),
        operated(function, 3, t(4), dtypes=EXACT),
    )
]
BITS += [
    sample
    for name, function in (
        ("bitwise_left_shift", operator.lshift),
        ("bitwise_right_shift", operator.rshift),
    )
    for sample in (
        Sample(name, t(5, high=99), t(5, low=0), dtypes=INTEGERS),
        Sample(name, t(5, high=99), 70, dtypes=INTEGERS),
        Sample(name, t(5, high=99), -1, dtypes=INTEGERS[1:]),
        Sample(name, t(5, low=-99, high=99), 9, dtypes=INTEGERS),
        Sample(name, 8, t(5, low=0), dtypes=INTEGERS),
        Sample(f"Tensor.{name}_", t(5), 1, dtypes=INTEGERS),
        operated(function, t(4), 1, dtypes=EXACT),
        operated(function, 8, t(4, low=0), dtypes=INTEGERS),
    )
]
BITS += [
    Sample("bitwise_not", t(4), dtypes=EXACT),
    Sample("Tensor.bitwise_not_", t(4), dtypes=EXACT),
    operated(operator.invert, t(4), dtypes=EXACT),
    operated(operator.iand, t(4), t(4), dtypes=EXACT),
    operated(operator.ior, t(4), t(4), dtypes=EXACT),
    operated(operator.ixor, t(4), t(4), dtypes=EXACT),
    operated(operator.ilshift, t(4), 1, dtypes=INTEGERS),
    operated(operator.irshift, t(4), 1, dtypes=INTEGERS),
]

SAMPLES = COMPARISONS + CLOSE + SPECIALS + LOGIC + BITS

VALUE = {"error": ValueError, "torch_error": RuntimeError}
REFUSED = [
    Refused("lt", t(3), None, error=TypeError, match="tensor or a number, got None"),
    Refused("isclose", t(3), t(3, dtype="float64"), match="did not match"),
    Refused("isclose", t(3), t(3), rtol=-1.0, **VALUE, match="must be >= 0"),
    Refused("bitwise_and", t(3), t(3), match="take integers and bools"),
    Refused("bitwise_not", t(3), match="take integers and bools"),
    Refused("bitwise_left_shift", t(3), t(3), dtype="bool", match="not implemented for bool"),
    Refused("bitwise_left_shift", t(3), 1, match="take integers and bools"),
    Refused("eq", t(3), t(2), match="cannot be broadcast"),
]
