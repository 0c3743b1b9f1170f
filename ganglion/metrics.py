"""Metrics that are fed batch by batch: accuracy, errors, F1, confusion matrix.

    metric = metrics.get("accuracy")
    for x, y in loader:
        metric.update(model(x), y)
    metric.compute()                 # over all samples since reset()

Outputs and targets are tensors or arrays. Classifiers give logits or probabilities (N, C) or
(N, C, ...) with class numbers (N,) or (N, ...) as targets, or class probabilities of the outputs'
shape; binary ones give logits (N,) or (N, 1) with targets 0 and 1. Sums are kept in float64.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ganglion.dispatch import mode
from ganglion.errors import ArgumentError, ArgumentTypeError, CheckpointError, ShapeError
from ganglion.tensor import Tensor

Array = NDArray[Any]
Values = Tensor | Array


class Metric(ABC):
    """A number over many batches: `update` each, `compute` when wanted, `reset` to begin anew.

    name: its key in histories and tables.
    higher_is_better: which way improvement goes.
    sums: everything that `update` accumulates.
    """

    name: str
    higher_is_better: ClassVar[bool]
    sums: dict[str, Any]

    def __init__(self) -> None:
        self.reset()

    @abstractmethod
    def start(self) -> dict[str, Any]:
        """The sums before the first batch."""

    @abstractmethod
    def add(self, outputs: Array, targets: Array) -> None:
        """Add one batch to the sums."""

    @abstractmethod
    def compute(self) -> Any:
        """The metric over everything since `reset`; NaN when that is nothing."""

    def reset(self) -> None:
        """Forget all batches."""
        self.sums = self.start()

    def update(self, outputs: Values, targets: Values) -> None:
        """Add one batch; `ShapeError` when outputs and targets do not fit."""
        self.add(_array(outputs), _array(targets))

    def part(self, outputs: Any, targets: Any) -> Any:
        """What `take` needs of a batch: tensors made by ops, so that a compiled step can hold them.

        A class that defines `add` or `update` and not this gets the outputs and targets.
        """
        return outputs, targets

    def take(self, part: Any) -> None:
        """Add a batch by its `part`: sums by name, or outputs and targets."""
        if isinstance(part, dict):
            for name, value in part.items():
                self.sums[name] += value.item()
        else:
            self.update(*part)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "part" not in own and ("add" in own or "update" in own):
            cls.part = Metric.part  # type: ignore[method-assign]

    def better(self, new: float, old: float) -> bool:
        """Whether `new` improves on `old`; NaN never does, and anything improves on NaN."""
        if np.isnan(new) or np.isnan(old):
            return bool(np.isnan(old) and not np.isnan(new))
        return new > old if self.higher_is_better else new < old

    def state_dict(self) -> dict[str, Any]:
        """The sums as JSON values."""
        return {key: np.asarray(value).tolist() for key, value in self.sums.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`, exactly."""
        if state.keys() != self.sums.keys():
            raise CheckpointError(
                f"The state of metric {self.name!r} has {sorted(state)}, expected "
                f"{sorted(self.sums)}."
            )
        self.sums = {
            key: np.array(value) if isinstance(value, list) else value
            for key, value in state.items()
        }


def _array(values: Values) -> Array:
    array: Array = values.detach().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


# --- classification -----------------------------------------------------------------------------


def predicted_classes(outputs: Array) -> Array:
    """Class numbers of logits or probabilities (N, C, ...), or of binary logits (N,) or (N, 1)."""
    if _many_classes(outputs):
        classes: Array = outputs.argmax(axis=1)
        return classes
    return (outputs > 0).astype(np.int64).reshape(len(outputs), *outputs.shape[2:])


def _true_classes(targets: Array, outputs: Array) -> Array:
    if targets.shape == outputs.shape:  # class probabilities, or binary targets
        return targets.argmax(axis=1) if _many_classes(outputs) else targets.reshape(-1)
    return targets


def _many_classes(outputs: Values) -> bool:
    return outputs.ndim > 1 and outputs.shape[1] > 1


def _numbered(outputs: Values, targets: Values) -> bool:
    """Whether these are outputs for many classes and a class number for each of them."""
    return _many_classes(outputs) and targets.shape == (outputs.shape[0], *outputs.shape[2:])


def _classes(outputs: Array, targets: Array, ignore: int) -> tuple[Array, Array]:
    """Predicted and true class of every sample that counts, as flat arrays."""
    predicted, true = predicted_classes(outputs), _true_classes(targets, outputs)
    if predicted.size != true.size or len(outputs) != len(targets):
        raise _misfit("class numbers", outputs, targets)
    predicted, true = predicted.reshape(-1), true.reshape(-1)
    counted = true != ignore
    return predicted[counted], true[counted].astype(np.int64)


def _misfit(expected: str, outputs: Array, targets: Array) -> ShapeError:
    return ShapeError(
        f"Outputs {outputs.shape} and targets {targets.shape} do not fit; expected {expected} for "
        "each output."
    )


