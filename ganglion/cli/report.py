"""Measures of a trained network on labelled samples, in the data's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganglion.creation import from_numpy
from ganglion.data.rows import decode
from ganglion.data.tabular import TablePreprocessor
from ganglion.train import Trainer

Array = NDArray[Any]


def measure(
    trainer: Trainer, preprocessing: Mapping[str, Any], x: Array, y: Array
) -> dict[str, float]:
    """Loss and accuracy of classes; loss, R2, and errors in the target's own unit of numbers."""
    if not len(x):
        return {}
    found = {
        name: float(value)
        for name, value in trainer.evaluate((from_numpy(x), from_numpy(y)), batch_size=1024).items()
    }
    if y.dtype.kind == "i":
        return found
    outputs = trainer.predict(from_numpy(x), batch_size=1024).numpy()
    target = TablePreprocessor.from_dict(preprocessing).target
    error = np.asarray(decode(preprocessing, outputs)) - np.asarray(target.decode(y))
    mae, rmse = np.abs(error).mean(), np.sqrt(np.square(error).mean())
    return {**found, "mae": float(mae), "rmse": float(rmse)}


def say_measures(part: str, count: int, found: Mapping[str, float]) -> None:
    """One line: ``test accuracy 97.5 %, loss 0.091 (360 samples)``."""
    if not found:
        print(f"the {part} part is empty")
        return
    words = [
        f"{name} {100 * value:.2f} %" if name == "accuracy" else f"{name} {value:.4g}"
        for name, value in sorted(found.items(), key=lambda item: item[0] == "loss")
    ]
    print(f"{part} {', '.join(words)} ({count:,} samples)")
