"""``ganglion evaluate``, ``predict`` and ``summary``: what a trained run can do."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ganglion.cli.report import Array, measure, note, noting, outputs, say_measures
from ganglion.cli.saved import SavedRun
from ganglion.data.rows import Rows, decode, load_labelled, load_unlabelled
from ganglion.diagnose import summary as summarize
from ganglion.errors import NotFoundError
from ganglion.serialize import atomic_write


def evaluate(path: Path, data: str) -> dict[str, float]:
    """Print and return the measures of a run's network on labelled data."""
    run = SavedRun(path)
    trainer = run.trainer()
    with noting():
        rows = load_labelled(run.preprocessing, data)
    _warn(rows)
    assert rows.y is not None
    found = measure(trainer, run.preprocessing, rows.x, rows.y)
    say_measures(Path(data).name if rows.whole else "test", len(rows.x), found)
    return found


def predict(path: Path, file: str, output: Path | None) -> None:
    """Write one CSV row for each sample: the prediction, and probabilities of classes."""
    if output is not None and not output.parent.is_dir():
        raise NotFoundError(f"--output: there is no folder {output.parent}; make it first")
    run = SavedRun(path)
    trainer = run.trainer()
    with noting():
        rows = load_unlabelled(run.preprocessing, file)
    _warn(rows)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_table(run, outputs(trainer, rows.x)))
    if output is None:
        sys.stdout.write(text.getvalue())
    else:
        atomic_write(output, lambda f: f.write(text.getvalue().encode()))
        print(f"{len(rows.x):,} predictions in {output}")


def _table(run: SavedRun, found: Array) -> Iterator[list[Any]]:
    """The rows of the CSV file, the header first."""
    predicted = decode(run.preprocessing, found)
    if run.record["task"] == "regression":
        yield ["prediction"]
        yield from ([float(value)] for value in predicted)
        return
    saved = run.preprocessing
    classes = saved["classes"] if saved["kind"] == "images" else saved["target"]["classes"]
    yield ["prediction", *(f"p({name})" for name in classes)]
    for name, shares in zip(predicted, _softmax(found), strict=True):
        yield [name, *(f"{share:.6f}" for share in shares)]


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _warn(rows: Rows) -> None:
    """Say what the preprocessing met that it had to make up."""
    for column, count in rows.unseen.items():
        note(f"column {column!r} has {count:,} cells of categories unknown in training")
    for column, count in rows.filled.items():
        note(f"column {column!r} has {count:,} missing cells, which were filled")


def summary(path: Path) -> None:
    """Print the layers, shapes, parameters, FLOPs and memory of a run's network."""
    run = SavedRun(path)
    print(summarize(run.network(), (1, *run.record["feature_shape"])))
