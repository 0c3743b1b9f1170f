"""What people see of a training: a bar on a terminal, else a line an epoch, and the last word."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

from ganglion.config import optional
from ganglion.train.events import Callback, FitResult, Outcome, Record, Step

if TYPE_CHECKING:
    from ganglion.train.trainer import Trainer

_REFRESH: Final = 0.1  # seconds between updates of the bar


def display(progress: bool | TextIO) -> Callback:
    """The display for `Trainer(progress=...)`: nothing for False, standard output for True."""
    if progress is False:
        return _Silent()
    stream = sys.stdout if progress is True else progress
    return _Bar(stream) if stream.isatty() else _Lines(stream)


class _Silent(Callback):
    """Says nothing, except how to resume after Ctrl-C."""

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        if result.outcome is Outcome.INTERRUPTED:
            sys.stderr.write(f"{result.message}\n")


class _Lines(Callback):
    """One line an epoch; measures the speed."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def on_fit_start(self, trainer: Trainer) -> None:
        self.began, self.steps = time.monotonic(), 0

    def on_epoch_start(self, trainer: Trainer) -> None:
        self.epoch_began, self.samples, self.training = time.monotonic(), 0, 0.0

    def on_step_end(self, trainer: Trainer, step: Step) -> None:
        self.steps += 1
        self.samples += step.samples
        self.training = time.monotonic() - self.epoch_began

    def on_epoch_end(self, trainer: Trainer, record: Record) -> None:
        shown = {k: v for k, v in record.items() if k not in {"epoch", "step", "lr"}}
        parts = [f"epoch {record['epoch']}/{trainer.state.epochs}", _numbers(shown)]
        self.write("  ".join([*parts, *self.pace(trainer)]))

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        if result.message:
            self.write(result.message)

    def write(self, line: str) -> None:
        """Print a line that stays."""
        self.stream.write(f"{line}\n")
        self.stream.flush()

    def pace(self, trainer: Trainer) -> list[str]:
        """Samples a second in this epoch's training part, and the time left for all epochs."""
        found = []
        if self.samples:
            found.append(f"{self.samples / max(self.training, 1e-9):,.0f} samples/s")
        left = trainer.steps_left
        if left and self.steps:
            seconds = (time.monotonic() - self.began) / self.steps * left
            found.append(f"{clock(seconds)} left")
        return found


class _Bar(_Lines):
    """A bar for the epoch under way, below the lines of those that are over."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.bar: Any = None
        self.task: Any = None
        self.updated = 0.0

    def on_fit_start(self, trainer: Trainer) -> None:
        super().on_fit_start(trainer)
        rich = optional("rich.progress")
        columns = ("{task.description}", rich.BarColumn(), rich.MofNCompleteColumn())
        console = optional("rich.console").Console(file=self.stream)
        self.bar = rich.Progress(*columns, "{task.fields[text]}", console=console, transient=True)
        self.bar.start()
        self.task = self.bar.add_task("", total=None, text="")

    def on_epoch_start(self, trainer: Trainer) -> None:
        super().on_epoch_start(trainer)
        self.updated = 0.0
        title = f"epoch {trainer.state.epoch + 1}/{trainer.state.epochs}"
        self.bar.reset(self.task, total=trainer.batches_per_epoch, description=title)

    def on_step_end(self, trainer: Trainer, step: Step) -> None:
        super().on_step_end(trainer, step)
        now = time.monotonic()
        if now - self.updated < _REFRESH:
            return
        self.updated = now
        text = "  ".join([_numbers(trainer.scores.compute()), *self.pace(trainer)])
        self.bar.update(self.task, completed=trainer.batches_done, text=text)

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        super().on_fit_end(trainer, result)

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        if self.bar is None:
            super().write(line)
        else:
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _numbers(values: dict[str, Any]) -> str:
    return "  ".join(
        f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, float)
    )


def clock(seconds: float) -> str:
    """Hours (if any), minutes and seconds: 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# --- the last word ------------------------------------------------------------------------------


def ending(trainer: Trainer, outcome: Outcome) -> str:
    """One sentence or two on how training ended; nothing when an exception says it."""
    state = trainer.state
    if outcome is Outcome.FAILED:
        return ""
    if outcome is Outcome.INTERRUPTED:
        return f"Interrupted in epoch {state.epoch + 1}, after step {state.step}.{_how_on(trainer)}"
    if outcome is Outcome.STOPPED:
        return f"Stopped after step {state.step}: {trainer.stop_reason}.{_how_on(trainer)}"
    if outcome is Outcome.STOPPED_EARLY:
        first = f"Stopped early after epoch {state.epoch}: nothing better for {state.stale} epochs."
    else:
        first = f"Finished {state.epoch} epochs in {clock(state.seconds)}."
    return first + _best(trainer)


def _best(trainer: Trainer) -> str:
    if not trainer.state.best_epoch:
        return ""
    restored = "; its weights are restored" if trainer.restore_best else ""
    name = trainer.monitored
    return f" Best {name}: {trainer.state.best:.4g} in epoch {trainer.state.best_epoch}{restored}."


def _how_on(trainer: Trainer) -> str:
    if trainer.folder is None:
        return " Nothing was saved, because there is no run_dir."
    return f"{saved_note(trainer)} To continue, {trainer.resume_hint}."


def saved_note(trainer: Trainer) -> str:
    """Where the newest checkpoint is."""
    return f" The last checkpoint is {trainer.folder.last}." if trainer.folder is not None else ""
