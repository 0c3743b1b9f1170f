"""Where, masks, extremes, bounds, filling and copying."""

from math import inf, nan

from tests.ops.samples import (
    ALL,
    NUMBERS,
    Refused,
    Sample,
    mask,
    t,
    values,
)

YES = values([True, False, True], dtype="bool", grad=False)

WHERE = [
    Sample("where", mask(3, 4), t(3, 4), t(4), dtypes=ALL),
    Sample("where", mask(40, 30), t(40, 30), t(40, 30), dtypes=ALL),
    Sample("where", mask(40, 30), t(30), 1.5, dtypes=ALL),
    Sample("where", mask(3, 1), t(4), t(3, 4), dtypes=ALL),
    Sample("where", mask(3), t(3), 0, dtypes=ALL),
    Sample("where", mask(3), 0.5, t(3), dtypes=ALL),
    Sample("where", mask(3), t(), t(3, dtype="float64"), dtypes=ALL),
    Sample("where", mask(3), t(3), t(3, dtype="int16"), dtypes=ALL),
    Sample("where", mask(), t(3), 1),
    Sample("where", mask(0, 3), t(0, 3), t(3)),
    Sample("where", YES, 1, 2, dtypes=("float32",)),
    Sample("where", YES, 1.0, 2, dtypes=("float32",)),
    Sample("where", YES, True, False, dtypes=("float32",)),
    Sample("where", mask(3), t(3, grad=False), t(3, grad=False), out=t(3, grad=False)),
    Sample("where", mask(2, 3)),
    Sample("Tensor.where", t(3), mask(3), t(3)),
    Sample("where", mask(3), values([inf, nan, -0.0]), values([nan, 1, 2.0]), smooth=False),
    Sample("masked_fill", t(3, 4), mask(3, 4), 2, dtypes=NUMBERS),
    Sample("masked_fill", t(3, 4), mask(4), -inf, smooth=False),
    Sample("masked_fill", t(3), YES, 1.5, dtypes=ALL),
    Sample("masked_fill", t(3), mask(2, 1), 1, dtypes=ALL),
    Sample("masked_fill", t(3), YES, t()),
    Sample("masked_fill", t(3), YES, t(dtype="float64")),
    Sample("Tensor.masked_fill", t(3), YES, 1.5),
    Sample("Tensor.masked_fill_", t(2, 3), YES, 1.5),
    Sample("Tensor.masked_fill_", t(2, 3), YES, t()),
]

LEFT, RIGHT = values([1.0, 2, nan, 1, nan, inf]), values([1.0, 1, 1, nan, nan, -inf])
EXTREMES = [
    sample
    for name in ("maximum", "minimum", "fmax", "fmin")
    for sample in (
        Sample(name, t(3, 4), t(4), dtypes=ALL),
        Sample(name, LEFT, RIGHT, smooth=False),
        Sample(name, t(3), t(3, dtype="float64"), dtypes=ALL),
        Sample(name, t(0), t(0)),
        Sample(f"Tensor.{name}", t(), t(3)),
        Sample(name, t(3, grad=False), t(3, grad=False), out=t(3, grad=False)),
    )
]

BOUNDS = [
    Sample("clamp", t(3, 4), -1, 1, dtypes=ALL),
    Sample("clamp", t(3, 4), 0.5, dtypes=ALL),
    Sample("clamp", t(3, 4), max=0.5, dtypes=NUMBERS),
    Sample("clamp", t(3, 4), 3, 1),
    Sample("clamp", t(3, 4), t(4), t(3, 1), dtypes=NUMBERS),
    Sample("clamp", t(3, 4), t(4)),
    Sample("clamp", t(3, 4), max=t(3, 1)),
    Sample("clamp", values([-1.0, 0, 1, 2]), 0, 1, smooth=False),
    Sample("clamp", values([1.0, 2, 3]), values([1.0, 3, 2]), values([2.0, 2, 3]), smooth=False),
    Sample("clamp", values([1.0, nan, inf, -inf]), -2, 2, smooth=False),
    Sample("clamp", t(3), nan, smooth=False),
    Sample("clamp", t(3), values([nan, 0.0, 1.0]), smooth=False),
    Sample("clamp", t(0, 2), 0, 1),
    Sample("clamp", t(), 0, 1),
    Sample("clip", t(3), -1, 1),
    Sample("clamp_min", t(3), 0.1),
    Sample("clamp_max", t(3), t()),
    Sample("Tensor.clamp", t(3), min=0),
    Sample("Tensor.clamp_", t(3), -1, 1, dtypes=NUMBERS),
    Sample("Tensor.clamp_min_", t(3), 0),
    Sample("Tensor.clamp_max_", t(3), 0),
    Sample("clamp", t(3, grad=False), 0, 1, out=t(3, grad=False)),
]

IN_PLACE = [
    Sample("Tensor.fill_", t(2, 3), 1, dtypes=ALL),
    Sample("Tensor.fill_", t(2, 3), 2.5, dtypes=ALL),
    Sample("Tensor.fill_", t(2, 3), t()),
    Sample("Tensor.fill_", t(2, 3), t(dtype="float32"), dtypes=ALL),
    Sample("Tensor.zero_", t(2, 3), dtypes=ALL),
    Sample("Tensor.copy_", t(2, 3), t(2, 3), dtypes=ALL),
    Sample("Tensor.copy_", t(2, 3), t(3), dtypes=ALL),
    Sample("Tensor.copy_", t(2, 3), t(2, 3, dtype="float32"), dtypes=ALL),
    Sample("Tensor.copy_", t(2, 3), t()),
    Sample("Tensor.copy_", t(2, 3), 3),
    Sample(lambda lib, x, y: x[1].copy_(y), t(2, 3), t(3)),
    Sample(lambda lib, x, y: (x.t().copy_(y), x * 2)[1], t(2, 3), t(3, 2)),
]

SAMPLES = WHERE + EXTREMES + BOUNDS + IN_PLACE

VALUE = {"error": ValueError, "torch_error": RuntimeError}
REFUSED = [
    Refused("where", t(3), t(3), t(3), match="condition to be a boolean tensor"),
    Refused("where", mask(4), t(3), t(3), match="cannot be broadcast"),
    Refused("masked_fill", t(3), t(3, dtype="int64"), 1, match="only supports boolean masks"),
    Refused("masked_fill", t(3), mask(3), t(1), match="0-dimensional value tensor"),
    Refused("masked_fill", t(3), mask(3), 300, dtype="int8", match="without overflow"),
    Refused("Tensor.masked_fill_", t(3), mask(2, 3), 1, match="doesn't match the broadcast"),
    Refused("clamp", t(3), None, None, **VALUE, match="at least one of"),
    Refused("Tensor.fill_", t(3), t(1), match="0-dimension"),
    Refused("Tensor.fill_", t(3), 300, dtype="int8", match="without overflow"),
    Refused("Tensor.copy_", t(3), t(2, 3), match="expand"),
]
