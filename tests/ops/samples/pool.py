"""Pooling: maxima, averages and adaptive windows, one to three spatial dimensions."""

from math import inf, nan

from ganglion.ops.pool import MAX_POOL_GATHER
from tests.ops.samples import FLOATS, INTEGERS, SINGLES, Refused, Sample, t, values

NUMBERS = (*INTEGERS, *FLOATS)
F = "nn.functional"
MAX1, MAX2, MAX3 = (f"{F}.max_pool{n}d" for n in (1, 2, 3))
AVG1, AVG2, AVG3 = (f"{F}.avg_pool{n}d" for n in (1, 2, 3))
TO_MAX1, TO_MAX2, TO_MAX3 = (f"{F}.adaptive_max_pool{n}d" for n in (1, 2, 3))
TO_AVG1, TO_AVG2, TO_AVG3 = (f"{F}.adaptive_avg_pool{n}d" for n in (1, 2, 3))


def d(*shape):
    """Distinct values: no ties, which have no gradient."""
    return t(*shape, distinct=True)


LINE, PLANE, SPACE = d(2, 3, 9), d(2, 2, 7, 6), d(1, 2, 5, 4, 5)
TIES = values([[[0, 0, 1, 1], [0, -inf, 1, 2], [-inf, -inf, -inf, 2], [-inf, -inf, 0, 0]]])
NANS = values([[[0, nan, 1, 1], [0, nan, 1, 2], [3, 2, nan, 2], [3, 4, inf, 0]]])
LOW = values([[[-inf, -inf, -inf], [-inf, -5, -inf], [-inf, -inf, -inf]]])

MAXIMA = [
    Sample(MAX1, LINE, 2),
    Sample(MAX1, LINE, 3, 2, 1, 2),
    Sample(MAX1, d(3, 9), (4,), stride=(2,), ceil_mode=True),
    Sample(MAX1, LINE, 3, return_indices=True),
    Sample("max_pool1d_with_indices", LINE, 3, dtypes=SINGLES),
    Sample("max_pool1d", LINE, 2, dtypes=SINGLES),
    Sample(MAX2, PLANE, 2, dtypes=NUMBERS),
    Sample(MAX2, PLANE, (3, 2), stride=(2, 1), padding=(1, 0)),
    Sample(MAX2, PLANE, 3, stride=1, padding=1, dtypes=NUMBERS),
    Sample(MAX2, PLANE, 2, dilation=(3, 2), return_indices=True),
    Sample(MAX2, PLANE, 2, 2, 1, ceil_mode=True, return_indices=True),
    Sample(MAX2, PLANE, 2, stride=(), dtypes=SINGLES),
    Sample(MAX2, d(1, 1, 5, 5), 2, 3, ceil_mode=True, return_indices=True, dtypes=SINGLES),
    Sample(MAX2, d(2, 7, 6), 3, 2, return_indices=True),
    Sample(MAX2, d(0, 2, 4, 4), 2, return_indices=True),
    Sample(MAX2, d(1, 1, 16, 17), 16, dtypes=SINGLES, return_indices=True),  # 256 cells
    Sample(MAX2, TIES, 2, return_indices=True, smooth=False),
    Sample(MAX2, TIES, 3, 1, 1, return_indices=True, smooth=False),
    Sample(MAX2, NANS, 2, return_indices=True, smooth=False),
    Sample(MAX2, NANS, 3, 2, 1, return_indices=True, smooth=False),
    Sample(MAX2, LOW, 2, 1, 1, return_indices=True, smooth=False),
    Sample(f"{F}.max_pool2d_with_indices", PLANE, 2, dtypes=SINGLES),
    Sample("max_pool2d", PLANE, 2, 1, dtypes=SINGLES),
    Sample(lambda lib, x: lib.relu_(lib.max_pool2d(x, 2)), PLANE, dtypes=SINGLES),
    Sample(MAX3, SPACE, 2),
    Sample(MAX3, SPACE, (2, 1, 3), stride=1, padding=(1, 0, 1), return_indices=True),
    Sample(MAX3, d(2, 5, 4, 5), 2, dilation=(1, 2, 1), ceil_mode=True, return_indices=True),
    Sample("max_pool3d", SPACE, 2, dtypes=SINGLES),
]