class Accuracy(Metric):
    """Share of samples whose class is predicted; targets equal to `ignore_index` do not count."""

    name = "accuracy"
    higher_is_better = True

    def __init__(self, ignore_index: int = -100) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def start(self) -> dict[str, Any]:
        return {"right": 0, "count": 0}

    def add(self, outputs: Array, targets: Array) -> None:
        predicted, true = _classes(outputs, targets, self.ignore_index)
        self.sums["right"] += int(np.count_nonzero(predicted == true))
        self.sums["count"] += len(true)

    def part(self, outputs: Any, targets: Any) -> Any:
        if not (mode.tracer and isinstance(outputs, Tensor) and _numbered(outputs, targets)):
            return outputs, targets  # NumPy is quicker than ops one by one, and explains misfits
        counted = targets != self.ignore_index
        right = (outputs.argmax(1) == targets) & counted
        return {"right": right.sum(), "count": counted.sum()}

    def compute(self) -> float:
        return _ratio(self.sums["right"], self.sums["count"])


class TopK(Metric):
    """Share of samples whose class is among the `k` with the largest outputs (N, C)."""

    higher_is_better = True

    def __init__(self, k: int = 5) -> None:
        if k < 1:
            raise ArgumentError(f"TopK needs k of 1 or more, got {k}.")
        super().__init__()
        self.k = k
        self.name = f"top{k}"

    def start(self) -> dict[str, Any]:
        return {"right": 0, "count": 0}

    def add(self, outputs: Array, targets: Array) -> None:
        if outputs.ndim != 2 or targets.shape != outputs.shape[:1]:
            raise _misfit("outputs (N, C) and one class number (N,)", outputs, targets)
        own = np.take_along_axis(outputs, targets[:, None].astype(np.int64), axis=1)
        above = (outputs > own).sum(axis=1)
        earlier = np.arange(outputs.shape[1]) < targets[:, None]  # of equal outputs the first wins
        above += ((outputs == own) & earlier).sum(axis=1)
        self.sums["right"] += int(np.count_nonzero(above < self.k))
        self.sums["count"] += len(targets)

    def compute(self) -> float:
        return _ratio(self.sums["right"], self.sums["count"])


class ConfusionMatrix(Metric):
    """Counts (C, C): row = true class, column = predicted class.

    num_classes: C; taken from the outputs, and enlarged when needed, if not given.
    """

    name = "confusion_matrix"
    higher_is_better = True

    def __init__(self, num_classes: int | None = None, ignore_index: int = -100) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        super().__init__()

    def start(self) -> dict[str, Any]:
        size = self.num_classes or 0
        return {"counts": np.zeros((size, size), np.int64)}

    def add(self, outputs: Array, targets: Array) -> None:
        predicted, true = _classes(outputs, targets, self.ignore_index)
        size = self._size(outputs, predicted, true)
        found = np.bincount(true * size + predicted, minlength=size * size).reshape(size, size)
        known = self.counts
        found[: len(known), : len(known)] += known
        self.sums["counts"] = found

    def _size(self, outputs: Array, predicted: Array, true: Array) -> int:
        seen = int(max(predicted.max(initial=0), true.max(initial=0))) + 1
        if true.min(initial=0) < 0 or (self.num_classes and seen > self.num_classes):
            limit = self.num_classes or seen
            raise ArgumentError(
                f"Class numbers must lie from 0 to {limit - 1}; got targets from {true.min()} to "
                f"{true.max()} and predictions up to {predicted.max()}."
            )
        width = outputs.shape[1] if _many_classes(outputs) else 2
        return self.num_classes or max(seen, width, len(self.sums["counts"]))

    @property
    def counts(self) -> Array:
        """The matrix so far."""
        size = len(self.sums["counts"])
        return np.array(self.sums["counts"], np.int64).reshape(size, size)

    def compute(self) -> Any:
        return self.counts


class _Macro(ConfusionMatrix):
    """Mean over the classes that occur, as target or as prediction, of a score per class."""

    def compute(self) -> float:
        counts = self.counts
        hits, predicted, true = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
        scores = self.score(hits, predicted, true)[predicted + true > 0]
        return float(scores.mean()) if len(scores) else float("nan")

    def score(self, hits: Array, predicted: Array, true: Array) -> Array:
        """Score of every class; 0 where it would be 0/0."""
        raise NotImplementedError


class Precision(_Macro):
    """Of the samples predicted as a class, the share that is; mean over the classes."""

    name = "precision"

    def score(self, hits: Array, predicted: Array, true: Array) -> Array:
        return hits / np.maximum(predicted, 1)


class Recall(_Macro):
    """Of the samples of a class, the share predicted as such; mean over the classes."""

    name = "recall"

    def score(self, hits: Array, predicted: Array, true: Array) -> Array:
        return hits / np.maximum(true, 1)


