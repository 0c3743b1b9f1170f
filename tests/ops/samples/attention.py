"""Scaled dot-product attention with all its options."""

import math

from tests.ops.samples import FLOATS, SINGLES, Refused, Sample, mask, t, values

F = "nn.functional.scaled_dot_product_attention"
INF = math.inf


def qkv(*lead, length=3, keys=None, width=4, out=None):
    keys = length if keys is None else keys
    return t(*lead, length, width), t(*lead, keys, width), t(*lead, keys, out or width)


SOME = values([[True, False, True], [False, False, False], [True, True, True]], "bool")
HIDDEN = values([[0.5, -INF, 1.0], [-INF, -INF, -INF], [0.0, 0.5, 2.0]], grad=False)


def record(lib, *tensors, **params):
    """The op itself: weights that dropout multiplies, and the log-sums, which have gradients."""
    return lib.ops.record.OPS["attention"](*tensors, scale=0.5, **params)


def log_sums(lib, *tensors, **params):
    return record(lib, *tensors, **params)[1]


KEEP = values([[0.0, 2.0, 2.0], [2.0, 0.0, 2.0], [0.0, 0.0, 2.0]], grad=False)

SAMPLES = [
    Sample(F, *qkv(2), dtypes=FLOATS),
    Sample(F, *qkv(2, 3), dtypes=FLOATS, is_causal=True),
    Sample(F, *qkv(), dtypes=SINGLES),
    Sample(F, *qkv(2, keys=5, out=6), dtypes=SINGLES),
    Sample(F, *qkv(2, keys=5), is_causal=True, dtypes=SINGLES),
    Sample(F, *qkv(2, length=5, keys=3), is_causal=True, dtypes=SINGLES),
    Sample(F, *qkv(2), scale=0.1, dtypes=SINGLES),
    Sample(F, *qkv(2, length=70, keys=80, width=2), is_causal=True, dtypes=SINGLES),
    Sample(F, *qkv(length=130, keys=70, width=2), is_causal=True, dtypes=SINGLES),
    Sample(F, *qkv(2, length=70, width=2), mask(70, 70), dtypes=SINGLES),
    Sample(F, *qkv(2, 3), SOME, dtypes=FLOATS),
    Sample(F, *qkv(2, 3), HIDDEN, dtypes=SINGLES),
    Sample(F, *qkv(2, 3), t(3, 3), dtypes=SINGLES),
    Sample(F, *qkv(2, 3), t(2, 1, 1, 3), dtypes=SINGLES),
    Sample(F, *qkv(2, 3), mask(2, 1, 3, 3), dtypes=SINGLES),
    Sample(F, *qkv(2, 3), mask(1, 3), dtypes=SINGLES),
    Sample(
        F,
        *qkv(2, 3),
        t(3, 3, dtype="float32", grad=False),
        dtypes=("float32", "bfloat16", "float16"),
    ),
    Sample(F, t(2, 3, 4), t(1, 3, 4), t(3, 4), dtypes=SINGLES),
    Sample(F, t(2, 1, 3, 4), t(1, 5, 3, 4), t(5, 3, 4), dtypes=SINGLES),
    Sample(F, t(2, 4, 3, 4), t(2, 2, 5, 4), t(2, 2, 5, 4), enable_gqa=True, dtypes=SINGLES),
    Sample(F, t(2, 4, 3, 4), t(2, 2, 3, 4), t(2, 1, 3, 4), enable_gqa=True, is_causal=True),
    Sample(F, *qkv(2, keys=0), dtypes=SINGLES),
    Sample(F, t(2, 0, 4), t(2, 3, 4), t(2, 3, 4), dtypes=SINGLES),
    Sample(F, *qkv(0, 2), dtypes=SINGLES),
    Sample(F, t(2, 3, 0), t(2, 3, 0), t(2, 3, 2), dtypes=SINGLES),
    Sample(F, *qkv(2), dropout_p=0.3, dtypes=SINGLES, smooth=False, parity=False),
    Sample(F, *qkv(2), dropout_p=1.0, dtypes=SINGLES, smooth=False, parity=False),
    Sample(record, *qkv(2), None, KEEP, causal=False, dtypes=SINGLES, parity=False),
    Sample(record, *qkv(2), None, KEEP, causal=True, dtypes=SINGLES, parity=False),
    Sample(record, *qkv(2), SOME, None, causal=False, dtypes=SINGLES, parity=False, smooth=False),
    Sample(record, *qkv(2), t(3, 3), KEEP, causal=False, dtypes=("float64",), parity=False),
    Sample(log_sums, *qkv(2), None, None, causal=False, dtypes=SINGLES, parity=False),
    Sample(log_sums, *qkv(2), t(3, 3), None, causal=True, dtypes=("float64",), parity=False),
]

REFUSED = [
    Refused(F, t(4), t(4), t(4), match="at least 2 dimensional"),
    Refused(F, t(2, 3, 4), t(2, 5, 3), t(2, 5, 6), match=r"got shapes \(2, 3, 4\), \(2, 5, 3\)"),
    Refused(F, t(2, 3, 4), t(2, 5, 4), t(2, 6, 4), match=r"\(2, 6, 4\)"),
    Refused(F, t(2, 3, 4), t(3, 5, 4), t(3, 5, 4), match="broadcast"),
    Refused(
        F, *qkv(2), SOME, is_causal=True,
        error=ValueError, torch_error=RuntimeError, match="should not be set when is_causal",
    ),
    Refused(F, *qkv(2, keys=5), mask(3, 4), match="broadcast"),
    Refused(F, *qkv(2, keys=5), mask(4, 1, 3, 5), match="attn_mask of shape"),
    Refused(F, *qkv(2), t(3, 3, dtype="float64"), match="attn_mask.dtype: float64"),
    Refused(F, *qkv(2), t(3, 3, dtype="int64"), match="attn_mask.dtype: int64"),
    Refused(F, t(2, 3, 4), t(2, 3, 4, dtype="float64"), t(2, 3, 4), match="key.dtype: float64"),
    Refused(F, *qkv(2), dtype="int64", match="floating"),
    Refused(
        F, *qkv(2), dropout_p=1.5, error=ValueError, torch_error=RuntimeError,
        match="between 0 and 1",
    ),
    Refused(F, t(2, 8, 3, 4), t(2, 2, 3, 4), t(2, 2, 3, 4), match="broadcast"),
    Refused(
        F, t(2, 8, 3, 4), t(2, 3, 3, 4), t(2, 3, 3, 4), enable_gqa=True, match="must divide"
    ),
    Refused(F, t(3, 4), t(3, 4), t(3, 4), enable_gqa=True, error=IndexError, match="heads"),
]  # fmt: skip
