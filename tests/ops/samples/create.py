"""Tensors made from sizes and numbers alone."""

from tests.ops.samples import ALL, FLOATS, NUMBERS, SINGLES, Refused, Sample, d, t

ONE = ("float32",)

SAMPLES = [
    Sample("zeros", 2, 3, dtypes=ONE),
    Sample("zeros", (2, 3), dtype=d("int32"), dtypes=ONE),
    Sample("zeros", size=(2,), dtypes=ONE),
    Sample("zeros", (), dtypes=ONE),
    Sample("ones", 0, 3, dtypes=ONE),
    Sample("ones", [2, 2], dtype=d("bool"), dtypes=ONE),
    Sample("full", (2, 3), 3, dtypes=ONE),
    Sample("full", (2,), 3.5, dtypes=ONE),
    Sample("full", (2,), True, dtypes=ONE),
    Sample("full", (2,), -0.0, dtypes=ONE),
    Sample("full", (2,), float("nan"), dtypes=ONE),
    Sample("full", (2,), -1, dtype=d("uint8"), dtypes=ONE),
    Sample("full", (2,), 3.7, dtype=d("int64"), dtypes=ONE),
    Sample("full", (2, 3), t(grad=False)),
    Sample("full_like", t(2, 3), 3, dtypes=ALL),
    Sample("zeros_like", t(2, 3), dtypes=ALL),
    Sample("ones_like", t(2, 3), dtypes=ALL),
    Sample("ones_like", t(2), dtype=d("float64")),
    Sample("Tensor.new_zeros", t(2), 3, 4, dtypes=ALL),
    Sample("Tensor.new_ones", t(2), (3, 4), dtypes=ALL),
    Sample("Tensor.new_full", t(2), (3,), 1.5, dtypes=NUMBERS),
    Sample("Tensor.new_tensor", t(2), [[1, 2]], dtypes=NUMBERS),
    Sample("scalar_tensor", 3, dtypes=ONE),
    Sample("arange", 5, dtypes=ONE),
    Sample("arange", 5.0, dtypes=ONE),
    Sample("arange", 1, 2, 0.3, dtypes=ONE),
    Sample("arange", 10, 3, -2, dtypes=ONE),
    Sample("arange", 0.5, -2, -0.7, dtype=d("float64"), dtypes=ONE),
    Sample("arange", -0.5, 3, dtype=d("int64"), dtypes=ONE),
    Sample("arange", 5, dtype=d("bfloat16"), dtypes=ONE),
    Sample("arange", 3, 3, dtypes=ONE),
    Sample("arange", t(high=9, low=1, dtype="int64", grad=False), dtypes=ONE),
    Sample("arange", 2**53, 2**53 + 3, dtypes=ONE),
    *(
        Sample(name, *bounds, dtype=d(dtype), dtypes=ONE)
        for name in ("linspace", "logspace")
        for bounds in ((0, 1, 5), (-3.5, 2.25, 8), (1, 1, 1), (0, 2, 0), (1, -1, 2))
        for dtype in FLOATS
    ),
    Sample("linspace", 0, 10, 5, dtype=d("int64"), dtypes=ONE),
    Sample("logspace", 0, 3, 4, base=2, dtypes=ONE),
    Sample("eye", 3, dtypes=ONE),
    Sample("eye", 2, 4, dtype=d("int64"), dtypes=ONE),
    Sample("eye", 0, dtypes=ONE),
    Sample(lambda lib, x: x + lib.ones(3) * lib.arange(3), t(3), dtypes=SINGLES),
]

REFUSED = [
    Refused("zeros", error=TypeError, match="size"),
    Refused("zeros", 2.0, error=TypeError, match="ints"),
    Refused("zeros", 2, -1, match="non-negative"),
    Refused("zeros", 2, size=(2,), error=TypeError, match="size"),
    Refused(lambda lib: lib.ones(2, dtype=lib.int64, requires_grad=True), match="floating"),
    Refused("ones", 2, device="cuda", error=Exception, match="'cuda' is not available"),
    Refused("full", 2, 3, error=TypeError, match="tuple of ints"),
    Refused(lambda lib: lib.full((2,), 300, dtype=lib.uint8), match="without overflow"),
    Refused(lambda lib: lib.full((2,), lib.inf, dtype=lib.int32), match="without overflow"),
    Refused("arange", 1, 2, 0, error=Exception, match="nonzero"),
    Refused("arange", 3, 1, error=Exception, match="step sign"),
    Refused(lambda lib: lib.arange(0, 1, 0.1, dtype=lib.int64), error=Exception, match="nonzero"),
    Refused("arange", 0, float("inf"), error=Exception, match="range"),
    Refused(lambda lib: lib.arange(5, dtype=lib.bool), error=Exception, match="bool"),
    Refused("linspace", 0, 1, -1, error=Exception, match="non-negative"),
    Refused("eye", -1, match="non-negative"),
]
