"""Functions of two variables, polygamma, and values at special points."""

from math import inf, nan

from tests.ops.samples import FLOATS, NUMBERS, Refused, Sample, t, values

WIDE = ("float32", "float64")
ROUGH = 1e5  # PyTorch's own trigamma has a relative error of 1e-8
ABOVE = {"low": 0.3, "high": 3}

PAIRS = [
    sample
    for name in ("atan2", "hypot", "logaddexp", "logaddexp2", "copysign")
    for sample in (
        Sample(name, t(3, 4), t(4), dtypes=FLOATS),
        Sample(name, t(3), t(3, dtype="float64")),
        Sample(name, t(0), t(0)),
        Sample(name, t(), t(2)),
        Sample(name, t(3, grad=False), t(3, grad=False), out=t(3, grad=False)),
        Sample(f"Tensor.{name}", t(3), t(3)),
    )
]
PAIRS += [
    Sample("atan2", t(3), t(3), dtypes=NUMBERS),
    Sample("arctan2", t(3), t(3)),
    Sample("atan2", values([0.0, -0.0, 1, -1]), values([-1.0, -1, 0, 0]), smooth=False),
    Sample("Tensor.atan2_", t(3), t(3)),
    Sample("Tensor.hypot_", t(3), t(3)),
    Sample("hypot", values([1e30, 3]), values([1e30, 4]), dtypes=WIDE, smooth=False),
    Sample("logaddexp", values([1000.0, -inf]), values([1000.0, 2]), smooth=False, dtypes=WIDE),
    Sample("copysign", t(3), t(3), dtypes=NUMBERS),
    Sample("copysign", t(3), -1.0),
    Sample("copysign", values([0.0, 1, -1]), values([-0.0, 0.0, -3]), smooth=False),
    Sample("Tensor.copysign_", t(3), t(3)),
    Sample("nextafter", t(3, grad=False), t(3, grad=False), dtypes=WIDE),
    Sample("heaviside", values([1, 0, 2, 0], grad=False), t(4, grad=False), dtypes=NUMBERS),
    Sample("heaviside", values([-1.0, 0, -inf, inf], grad=False), t(4, grad=False), dtypes=WIDE),
    Sample("Tensor.heaviside", t(3, grad=False), t(grad=False)),
    Sample("xlogy", t(3, 4), t(4, **ABOVE)),
    Sample("xlogy", t(3, **ABOVE), t(3, **ABOVE), dtypes=NUMBERS),
    Sample("xlogy", t(3), 2.0),
    Sample("xlogy", 2.0, t(3, **ABOVE)),
    Sample("xlogy", values([0.0, 0, 0, 1]), values([0.0, nan, 2, 0]), smooth=False),
    Sample("Tensor.xlogy_", t(3), t(3, **ABOVE)),
]

SINGLE = [Sample("polygamma", n, t(9, **ABOVE), dtypes=WIDE, tolerance=ROUGH) for n in (0, 1, 2, 3)]
SINGLE += [
    Sample("polygamma", 1, t(3, **ABOVE), dtypes=NUMBERS, tolerance=ROUGH),
    Sample("polygamma", 1, t(30, low=-8, high=15), dtypes=WIDE, smooth=False, tolerance=ROUGH),
    Sample("polygamma", 2, t(30, low=-8, high=15), dtypes=WIDE, smooth=False, tolerance=10),
    Sample("Tensor.polygamma", t(3, **ABOVE), 2, tolerance=10),
    Sample("lgamma", t(99, low=-8, high=30), dtypes=WIDE, smooth=False, tolerance=10),
    Sample("digamma", t(99, low=-8, high=30), dtypes=WIDE, smooth=False, tolerance=ROUGH),
    Sample("lgamma", values([1.0, 2, 1e-8, 1e300, -1, -2.5]), dtypes=("float64",), smooth=False),
    Sample("erf", t(99, low=-6, high=6), dtypes=WIDE),
    Sample("erfc", t(99, low=-6, high=12), dtypes=("float64",)),
    Sample("erfinv", values([0.999999, -0.9999999, 1e-9, 0.3]), dtypes=("float64",), smooth=False),
    Sample("erfinv", values([1.0, -1, 1.5, 0.0]), dtypes=WIDE, smooth=False),
    Sample("logit", t(5), eps=0.1),
    Sample("logit", t(5, low=0.2, high=0.8), eps=1e-6),
    Sample("logit", values([0.0, 1, 0.5, -1, 2]), smooth=False),
    Sample("logit", values([0.0, 1, 0.5, -1, 2]), 0.25, smooth=False),
    Sample("sinc", values([0.0, 0.5, -0.5, 1])),
    Sample("nan_to_num", values([1.0, nan, inf, -inf]), smooth=False),
    Sample("nan_to_num", values([1.0, nan, inf, -inf]), 0.5, 9.0, -9.0, smooth=False),
]
SINGLE[-3].smooth = False

SAMPLES = PAIRS + SINGLE

VALUE = {"error": ValueError, "torch_error": RuntimeError}
REFUSED = [
    Refused("polygamma", -1, t(3), **VALUE, match="does not support negative n"),
    Refused("heaviside", t(3), t(3, dtype="int64"), match="different dtypes"),
    Refused("hypot", t(3), t(2), match="cannot be broadcast"),
]
