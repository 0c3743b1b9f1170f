"""What a checkpoint holds, and whether it belongs to the program that wants to continue from it.

A checkpoint is one tree in one safetensors file: the states of model, loss, optimizer, scheduler
and callbacks, the running sums of the epoch under way, the random generators (Ganglion's default
one, Python's and NumPy's global ones), the loaders' positions, the counters and history, the best
weights, and the identity of the program.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ganglion.config import flags
from ganglion.creation import from_numpy
from ganglion.data.loader import DataLoader
from ganglion.dispatch import read
from ganglion.errors import CheckpointError, NotFoundError
from ganglion.gradmode import no_grad
from ganglion.nn.module import Module
from ganglion.random import default_generator, set_rng_state
from ganglion.serialize import load
from ganglion.tensor import Tensor
from ganglion.train.environment import environment
from ganglion.train.events import Record

if TYPE_CHECKING:
    from ganglion.train.trainer import Trainer

Tree = dict[str, Any]

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass
class State:
    """Counters of a training: ``epoch`` and ``step`` count what is finished, of ``epochs``.

    best, best_epoch: the best monitored value and its epoch; stale: epochs since then.
    seconds: time spent, over all sessions.
    """

    epochs: int = 0
    epoch: int = 0
    step: int = 0
    best: float = float("nan")
    best_epoch: int = 0
    stale: int = 0
    seconds: float = 0.0
    history: list[Record] = field(default_factory=list)


@dataclass
class Loaders:
    """The loaders of one `fit`."""

    train: DataLoader[Any]
    valid: DataLoader[Any] | None

    def state_dict(self) -> Tree:
        """Positions of both."""
        valid = None if self.valid is None else self.valid.state_dict()
        return {"train": self.train.state_dict(), "valid": valid}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue there."""
        self.train.load_state_dict(state["train"])
        if self.valid is not None and state["valid"] is not None:
            self.valid.load_state_dict(state["valid"])


class Boundary:
    """What a step changes before its parameters do, as it was when the step before had ended."""

    def __init__(self, loaders: Loaders) -> None:
        self.loaders = loaders.state_dict()
        self.random = read(default_generator.state).copy()  # quicker than get_rng_state
        self.buffers: list[tuple[Tensor, Tensor]] = []

    def keep(self, model: Module) -> None:
        """Copy the buffers, before a step that may be left in the middle: one not compiled."""
        self.buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]

    def rewind(self) -> None:
        """Undo what an unfinished step did to random numbers and buffers."""
        set_rng_state(from_numpy(self.random))
        with no_grad():
            for buffer, before in self.buffers:
                buffer.copy_(before)


# --- all state ----------------------------------------------------------------------------------


def collect(trainer: Trainer) -> Tree:
    """The checkpoint of a trainer at its last boundary; tensors share its memory."""
    boundary, scheduler, loss = trainer.boundary, trainer.scheduler, trainer.loss
    return {
        "model": trainer.model.state_dict(),
        "loss": loss.state_dict() if isinstance(loss, Module) else {},
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "callbacks": {str(i): c.state_dict() for i, c in enumerate(trainer.callbacks)},
        "scores": trainer.scores.state_dict(),
        "random": {
            "ganglion": from_numpy(boundary.random),
            "python": random.getstate(),
            "numpy": _numpy_state(),
        },
        "loaders": boundary.loaders,
        "state": asdict(trainer.state),
        "best": trainer.best_weights,
        "identity": identity(trainer),
    }


def _numpy_state() -> tuple[Any, ...]:
    """The state of NumPy's global generator in plain values."""
    name, key, *rest = np.random.get_state()  # noqa: NPY002 - users' code may draw from it
    return name, np.asarray(key).tolist(), *rest


KEYS: Final = frozenset(
    "model loss optimizer scheduler callbacks scores random loaders state best identity".split()
)


