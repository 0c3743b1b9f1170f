"""Functions of one variable."""

from math import inf, nan

from tests.ops.samples import ALL, FLOATS, NUMBERS, SINGLES, Refused, Sample, t, values

POSITIVE = {"low": 0.1, "high": 4}
UNIT = {"low": -0.9, "high": 0.9}
EVERYWHERE = {"low": -3, "high": 3}
EDGES = [0.0, -0.0, 1, -1, 0.5, 88, -104, 710, inf, -inf, nan]

DOMAINS = {
    "abs": EVERYWHERE,
    "square": EVERYWHERE,
    "sqrt": POSITIVE,
    "rsqrt": POSITIVE,
    "reciprocal": POSITIVE,
    "exp": EVERYWHERE,
    "exp2": EVERYWHERE,
    "expm1": EVERYWHERE,
    "log": POSITIVE,
    "log2": POSITIVE,
    "log10": POSITIVE,
    "log1p": {"low": -0.9, "high": 3},
    "sin": EVERYWHERE,
    "cos": EVERYWHERE,
    "tan": {"low": -1.4, "high": 1.4},
    "asin": UNIT,
    "acos": UNIT,
    "atan": EVERYWHERE,
    "sinh": EVERYWHERE,
    "cosh": EVERYWHERE,
    "tanh": EVERYWHERE,
    "asinh": EVERYWHERE,
    "acosh": {"low": 1.1, "high": 4},
    "atanh": UNIT,
    "sigmoid": EVERYWHERE,
    "erf": EVERYWHERE,
    "erfc": EVERYWHERE,
    "erfinv": UNIT,
    "lgamma": {"low": 0.2, "high": 12},
    "digamma": {"low": 0.2, "high": 12},
    "logit": {"low": 0.05, "high": 0.95},
    "sinc": EVERYWHERE,
    "deg2rad": EVERYWHERE,
    "rad2deg": EVERYWHERE,
    "relu": EVERYWHERE,
    "frac": EVERYWHERE,
    "nan_to_num": EVERYWHERE,
}
NOT_OF_BOOLS = {"abs", "square", "relu", "frac", "logit"}
AT_EDGES = {"digamma", "logit"}  # where PyTorch's gradients at poles are not to be followed
ONLY_FLOATS = {"frac", "logit"}
NOT_IN_PLACE = {"asinh", "acosh", "atanh"}  # PyTorch lacks these gradients
STEPS = ("sign", "sgn", "floor", "ceil", "trunc", "fix", "round")  # no slope anywhere


def dtypes(name):
    return FLOATS if name in ONLY_FLOATS else NUMBERS if name in NOT_OF_BOOLS else ALL


def rough(name):
    """PyTorch's trigamma, the gradient of digamma, has a relative error of 1e-8."""
    return 1e5 if name == "digamma" else 1


SMOOTH = [
    sample
    for name, domain in DOMAINS.items()
    for sample in (
        Sample(name, t(5, 6, **domain), dtypes=dtypes(name), tolerance=rough(name)),
        Sample(name, t(**domain), tolerance=rough(name)),
        Sample(name, t(0, 2, **domain)),
        Sample(name, values(EDGES, grad=name not in AT_EDGES), smooth=False, dtypes=SINGLES),
        Sample(f"Tensor.{name}", t(2, 3, **domain), tolerance=rough(name)),
        Sample(
            f"Tensor.{name}_",
            t(2, 3, grad=name not in NOT_IN_PLACE, **domain),
            tolerance=rough(name),
        ),
    )
]
SMOOTH += [
    Sample(name, t(3, grad=False, **domain), out=t(3, grad=False))
    for name, domain in DOMAINS.items()
    if name != "relu"
]
STEPPED = [
    sample
    for name in STEPS
    for sample in (
        Sample(name, t(5, 6, low=-5, high=5), dtypes=NUMBERS),
        Sample(name, t()),
        Sample(name, values([*EDGES, 1.5, 2.5, -0.5, -1.5]), smooth=False),
        Sample(f"Tensor.{name}", t(3)),
        Sample(f"Tensor.{name}_", t(3)),
        Sample(name, t(3, grad=False), out=t(3, grad=False)),
    )
]
MORE = [
    Sample("sign", t(3), dtypes=("bool",)),
    Sample("absolute", t(3)),
    Sample("abs", values([-128, 127, -1]), dtypes=("int8",)),
    Sample("arcsin", t(3, **UNIT)),
    Sample("arccos", t(3, **UNIT)),
    Sample("arctan", t(3)),
    Sample("arcsinh", t(3)),
    Sample("arctanh", t(3, **UNIT)),
    Sample("arccosh", t(3, low=1.1)),
    Sample("positive", t(3)),
    Sample("round", t(9, low=-30, high=30), decimals=1, dtypes=("float32", "float64")),
    Sample("round", t(9, low=-3, high=3), decimals=2, dtypes=("float32", "float64")),
    Sample("round", t(9, low=-3000, high=3000), decimals=-2, dtypes=("float32", "float64")),
    Sample("round", t(9), decimals=0, dtypes=FLOATS),
    Sample("Tensor.round_", t(9), decimals=1, dtypes=("float64",)),
    Sample("sin", t(3, dtype="int64"), dtypes=("float32",)),
    Sample("exp", t(3, grad=False), out=t(3, dtype="float64", grad=False), dtypes=("float64",)),
]

SAMPLES = SMOOTH + STEPPED + MORE

REFUSED = [
    Refused("round", t(3), decimals=1, dtype="int64", match="decimals=1 is not implemented"),
    Refused("Tensor.sqrt_", t(3), dtype="int64", match="can't be cast"),
    Refused("exp", t(3), out=t(3, grad=False, dtype="int64"), match="can't be cast"),
    Refused("exp", None, error=TypeError, match="tensor or a number, got None"),
]
