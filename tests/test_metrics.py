import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ganglion as gg
from ganglion import metrics
from ganglion.creation import from_numpy
from ganglion.errors import ArgumentError, ArgumentTypeError, CheckpointError, ShapeError

rng = np.random.default_rng(0)


def logits_and_classes(count=90, classes=4):
    logits = rng.standard_normal((count, classes)).astype(np.float32)
    guess = logits.argmax(axis=1)
    return logits, np.where(rng.random(count) < 0.6, guess, rng.integers(0, classes, count))


def values(count=90, width=1):
    targets = rng.standard_normal((count, width)).astype(np.float32) * 3 + 100
    return targets + rng.standard_normal((count, width)).astype(np.float32), targets


def in_batches(metric, outputs, targets, size=32):
    metric.reset()
    for start in range(0, len(outputs), size):
        metric.update(outputs[start : start + size], targets[start : start + size])
    return metric.compute()


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("accuracy", lambda m, p, t: m.accuracy_score(t, p)),
        ("precision", lambda m, p, t: m.precision_score(t, p, average="macro", zero_division=0)),
        ("recall", lambda m, p, t: m.recall_score(t, p, average="macro", zero_division=0)),
        ("f1", lambda m, p, t: m.f1_score(t, p, average="macro", zero_division=0)),
    ],
)
def test_classification_agrees_with_scikit_learn(name, reference):
    sklearn = pytest.importorskip("sklearn.metrics")
    outputs, classes = logits_and_classes()
    classes[classes == 3] = 2  # a class that is predicted and never true
    expected = reference(sklearn, outputs.argmax(axis=1), classes)
    assert in_batches(metrics.get(name), outputs, classes) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("mse", "mean_squared_error"),
        ("rmse", "root_mean_squared_error"),
        ("mae", "mean_absolute_error"),
        ("r2", "r2_score"),
    ],
)
@pytest.mark.parametrize("width", [1, 3])
def test_regression_agrees_with_scikit_learn(name, reference, width):
    sklearn = pytest.importorskip("sklearn.metrics")
    outputs, targets = values(width=width)
    if name == "rmse":  # scikit-learn takes the mean of each column's root
        expected = np.sqrt(sklearn.mean_squared_error(targets, outputs))
    else:
        expected = getattr(sklearn, reference)(targets.astype("f8"), outputs.astype("f8"))
    assert in_batches(metrics.get(name), outputs, targets) == pytest.approx(expected, rel=1e-6)


def test_the_confusion_matrix_counts_true_by_predicted():
    matrix = metrics.ConfusionMatrix()
    outputs = np.eye(3)[[0, 1, 1, 2]]
    matrix.update(outputs, np.array([0, 1, 2, 2]))
    assert matrix.compute().tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    matrix.update(outputs, np.array([0, 1, 2, 2]))
    assert matrix.compute().sum() == 8


def test_the_confusion_matrix_grows_only_when_it_may():
    matrix = metrics.ConfusionMatrix()
    matrix.update(np.array([1.0, -1.0]), np.array([1, 0]))
    matrix.update(np.eye(4)[[3]], np.array([2]))
    assert matrix.compute().shape == (4, 4)
    assert matrix.compute()[0, 0] == matrix.compute()[2, 3] == 1
    with pytest.raises(ArgumentError, match="lie from 0 to 1"):
        metrics.ConfusionMatrix(2).update(np.eye(4)[[3]], np.array([2]))
    with pytest.raises(ArgumentError, match="targets from -1"):
        metrics.ConfusionMatrix().update(np.eye(4)[[3]], np.array([-1]))


def test_top_k_counts_targets_among_the_largest():
    sklearn = pytest.importorskip("sklearn.metrics")
    outputs, classes = logits_and_classes(classes=8)
    for k in (1, 3, 7):
        expected = sklearn.top_k_accuracy_score(classes, outputs, k=k, labels=range(8))
        assert in_batches(metrics.TopK(k), outputs, classes) == pytest.approx(expected)
    assert metrics.TopK(3).name == "top3"
    assert metrics.get("top5").k == 5


