"""``ganglion evaluate``, ``predict`` and ``summary``: what a finished run can do."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ganglion.cli.report import measure, say_measures
from ganglion.cli.settings import Settings
from ganglion.cli.training import build
from ganglion.creation import from_numpy
from ganglion.data.rows import Rows, decode, load_labelled, load_unlabelled
from ganglion.diagnose import summary as summarize
from ganglion.errors import CheckpointError
from ganglion.nn import CrossEntropyLoss, Module, MSELoss
from ganglion.optim import SGD
from ganglion.serialize import atomic_write
from ganglion.train import RunFolder, Trainer

_NEEDED = ("preprocessing", "feature_shape", "outputs", "task")


class FinishedRun:
    """A run's settings, facts and network with its best weights."""

    def __init__(self, path: Path, *, weights: bool = True) -> None:
        folder = RunFolder.open(path)
        self.settings, self.record = Settings.from_config(folder.config()), folder.record()
        missing = [name for name in _NEEDED if name not in self.record]
        if missing:
            raise CheckpointError(f"{path}/run.json lacks {', '.join(missing)}")
        self.preprocessing: dict[str, Any] = self.record["preprocessing"]
        self.feature_shape = tuple(self.record["feature_shape"])
        self.model: Module = build(self.settings, self.feature_shape, self.record["outputs"])
        if weights:
            self.model.load_state_dict(folder.weights())

    def trainer(self) -> Trainer:
        """A trainer that only evaluates and predicts."""
        classes = self.record["task"] == "classification"
        return Trainer(
            self.model,
            CrossEntropyLoss() if classes else MSELoss(),
            SGD(self.model.parameters()),
            metrics=["accuracy"] if classes else ["r2"],
        )


def evaluate(path: Path, data: str) -> dict[str, float]:
    """Print and return the measures of a run's network on labelled data."""
    run = FinishedRun(path)
    rows = load_labelled(run.preprocessing, data)
    _warn(rows)
    assert rows.y is not None
    found = measure(run.trainer(), run.preprocessing, rows.x, rows.y)
    say_measures(data if rows.whole else "test", len(rows.x), found)
    return found


def predict(path: Path, file: str, output: Path | None) -> None:
    """Write one CSV row for each sample: the prediction, and probabilities of classes."""
    run = FinishedRun(path)
    rows = load_unlabelled(run.preprocessing, file)
    _warn(rows)
    outputs = run.trainer().predict(from_numpy(rows.x), batch_size=1024).numpy()
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_table(run, outputs))
    if output is None:
        sys.stdout.write(text.getvalue())
    else:
        atomic_write(output, lambda f: f.write(text.getvalue().encode()))
        print(f"{len(outputs):,} predictions in {output}", file=sys.stderr)


def _table(run: FinishedRun, outputs: Any) -> Iterator[list[Any]]:
    predicted = decode(run.preprocessing, outputs)
    if run.record["task"] != "classification":
        yield ["prediction"]
        yield from ([repr(float(value))] for value in np.ravel(predicted))
        return
    table = run.preprocessing
    names = table["classes"] if table["kind"] == "images" else table["target"]["classes"]
    yield ["prediction", *(f"p({name})" for name in names)]
    shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares = shifted / shifted.sum(axis=1, keepdims=True)
    for name, row in zip(predicted, shares, strict=True):
        yield [name, *(f"{share:.6f}" for share in row)]


def _warn(rows: Rows) -> None:
    """Say on stderr what the preprocessing met that training data did not have."""
    for column, count in rows.unseen.items():
        print(f"note: {count} unknown categories in column '{column}'", file=sys.stderr)
    for column, count in rows.filled.items():
        print(f"note: {count} missing values in column '{column}' were filled", file=sys.stderr)


def summary(path: Path) -> None:
    """Print the layers, shapes, parameters, FLOPs and memory of a run's network."""
    run = FinishedRun(path, weights=False)
    print(summarize(run.model, (1, *run.feature_shape)))
