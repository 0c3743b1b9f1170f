"""Losses with all their options, and softmax."""

from tests.ops.samples import SINGLES, Sample, indices, t, values

REDUCTIONS = ("none", "mean", "sum")
F = "nn.functional."


def probabilities(*shape):
    return t(*shape, low=0.05, high=0.95)


def pairs(name, x, y, **options):
    return [Sample(F + name, x, y, reduction=r, dtypes=SINGLES, **options) for r in REDUCTIONS]


WEIGHT = t(5, low=0.2, high=2, grad=False)
CLASSES = values([1, -100, 4, 0, 1, -100], "int64", grad=False)
SOME = values([1, 3, 4, 0, 1, 3], "int64", grad=False)

SAMPLES = [
    *[Sample(f + "softmax", t(3, 4), dim=d, dtypes=SINGLES) for f in ("", F) for d in (0, -1)],
    Sample("log_softmax", t(2, 3, 4), dim=1, dtypes=SINGLES),
    Sample("log_softmax", t(), dim=0, dtypes=SINGLES),
    Sample("softmax", t(0, 3), dim=1, dtypes=SINGLES),
    *pairs("mse_loss", t(3, 4), t(3, 4)),
    *pairs("l1_loss", t(3, 4), t(3, 4)),
    *pairs("huber_loss", t(3, 4), t(3, 4)),
    *pairs("huber_loss", t(3, 4), t(3, 4), delta=0.3),
    *pairs("smooth_l1_loss", t(3, 4), t(3, 4)),
    *pairs("smooth_l1_loss", t(3, 4), t(3, 4), beta=0.3),
    *pairs("smooth_l1_loss", t(3, 4), t(3, 4), beta=0.0),
    *pairs("binary_cross_entropy", probabilities(3, 4), probabilities(3, 4)),
    *pairs("binary_cross_entropy", probabilities(3), probabilities(3), weight=t(3, grad=False)),
    *pairs("binary_cross_entropy_with_logits", t(3, 4), probabilities(3, 4)),
    *pairs(
        "binary_cross_entropy_with_logits",
        t(3, 4),
        probabilities(3, 4),
        weight=t(4, grad=False),
        pos_weight=t(4, low=0.5, high=3, grad=False),
    ),
    *pairs("kl_div", t(3, 4), probabilities(3, 4)),
    *pairs("kl_div", t(3, 4), t(3, 4), log_target=True),
    Sample(F + "kl_div", t(3, 4), probabilities(3, 4), reduction="batchmean", dtypes=SINGLES),
    *pairs("nll_loss", t(6, 5), indices(6, below=5)),
    *pairs("nll_loss", t(6, 5), CLASSES, weight=WEIGHT),
    *pairs("nll_loss", t(6, 5), SOME, ignore_index=3),
    *pairs("nll_loss", t(2, 5, 3), indices(2, 3, below=5)),
    *pairs("nll_loss", t(5), indices(below=5)),
    *pairs("cross_entropy", t(6, 5), indices(6, below=5)),
    *pairs("cross_entropy", t(6, 5), CLASSES),
    *pairs("cross_entropy", t(6, 5), SOME, ignore_index=3),
    *pairs("cross_entropy", t(6, 5), CLASSES, weight=WEIGHT),
    *pairs("cross_entropy", t(6, 5), CLASSES, label_smoothing=0.2),
    *pairs("cross_entropy", t(6, 5), CLASSES, weight=WEIGHT, label_smoothing=0.2),
    *pairs("cross_entropy", t(2, 5, 3, 2), indices(2, 3, 2, below=5)),
    *pairs("cross_entropy", t(2, 5, 3), indices(2, 3, below=5), weight=WEIGHT),
    *pairs("cross_entropy", t(5), indices(below=5)),
    *pairs("cross_entropy", t(6, 5), probabilities(6, 5)),
    *pairs("cross_entropy", t(5), probabilities(5)),
    *pairs("cross_entropy", t(2, 5, 3), probabilities(2, 5, 3), weight=WEIGHT, label_smoothing=0.1),
]