def test_top_1_is_accuracy_on_equal_outputs_too():
    outputs, classes = rng.integers(0, 2, (60, 5)).astype(float), rng.integers(0, 5, 60)
    assert in_batches(metrics.TopK(1), outputs, classes) == in_batches(
        metrics.Accuracy(), outputs, classes
    )


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("target_shape", [(4,), (4, 1)])
def test_binary_logits_are_positive_for_class_1(shape, target_shape):
    outputs = np.array([2.0, -1.0, 0.5, -0.1]).reshape(shape)
    targets = np.array([1.0, 0.0, 0.0, 1.0]).reshape(target_shape)
    assert in_batches(metrics.Accuracy(), outputs, targets, 3) == 0.5


def test_class_probabilities_are_targets_too():
    outputs, classes = logits_and_classes()
    soft = np.eye(4)[classes] * 0.8 + 0.05
    assert in_batches(metrics.Accuracy(), outputs, soft) == in_batches(
        metrics.Accuracy(), outputs, classes
    )


def test_every_position_of_a_sequence_or_image_counts():
    outputs = rng.standard_normal((6, 4, 3, 2))
    targets = outputs.argmax(axis=1)
    targets[0, 0, 0] += 1 if targets[0, 0, 0] < 3 else -1
    assert in_batches(metrics.Accuracy(), outputs, targets) == pytest.approx(35 / 36)


def test_ignored_targets_do_not_count():
    outputs, classes = np.eye(3)[[0, 1, 2]], np.array([0, -100, 0])
    assert in_batches(metrics.Accuracy(), outputs, classes) == 0.5
    assert in_batches(metrics.Accuracy(ignore_index=0), outputs, np.array([0, 1, 0])) == 1.0
    assert in_batches(metrics.ConfusionMatrix(), outputs, classes).sum() == 2


@pytest.mark.parametrize("name", ["mse", "rmse", "mae", "r2"])
def test_shapes_that_would_broadcast_are_refused(name):
    with pytest.raises(ShapeError, match=r"Outputs \(4, 1\) and targets \(4,\)"):
        metrics.get(name).update(np.zeros((4, 1)), np.zeros(4))


@pytest.mark.parametrize("name", ["accuracy", "top5", "f1"])
def test_other_numbers_of_targets_are_refused(name):
    with pytest.raises(ShapeError, match=r"Outputs \(4, 6\) and targets \(3,\)"):
        metrics.get(name).update(np.zeros((4, 6)), np.zeros(3))


def test_tensors_with_gradients_are_read():
    outputs, classes = logits_and_classes()
    wanted = in_batches(metrics.Accuracy(), outputs, classes)
    tensor = from_numpy(outputs).requires_grad_()
    metric = metrics.Accuracy()
    metric.update(tensor, from_numpy(classes))
    assert metric.compute() == wanted


@pytest.mark.parametrize("name", metrics.METRICS)
def test_nothing_gives_nan_and_reset_forgets(name):
    metric = metrics.get(name)
    fresh = json.dumps(metric.state_dict())
    if name != "confusion_matrix":
        assert np.isnan(metric.compute())
    outputs, targets = values() if name in {"mse", "rmse", "mae", "r2"} else logits_and_classes()
    metric.update(outputs, targets)
    assert json.dumps(metric.state_dict()) != fresh
    metric.reset()
    assert json.dumps(metric.state_dict()) == fresh


@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_saved_metric_continues_exactly(name):
    outputs, targets = values() if name in {"mse", "rmse", "mae", "r2"} else logits_and_classes()
    whole, first, second = (metrics.get(name) for _ in range(3))
    for metric in (whole, first):
        metric.update(outputs[:50], targets[:50])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for metric in (whole, second):
        metric.update(outputs[50:], targets[50:])
    np.testing.assert_array_equal(second.compute(), whole.compute())