class F1(_Macro):
    """Harmonic mean of precision and recall of a class; mean over the classes."""

    name = "f1"

    def score(self, hits: Array, predicted: Array, true: Array) -> Array:
        return hits / np.maximum((predicted + true) / 2, 0.5)


# --- regression ---------------------------------------------------------------------------------


def _errors(outputs: Array, targets: Array) -> NDArray[np.float64]:
    if outputs.shape != targets.shape:
        raise _misfit("one target of the same shape", outputs, targets)
    return outputs.astype(np.float64) - targets.astype(np.float64)


class _MeanCost(Metric):
    """Mean of a function of the error over all elements."""

    higher_is_better = False

    def start(self) -> dict[str, Any]:
        return {"total": 0.0, "count": 0}

    def add(self, outputs: Array, targets: Array) -> None:
        errors = _errors(outputs, targets)
        self.sums["total"] += float(self.cost(errors).sum())
        self.sums["count"] += errors.size

    def cost(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each error counts."""
        return np.square(errors)

    def compute(self) -> float:
        return _ratio(self.sums["total"], self.sums["count"])


class MSE(_MeanCost):
    """Mean squared error."""

    name = "mse"


class RMSE(_MeanCost):
    """Root of the mean squared error, in the target's unit."""

    name = "rmse"

    def compute(self) -> float:
        return float(np.sqrt(super().compute()))


class MAE(_MeanCost):
    """Mean absolute error, in the target's unit."""

    name = "mae"

    def cost(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.abs(errors)


class R2(Metric):
    """Share of the target's variance that is explained, 1 - SS_res / SS_tot; mean over outputs.

    outputs, targets: (N,) or (N, D). NaN before two samples, and for a constant target.
    """

    name = "r2"
    higher_is_better = True

    def start(self) -> dict[str, Any]:
        return {"count": 0, "mean": 0.0, "spread": 0.0, "residual": 0.0}

    def add(self, outputs: Array, targets: Array) -> None:
        errors = _errors(outputs, targets)
        if not len(errors):
            return
        rows = targets.astype(np.float64).reshape(len(targets), -1)
        mean, count, known = rows.mean(axis=0), len(rows), self.sums["count"]
        shift = mean - self.sums["mean"]  # Chan et al. 1979: merging two sets' moments
        between = np.square(shift) * known * count / (known + count)
        within = np.square(rows - mean).sum(axis=0)
        self.sums["spread"] = self.sums["spread"] + within + between
        self.sums["mean"] = self.sums["mean"] + shift * count / (known + count)
        squares = np.square(errors).reshape(len(errors), -1).sum(axis=0)
        self.sums["residual"] = self.sums["residual"] + squares
        self.sums["count"] = known + count

    def compute(self) -> float:
        spread = np.asarray(self.sums["spread"])
        if self.sums["count"] < 2 or not spread.all():
            return float("nan")
        return float(np.mean(1 - self.sums["residual"] / spread))


# --- any function -------------------------------------------------------------------------------


class Average(Metric):
    """Mean over samples of `function(outputs, targets)`, which gives the mean over one batch."""

    higher_is_better = False

    def __init__(self, function: Callable[[Values, Values], Any], name: str | None = None) -> None:
        super().__init__()
        self.function = function
        self.name = name or str(getattr(function, "__name__", "average"))

    def start(self) -> dict[str, Any]:
        return {"total": 0.0, "count": 0}

    def update(self, outputs: Values, targets: Values) -> None:
        count = len(targets)
        self.sums["total"] += float(self.function(outputs, targets)) * count
        self.sums["count"] += count

    def add(self, outputs: Array, targets: Array) -> None:
        self.update(outputs, targets)

    def compute(self) -> float:
        return _ratio(self.sums["total"], self.sums["count"])


METRICS: Final[dict[str, Callable[[], Metric]]] = {
    "accuracy": Accuracy,
    "top5": TopK,
    "precision": Precision,
    "recall": Recall,
    "f1": F1,
    "confusion_matrix": ConfusionMatrix,
    "mse": MSE,
    "rmse": RMSE,
    "mae": MAE,
    "r2": R2,
}


def get(metric: str | Metric | Callable[..., Any]) -> Metric:
    """A metric by its name in `METRICS`, from its class, from a function, or as it is.

    A function of (outputs, targets) is averaged, and less of it is better.

    Errors: `ArgumentError` for an unknown name, `ArgumentTypeError` for anything else.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            close = get_close_matches(metric, METRICS, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ArgumentError(f"No metric {metric!r}; there are {', '.join(METRICS)}.{hint}")
        return METRICS[metric]()
    if isinstance(metric, type) and issubclass(metric, Metric):
        return metric()
    if callable(metric):
        return Average(metric)
    raise ArgumentTypeError(
        f"A metric is a name, a Metric or a function of outputs and targets, got {metric!r}."
    )
