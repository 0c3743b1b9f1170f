"""Running sums continue exactly where they were saved."""

import json
import math

import numpy as np
import pytest

from ganglion.errors import ArgumentError
from ganglion.metrics import get
from ganglion.train.scores import Scores

METRICS = ["accuracy", "f1", "confusion_matrix"]


def batches(count):
    random = np.random.default_rng(0)
    for size in random.integers(1, 9, count):
        outputs = random.standard_normal((size, 3)).astype(np.float32)
        yield float(random.random()), outputs, random.integers(0, 3, size), int(size)


def add(scores, loss, outputs, targets, count):
    scores.update(loss, scores.parts(outputs, targets), count)


def test_the_loss_is_the_mean_over_samples():
    scores = Scores([])
    scores.update(1.0, [], 3)
    scores.update(5.0, [], 1)
    assert scores.compute() == {"loss": 2.0}
    scores.reset()
    assert math.isnan(scores.loss)


@pytest.mark.parametrize("at", [0, 1, 7])
def test_saved_sums_continue_to_the_same_bits(at):
    made = [Scores(list(map(get, METRICS))) for _ in range(2)]
    whole, second = made
    for i, batch in enumerate(batches(9)):
        if i == at:
            second.load_state_dict(json.loads(json.dumps(whole.state_dict())))
        add(whole, *batch)
        if i >= at:
            add(second, *batch)
    assert repr(second.compute()) == repr(whole.compute())


def test_metrics_given_are_not_touched():
    metric = get("accuracy")
    add(Scores([metric]), 1.0, np.eye(3), np.arange(3), 3)
    assert metric.sums["count"] == 0


def test_names_must_differ():
    with pytest.raises(ArgumentError, match="names of their own"):
        Scores([get("mse"), get("mse")])
    metric = get("mse")
    metric.name = "loss"
    with pytest.raises(ArgumentError, match="other than 'loss'"):
        Scores([metric])
