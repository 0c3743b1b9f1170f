"""Reductions: sums, products, extremes, truth, moments and norms."""

from math import inf, nan

from tests.ops.samples import ALL, EXACT, FLOATS, NUMBERS, Refused, Sample, d, t, values

NAN = values([[1, nan, -2], [0, 3, nan]])
ONE_NAN = values([[1, nan, -2], [0, 3, 1]])
INFINITE = values([[inf, 1, -inf], [-inf, -inf, -inf]])
ZEROS = values([[2, 0, 3], [0, 0, 1], [4, 5, -1]])
TIES = values([[1, 3, 3], [3, 0, 0], [-1, -1, -1]])

SUMS = [
    Sample("sum", t(3, 4), dtypes=ALL),
    Sample("sum", t(2, 3, 4), 1, dtypes=ALL),
    Sample("sum", t(2, 3, 4), (0, -1), keepdim=True),
    Sample("sum", t(2, 3), ()),
    Sample("sum", t(2, 3), None, keepdim=True),
    Sample("sum", t(), 0),
    Sample("sum", t(0, 3), 0),
    Sample("sum", t(0, 3)),
    Sample("sum", t(2, 3, grad=False), 0, dtype=d("int32"), dtypes=ALL),
    Sample("sum", t(2, 3), dtype=d("float64"), dtypes=ALL),
    Sample("sum", t(2, 3), dtype=d("bool"), dtypes=EXACT),
    Sample("sum", t(2, 3, grad=False), -1, out=t(2, grad=False)),
    Sample("sum", t(1100, 2), 0),
    Sample("sum", t(700, 2, 3), (0, 2), keepdim=True),
    Sample("Tensor.sum", t(3, 4), 0),
    Sample("nansum", NAN, smooth=False),
    Sample("nansum", NAN, 1, keepdim=True, smooth=False),
    Sample("nansum", t(3, 2), 0, dtypes=ALL),
    Sample("mean", t(3, 4)),
    Sample("mean", t(2, 3, 4), (0, 2)),
    Sample("mean", t(2, 3), -1, keepdim=True),
    Sample("mean", t(0, 3), 0, smooth=False),
    Sample("mean", t()),
    Sample("mean", t(3, 4), dtype=d("float64"), dtypes=ALL),
    Sample("mean", t(3, 4, grad=False), 0, out=t(4, grad=False)),
    Sample("Tensor.mean", t(600, 2), 0),
    Sample("nanmean", NAN, smooth=False),
    Sample("nanmean", NAN, 0, keepdim=True, smooth=False),
    Sample("nanmean", values([[nan, 1], [nan, 2]], grad=False), 0),
    Sample("prod", t(2, 3), dtypes=ALL),
    Sample("prod", t(2, 3, 2), 1, dtypes=ALL),
    Sample("prod", t(2, 3), -1, keepdim=True),
    Sample("prod", ZEROS, 1),
    Sample("prod", ZEROS),
    Sample("prod", values([3, 0, -2])),
    Sample("prod", t(), 0),
    Sample("prod", t(0, 2), 0),
    Sample("prod", t(3), dtype=d("float64"), dtypes=ALL),
    Sample("prod", t(2, 3, grad=False), 0, out=t(3, grad=False)),
    Sample("count_nonzero", ZEROS, dtypes=NUMBERS),
    Sample("count_nonzero", t(2, 3, 4), (0, 2), dtypes=ALL),
    Sample("count_nonzero", NAN, 1),
]

EXTREMES = [
    Sample(name, *rest, dtypes=ALL)
    for name in ("max", "min")
    for rest in [(t(3, 4),), (t(3, 4, distinct=True), 1), (t(2, 5, distinct=True), -2, True)]
]
EXTREMES += [
    Sample(name, *rest, smooth=False)
    for name in ("max", "min")
    for rest in [(TIES,), (TIES, 1), (ONE_NAN, 1), (NAN, 0, True), (t(), 0), (t(),), (t(0, 3), 1)]
]
EXTREMES += [
    Sample("max", t(3, 4), t(4)),
    Sample("min", t(3, 4), other=t(4)),
    Sample("max", t(3, 4, grad=False), 1, out=(t(3, grad=False), t(3, dtype="int64"))),
    Sample("Tensor.max", t(3, 4, distinct=True), dim=0),
    Sample("Tensor.min", t(3, 4, distinct=True), dim=0, keepdim=True),
    Sample("amax", t(3, 4), dtypes=ALL),
    Sample("amax", t(2, 3, 4), (0, 2), dtypes=ALL),
    Sample("amax", TIES, 1, keepdim=True, smooth=False),
    Sample("amax", TIES, smooth=False),
    Sample("amax", NAN, 0, smooth=False),
    Sample("amax", t(3, 4, grad=False), 0, out=t(4, grad=False)),
    Sample("amin", t(3, 4), dtypes=ALL),
    Sample("amin", t(2, 3, 4), (-1, 0), keepdim=True, dtypes=ALL),
    Sample("amin", TIES, 1, smooth=False),
    Sample("amin", t()),
    Sample("aminmax", t(3, 4), dtypes=ALL),
    Sample("aminmax", t(3, 4), dim=1, keepdim=True),
    Sample("argmax", t(3, 4), dtypes=NUMBERS),
    Sample("argmax", t(3, 4), 1, dtypes=NUMBERS),
    Sample("argmax", TIES, -1, keepdim=True),
    Sample("argmax", NAN, 1),
    Sample("argmax", t(3, 4), keepdim=True),
    Sample("argmax", t(), 0),
    Sample("argmin", t(3, 4), dtypes=NUMBERS),
    Sample("argmin", TIES, 0),
    Sample("argmin", NAN),
]

