"""A run as it stands in its folder: settings, facts about the data, and the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ganglion import nn
from ganglion.cli.settings import MODELS, Settings
from ganglion.data.sources import Source
from ganglion.errors import CheckpointError
from ganglion.optim import SGD
from ganglion.random import manual_seed
from ganglion.train import RunFolder, Trainer

GOALS: Final = {
    "classification": (nn.CrossEntropyLoss, "accuracy"),
    "regression": (nn.MSELoss, "r2"),
}


def facts(source: Source) -> dict[str, Any]:
    """What run.json keeps of the data, so that the network can be used without it."""
    return {
        "task": source.task,
        "feature_shape": list(source.feature_shape),
        "outputs": source.num_outputs,
        "data_hash": source.data_hash,
        "preprocessing": source.preprocessing,
    }


_FACTS: Final = ("task", "feature_shape", "outputs", "data_hash", "preprocessing")


class SavedRun:
    """The run in a folder that ``ganglion train`` made; what it holds is checked.

    Errors: ``NotFoundError`` for no folder, ``CheckpointError`` for one of another program.
    """

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder.open(path)
        self.settings = Settings.from_config(self.folder.config())
        self.record = self.folder.record()
        missing = [name for name in _FACTS if name not in self.record]
        if missing:
            raise CheckpointError(f"{path / 'run.json'} lacks {', '.join(missing)}")
        self.preprocessing: dict[str, Any] = self.record["preprocessing"]

    @property
    def finished(self) -> bool:
        """Whether training is over and the result on the test part is known."""
        return "test" in self.record

    def network(self) -> nn.Module:
        """The network as it was before training."""
        return build(self.settings, tuple(self.record["feature_shape"]), self.record["outputs"])

    def trainer(self) -> Trainer:
        """A trainer of the best weights, to evaluate and predict with."""
        model = self.network()
        model.load_state_dict(self.folder.weights())
        loss, metric = GOALS[self.record["task"]]
        optimizer, compile = SGD(model.parameters()), self.settings.compile
        return Trainer(model, loss(), optimizer, metrics=[metric], compile=compile)


def build(settings: Settings, feature_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network, initialised from the run's seed."""
    manual_seed(settings.seed)
    make = MODELS[settings.model]
    return make(feature_shape, settings.hidden, outputs, settings.activation, settings.dropout)
