"""Sorting, ranks, quantiles, counting."""

from math import inf, nan

from tests.ops.samples import (
    ALL,
    EXACT,
    INTEGERS,
    NUMBERS,
    SINGLES,
    Refused,
    Sample,
    indices,
    t,
    values,
)

NAN = values([[3, nan, 1, 2], [nan, 0, nan, 5], [nan, nan, nan, nan]])
SOME_NAN = values([[3, nan, 1, 2], [nan, 0, nan, 5]])
TIES = values([[1, 0, 1, 0, -1], [2, 2, 2, 2, 2]])
SIGNED_ZEROS = values([0.0, -0.0, 1.0, -0.0, 0.0, -1.0, inf, -inf])
APART = t(3, 5, distinct=True)


def search(lib, boundaries, x, sorter=None, **options):
    """PyTorch warns of tensors that are not contiguous."""
    sorter = sorter if sorter is None else sorter.contiguous()
    return lib.searchsorted(boundaries.contiguous(), x.contiguous(), sorter=sorter, **options)


def bucket(lib, x, boundaries, **options):
    return lib.bucketize(x.contiguous(), boundaries.contiguous(), **options)


SORTS = [
    Sample("sort", t(3, 5, distinct=True), dtypes=NUMBERS),
    Sample("sort", t(5, 3, distinct=True), 0, True),
    Sample("sort", t(2, 7), stable=True, dim=-1, dtypes=ALL),
    Sample("sort", TIES, descending=True, dtypes=NUMBERS, smooth=False),
    Sample("sort", SIGNED_ZEROS, smooth=False),
    Sample("sort", SIGNED_ZEROS, descending=True, smooth=False),
    Sample("sort", NAN, 1, smooth=False),
    Sample("sort", NAN, 1, descending=True, smooth=False),
    Sample("sort", t()),
    Sample("sort", t(0, 3), 0),
    Sample("sort", t(0, 3), 1),
    Sample("sort", t(3, 1000), stable=True, dtypes=ALL, smooth=False),
    Sample("sort", t(1000, 3), stable=True, dim=0, descending=True, dtypes=ALL, smooth=False),
    Sample("sort", t(4, grad=False), out=(t(4, grad=False), t(4, dtype="int64"))),
    Sample("Tensor.sort", APART, 0),
    Sample("argsort", t(2, 9), stable=True, dtypes=ALL),
    Sample("argsort", t(9, 2), 0, True),
    Sample("msort", APART),
    Sample("topk", APART, 2),
    Sample("topk", t(5, 3, distinct=True), 2, 0, largest=False, dtypes=NUMBERS),
    Sample("topk", APART, 5),
    Sample("topk", APART, 0),
    Sample("topk", t(), 1),
    Sample("topk", t(2, 2000, distinct=True), 3, dtypes=SINGLES, smooth=False),
    Sample("topk", values([nan, 1, 2]), 2, smooth=False),
    Sample("topk", values([nan, 1, 2]), 2, largest=False, smooth=False),
    Sample("kthvalue", APART, 2, dtypes=NUMBERS),
    Sample("kthvalue", APART, 3, 0, True),
    Sample("kthvalue", t(), 1),
]

RANKS = [
    Sample("median", APART, dtypes=NUMBERS),
    Sample("median", values([1, 1, 1, 0, 1]), smooth=False),
    Sample("median", APART, 1, dtypes=NUMBERS),
    Sample("median", t(4, 3, distinct=True), 0, True),
    Sample("median", values([3, nan, 2, nan]), 0, smooth=False),
    Sample("median", values([3, nan, 2, nan], grad=False)),
    Sample("median", t()),
    Sample("median", t(), 0),
    Sample("median", t(0), smooth=False),
    Sample("nanmedian", NAN, smooth=False),
    Sample("nanmedian", SOME_NAN, 1, smooth=False),
    Sample("mode", values([[3, 1, 3, 1, 2], [5, 4, 3, 2, 2]]), dtypes=NUMBERS, smooth=False),
    Sample("mode", values([[3, 1], [3, 1], [2, 2]]), 0, True, smooth=False),
    Sample("mode", t()),
]

QUANTILES = [
    Sample("quantile", APART, 0.3, 1, interpolation=how, dtypes=SINGLES)
    for how in ("linear", "lower", "higher", "nearest", "midpoint")
]
QUANTILES += [
    Sample("quantile", APART, 0.3, dtypes=SINGLES),
    Sample("quantile", APART, values([0, 0.25, 1], grad=False), 0, True, dtypes=SINGLES),
    Sample("quantile", APART, values([0.5], grad=False), keepdim=True, dtypes=SINGLES),
    Sample("quantile", t(), 0.5, dtypes=SINGLES),
    Sample("quantile", NAN, 0.3, 1, dtypes=SINGLES, smooth=False),
    Sample("nanquantile", NAN, values([0.3, 0.9], grad=False), 1, dtypes=SINGLES, smooth=False),
    Sample("nanquantile", NAN, 0.5, dtypes=SINGLES, smooth=False),
]

