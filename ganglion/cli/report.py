"""Measures of a trained network on labelled samples, in the data's own terms, and what is said."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from ganglion.creation import from_numpy
from ganglion.data.rows import decode
from ganglion.data.tabular import TablePreprocessor
from ganglion.train import Trainer

Array = NDArray[Any]
BATCH = 1024  # the same everywhere, since another size gives other last bits


def measure(
    trainer: Trainer, preprocessing: Mapping[str, Any], x: Array, y: Array
) -> dict[str, float]:
    """Loss and accuracy of classes; loss, R2, and errors in the target's own unit of numbers."""
    values = trainer.evaluate((from_numpy(x), from_numpy(y)), batch_size=BATCH)
    found = {name: float(value) for name, value in values.items()}
    if y.dtype.kind == "i":
        return found
    target = TablePreprocessor.from_dict(preprocessing).target
    error = np.asarray(decode(preprocessing, outputs(trainer, x))) - np.asarray(target.decode(y))
    mae, rmse = np.abs(error).mean(), np.sqrt(np.square(error).mean())
    return {**found, "mae": float(mae), "rmse": float(rmse)}


def outputs(trainer: Trainer, x: Array) -> Array:
    """The network's outputs (N, ...) in inference mode."""
    return trainer.predict(from_numpy(x), batch_size=BATCH).numpy()


def say_measures(part: str, count: int, found: Mapping[str, float]) -> None:
    """One line: ``test accuracy 97.50 %, loss 0.091 (360 samples)``."""
    loss_last = sorted(found.items(), key=lambda item: item[0] == "loss")
    words = [_measure(name, value) for name, value in loss_last]
    typer.secho(f"{part} {', '.join(words)} ({count:,} samples)", bold=True)


def _measure(name: str, value: float) -> str:
    if name == "accuracy":
        return f"accuracy {100 * value:.2f} %"
    return f"{name} {value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{name} {value:.4g}"


def note(text: str) -> None:
    """A remark beside the result, on standard error."""
    print(f"note: {text}", file=sys.stderr)


@contextmanager
def noting() -> Iterator[None]:
    """Warnings become notes, each of them one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        note(text)
