"""Convolution and transposed convolution: every option, one to three spatial dimensions."""

from tests.ops.samples import FLOATS, SINGLES, Refused, Sample, t

CONV1, CONV2, CONV3 = (f"nn.functional.conv{n}d" for n in (1, 2, 3))
BACK1, BACK2, BACK3 = (f"nn.functional.conv_transpose{n}d" for n in (1, 2, 3))
ROUGHLY = 8  # PyTorch adds two-byte floats up in their own precision when it transposes
WHOLE = ("uint8", "int32", "int64", *FLOATS)

X1, W1 = t(2, 3, 9), t(4, 3, 3)
X2, W2 = t(2, 3, 6, 7), t(4, 3, 3, 2)
X3, W3 = t(1, 2, 4, 5, 4), t(3, 2, 2, 3, 2)
PLANE, SQUARE = t(2, 4, 5, 5), t(6, 4, 3, 3)

SAMPLES = [
    *(Sample(CONV1, X1, W1, t(4), **k) for k in ({}, {"stride": 2, "padding": 1})),
    Sample(CONV1, X1, W1, dilation=3, padding=(2,)),
    Sample(CONV1, t(3, 9), W1, t(4)),
    Sample(CONV1, t(2, 4, 8), t(6, 2, 3), groups=2, dtypes=SINGLES),
    Sample(CONV1, t(2, 3, 9), t(3, 3, 4), padding="same", dtypes=SINGLES),
    Sample(CONV2, X2, W2, t(4)),
    Sample(CONV2, X2, W2, dtypes=WHOLE),
    Sample(CONV2, X2, W2, t(4), stride=(2, 1), padding=(1, 2), dilation=(2, 3)),
    Sample(CONV2, X2, W2, stride=(2,), padding=[3, 0]),
    Sample(CONV2, X2, W2, padding="same"),
    Sample(CONV2, X2, W2, padding="same", dilation=(2, 3), dtypes=SINGLES),
    Sample(CONV2, X2, W2, padding="valid", stride=3),
    Sample(CONV2, t(3, 6, 7), W2, t(4), padding=1),
    Sample(CONV2, PLANE, t(6, 2, 3, 3), t(6), groups=2, padding=1),
    Sample(CONV2, PLANE, t(6, 2, 3, 3), groups=2, stride=2, padding=2, dilation=2),
    Sample(CONV2, PLANE, t(4, 1, 3, 3), t(4), groups=4, padding=1),
    Sample(CONV2, PLANE, t(8, 1, 2, 3), groups=4, stride=2, dtypes=SINGLES),
    Sample(CONV2, PLANE, t(5, 4, 1, 1), t(5)),
    Sample(CONV2, PLANE, t(6, 2, 1, 1), groups=2, dtypes=SINGLES),
    Sample(CONV2, PLANE, t(5, 4, 1, 1), stride=2, padding=1, dtypes=SINGLES),
    Sample(CONV2, PLANE, t(9, 4, 3, 3), dtypes=SINGLES),  # more outputs than twice the inputs
    Sample(CONV2, t(2, 1, 7, 7), t(6, 1, 7, 7), padding=5, dtypes=SINGLES),
    Sample(CONV2, t(1, 3, 7, 7), W2, stride=4, dtypes=SINGLES),  # the last row is in no window
    Sample(CONV2, t(0, 3, 6, 7), W2, t(4)),
    Sample(lambda lib, x, w: lib.conv2d(x, w, None, 1, 1), PLANE, SQUARE, dtypes=SINGLES),
    Sample(lambda lib, x, w: lib.conv1d(x, w).relu(), X1, W1, smooth=False, dtypes=SINGLES),
    Sample(CONV3, X3, W3, t(3)),
    Sample(CONV3, X3, W3, stride=(1, 2, 1), padding=(1, 0, 2), dilation=(1, 2, 1)),
    Sample(CONV3, t(2, 4, 5, 4), W3, t(3), padding="same", dtypes=SINGLES),
    Sample(CONV3, t(1, 2, 3, 3, 3), t(4, 1, 2, 2, 2), groups=2, dtypes=SINGLES),
    Sample(BACK1, t(2, 3, 5), t(3, 4, 3), t(4), tolerance=ROUGHLY),
    Sample(BACK1, t(3, 5), t(3, 2, 4), t(2), stride=3, output_padding=2, tolerance=ROUGHLY),
    Sample(BACK2, t(2, 3, 4, 3), t(3, 4, 3, 2), t(4), tolerance=ROUGHLY),
    Sample(
        BACK2,
        t(2, 3, 4, 3),
        t(3, 4, 3, 2),
        stride=2,
        padding=(1, 0),
        output_padding=(1, 0),
        tolerance=ROUGHLY,
    ),
    Sample(
        BACK2, t(2, 4, 3, 3), t(4, 3, 3, 3), t(6), stride=2, padding=1, groups=2, tolerance=ROUGHLY
    ),
    Sample(
        BACK2,
        t(2, 4, 3, 3),
        t(4, 1, 3, 3),
        dilation=2,
        output_padding=1,
        groups=4,
        tolerance=ROUGHLY,
    ),
    Sample(
        BACK2,
        t(2, 3, 4, 4),
        t(3, 2, 2, 2),
        dilation=3,
        stride=2,
        output_padding=2,
        padding=1,
        tolerance=ROUGHLY,
    ),
    Sample(BACK2, t(2, 3, 4, 4), t(3, 2, 1, 1), t(2), dtypes=SINGLES),
    Sample(BACK2, t(2, 3, 4, 4), t(3, 5, 3, 3), padding=3, parity=False),  # nothing is left
    Sample(BACK2, t(3, 4, 3), t(3, 4, 3, 2), t(4), padding=1, dtypes=SINGLES),
    Sample(
        BACK3,
        t(1, 2, 3, 2, 3),
        t(2, 3, 2, 2, 3),
        t(3),
        stride=(1, 2, 2),
        padding=(0, 1, 1),
        tolerance=ROUGHLY,
    ),
    Sample(BACK3, t(2, 3, 2, 3), t(2, 2, 2, 3, 2), stride=2, output_padding=1, dtypes=SINGLES),
]