def test_a_state_of_another_metric_is_refused():
    with pytest.raises(CheckpointError, match=r"'accuracy' has \['count', 'total'\]"):
        metrics.get("accuracy").load_state_dict(metrics.get("mse").state_dict())


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_the_cut_into_batches_does_not_matter(sizes):
    outputs, targets = values(sum(sizes) + 1, 2)
    whole, cut = metrics.R2(), metrics.R2()
    whole.update(outputs, targets)
    for part in np.split(np.arange(len(outputs)), np.cumsum(sizes)):
        cut.update(outputs[part], targets[part])
    assert cut.compute() == pytest.approx(whole.compute(), rel=1e-9, nan_ok=True)


def test_r2_survives_a_large_mean():
    targets = 1e8 + rng.standard_normal(1000)
    outputs = targets + 0.5 * rng.standard_normal(1000)
    expected = 1 - np.square(outputs - targets).sum() / np.square(targets - targets.mean()).sum()
    assert in_batches(metrics.R2(), outputs, targets) == pytest.approx(expected, rel=1e-6)
    assert np.isnan(in_batches(metrics.R2(), outputs, np.ones(1000)))


def test_better_knows_the_direction_and_nan():
    accuracy, mae = metrics.get("accuracy"), metrics.get("mae")
    assert accuracy.better(0.9, 0.8)
    assert not accuracy.better(0.8, 0.8)
    assert mae.better(0.8, 0.9)
    assert accuracy.better(0.1, float("nan"))
    assert not accuracy.better(float("nan"), 0.1)
    assert not accuracy.better(float("nan"), float("nan"))


def test_a_function_is_averaged_over_samples():
    def bias(outputs, targets):
        return (outputs - targets).mean()

    metric = metrics.get(bias)
    outputs, targets = values()
    assert metric.name == "bias"
    assert in_batches(metric, outputs, targets) == pytest.approx(bias(outputs, targets), rel=1e-5)


def test_metrics_are_found_by_name_class_and_instance():
    assert isinstance(metrics.get("mae"), metrics.MAE)
    assert isinstance(metrics.get(metrics.F1), metrics.F1)
    own = metrics.Accuracy()
    assert metrics.get(own) is own
    assert all(metrics.get(name).name == name for name in metrics.METRICS)


def test_unknown_metrics_are_refused_with_a_hint():
    with pytest.raises(ArgumentError, match=r"No metric 'acuracy'; .* Did you mean 'accuracy'\?"):
        metrics.get("acuracy")
    with pytest.raises(ArgumentTypeError, match="got 3"):
        metrics.get(3)
    with pytest.raises(ArgumentError, match="k of 1 or more"):
        metrics.TopK(0)


# --- parts of compiled steps ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 3), (5, 4, 2), (6, 1), (6,)])
@pytest.mark.parametrize("ignored", [-100, 1])
def test_what_a_compiled_step_gives_counts_like_the_outputs_themselves(shape, ignored):
    outputs = gg.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    many = len(shape) > 1 and shape[1] > 1
    classes, of = (shape[1], (shape[0], *shape[2:])) if many else (2, shape)
    targets = gg.from_numpy(np.random.default_rng(1).integers(0, classes, of))
    plain, parted = metrics.Accuracy(ignored), metrics.Accuracy(ignored)
    plain.update(outputs, targets)
    part = gg.compile(parted.part, backend="interpret")(outputs, targets)
    assert isinstance(part, dict) == many
    parted.take(part)
    assert parted.sums == plain.sums
    assert parted.compute() == plain.compute()


def test_a_class_that_counts_in_its_own_way_is_given_the_outputs():
    class Half(metrics.Accuracy):
        def add(self, outputs, targets):
            super().add(outputs[::2], targets[::2])

    x, y = gg.tensor([[1.0, 0.0], [0.0, 1.0]]), gg.tensor([0, 0])
    part = gg.compile(Half().part, backend="interpret")(x, y)
    assert [p.tolist() for p in part] == [x.tolist(), y.tolist()]