def picked(lib, x, positions):
    """What a second gradient through max pooling calls."""
    window = {"kernel": (2, 2), "stride": (2, 1), "padding": (0, 1), "dilation": (1, 1)}
    return MAX_POOL_GATHER(x, positions, **window)


POSITIONS = t(2, 3, 2, 4, dtype="uint8", low=0, high=3, grad=False)

AVERAGES = [
    Sample(AVG1, t(2, 3, 9), 2),
    Sample(AVG1, t(3, 9), 3, 2, 1, ceil_mode=True),
    Sample(AVG1, t(2, 3, 9), 3, 2, 1, count_include_pad=False),
    Sample("avg_pool1d", t(2, 3, 9), 4, dtypes=SINGLES),
    Sample(AVG2, t(2, 2, 7, 6), 2),
    Sample(AVG2, t(2, 2, 7, 6), (3, 2), stride=(1, 3), padding=(1, 0)),
    Sample(AVG2, t(2, 7, 6), 3, 2, 1, ceil_mode=True, count_include_pad=False),
    Sample(AVG2, t(2, 2, 7, 6), 3, 2, 1, ceil_mode=True),
    Sample(AVG2, t(1, 1, 5, 5), 2, 3, ceil_mode=True, dtypes=SINGLES),
    Sample(AVG2, t(2, 2, 7, 6), 3, divisor_override=-2),
    Sample(AVG2, t(0, 2, 4, 4), 2),
    Sample(AVG2, NANS, 2, smooth=False),
    Sample(AVG3, t(1, 2, 5, 4, 5), 2, dtypes=SINGLES),
    Sample(AVG3, t(2, 5, 4, 5), (2, 3, 1), 1, (1, 1, 0), False, False, 7, dtypes=SINGLES),
    Sample(AVG3, t(1, 2, 5, 4, 5), 3, 2, 1, ceil_mode=True, dtypes=SINGLES),
]

ADAPTIVE = [
    Sample(TO_AVG1, t(2, 3, 9), 3),
    Sample(TO_AVG1, t(3, 9), 4),
    Sample("adaptive_avg_pool1d", t(2, 3, 4), 7, dtypes=SINGLES),
    Sample(TO_AVG2, t(2, 2, 7, 6), 1),
    Sample(TO_AVG2, t(2, 2, 7, 6), (3, 4)),
    Sample(TO_AVG2, t(2, 2, 7, 6), (None, 4)),
    Sample(TO_AVG2, t(2, 7, 6), (9, 3)),
    Sample(TO_AVG2, t(2, 2, 8, 6), (4, 2), dtypes=SINGLES),
    Sample(TO_AVG2, t(2, 2, 7, 6), 0, parity=False),  # PyTorch refuses its gradient
    Sample(TO_AVG2, t(0, 2, 7, 6), 3),
    Sample(TO_AVG2, NANS, 3, smooth=False),
    Sample(TO_AVG3, t(1, 2, 5, 4, 6), (2, 3, 2)),
    Sample(TO_AVG3, t(2, 5, 4, 6), (5, None, 4), dtypes=SINGLES),
    Sample(TO_MAX1, LINE, 3, return_indices=True),
    Sample(TO_MAX1, d(3, 9), 4),
    Sample("adaptive_max_pool1d", d(2, 3, 4), 7, dtypes=SINGLES),
    Sample(TO_MAX2, PLANE, 1, return_indices=True),
    Sample(TO_MAX2, PLANE, (3, 4), return_indices=True),
    Sample(TO_MAX2, PLANE, (None, 4)),
    Sample(TO_MAX2, d(2, 7, 6), (9, 3), return_indices=True),
    Sample(TO_MAX2, PLANE, 0, parity=False),
    Sample(TO_MAX2, TIES, 3, return_indices=True, smooth=False),
    Sample(TO_MAX2, NANS, 3, return_indices=True, smooth=False),
    Sample(f"{F}.adaptive_max_pool2d_with_indices", PLANE, 5, dtypes=SINGLES),
    Sample(TO_MAX3, SPACE, (2, 3, 2), return_indices=True),
    Sample(TO_MAX3, d(2, 5, 4, 6), (5, None, 4), dtypes=SINGLES),
]

