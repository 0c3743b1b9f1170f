"""Rows of a table by number."""

from tests.ops.samples import FLOATS, INTEGERS, SINGLES, Refused, Sample, indices, t, values

F = "nn.functional.embedding"
TWICE = values([[1, 4, 1], [0, 1, 3]], "int64", grad=False)
BIG = t(5, 3, low=1, high=2)


def limited(lib, index, weight, **options):
    """The rows that were taken have a bounded norm, in the table too."""
    table = weight.clone()
    table = lib.nn.Parameter(table.detach())
    with lib.no_grad():
        rows = lib.nn.functional.embedding(index, table, **options)
    return rows, table.detach()


SAMPLES = [
    Sample(F, indices(2, 3, below=5), t(5, 4), dtypes=(*INTEGERS, *FLOATS)),
    Sample(F, TWICE, t(5, 4)),
    Sample(F, values([3, 1], "int32", grad=False), t(5, 4), dtypes=SINGLES),
    Sample(F, indices(below=5), t(5, 4), dtypes=SINGLES),
    Sample(F, indices(0, below=5), t(5, 4), dtypes=SINGLES),
    Sample(F, indices(2, 0, below=5), t(5, 0), dtypes=SINGLES),
    Sample(F, TWICE, t(5, 4), padding_idx=1, dtypes=SINGLES, smooth=False),
    Sample(F, TWICE, t(5, 4), -4, dtypes=SINGLES, smooth=False),
    Sample(F, TWICE, t(5, 4), scale_grad_by_freq=True, dtypes=SINGLES, smooth=False),
    Sample(F, TWICE, t(5, 4), padding_idx=1, scale_grad_by_freq=True, dtypes=SINGLES, smooth=False),
    Sample(limited, TWICE, BIG, max_norm=1.5, dtypes=SINGLES),
    Sample(
        limited,
        TWICE,
        BIG,
        max_norm=2.0,
        norm_type=1.0,
        padding_idx=1,
        dtypes=SINGLES,
        smooth=False,
    ),
    Sample(limited, TWICE, BIG, max_norm=100.0, dtypes=SINGLES),
]

REFUSED = [
    Refused(F, values([1, 5], "int64"), t(5, 4), error=IndexError, match=r"\[0, 4\], got 5"),
    Refused(F, values([-1], "int64"), t(5, 4), error=IndexError, match="got -1"),
    Refused(F, values([1.0], "float32"), t(5, 4), match="got float32"),
    Refused(F, values([1], "int16"), t(5, 4), match="got int16"),
    Refused(F, values([1], "int64"), t(5), match="2-D"),
    Refused(
        F, values([1], "int64"), t(5, 4), 5, error=ValueError, torch_error=AssertionError,
        match="within num_embeddings: got 5 for 5",
    ),
    Refused(
        F, values([1], "int64"), t(5, 4), -6, error=ValueError, torch_error=AssertionError,
        match="within num_embeddings",
    ),
]  # fmt: skip
