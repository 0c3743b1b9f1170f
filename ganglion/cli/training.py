"""``ganglion train`` and ``ganglion resume``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ganglion import nn
from ganglion.cli.report import measure, say_measures
from ganglion.cli.settings import OPTIMIZERS, Settings
from ganglion.data.dataset import TensorDataset
from ganglion.data.loader import DataLoader
from ganglion.data.sources import Source, Split, load_source
from ganglion.errors import CheckpointError
from ganglion.creation import from_numpy
from ganglion.models import mlp
from ganglion.optim.lr_scheduler import CosineAnnealingLR
from ganglion.random import manual_seed
from ganglion.train import Outcome, RunFolder, Trainer


def start(settings: Settings, root: Path, name: str | None) -> bool:
    """Load the data, make a run folder, train, report; False when interrupted."""
    source = _load(settings)
    model = build(settings, source.feature_shape, source.num_outputs)
    record = {
        "data_hash": source.data_hash,
        "feature_shape": list(source.feature_shape),
        "outputs": source.num_outputs,
        "task": source.task,
        "preprocessing": source.preprocessing,
    }
    label = name or f"{Path(settings.data).stem}-{settings.model}"
    folder = RunFolder.create(root, label, settings.to_config(), record)
    _announce(settings, source, model, folder)
    return _train(settings, source, model, folder, resume=False, allow_different=False)


def resume(path: Path, allow_different: bool) -> bool:
    """Rebuild what the run was made of and go on from its last checkpoint, as ``start``."""
    folder = RunFolder.open(path)
    settings = Settings.from_config(folder.config())
    source = _load(settings)
    if source.data_hash != folder.record()["data_hash"]:
        raise CheckpointError(
            f"the data of {settings.data} is no longer what {path} was trained on (its hash "
            "differs). Restore it, or train a new run."
        )
    model = build(settings, source.feature_shape, source.num_outputs)
    print(f"resuming {folder.path}")
    return _train(settings, source, model, folder, resume=True, allow_different=allow_different)


def _load(settings: Settings) -> Source:
    source = load_source(settings.data, settings.target, settings.task, settings.seed)  # type: ignore[arg-type]
    for note in source.notes:
        print(f"note: {note}")
    return source


def build(settings: Settings, feature_shape: Any, outputs: int) -> nn.Module:
    """The network, initialised from the run's seed."""
    manual_seed(settings.seed)
    return mlp(feature_shape, settings.hidden, outputs, settings.activation, settings.dropout)


def _announce(settings: Settings, source: Source, model: nn.Module, folder: RunFolder) -> None:
    parts = f"{len(source.train):,} train, {len(source.valid):,} valid, {len(source.test):,} test"
    count = sum(p.numel() for p in model.parameters())
    print(f"{settings.data}: {source.task}, {parts} samples of shape {source.feature_shape}")
    print(f"{settings.model}: {count:,} parameters; run folder {folder.path}")


def _dataset(split: Split) -> TensorDataset:
    return TensorDataset(from_numpy(split.x), from_numpy(split.y))


def _train(
    settings: Settings, source: Source, model: nn.Module, folder: RunFolder, *,
    resume: bool, allow_different: bool,
) -> bool:  # fmt: skip
    trainer = make_trainer(settings, source, model, folder)
    train = DataLoader(
        _dataset(source.train), settings.batch_size, shuffle=True, seed=settings.seed
    )
    valid = DataLoader(_dataset(source.valid), 1024) if len(source.valid) else None
    result = trainer.fit(
        train, valid, epochs=settings.epochs, resume=resume, allow_different=allow_different
    )
    if result.outcome is not Outcome.INTERRUPTED:
        found = measure(trainer, source.preprocessing, source.test.x, source.test.y)
        folder.update_record(test=found, outcome=result.outcome.value)
        say_measures("test", len(source.test), found)
        print(f"weights and metrics are in {folder.path}")
    return result.outcome is not Outcome.INTERRUPTED


def make_trainer(
    settings: Settings, source: Source, model: nn.Module, folder: RunFolder
) -> Trainer:
    """The trainer of a run: loss and metrics by task, optimizer and schedule by settings."""
    optimizer = OPTIMIZERS[settings.optimizer](
        model.named_parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    steps = settings.epochs * math.ceil(len(source.train) / settings.batch_size)
    cosine = settings.schedule == "cosine"
    classes = source.task == "classification"
    return Trainer(
        model,
        nn.CrossEntropyLoss() if classes else nn.MSELoss(),
        optimizer,
        metrics=["accuracy"] if classes else ["r2"],
        scheduler=CosineAnnealingLR(optimizer, steps) if cosine else None,
        scheduler_interval="step" if cosine else "epoch",
        run_dir=folder,
        seed=settings.seed,
        monitor="accuracy" if classes else "loss",
        patience=settings.patience or None,
        restore_best=True,
        checkpoint_seconds=settings.checkpoint_every,
        data_hash=source.data_hash,
        resume_hint=f"continue with: ganglion resume {folder.path}",
    )
