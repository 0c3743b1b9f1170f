"""Running sums, products and extremes; differences."""

from math import inf, nan

from tests.ops.samples import ALL, NUMBERS, Refused, Sample, d, t, values

ZEROS = values([[2, 0, 3, 1], [0, 0, 1, 5], [4, 5, -1, 0]])
RECORDS = values([1, 2, 2, nan, 3, nan, 1])

SAMPLES = [
    Sample("cumsum", t(3, 4), 1, dtypes=ALL),
    Sample("cumsum", t(2, 3, 2), -2),
    Sample("cumsum", t(), 0),
    Sample("cumsum", t(0, 3), 0),
    Sample("cumsum", t(3, 4), 0, dtype=d("float64"), dtypes=ALL),
    Sample("cumsum", t(3, 4, grad=False), 0, dtype=d("int32"), dtypes=ALL),
    Sample("cumsum", t(3, 4, grad=False), 0, out=t(3, 4, grad=False)),
    Sample("Tensor.cumsum", t(3, 4), dim=0),
    Sample("Tensor.cumsum_", t(3, 4), 0),
    Sample("cumprod", t(3, 4), 1, dtypes=ALL),
    Sample("cumprod", t(2, 3, 2), -2),
    Sample("cumprod", ZEROS, 1),
    Sample("cumprod", ZEROS, 0),
    Sample("cumprod", t(), 0),
    Sample("cumprod", t(0), 0),
    Sample("cumprod", t(3), 0, dtype=d("float64"), dtypes=ALL),
    Sample("cumprod", values([1e30, 1e30, 1e-30]), 0, dtypes=("float32",)),
    Sample("Tensor.cumprod_", t(3, 4), 1),
    Sample("logcumsumexp", t(3, 4), 1, dtypes=("float32", "float64")),
    Sample("logcumsumexp", values([[-800, 1000, 3], [5, -inf, 900]]), 1, smooth=False),
    Sample("logcumsumexp", t(), 0),
    Sample("cummax", t(3, 5, distinct=True), 1, dtypes=NUMBERS),
    Sample("cummax", RECORDS, 0, smooth=False),
    Sample("cummax", values([True, False]), 0, dtypes=("bool",)),
    Sample("cummax", t(), 0),
    Sample("cummax", t(0), 0),
    Sample("cummin", t(3, 5, distinct=True), -2, dtypes=NUMBERS),
    Sample("cummin", RECORDS, 0, smooth=False),
    Sample("cummin", t(3, grad=False), 0, out=(t(3, grad=False), t(3, dtype="int64"))),
    Sample("diff", t(5), dtypes=ALL),
    Sample("diff", t(3, 4), 2, 0),
    Sample("diff", t(3, 4), 0),
    Sample("diff", t(3), 5),
    Sample("diff", t(3, 4), dim=1, prepend=t(3, 1), append=t(3, 2)),
]

REFUSED = [
    Refused("cumsum", t(2, 3), 2, error=IndexError, match="Dimension out of range"),
    Refused("logcumsumexp", t(3), 0, dtype="int64", match="floating"),
    Refused("diff", t(), match="at least one-dimensional"),
    Refused("diff", t(3), -1, match="non-negative"),
]