SAMPLES = [
    *MAXIMA,
    *AVERAGES,
    *ADAPTIVE,
    Sample(picked, t(2, 3, 4, 3), POSITIONS, parity=False),
]

REFUSED = [
    Refused(MAX2, t(3, 3), 2, match="3D .unbatched. or 4D .batched. input to max_pool2d"),
    Refused(MAX2, t(1, 1, 1, 3, 3), 2, match="but got input of size"),
    Refused(MAX1, t(3), 2, match="2D .unbatched. or 3D"),
    Refused(MAX3, t(3, 3, 3), 2, match="4D .unbatched. or 5D"),
    Refused(MAX2, t(2, 3, 8, 8), 0, match="non-positive kernel_size"),
    Refused(MAX2, t(2, 3, 8, 8), 2, 0, match="non-positive stride"),
    Refused(MAX2, t(2, 3, 8, 8), 2, dilation=0, match="non-positive dilation"),
    Refused(MAX2, t(2, 3, 8, 8), 2, padding=2, match="pad should be at most half"),
    Refused(MAX2, t(2, 3, 8, 8), 2, padding=-1, match="negative padding"),
    Refused(MAX2, t(2, 3, 8, 8), (2, 2, 2), match="list of 2 values"),
    Refused(MAX2, t(1, 1, 1, 1), 2, match=r"\(1x1x1\). Calculated output size: \(1x0x0\)"),
    Refused(MAX1, t(1, 3, 1), 2, match="too small"),
    Refused(MAX2, t(2, 3, 8, 8), 2, dtype="bool", match="bool"),
    Refused(AVG1, t(3), 2, match="2D .unbatched. or 3D"),
    Refused(AVG2, t(3, 3), 2, error=RuntimeError, torch_error=IndexError, match="but got input"),
    Refused(AVG2, t(2, 3, 8, 8), 2, padding=2, match="pad should be at most half"),
    Refused(AVG2, t(1, 1, 1, 1), 2, match="Output size is too small"),
    Refused(AVG2, t(2, 3, 8, 8), 2, divisor_override=0, match="divisor must be not zero"),
    Refused(AVG2, t(2, 3, 8, 8), 2, dtype="int32", match="floating-point"),
    Refused(TO_AVG2, t(3, 3), 2, match="input to adaptive_avg_pool2d"),
    Refused(TO_AVG2, t(2, 3, 8, 8), -1, match="greater than or equal to 0"),
    Refused(TO_AVG2, t(2, 3, 8, 8), (1, 1, 1), match="output_size must be 2"),
    Refused(TO_AVG2, t(1, 1, 0, 3), 5, match="non-zero size for non-batch dimensions"),
    Refused(TO_AVG2, t(1, 1, 4, 3), 1.5, error=TypeError, match="output_size must be ints"),
    Refused(TO_AVG2, t(2, 3, 8, 8), 2, dtype="int64", match="floating-point"),
    Refused(TO_MAX2, t(3, 3), 2, match="input to adaptive_max_pool2d"),
    Refused(TO_MAX2, t(1, 1, 0, 3), 5, match="non-zero size"),
    Refused(TO_MAX2, t(2, 3, 8, 8), 3, dtype="int64", match="floating-point"),
]