TRUTH = [
    Sample(name, *rest, dtypes=ALL)
    for name in ("all", "any")
    for rest in [
        (t(2, 3),),
        (t(2, 3, 4), 1),
        (t(2, 3, 4), (0, 2), True),
        (t(2, 3), ()),
        (t(0, 3), 0),
        (t(), 0),
        (t(3, 1), -1),
    ]
]
TRUTH += [Sample("all", NAN, 0), Sample("any", values([[0, nan], [0, 0]]), 1)]

MOMENTS = [
    Sample("var", t(3, 4)),
    Sample("var", t(2, 3, 4), (0, 2), keepdim=True),
    Sample("var", t(3, 4), 1, correction=0),
    Sample("var", t(3, 4), 1, correction=0.5),
    Sample("var", t(3, 4), 1, unbiased=False),
    Sample("var", t(3, 4), False),
    Sample("var", t(3, 4), 0, False, True),
    Sample("var", t(3, 1), 1, smooth=False, parity=False),
    Sample("var", t(0), smooth=False, parity=False),
    Sample("var", t(3, 4), correction=12, smooth=False, parity=False),
    Sample("Tensor.var", t(600, 2), 0),
    Sample("std", t(3, 4)),
    Sample("std", t(2, 3, 4), (0, 2), keepdim=True),
    Sample("std", t(3, 4), 1, correction=0),
    Sample("std", values([[1, 1, 1], [1, 2, 4]]), 1, smooth=False),
    Sample("Tensor.std", t(3, 4), 0),
    Sample("var", t(3, 4, grad=False), 0, correction=1, out=t(4, grad=False)),
    Sample("var_mean", t(3, 4), 1, keepdim=True),
    Sample("var_mean", t(3, 4), False),
    Sample("std_mean", t(3, 4), correction=2),
    Sample("logsumexp", t(3, 4), 1, dtypes=ALL),
    Sample("logsumexp", t(2, 3, 4), (0, -1), keepdim=True),
    Sample("logsumexp", values([1000, 1001, -1000]), 0),
    Sample("logsumexp", values([-inf, 1, 2]), 0, smooth=False),
    Sample("logsumexp", INFINITE, 1, smooth=False),
    Sample("logsumexp", t(0, 2), 0, smooth=False),
    Sample("logsumexp", t(), 0),
    Sample("logsumexp", t(3, 4, grad=False), 0, out=t(4, grad=False)),
]

NORMS = [
    Sample("norm", t(3, 4), p, 1, smooth=p != 0) for p in (0, 0.5, 1, 1.5, 2, 3, -1, inf, -inf)
]
NORMS += [
    Sample("norm", values([[0, 2, -2], [0, 0, 0]]), p, 1, smooth=False)
    for p in (0, 0.5, 1, 1.5, 2, 3, inf, -inf)
]
NORMS += [
    Sample("norm", t(3, 4)),
    Sample("norm", t(3, 4), "fro", 0, keepdim=True),
    Sample("norm", t(2, 3, 4), 2, (0, 2)),
    Sample("norm", t(3, 4), p=1),
    Sample("norm", t()),
    Sample("norm", t(0, 3), 2, 0, smooth=False),
    Sample("norm", t(3, 4), dtype=d("float64"), dtypes=FLOATS),
    Sample("Tensor.norm", t(3, 4), 3),
    Sample("norm", t(3, 4, grad=False), dim=0, out=t(4, grad=False)),
]

SAMPLES = SUMS + EXTREMES + TRUTH + MOMENTS + NORMS

REFUSED = [
    Refused("sum", t(2, 3), 2, error=IndexError, match="Dimension out of range"),
    Refused("sum", t(2, 3), (0, -2), match="more than once"),
    Refused("sum", t(2, 3), 0, out=t(2, 3), match="out has shape", parity=False),
    Refused("mean", t(3), dtype="int64", match="Got: int64"),
    Refused("nanmean", t(3), dtype="int64", match="floating point"),
    Refused("max", t(0), match="Specify the reduction dim"),
    Refused("max", t(2, 0), 1, error=IndexError, match="non-zero size"),
    Refused("max", t(2, 3), (0, 1), error=TypeError, match="must be an int"),
    Refused("min", t(0, 3), 0, error=IndexError, match="non-zero size"),
    Refused("amax", t(0), match="Specify the reduction dim"),
    Refused("amin", t(2, 0), 1, error=IndexError, match="non-zero size"),
    Refused("aminmax", t(0), match="aminmax"),
    Refused("argmax", t(0), error=IndexError, match="Specify the reduction dim"),
    Refused("argmin", t(2, 0), 1, error=IndexError, match="non-zero size"),
    Refused("var", t(3), dtype="int64", match="only support floating"),
    Refused("std", t(3), 0, unbiased=True, correction=1, error=TypeError, match="not both"),
    Refused("norm", t(3), dtype="int64", match="floating point"),
    Refused("norm", t(3), "max", match="'fro'", error=ValueError, parity=False),
    Refused("norm", t(0), inf, match="identity"),
]
