"""What a training run was asked to do: checked, saved as config.toml, and read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, Self

from ganglion import optim
from ganglion.errors import ArgumentError, CheckpointError
from ganglion.models import ACTIVATIONS

MODELS = ("mlp",)
SCHEDULES = ("cosine", "constant")
TASKS = (None, "classification", "regression")
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "adamw": optim.AdamW,
    "adam": optim.Adam,
    "sgd": lambda params, **options: optim.SGD(params, momentum=0.9, **options),
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}


@dataclass(frozen=True)
class Settings:
    """Everything that, with the data, decides the result of a run."""

    data: str
    target: str | None = None
    task: str | None = None
    model: str = "mlp"
    hidden: tuple[int, ...] = (128,)
    activation: str = "relu"
    dropout: float = 0.0
    epochs: int = 30
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    patience: int = 10
    seed: int = 0
    checkpoint_every: float = 30.0

    @classmethod
    def checked(cls, *, hidden: str, **options: Any) -> Self:
        """Settings from command-line values; the first bad one raises ArgumentError."""
        settings = cls(hidden=_sizes(hidden), **options)
        for problem in settings._problems():
            raise ArgumentError(problem)
        return settings

    def _problems(self) -> Iterator[str]:
        for name, known in (
            ("model", MODELS), ("activation", ACTIVATIONS), ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES), ("task", TASKS),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                yield _unknown(name, getattr(self, name), known)
        if not 0 <= self.dropout < 1:
            yield f"--dropout must be in [0, 1), got {self.dropout}"
        for name in ("lr", "checkpoint_every"):
            if not 0 < getattr(self, name) < float("inf"):
                yield f"--{name.replace('_', '-')} must be a positive number, got {getattr(self, name)}"
        if not 0 <= self.weight_decay < float("inf"):
            yield f"--weight-decay must be at least 0, got {self.weight_decay}"

    def to_config(self) -> dict[str, Any]:
        """Plain values; options that were not given are left out."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The settings of a run's config.toml."""
        known = {field.name for field in fields(cls)}
        strange = set(config) - known
        if strange or "data" not in config:
            problem = f"unknown keys {sorted(strange)}" if strange else "no key 'data'"
            raise CheckpointError(f"config.toml is not that of a run made by this version: {problem}")
        return cls(**{**config, "hidden": tuple(config.get("hidden", ()))})


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        sizes = (0,)
    if any(size < 1 for size in sizes):
        raise ArgumentError(f"--hidden takes sizes such as 128 or 256,64, got '{text}'")
    return sizes


def _unknown(name: str, given: Any, known: Any) -> str:
    names = [k for k in known if k]
    close = get_close_matches(str(given), names, 1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"unknown {name} '{given}'; known: {', '.join(names)}.{hint}"
