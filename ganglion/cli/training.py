"""``ganglion train`` and ``ganglion resume``."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from ganglion import nn
from ganglion.cli.report import BATCH, measure, note, say_measures
from ganglion.cli.saved import GOALS, SavedRun, build, facts
from ganglion.cli.settings import OPTIMIZERS, Settings
from ganglion.creation import from_numpy
from ganglion.data.dataset import TensorDataset
from ganglion.data.loader import DataLoader
from ganglion.data.sources import Source, Split, find, load_source
from ganglion.errors import CheckpointError
from ganglion.optim.lr_scheduler import CosineAnnealingLR
from ganglion.train import Outcome, RunFolder, Trainer


def start(settings: Settings, root: Path, name: str | None) -> bool:
    """Load the data, make a run folder, train, report; False when interrupted."""
    label = name or f"{Path(settings.data).stem}-{settings.model}"
    if find(settings.data) is None:  # a file, to be found again from any folder
        settings = replace(settings, data=str(Path(settings.data).absolute()))
    source = _load(settings)
    settings = replace(settings, epochs=settings.planned_epochs(len(source.train)))
    model = build(settings, source.feature_shape, source.num_outputs)
    folder = RunFolder.create(root, label, settings.to_config(), facts(source))
    _announce(settings, source, model, folder)
    return fit(settings, source, model, folder)


def resume(path: Path, allow_different: bool) -> bool:
    """Go on from a run's last checkpoint, as ``start``; a finished run is only reported."""
    run = SavedRun(path)
    if run.finished:
        print(f"{path}: training is over ({run.record['outcome']}); there is nothing to resume")
        say_measures("test", run.record["samples"]["test"], run.record["test"])
        return True
    source = _load(run.settings)
    if source.data_hash != run.record["data_hash"]:
        raise CheckpointError(
            f"{run.settings.data} is no longer what {path} was trained on (its hash differs). "
            "Restore it, or train a new run."
        )
    model = run.network()
    _announce(run.settings, source, model, run.folder)
    return fit(run.settings, source, model, run.folder, True, allow_different)


def _load(settings: Settings) -> Source:
    source = load_source(settings.data, settings.target, settings.task, settings.seed)
    for text in source.notes:
        note(text)
    return source


def _announce(settings: Settings, source: Source, model: nn.Module, folder: RunFolder) -> None:
    parts = ", ".join(f"{count:,} {part}" for part, count in _samples(source).items())
    count = sum(p.numel() for p in model.parameters())
    print(f"{Path(settings.data).name}: {source.task}; {parts} samples of {source.feature_shape}")
    print(f"{settings.model} with {count:,} parameters, in {folder.path}")


def _samples(source: Source) -> dict[str, int]:
    return {part: len(getattr(source, part)) for part in ("train", "valid", "test")}


def fit(
    settings: Settings,
    source: Source,
    model: nn.Module,
    folder: RunFolder,
    resume: bool = False,
    allow_different: bool = False,
) -> bool:
    trainer = _trainer(settings, source, model, folder)
    result = trainer.fit(
        _loader(source.train, settings.batch_size, shuffle=True, seed=settings.seed),
        _loader(source.valid, BATCH),
        epochs=settings.planned_epochs(len(source.train)),
        resume=resume,
        allow_different=allow_different,
    )
    if result.outcome is Outcome.INTERRUPTED:
        return False
    found = measure(trainer, source.preprocessing, source.test.x, source.test.y)
    folder.update_record(test=found, samples=_samples(source))
    print()
    say_measures("test", len(source.test), found)
    print(f"weights and metrics are in {folder.path}")
    return True


def _loader(split: Split, batch_size: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        TensorDataset(from_numpy(split.x), from_numpy(split.y)), batch_size, **options
    )


def _trainer(settings: Settings, source: Source, model: nn.Module, folder: RunFolder) -> Trainer:
    """The trainer of a run: loss and metric by task, optimizer and schedule by settings."""
    optimizer = OPTIMIZERS[settings.optimizer](
        model.named_parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    epochs = settings.planned_epochs(len(source.train))
    steps = epochs * math.ceil(len(source.train) / settings.batch_size)
    cosine = settings.schedule == "cosine"
    loss, metric = GOALS[source.task]
    return Trainer(
        model,
        loss(),
        optimizer,
        metrics=[metric],
        scheduler=CosineAnnealingLR(optimizer, steps) if cosine else None,
        scheduler_interval="step" if cosine else "epoch",
        run_dir=folder,
        seed=settings.seed,
        patience=settings.patience or None,
        restore_best=True,
        checkpoint_seconds=settings.checkpoint_every,
        compile=settings.compile,
        data_hash=source.data_hash,
        resume_hint=f"run: ganglion resume {folder.path}",
    )
