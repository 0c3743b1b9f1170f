"""Whether the settings of a Trainer can be meant."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np

from ganglion.errors import ArgumentError, ArgumentTypeError
from ganglion.optim.lr_scheduler import ReduceLROnPlateau
from ganglion.train.events import Callback

if TYPE_CHECKING:
    from ganglion.train.trainer import Trainer

_POSITIVE = ("accumulate", "patience", "clip_grad_norm", "checkpoint_steps")


def check_settings(trainer: Trainer) -> None:
    """Raise ``ArgumentError`` or ``ArgumentTypeError`` for the first that cannot."""
    own = {id(p) for p in trainer.model.parameters()}
    if not any(id(p) in own for p in trainer.trained):
        raise ArgumentError(
            "the optimizer has no parameter of the model; build it from model.parameters()"
        )
    for callback in trainer.callbacks:
        if not isinstance(callback, Callback):
            raise ArgumentTypeError(f"callbacks must be Callback objects, got {callback!r}")
    for name in _POSITIVE:
        value = getattr(trainer, name)
        if value is not None and not value > 0:
            raise ArgumentError(f"{name} must be positive, got {value}")
    _check_monitor(trainer)
    _check_scheduler(trainer)


def _check_monitor(trainer: Trainer) -> None:
    numbers = [metric.name for metric in trainer.metrics if not np.ndim(metric.compute())]
    choices = ["loss", *numbers]
    if trainer.monitor not in choices:
        close = get_close_matches(trainer.monitor, choices, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ArgumentError(
            f"monitor={trainer.monitor!r} is none of {', '.join(choices)}.{hint} (Validation data "
            "counts when there is some; the name has no prefix.)"
        )


def _check_scheduler(trainer: Trainer) -> None:
    interval, scheduler = trainer.scheduler_interval, trainer.scheduler
    if interval not in {"epoch", "step"}:
        raise ArgumentError(f"scheduler_interval must be 'epoch' or 'step', got {interval!r}")
    if scheduler is not None and scheduler.optimizer is not trainer.optimizer:
        raise ArgumentError("the scheduler was built for another optimizer than the trainer's")
    if isinstance(scheduler, ReduceLROnPlateau):
        mode = "max" if trainer.higher_is_better else "min"
        if scheduler.mode != mode or interval != "epoch":
            raise ArgumentError(
                f"ReduceLROnPlateau gets {trainer.monitor!r} every epoch: it needs mode={mode!r} "
                "and scheduler_interval='epoch'"
            )
