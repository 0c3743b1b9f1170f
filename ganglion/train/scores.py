"""Loss and metrics accumulated over the batches of one pass."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ganglion.errors import ArgumentError
from ganglion.metrics import Metric


class Scores:
    """The mean loss over samples, and metrics of their own."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = {metric.name: copy.deepcopy(metric) for metric in metrics}
        if len(self.metrics) < len(metrics) or "loss" in self.metrics:
            raise ArgumentError(
                f"metrics need names of their own other than 'loss', got "
                f"{[metric.name for metric in metrics]}; set `name` on one of them"
            )
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.loss_sum, self.samples = 0.0, 0
        for metric in self.metrics.values():
            metric.reset()

    def parts(self, outputs: Any, targets: Any) -> list[Any]:
        """What each metric needs of a batch; may be called inside a compiled step."""
        return [metric.part(outputs, targets) for metric in self.metrics.values()]

    def update(self, loss: float, parts: Iterable[Any], samples: int) -> None:
        """Add a batch: its mean loss, and what `parts` gave."""
        self.loss_sum += loss * samples
        self.samples += samples
        for metric, part in zip(self.metrics.values(), parts, strict=True):
            metric.take(part)

    @property
    def loss(self) -> float:
        """Mean loss so far; NaN before the first batch."""
        return self.loss_sum / self.samples if self.samples else float("nan")

    def compute(self) -> dict[str, Any]:
        """Loss and metrics by name."""
        found = {name: metric.compute() for name, metric in self.metrics.items()}
        return {"loss": self.loss, **found}

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        metrics = {name: metric.state_dict() for name, metric in self.metrics.items()}
        return {"loss_sum": self.loss_sum, "samples": self.samples, "metrics": metrics}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from saved sums; metrics that were not saved start anew."""
        self.reset()
        self.loss_sum, self.samples = state["loss_sum"], state["samples"]
        for name, saved in state["metrics"].items():
            if name in self.metrics:
                self.metrics[name].load_state_dict(saved)
