"""Random draws: their shapes and dtypes; their values are in tests/ops/test_random.py."""

from tests.ops.samples import ALL, FLOATS, NUMBERS, SINGLES, Refused, Sample, d, t

ONE = ("float32",)


def drawn(call, *inputs, dtypes=ONE, **kwargs):
    """A sample whose values PyTorch draws otherwise."""
    return Sample(call, *inputs, dtypes=dtypes, parity=False, smooth=False, **kwargs)


SAMPLES = [
    drawn("rand", 2, 3),
    drawn("rand", (), dtype=d("float64")),
    drawn("randn", size=(2, 0)),
    drawn("randn", 3, dtype=d("bfloat16")),
    drawn("randint", 10, (3, 2)),
    drawn("randint", 1, 3, (4,), dtype=d("uint8")),
    drawn("randperm", 7),
    drawn("normal", 1.0, 2.0, (3,)),
    drawn("normal", t(2, 3, grad=False), t(3, grad=False, low=0), dtypes=FLOATS),
    drawn("normal", 1.0, t(3, grad=False, low=0), dtypes=SINGLES),
    drawn("bernoulli", t(2, 3, grad=False, low=0, high=1), dtypes=FLOATS),
    drawn("bernoulli", t(2, 3, grad=False), 0.3, dtypes=ALL),
    drawn("multinomial", t(4, low=0.5, grad=False), 3, dtypes=FLOATS),
    drawn("multinomial", t(2, 4, low=0.5, grad=False), 9, True, dtypes=FLOATS),
    drawn("rand_like", t(2, 3), dtypes=FLOATS),
    drawn("randn_like", t(2, 3), dtypes=FLOATS),
    drawn("randint_like", t(2, 3), 2, 5, dtypes=NUMBERS),
]

REFUSED = [
    Refused(lambda lib: lib.rand(2, dtype=lib.int64), match="int64", error=Exception),
    Refused("randint", 3, 3, (2,), match="less than", error=Exception),
    Refused(lambda lib: lib.randint(300, (2,), dtype=lib.uint8), match="uint8", error=Exception),
    Refused("randint", 3, error=TypeError, match="size"),
    Refused("randperm", -1, match="non-negative", error=Exception),
    Refused("normal", 0.0, -1.0, (2,), match="std >= 0", error=Exception),
    Refused("bernoulli", t(2, dtype="int64"), match="floats", error=Exception, parity=False),
    Refused("bernoulli", t(3, low=1.5), match="p_in", error=Exception),
    Refused("multinomial", t(3, low=-2, high=-1), 1, match="< 0", error=Exception),
    Refused("multinomial", t(3, low=1), 4, match="without replacement", error=Exception),
    Refused("multinomial", t(3, low=1), 0, match="n_sample", error=Exception),
    Refused("multinomial", t(2, 2, 2), 1, match="dimensions", error=Exception),
    Refused("Tensor.uniform_", t(3), 2, 1, match="from, to", error=Exception),
    Refused("Tensor.exponential_", t(3), 0, match="lambda > 0", error=Exception),
    Refused("Tensor.geometric_", t(3), 1.0, match="0, 1", error=Exception),
    Refused("Tensor.normal_", t(3), dtype="int64", match="int64", error=Exception),
]
