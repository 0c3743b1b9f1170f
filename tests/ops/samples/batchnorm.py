"""Batch normalization while training, with the running moments it moves, and in inference."""

from tests.ops.samples import HALVES, SINGLES, Refused, Sample, t

NORM = "nn.functional.batch_norm"
IMAGES = t(3, 2, 3, 4)


def channels(low=-2.0, grad=True, dtype=None):
    """A value for each of two channels."""
    return t(2, low=low, grad=grad, dtype=dtype)


def moments(dtype=None):
    """Running mean and variance."""
    return channels(grad=False, dtype=dtype), t(2, low=0.5, high=2, grad=False, dtype=dtype)


SAMPLES = [
    Sample(NORM, IMAGES, None, None, training=True),
    Sample(NORM, IMAGES, None, None, channels(), channels(), training=True),
    Sample(NORM, IMAGES, None, None, channels(), training=True, eps=0.1),
    Sample(NORM, IMAGES, None, None, None, channels(), True),
    Sample(NORM, IMAGES, *moments(), channels(), channels(), training=True),
    Sample(NORM, IMAGES, *moments(), training=True, momentum=0.3),
    Sample(NORM, IMAGES, *moments(), training=True, momentum=0.0, dtypes=SINGLES),
    Sample(NORM, t(5, 2), *moments(), channels(), channels(), training=True),
    Sample(NORM, t(3, 2, 5), *moments(), channels(), channels(), training=True),
    Sample(NORM, t(2, 2, 2, 3, 2), *moments(), channels(), channels(), training=True),
    Sample(NORM, t(1, 2, 2), *moments(), training=True, dtypes=SINGLES),
    Sample(NORM, IMAGES, *moments(), channels(), channels()),
    Sample(NORM, IMAGES, *moments(), eps=0.0),
    Sample(NORM, t(5, 2), *moments(), channels(), eps=0.1),
    Sample(NORM, t(3, 2, 5), *moments(), None, channels()),
    Sample(NORM, t(0, 2, 3), *moments(), channels(), channels()),
    Sample(
        NORM, IMAGES, *moments("float32"), channels(dtype="float32"), channels(dtype="float32"),
        training=True, dtypes=HALVES,
    ),
    Sample(NORM, IMAGES, *moments("float32"), channels(dtype="float32"), dtypes=HALVES),
    Sample(
        lambda lib, x: lib.relu_(lib.nn.functional.batch_norm(x, None, None, training=True)),
        IMAGES, smooth=False, dtypes=SINGLES,
    ),
]  # fmt: skip

REFUSED = [
    Refused(NORM, t(1, 2), *moments(), training=True, error=ValueError, match="more than 1 value"),
    Refused(NORM, t(1, 2, 1), None, None, training=True, error=ValueError, match="than 1 value"),
    Refused(NORM, IMAGES, None, None, match="must be defined in evaluation mode", error=ValueError,
            torch_error=RuntimeError),
    Refused(NORM, IMAGES, moments()[0], None, training=True, error=ValueError, match="neither"),
    Refused(NORM, IMAGES, t(3), t(3), match="running_mean should contain 2 elements not 3"),
    Refused(NORM, IMAGES, *moments(), t(4), match="weight should contain 2 elements not 4"),
    Refused(NORM, IMAGES, *moments(), None, t(4), match="bias should contain 2 elements not 4"),
    Refused(NORM, t(2), *moments(), training=True, error=Exception, match=r"\(N, C, ...\)"),
    Refused(NORM, IMAGES, *moments(), eps=-1.0, error=ValueError, match="eps must be non-neg"),
    Refused(NORM, IMAGES, *moments(), training=True, eps=0.0, error=ValueError, match="positive"),
    Refused(NORM, IMAGES, *moments(), channels(dtype="float64"), match="weight is float64"),
    Refused(NORM, IMAGES, *moments("float64"), match="running_mean is float64"),
    Refused(NORM, t(3, 2, dtype="int64"), *moments(), match="floating-point"),
]  # fmt: skip
