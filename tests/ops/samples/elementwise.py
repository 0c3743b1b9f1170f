"""Arithmetic: operators and their functions."""

from tests.ops.samples import ALL, NUMBERS, Refused, Sample, t

SAMPLES = [
    Sample(lambda lib, x, y: x + y * 2, t(3, 4), t(4)),
    Sample("Tensor.add", t(3, 4), t(4), alpha=2, dtypes=NUMBERS),
    Sample("Tensor.add_", t(3, 4), t(4), dtypes=ALL),
    Sample("Tensor.exp", t()),
    Sample("Tensor.exp", t(0, 3)),
]

REFUSED = [
    Refused("Tensor.add", t(3, 4), t(5), error=RuntimeError, match="broadcast"),
]
