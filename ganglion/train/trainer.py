"""Trainer: a plain loop with validation, early stopping, checkpoints and exact resume.

The loop is `_loop` → `_run_epoch` → `_step`; everything else prepares it or looks after it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import mul
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from ganglion.compiler.compiled import available
from ganglion.compiler.compiled import compile as compiled
from ganglion.compiler.trace import proceed_if
from ganglion.config import COMPILE
from ganglion.data.dataset import IterableDataset
from ganglion.data.loader import DataLoader
from ganglion.dispatch import mode
from ganglion.errors import ArgumentError, CheckpointError, NonFiniteError
from ganglion.gradmode import no_grad
from ganglion.metrics import Metric
from ganglion.metrics import get as get_metric
from ganglion.nn.clip import clip_grad_norm_
from ganglion.nn.module import Module
from ganglion.ops.join import cat
from ganglion.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from ganglion.optim.optimizer import Optimizer
from ganglion.random import manual_seed
from ganglion.serialize import load
from ganglion.tensor import Tensor
from ganglion.train import batches as batching
from ganglion.train import checkpoint
from ganglion.train.checkpoint import Boundary, Loaders, State
from ganglion.train.checks import check_settings
from ganglion.train.events import Callback, FitResult, Outcome, Record, Step, StopTraining
from ganglion.train.interrupt import CtrlC
from ganglion.train.keeper import Keeper, opened
from ganglion.train.progress import display, ending, saved_note
from ganglion.train.run import RunFolder
from ganglion.train.scores import Scores

Loss = Callable[[Any, Any], Tensor]
Seen = tuple[Tensor, list[Any]]  # of a batch: its loss, and what the metrics need


class Trainer:
    """Trains a model and keeps what training produces.

    loss: a module or function of (outputs, target) that gives the mean over the batch.
    metrics: names, `Metric` objects or functions of (outputs, target); columns of the history.
    scheduler, scheduler_interval: stepped after every "epoch" or every "step".
    run_dir: a `RunFolder` or a path for one; without it nothing is written.
    seed: of the default generator, set at the first step, and of the order of the samples.
    clip_grad_norm: the largest norm that all gradients together may have.
    accumulate: batches whose gradients make one step, as if they were one batch.
    monitor: "loss" or a metric; the best epoch is the best on validation data, or on training
        data when there is none.
    patience: epochs without a better one after which training stops.
    restore_best: whether the model ends with the best weights, however training ended; by default
        when patience is given.
    checkpoint_seconds, checkpoint_steps: how often `last` is written, besides start and end.
    progress: a bar on a terminal, else a line an epoch; to standard output or the given stream.
    compile: whether steps and forward passes are compiled (see `ganglion.compile`); a `compute`
        that cannot be traced runs eagerly, after a warning that names the line. Gradients are then
        not there to be looked at.
    data_hash: names the data; resume refuses another one.
    resume_hint: what the message after Ctrl-C says to do.
    """

    def __init__(
        self,
        model: Module,
        loss: Loss,
        optimizer: Optimizer,
        *,
        metrics: Iterable[str | Metric | Callable[..., Any]] = (),
        scheduler: LRScheduler | None = None,
        scheduler_interval: str = "epoch",
        callbacks: Iterable[Callback] = (),
        run_dir: RunFolder | str | os.PathLike[str] | None = None,
        seed: int | None = None,
        clip_grad_norm: float | None = None,
        accumulate: int = 1,
        monitor: str = "loss",
        patience: int | None = None,
        restore_best: bool | None = None,
        checkpoint_seconds: float = 30.0,
        checkpoint_steps: int | None = None,
        progress: bool | TextIO = True,
        compile: bool = COMPILE,
        data_hash: str | None = None,
        resume_hint: str = "run the program again with fit(..., resume=True)",
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.metrics = [get_metric(metric) for metric in metrics]
        self.scheduler, self.scheduler_interval = scheduler, scheduler_interval
        self.callbacks = list(callbacks)
        self.run_dir = run_dir
        self.seed, self.data_hash, self.resume_hint = seed, data_hash, resume_hint
        self.clip_grad_norm, self.accumulate = clip_grad_norm, accumulate
        self.monitor, self.patience = monitor, patience
        self.restore_best = patience is not None if restore_best is None else restore_best
        self.checkpoint_seconds, self.checkpoint_steps = checkpoint_seconds, checkpoint_steps
        self.progress = progress
        self.compile = compile and available()
        self.state = State()
        self.scores = Scores(self.metrics)  # of the training epoch under way
        self.best_weights: dict[str, Tensor] | None = None
        self.folder: RunFolder | None = None
        self.stop_reason = ""  # what a callback gave with StopTraining
        check_settings(self)
        self._ctrl_c = CtrlC()
        wrap = partial(compiled, fullgraph=False, disable=not self.compile)
        self._updated, self._computed = wrap(self._update), wrap(self._compute)
        self._outputs = wrap(self._forward)

    # --- for users ----------------------------------------------------------------------------

    @property
    def history(self) -> list[Record]:
        """One record an epoch: epoch, step, lr, loss, metrics, and the same on validation data."""
        return self.state.history

    def fit(
        self,
        train: Any,
        valid: Any = None,
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        resume: bool = False,
        allow_different: bool = False,
    ) -> FitResult:
        """Train for so many epochs, or continue a run exactly where its last checkpoint stands.

        train, valid: a `DataLoader`, a `Dataset`, or arrays or tensors such as (x, y), of which
            training takes shuffled batches of ``batch_size`` (32).
        epochs: more epochs; with ``resume`` all in all, by default those asked for at first.
        resume: continue from ``last`` in the run folder, or start when there is none yet. The
            program must build the same trainer and data.
        allow_different: resume although model, data, settings or versions have changed.

        Ctrl-C finishes the step, saves and returns; a second one raises KeyboardInterrupt.

        Errors: `NonFiniteError` when the loss is NaN or infinite; the state before that step is
        saved. `CheckpointError` for a checkpoint that does not belong to this program.
        """
        loaders = Loaders(
            batching.training_loader(train, batch_size, self.seed),
            None if valid is None else batching.plain_loader(valid, None),
        )
        with self._ctrl_c:
            self._prepare(loaders, epochs, resume, allow_different)
            outcome = Outcome.FAILED
            try:
                self._emit("on_fit_start")
                outcome = self._loop()
                self._keeper.save_last()
            finally:
                result = self._finish(outcome)
        return result

    def evaluate(self, data: Any, batch_size: int | None = None) -> dict[str, Any]:
        """Mean loss and metrics over data, in inference mode; batches of 256 unless it is a loader.

        Bit-equal to what training reported for the same weights and validation batches.
        """
        loader = batching.plain_loader(data, batch_size)
        return self._measured(loader, lambda: False).compute()

    def predict(self, data: Any, batch_size: int | None = None) -> Tensor:
        """Outputs (N, ...) for inputs; a target that comes with them is ignored."""
        loader = batching.unshuffled(batching.plain_loader(data, batch_size))
        with _inference(self.model), no_grad():
            return cat([self._outputs(*batching.inputs_alone(batch)) for batch in loader])

    def _forward(self, *inputs: Any) -> Any:
        return self.model(*inputs)

    def compute(self, batch: Any) -> tuple[Any, Any, Tensor]:
        """Outputs, target and mean loss of a batch; override it for batches of another form."""
        inputs, target = batching.inputs_and_target(batch)
        outputs = self.model(*inputs)
        return outputs, target, self.loss(outputs, target)

    # --- the loop -----------------------------------------------------------------------------

    def _loop(self) -> Outcome:
        while (outcome := self._done() or self._leaving()) is None:
            self._run_epoch()
        return outcome

    def _run_epoch(self) -> None:
        self._emit("on_epoch_start")
        self.model.train()
        train = self._loaders.train
        walk = train if self._picked is None else train.picks()
        for group in batching.grouped(walk, self.accumulate):
            self._step(group)
            if self._leaving():
                return
        if not self.scores.samples:
            raise ArgumentError("the training data has no batches")
        valid = self._validated()
        if not self._leaving():  # else validation is repeated after a resume
            self._end_epoch(valid)

    def _step(self, group: list[Any]) -> None:
        found = self._updated(*group)
        counts, losses = list(map(batching.count, group)), [loss.item() for loss, _ in found]
        for value in losses:
            if not math.isfinite(value):
                self._fail(value)
        for (_, parts), value, count in zip(found, losses, counts, strict=True):
            self.scores.update(value, parts, count)
        if self.scheduler is not None and self.scheduler_interval == "step":
            self.scheduler.step()
        self.state.step += 1
        samples = sum(counts)
        loss = sum(map(mul, losses, counts)) / samples
        self._emit("on_step_end", Step(self.state.epoch + 1, self.state.step, loss, samples))
        self.boundary = Boundary(self._loaders)
        self._keeper.step_end()

    def _update(self, *group: Any) -> list[Seen]:
        """One step of the optimizer on a group of batches; this is what gets compiled."""
        if mode.tracer is None:
            self._keep_buffers()
        counts = list(map(batching.count, group))
        if self._picked is not None:  # the numbers of the samples are given
            group = tuple([[x[rows] for x in self._picked.tensors] for rows in group])
        self.optimizer.zero_grad()
        found = [self._backward(x, n / sum(counts)) for x, n in zip(group, counts, strict=True)]
        if self.clip_grad_norm is not None:
            clip_grad_norm_(self.trained, self.clip_grad_norm)
        self.optimizer.step()
        return found

    def _keep_buffers(self) -> None:
        self.boundary.keep(self.model)

    def _backward(self, batch: Any, share: float) -> Seen:
        """Add a batch's share of the gradient of the mean over all samples of the step."""
        outputs, target, loss = self.compute(batch)
        if not proceed_if(loss.isfinite()):  # compiled, the step then changes nothing
            self._fail(loss.item())
        (loss if share == 1 else loss * share).backward()
        return self._seen(outputs, target, loss)

    def _compute(self, batch: Any) -> Seen:
        return self._seen(*self.compute(batch))

    def _seen(self, outputs: Any, target: Any, loss: Tensor) -> Seen:
        with no_grad():
            return loss.detach(), self.scores.parts(outputs, target)

    def _end_epoch(self, valid: dict[str, Any]) -> None:
        state, column = self.state, self.monitored
        record = self._recorded(valid)
        state.history.append(record)
        improved = self._judge(record[column])
        if self.scheduler is not None and self.scheduler_interval == "epoch":
            plateau = isinstance(self.scheduler, ReduceLROnPlateau)
            self.scheduler.step(*[record[column]] if plateau else [])
        state.epoch += 1
        self.scores.reset()
        self._emit("on_epoch_end", record)
        self.boundary = Boundary(self._loaders)
        self._keeper.epoch_end(improved)

    # --- validation and early stopping --------------------------------------------------------

    def _validated(self) -> dict[str, Any]:
        if self._loaders.valid is None:
            return {}
        found = self._measured(self._loaders.valid, self._leaving).compute()
        return {f"valid_{name}": value for name, value in found.items()}

    def _measured(self, loader: DataLoader[Any], give_up: Callable[[], Any]) -> Scores:
        scores = Scores(self.metrics)
        with _inference(self.model), no_grad():
            for batch in loader:
                if give_up():
                    break
                loss, parts = self._computed(batch)
                scores.update(loss.item(), parts, batching.count(batch))
        return scores

    def _recorded(self, valid: dict[str, Any]) -> Record:
        columns = {**self.scores.compute(), **valid}
        return {
            "epoch": self.state.epoch + 1,
            "step": self.state.step,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            **{name: value for name, value in columns.items() if not np.ndim(value)},
        }

    @property
    def monitored(self) -> str:
        """The column of the history that decides which epoch is best."""
        return self.monitor if self._loaders.valid is None else f"valid_{self.monitor}"

    def _judge(self, value: float) -> bool:
        """Whether this epoch is the best so far; if so, its weights are kept."""
        state = self.state
        sign = 1 if self.higher_is_better else -1
        if math.isnan(value) or sign * value <= sign * state.best:
            state.stale += 1
            return False
        state.best, state.best_epoch, state.stale = float(value), state.epoch + 1, 0
        self.best_weights = checkpoint.copied(self.model.state_dict())
        return True

    @property
    def higher_is_better(self) -> bool:
        """Which way the monitored value improves."""
        metric = self.scores.metrics.get(self.monitor)
        return metric is not None and metric.higher_is_better

    def _done(self) -> Outcome | None:
        if self.state.epoch >= self.state.epochs:
            return Outcome.FINISHED
        if self.patience is not None and self.state.stale >= self.patience:
            return Outcome.STOPPED_EARLY
        return None

    def _leaving(self) -> Outcome | None:
        """Why to leave in the middle of things, if at all."""
        if self._ctrl_c.requested:
            return Outcome.INTERRUPTED
        return Outcome.STOPPED if self.stop_reason else None

    # --- before and after ---------------------------------------------------------------------

    def _prepare(
        self, loaders: Loaders, epochs: int | None, resume: bool, allow_different: bool
    ) -> None:
        self._loaders, self.stop_reason = loaders, ""
        self._picked = batching.picked(loaders.train) if self.compile else None
        self._watch = display(self.progress)
        folder = opened(self, resume)
        saved = folder.last if folder is not None and resume and folder.last.is_file() else None
        if saved is not None:
            self._restore(load(saved), saved, allow_different)
            self.state.epochs = self.state.epochs if epochs is None else epochs
        else:
            self._start(epochs)
        self.boundary = Boundary(loaders)
        self.folder, self._keeper = folder, Keeper(self, folder)
        self._keeper.start(new=saved is None)

    def _start(self, epochs: int | None) -> None:
        if epochs is None or epochs < 1:
            raise ArgumentError(f"fit needs a number of epochs from 1 on, got epochs={epochs}")
        if names := checkpoint.not_finite(self.model):
            raise NonFiniteError(f"NaN or infinity before training, in {', '.join(names)}")
        if self.seed is not None and not self.state.step:
            manual_seed(self.seed)
        self.state.epochs, self.state.stale = self.state.epoch + epochs, 0
        self.scores.reset()

    def _restore(self, tree: checkpoint.Tree, path: Path, allow_different: bool) -> None:
        if tree.keys() != checkpoint.KEYS:
            raise CheckpointError(f"{path} is no checkpoint of a Trainer; it has {sorted(tree)}")
        if not allow_different:
            checkpoint.check_identity(tree["identity"], checkpoint.identity(self), path)
        checkpoint.restore(self, self._loaders, tree)

    def _finish(self, outcome: Outcome) -> FitResult:
        self._keeper.finish(outcome)
        if self.restore_best and self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
        best = self.history[self.state.best_epoch - 1] if self.state.best_epoch else None
        result = FitResult(outcome, self.history, best, ending(self, outcome))
        self._emit("on_fit_end", result)
        return result

    def _emit(self, event: str, *args: Any) -> None:
        for callback in (*self.callbacks, self._watch):
            try:
                getattr(callback, event)(self, *args)
            except StopTraining as request:
                self.stop_reason = str(request) or type(callback).__name__

    def _fail(self, value: float) -> NoReturn:
        """Save the state before this step, then raise."""
        self.boundary.rewind()
        self._keeper.save_last()
        last = self._loaders.train.batches
        first = last - (last - 1) % self.accumulate
        batch = f"batch {last}" if first == last else f"batches {first} to {last}"
        names = checkpoint.not_finite(self.model)
        cause = f" Not finite since an earlier step: {', '.join(names)}." if names else ""
        raise NonFiniteError(
            f"The loss is {value} in epoch {self.state.epoch + 1}, step {self.state.step + 1} "
            f"({batch} of the epoch).{cause} Look for NaN in the data, lower the learning rate, "
            f"or set clip_grad_norm.{saved_note(self)}"
        )

    # --- small things -------------------------------------------------------------------------

    @property
    def batches_per_epoch(self) -> int | None:
        """Batches that an epoch of the current `fit` has; None for a stream."""
        loader = self._loaders.train
        return None if isinstance(loader.dataset, IterableDataset) else len(loader)

    @property
    def batches_done(self) -> int:
        """Batches taken from the loader in the epoch under way."""
        return self._loaders.train.batches

    @property
    def steps_left(self) -> int | None:
        """Steps until the last epoch's end; None for a stream."""
        if self.batches_per_epoch is None:
            return None
        per_epoch = -(-self.batches_per_epoch // self.accumulate)
        done = -(-self._loaders.train.batches // self.accumulate)
        return (self.state.epochs - self.state.epoch) * per_epoch - done

    @property
    def trained(self) -> list[Tensor]:
        """The optimizer's parameters."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]


@contextmanager
def _inference(model: Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
