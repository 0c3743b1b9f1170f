"""Activation functions of ``nn.functional``, with kinks, special values and ``inplace=True``."""

from math import inf, nan

from tests.ops.samples import INTEGERS, SINGLES, Refused, Sample, t, values

KINKS = values([-8.0, -6, -3, -1, -0.0, 0.0, 1, 3, 6, 8, 25])
FAR = values([inf, -inf, nan, 1e30, -1e30], grad=False)
F = "nn.functional"

CALLS = [
    ("relu", {}),
    ("leaky_relu", {}),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("leaky_relu", {"negative_slope": -1.5}),
    ("elu", {}),
    ("elu", {"alpha": 0.5}),
    ("silu", {}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("softplus", {}),
    ("softplus", {"beta": 2, "threshold": 3}),
    ("sigmoid", {}),
    ("tanh", {}),
    ("mish", {}),
    ("hardtanh", {}),
    ("hardtanh", {"min_val": -0.5, "max_val": 2.0}),
    ("relu6", {}),
    ("hardsigmoid", {}),
    ("hardswish", {}),
]
WITH_INPLACE = ("relu", "leaky_relu", "elu", "silu", "mish", "hardtanh", "relu6", "hardswish")


def rough(name):
    """PyTorch rounds the slope 1/6 of hardsigmoid to float32."""
    return 1e4 if name == "hardsigmoid" else 1


SAMPLES = [
    sample
    for name, kwargs in CALLS
    for sample in (
        Sample(f"{F}.{name}", t(5, 6, low=-4, high=4), tolerance=rough(name), **kwargs),
        Sample(f"{F}.{name}", t(40, 30, low=-9, high=9), tolerance=rough(name), **kwargs),
        Sample(f"{F}.{name}", t(), tolerance=rough(name), **kwargs),
        Sample(f"{F}.{name}", t(0, 2), **kwargs),
        Sample(f"{F}.{name}", KINKS, smooth=False, dtypes=SINGLES, tolerance=rough(name), **kwargs),
        Sample(f"{F}.{name}", FAR, dtypes=("float64",), **kwargs),
    )
]
SAMPLES += [Sample(f"{F}.{name}", t(3, 4), inplace=True) for name in WITH_INPLACE]
SAMPLES += [
    Sample("relu", t(3), dtypes=INTEGERS),
    Sample("relu_", t(3), dtypes=INTEGERS),
    Sample("Tensor.relu_", t(3, 4)),
    Sample(lambda lib, x: (x * 2).relu_().tanh(), t(3, 4)),
    Sample(lambda lib, x: ((x * 2).sigmoid_() + x).tanh_(), t(3, 4)),
]

VALUE = {"error": ValueError, "torch_error": RuntimeError}
REFUSED = [
    Refused("relu", t(3), dtype="bool", match="Boolean inputs not supported"),
    Refused(f"{F}.gelu", t(3), approximate="fast", **VALUE, match="'none' or 'tanh'"),
]
