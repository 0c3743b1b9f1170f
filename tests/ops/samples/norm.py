"""Layer, group and root-mean-square normalization."""

from tests.ops.samples import FLOATS, SINGLES, Refused, Sample, t

F = "nn.functional."


def scale(*shape):
    return t(*shape, low=0.5, high=1.5)


def moments(lib, x, weight, bias):
    """The layer's statistics, whose gradients arise only when gradients are differentiated."""
    return lib.ops.record.OPS["layer_norm"](x, weight, bias, dims=(1,), eps=1e-5)[1:]


def root(lib, x, weight):
    """``1 / rms`` of the record itself."""
    return lib.ops.record.OPS["rms_norm"](x, weight, dims=(1,), eps=1e-5)[1]


SAMPLES = [
    Sample(F + "layer_norm", t(3, 5), (5,), scale(5), t(5)),
    Sample(F + "layer_norm", t(3, 5), (5,), dtypes=FLOATS),
    Sample(F + "layer_norm", t(5), (5,), scale(5), dtypes=SINGLES),
    Sample(F + "layer_norm", t(3, 5), (5,), None, t(5), dtypes=SINGLES),
    Sample(F + "layer_norm", t(2, 3, 4, 2), (3, 4, 2), scale(3, 4, 2), t(3, 4, 2)),
    Sample(F + "layer_norm", t(2, 3, 4), [3, 4], scale(3, 4), t(3, 4), eps=0.1, dtypes=SINGLES),
    Sample(F + "layer_norm", t(600, 3), (3,), scale(3), t(3), dtypes=SINGLES),
    Sample(F + "layer_norm", t(2, 20000), (20000,), dtypes=("float32",)),
    Sample(F + "layer_norm", t(0, 4), (4,), scale(4), t(4), dtypes=SINGLES),
    Sample(F + "layer_norm", t(3, 0), (0,), dtypes=SINGLES),
    Sample(
        F + "layer_norm", t(3, 5), (5,), t(5, dtype="float32"), t(5, dtype="float32"),
        dtypes=("bfloat16", "float16"),
    ),
    Sample("layer_norm", t(3, 5), (5,), dtypes=SINGLES),
    Sample(moments, t(3, 5), scale(5), t(5), dtypes=SINGLES, parity=False),
    Sample(F + "rms_norm", t(3, 5), (5,), scale(5)),
    Sample(F + "rms_norm", t(3, 5), (5,)),
    Sample(F + "rms_norm", t(2, 3, 4), (3, 4), scale(3, 4), 0.1, dtypes=SINGLES),
    Sample(F + "rms_norm", t(0, 4), (4,), scale(4), dtypes=SINGLES),
    Sample("rms_norm", t(3, 5), (5,), dtypes=SINGLES),
    Sample(root, t(3, 5), scale(5), dtypes=SINGLES, parity=False),
    Sample(F + "group_norm", t(3, 4, 5), 2, scale(4), t(4)),
    Sample(F + "group_norm", t(3, 4), 2, scale(4), t(4)),
    Sample(F + "group_norm", t(3, 4, 2, 3), 4, dtypes=SINGLES),
    Sample(F + "group_norm", t(3, 6, 2, 3), 1, scale(6), dtypes=SINGLES),
    Sample(F + "group_norm", t(3, 6, 2), 3, None, t(6), eps=0.1, dtypes=SINGLES, parity=False),
    Sample(F + "group_norm", t(0, 4, 3), 2, scale(4), t(4), dtypes=SINGLES),
    Sample("group_norm", t(3, 4), 2, dtypes=SINGLES),
]  # fmt: skip

REFUSED = [
    Refused(F + "layer_norm", t(3, 4), (5,), match=r"expected input with shape \[\*, 5\]"),
    Refused(F + "layer_norm", t(4), (3, 4), match=r"normalized_shape=\[3, 4\]"),
    Refused(F + "layer_norm", t(3, 4), (), match="at least 1-dimensional"),
    Refused(F + "layer_norm", t(3, 4), (4,), t(3), match="Expected weight to be of same shape"),
    Refused(F + "layer_norm", t(3, 4), (4,), t(4), t(3), match="Expected bias"),
    Refused(F + "layer_norm", t(3, 4), 4, error=TypeError, match="int"),
    Refused(F + "layer_norm", t(3, 4), (4,), dtype="int64", match="int64"),
    Refused(F + "layer_norm", t(3, 4), (4,), t(4, dtype="float64"), match="mixed dtype"),
    Refused(F + "layer_norm", t(3, 4), (4,), t(4, dtype="float16"), match="mixed dtype"),
    Refused(F + "rms_norm", t(3, 4), (5,), match=r"normalized_shape=\[5\]"),
    Refused(F + "rms_norm", t(3, 4), (), match="at least 1-dimensional"),
    Refused(F + "rms_norm", t(3, 4), (4,), t(3), match="Expected weight"),
    Refused(F + "group_norm", t(2, 5), 2, match="divisible by num_groups"),
    Refused(F + "group_norm", t(5), 1, match="at least 2 dimensions"),
    Refused(F + "group_norm", t(2, 4), 2, t(3), match="Expected weight to be a vector"),
    Refused(F + "group_norm", t(2, 4), 2, t(4), t(3), match="Expected bias to be a vector"),
    Refused(F + "group_norm", t(1, 2), 2, error=ValueError, match="more than 1 value per channel"),
    Refused(
        F + "group_norm", t(2, 4, 3), -1, error=ValueError, torch_error=RuntimeError,
        match="greater than 0",
    ),
    Refused(F + "group_norm", t(2, 4, 3), 2, dtype="int64", match="int64"),
]  # fmt: skip
