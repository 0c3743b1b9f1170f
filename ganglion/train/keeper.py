"""Keeper: writes the files of a training into its run folder, when it is time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ganglion.errors import ArgumentError
from ganglion.serialize import save, sync
from ganglion.train import checkpoint
from ganglion.train.environment import environment, surroundings
from ganglion.train.events import Outcome
from ganglion.train.run import RunFolder

if TYPE_CHECKING:
    from ganglion.train.trainer import Trainer


class Keeper:
    """Looks after the run folder of one `fit`; without one it only counts the time."""

    def __init__(self, trainer: Trainer, folder: RunFolder | None) -> None:
        self.trainer, self.folder = trainer, folder
        self._counted = self._saved_at = time.monotonic()
        self._saved_step = trainer.state.step

    def start(self, new: bool) -> None:
        """Clear up after a killed process, record the circumstances, secure the beginning."""
        folder, trainer = self.folder, self.trainer
        if folder is None:
            return
        folder.tidy()
        decides = checkpoint.identity(trainer)
        settings = {name: decides[name] for name in ("seed", "data_hash", "compile")}
        now = {"started" if new else "resumed": datetime.now(UTC).isoformat(timespec="seconds")}
        folder.update_record(**environment(), **surroundings(), **settings, **now)
        folder.write_metrics(trainer.history)
        if new:
            self.save_last()
        else:
            self._mend_best(folder)

    def step_end(self) -> None:
        """Write `last` when it is due."""
        trainer = self.trainer
        steps = trainer.state.step - self._saved_step
        enough = trainer.checkpoint_steps is not None and steps >= trainer.checkpoint_steps
        if enough or time.monotonic() - self._saved_at >= trainer.checkpoint_seconds:
            self.save_last()

    def epoch_end(self, improved: bool) -> None:
        """Add a row to the metrics, and write `best` after an improvement."""
        if self.folder is None:
            return
        if improved:
            self._save_best(self.folder)
        self.folder.append_metrics(self.trainer.history)
        self.step_end()

    def finish(self, outcome: Outcome) -> None:
        """Leave everything in order."""
        self._count_seconds()
        if self.folder is not None:
            if self.folder.best.is_file():
                sync(self.folder.best)
            self.folder.write_metrics(self.trainer.history)
            seconds = self.trainer.state.seconds
            self.folder.update_record(outcome=outcome.value, seconds=seconds)

    # --- checkpoints --------------------------------------------------------------------------

    def save_last(self) -> None:
        """Write `last`, but never parameters that are not finite over good ones."""
        trainer = self.trainer
        if self.folder is None or checkpoint.not_finite(trainer.model):
            return
        self._count_seconds()
        save(checkpoint.collect(trainer), self.folder.last)
        self._saved_at, self._saved_step = time.monotonic(), trainer.state.step

    def _save_best(self, folder: RunFolder) -> None:
        """Write `best`, which resuming mends from `last` if the machine fails before the end."""
        tree = checkpoint.collect(self.trainer)
        best = {**tree, "model": self.trainer.best_weights, "best": None}
        save(best, folder.best, durable=False)

    def _mend_best(self, folder: RunFolder) -> None:
        """Let `best` agree with `last`, if the process was killed between writing the two."""
        best_epoch = self.trainer.state.best_epoch
        if not best_epoch:
            folder.best.unlink(missing_ok=True)
        elif checkpoint.best_epoch(folder.best) != best_epoch:
            self._save_best(folder)

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self.trainer.state.seconds += now - self._counted
        self._counted = now


def opened(trainer: Trainer, resume: bool) -> RunFolder | None:
    """The trainer's run folder, made if need be; a run of another trainer is not overwritten."""
    folder = trainer.run_dir
    if folder is None:
        if resume:
            raise ArgumentError("resume=True needs the run_dir that the run was written to")
        return None
    if not isinstance(folder, RunFolder):
        kept = "seed clip_grad_norm accumulate monitor patience scheduler_interval".split()
        folder = RunFolder.at(folder, {"trainer": {name: getattr(trainer, name) for name in kept}})
    if trainer.folder is None and not resume and folder.last.is_file():
        raise ArgumentError(
            f"{folder.path} holds a run already; continue it with resume=True, or choose another "
            "run_dir"
        )
    return folder
