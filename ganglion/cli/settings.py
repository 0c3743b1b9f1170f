"""What a training run was asked to do: checked, saved as config.toml, and read back."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Self

from ganglion import optim
from ganglion.config import COMPILE
from ganglion.errors import ArgumentError, CheckpointError
from ganglion.models import ACTIVATIONS, cnn, mlp

if TYPE_CHECKING:
    from ganglion.data.tabular import Task

STEPS: Final = 10_000  # what training aims at when nobody says for how long
EPOCHS: Final = (10, 200)  # and within what limits

MODELS: Final = {"mlp": mlp, "cnn": cnn}
SCHEDULES: Final = ("cosine", "constant")
TASKS: Final = ("classification", "regression")
OPTIMIZERS: Final[dict[str, Callable[..., optim.Optimizer]]] = {
    "adamw": optim.AdamW,
    "adam": optim.Adam,
    "sgd": lambda params, **options: optim.SGD(params, momentum=0.9, **options),
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}

_CHOICES: Final[dict[str, Collection[str]]] = {
    "model": MODELS,
    "activation": ACTIVATIONS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "task": TASKS,
}
_RANGES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "dropout": (lambda p: 0 <= p < 1, "at least 0 and less than 1"),
    "epochs": (lambda n: n is None or n >= 1, "at least 1"),
    "batch_size": (lambda n: n >= 1, "at least 1"),
    "lr": (lambda x: 0 < x < math.inf, "a number greater than 0"),
    "weight_decay": (lambda x: 0 <= x < math.inf, "a number of at least 0"),
    "patience": (lambda n: n >= 0, "at least 0"),
    "seed": (lambda n: -(2**63) <= n < 2**63, "between -2**63 and 2**63 - 1"),
    "checkpoint_every": (lambda s: s >= 0, "a number of seconds, at least 0"),
    "hidden": (lambda sizes: all(size >= 1 for size in sizes), "sizes such as 128 or 256,64"),
}


@dataclass(frozen=True)
class Settings:
    """Everything that, with the data, decides the result of a run.

    Errors: ``ArgumentError`` for the first value that cannot be meant.
    """

    data: str
    target: str | None = None
    task: Task | None = None
    model: str = "mlp"
    hidden: tuple[int, ...] = (128,)
    activation: str = "relu"
    dropout: float = 0.0
    epochs: int | None = None
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    patience: int = 10
    seed: int = 0
    checkpoint_every: float = 30.0
    compile: bool = COMPILE

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ArgumentError(problem)

    def _problems(self) -> Iterator[str]:
        for name, known in _CHOICES.items():
            given = getattr(self, name)
            if given is not None and given not in known:
                yield f"{_option(name)} must be one of {', '.join(known)}; {_given(given, known)}"
        for name, (fits, expected) in _RANGES.items():
            given = getattr(self, name)
            if not fits(given):
                yield f"{_option(name)} must be {expected}; got {given!r}"

    def planned_epochs(self, samples: int) -> int:
        """The epochs asked for, or as many as make about ``STEPS`` steps of so many samples."""
        least, most = EPOCHS
        steps = math.ceil(samples / self.batch_size)
        return self.epochs or min(max(STEPS // steps, least), most)

    def to_config(self) -> dict[str, Any]:
        """Plain values; options that were not given are left out."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The settings of a run's config.toml; ``CheckpointError`` when they are not."""
        strange = sorted(set(config) - {field.name for field in fields(cls)})
        if strange or "data" not in config:
            what = f"unknown keys {', '.join(strange)}" if strange else "no key data"
            raise CheckpointError(f"config.toml is not that of `ganglion train`: it has {what}")
        try:
            return cls(**{**config, "hidden": tuple(config.get("hidden", cls.hidden))})
        except (ArgumentError, TypeError) as error:
            raise CheckpointError(f"config.toml was changed and is wrong now: {error}") from error


def sizes(text: str) -> tuple[int, ...]:
    """``"256,64"`` as (256, 64); ``""`` as no hidden layer at all."""
    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise ArgumentError(f"--hidden must be {_RANGES['hidden'][1]}; got {text!r}") from None


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _given(value: object, known: Collection[str]) -> str:
    close = get_close_matches(str(value), known, 1)
    return f"got {value!r}" + (f", did you mean {close[0]!r}?" if close else "")
