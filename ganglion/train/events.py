"""What happens at the edges of the training loop, as a closed set of typed events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from ganglion.errors import ArgumentError

if TYPE_CHECKING:
    from ganglion.train.trainer import Trainer

Record = dict[str, Any]  # one epoch: column names to numbers


class Outcome(Enum):
    """Why training ended."""

    FINISHED = "finished"
    STOPPED_EARLY = "stopped early"
    STOPPED = "stopped by a callback"
    INTERRUPTED = "interrupted"
    FAILED = "failed"  # an exception is on its way; callbacks see it, callers never


@dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    history: one record an epoch, from the first epoch on, resumed or not.
    best: the record of the best epoch; None before the first.
    message: one sentence for the user.
    """

    outcome: Outcome
    history: list[Record]
    best: Record | None
    message: str


class Step(NamedTuple):
    """One optimizer step: its numbers count from 1, ``loss`` is the mean over ``samples``."""

    epoch: int
    step: int
    loss: float
    samples: int


class StopTraining(Exception):
    """Raised by a callback: finish this step or epoch, save, and end `fit` normally."""


class Callback:
    """Base of everything that looks on: define the events you want, and no others.

    The state that `state_dict` returns is saved in checkpoints and given back on resume; an event
    that draws random numbers or changes the model is part of training like any step.
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Training starts or continues; the state is restored already."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """An epoch starts, or continues after a resume."""

    def on_step_end(self, trainer: Trainer, step: Step) -> None:
        """The parameters were updated."""

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        """The epoch was validated; ``record`` is the newest of the history."""

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """Training is over, in whatever way; everything is saved."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume, as a tree that `ganglion.serialize.save` can write."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a saved state."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith("on_") and name not in EVENTS:
                close = get_close_matches(name, EVENTS, 1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ArgumentError(
                    f"{cls.__name__}.{name}: there is no such event; there are "
                    f"{', '.join(EVENTS)}.{hint}"
                )


EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))