REFUSED = [
    Refused(CONV2, t(3, 3), W2, match=r"3D \(unbatched\) or 4D \(batched\) input to conv2d"),
    Refused(CONV2, t(1, 2, 3, 8, 8), W2, match=r"input of size: \[1, 2, 3, 8, 8\]"),
    Refused(CONV2, X2, W1, match="weight of 4 dimensions"),
    Refused(CONV2, t(2, 4, 8, 8), W2, match=r"to have 3 channels, but got 4 channels instead"),
    Refused(CONV2, t(2, 4, 8, 8), t(5, 2, 3, 3), groups=2, match="divisible by 2 at dimension 0"),
    Refused(CONV2, t(2, 4, 8, 8), t(1, 2, 3, 3), groups=2, match="at least 2 at dimension 0"),
    Refused(CONV2, X2, W2, groups=0, match="non-positive groups"),
    Refused(CONV2, X2, W2, t(3), match=r"1-dimensional with 4 elements.*size \[3\]"),
    Refused(CONV2, X2, W2, t(4, 1), match=r"1-dimensional with 4 elements.*size \[4, 1\]"),
    Refused(CONV2, t(2, 3, 2, 2), W2, match=r"\(2 x 2\). Kernel size: \(3 x 2\)"),
    Refused(CONV2, X2, W2, dilation=3, match=r"\(6 x 7\). Kernel size: \(7 x 4\)"),
    Refused(CONV2, X2, W2, stride=0, match="non-positive stride is not supported"),
    Refused(CONV2, X2, W2, padding=-1, match="negative padding is not supported"),
    Refused(CONV2, X2, W2, dilation=0, match="non-positive dilation is not supported"),
    Refused(CONV2, X2, W2, stride=(1, 1, 1), match=r"list of 2 values.*stride=\[1, 1, 1\]"),
    Refused(CONV2, X2, W2, stride=1.5, error=TypeError, match="stride must be an int"),
    Refused(CONV2, X2, W2, padding="same", stride=2, match="not supported for strided"),
    Refused(CONV2, X2, W2, padding="wide", match="Invalid padding string: 'wide'"),
    Refused(CONV2, X2, t(4, 3, 3, 2, dtype="float64"), match="float32.* weight type .float64"),
    Refused(CONV2, X2, W2, t(4, dtype="float64"), match="float32.* bias type .float64"),
    Refused(CONV2, X2, W2, dtype="bool", match="bool"),
    Refused(CONV2, X2, t(4, 3, 0, 3), match="kernel sizes must be at least 1"),
    Refused(BACK2, t(3, 4), t(3, 5, 3, 3), match="input to conv_transpose2d"),
    Refused(BACK2, t(2, 4, 4, 4), t(3, 5, 3, 3), match="transposed=1.*3 channels, but got 4"),
    Refused(BACK2, t(2, 3, 4, 4), t(3, 5, 3, 3), output_padding=1, match="smaller than either"),
    Refused(BACK2, t(2, 3, 4, 4), t(3, 5, 3, 3), output_padding=-1, stride=2, match="negative"),
    Refused(BACK2, t(2, 3, 4, 4), t(3, 5, 3, 3), groups=2, match="divisible by 2"),
    Refused(BACK2, t(2, 3, 4, 4), t(3, 5, 3, 3), t(3), match="with 5 elements"),
    Refused(BACK2, t(2, 3, 4, 4), t(3, 5, 3, 3), padding=4, match="Output size is too small"),
]