def restore(trainer: Trainer, loaders: Loaders, tree: Tree) -> None:
    """Put everything back as `collect` found it."""
    trainer.model.load_state_dict(tree["model"])
    if isinstance(trainer.loss, Module):
        trainer.loss.load_state_dict(tree["loss"])
    trainer.optimizer.load_state_dict(tree["optimizer"])
    if trainer.scheduler is not None and tree["scheduler"] is not None:
        trainer.scheduler.load_state_dict(tree["scheduler"])
    for i, callback in enumerate(trainer.callbacks):
        callback.load_state_dict(tree["callbacks"].get(str(i), {}))
    trainer.scores.load_state_dict(tree["scores"])
    set_rng_state(tree["random"]["ganglion"])
    random.setstate(tree["random"]["python"])
    np.random.set_state(tree["random"]["numpy"])  # noqa: NPY002
    loaders.load_state_dict(tree["loaders"])
    trainer.state = State(**tree["state"])
    trainer.best_weights = tree["best"]


# --- identity -----------------------------------------------------------------------------------


def identity(trainer: Trainer) -> Tree:
    """Everything that decides the bits of the result, as plain values to compare and to show."""
    optimizer = trainer.optimizer
    return {
        "model": described(trainer.model),
        "loss": described(trainer.loss),
        "optimizer": f"{type(optimizer).__name__} {described(optimizer.defaults)}",
        "parameters": _parameter_names(trainer),
        "scheduler": type(trainer.scheduler).__name__,
        "scheduler_interval": trainer.scheduler_interval,
        "metrics": list(trainer.scores.metrics),
        "callbacks": [type(c).__name__ for c in trainer.callbacks if c.state_dict()],
        "accumulate": trainer.accumulate,
        "compile": flags.compiler if trainer.compile else "off",
        "clip_grad_norm": trainer.clip_grad_norm,
        "monitor": trainer.monitor,
        "seed": trainer.seed,
        "data_hash": trainer.data_hash,
        "batches_per_epoch": trainer.batches_per_epoch,
        **environment(),
    }


def described(thing: Any) -> str:
    """Its repr without addresses; functions by name."""
    name = getattr(thing, "__qualname__", None)
    return _ADDRESS.sub("", name or repr(thing))


def _parameter_names(trainer: Trainer) -> list[list[str]]:
    """The optimizer's parameters in its order, by group: its state is saved by number."""
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    groups = trainer.optimizer.param_groups
    return [[names.get(id(p), "outside the model") for p in g["params"]] for g in groups]


def check_identity(saved: Tree, now: Tree, where: object) -> None:
    """``CheckpointError`` naming every difference."""
    changed = [key for key in now if saved.get(key) != now[key]]
    if changed:
        lines = [f"  {key}: {_difference(saved.get(key), now[key])}" for key in changed]
        raise CheckpointError(
            f"{where} was written under other conditions, so continuing would not give the bits "
            "of an uninterrupted run:\n" + "\n".join(lines) + "\nRestore these, or accept other "
            "results with allow_different=True (--allow-different); the saved state then wins over "
            "new settings."
        )


def _difference(saved: Any, now: Any) -> str:
    """Both values, or the first lines in which they differ."""
    old, new = str(saved).splitlines(), str(now).splitlines()
    pairs = zip(old, new, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(old), len(new)))
    shown = [lines[first].strip() if first < len(lines) else "nothing" for lines in (old, new)]
    return f"{shown[0]} when saved, {shown[1]} now"


def best_epoch(path: Path) -> int | None:
    """Of which epoch a `best` checkpoint is; None when there is none that can be read."""
    try:
        found: int = load(path)["state"]["best_epoch"]
    except (CheckpointError, NotFoundError, KeyError, TypeError):
        return None
    return found


def not_finite(model: Module) -> list[str]:
    """Names of the trained parameters that hold NaN or infinity."""
    return [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and not np.isfinite(as_array(p)).all()
    ]


def as_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Its values for NumPy."""
    return tensor.detach().numpy()


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in memory of their own."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}