COUNTS = [
    Sample("unique", values([3, 1, 3, 1, 2], grad=False), True, True, True, dtypes=NUMBERS),
    Sample("unique", t(3, 4), return_inverse=True, dtypes=EXACT),
    Sample("unique", t(3, 4, grad=False), dtypes=ALL),
    Sample(
        "unique", values([[3, 1], [3, 1], [2, 2]], grad=False), True, True, True, 0, dtypes=NUMBERS
    ),
    Sample("unique", values([nan, nan, 1], grad=False)),
    Sample("unique", t(grad=False), True, True, True),
    Sample("unique", t(0, grad=False), True, True, True),
    Sample("unique_consecutive", values([3, 3, 1, 1, 3], grad=False), True, True, dtypes=NUMBERS),
    Sample(
        "unique_consecutive",
        values([[3, 3], [3, 3], [1, 3]], grad=False),
        True,
        True,
        0,
        dtypes=NUMBERS,
    ),
    Sample("unique_consecutive", t(3, 4), return_inverse=True, dtypes=EXACT),
    Sample("unique_consecutive", values([nan, nan, 1], grad=False)),
    Sample("unique_consecutive", t(0, grad=False), True, True),
    Sample("bincount", indices(7, below=5)),
    Sample("bincount", t(7, low=0, high=4), minlength=9, dtypes=INTEGERS),
    Sample(
        "bincount", indices(7, below=5), t(7, grad=False), dtypes=("float32", "float64", "int64")
    ),
    Sample("bincount", indices(0, below=5)),
    Sample("histc", t(50), 4, -1, 1, dtypes=SINGLES),
    Sample("histc", t(5, 4), 7, dtypes=SINGLES),
    Sample("histc", values([2, 2]), 4, dtypes=SINGLES),
    Sample(search, values([1, 3, 5]), values([[3, 6], [0, 4]]), dtypes=NUMBERS),
    Sample(search, values([1, 3, 5]), values([3, 6]), right=True),
    Sample(search, values([1, 3, 5]), values([3, 6]), side="right", out_int32=True),
    Sample(search, values([[1, 3, 5], [2, 4, 6]]), values([[3, 6], [3, 6]])),
    Sample(search, values([5, 1, 3]), values([3]), sorter=values([1, 2, 0], "int64", grad=False)),
    Sample(lambda lib, x: lib.searchsorted(x.contiguous(), 3), values([1, 3, 5])),
    Sample(bucket, values([[3, 6]]), values([1, 3, 5]), right=True, dtypes=NUMBERS),
    Sample(lambda lib, x: lib.bucketize(3.0, x.contiguous()), values([1, 3, 5])),
]

SAMPLES = SORTS + RANKS + QUANTILES + COUNTS

REFUSED = [
    Refused("sort", t(2, 3), 2, error=IndexError, match="Dimension out of range"),
    Refused("topk", t(3), 4, match="k out of range"),
    Refused("kthvalue", t(3), 4, match="k out of range"),
    Refused("kthvalue", t(3), 0, match="k out of range"),
    Refused("median", t(2, 0), 1, error=IndexError, match="non-zero size"),
    Refused("mode", t(0), error=IndexError, match="non-zero size"),
    Refused("quantile", t(3), 0.5, dtype="int64", match="float or double"),
    Refused("quantile", t(3), 1.5, error=ValueError, match=r"\[0, 1\]", parity=False),
    Refused("quantile", t(3), values([0.5], "float64"), match="dtype"),
    Refused("quantile", t(0), 0.5, match="non-empty"),
    Refused(
        "quantile",
        t(3),
        0.5,
        interpolation="cubic",
        error=ValueError,
        match="interpolation",
        parity=False,
    ),
    Refused("bincount", t(3), match="integers"),
    Refused("bincount", values([1, -1]), dtype="int64", match="non-negative"),
    Refused("bincount", t(2, 2, low=0), dtype="int64", match="1-d"),
    Refused("histc", t(3), 4, 3, 1, match="larger than min"),
    Refused("histc", values([nan, 1]), 4, match="finite"),
    Refused("searchsorted", t(2, 3), t(2), match="boundaries"),
    Refused("searchsorted", t(3), t(2), side="left", right=True, match="opposites"),
    Refused("bucketize", t(3), t(2, 2), match="1 dimension"),
]
