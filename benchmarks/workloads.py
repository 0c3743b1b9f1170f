"""What the training benchmark trains: seven networks, their batches and their optimizers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Pair = tuple[Array, Array]

# Inputs and targets go round separately, 8 and 9 of them, so that no input keeps its target:
# what cannot be learned by heart keeps gradients, and with them the work, as at the beginning.
INPUTS, TARGETS = 8, 9


@dataclass(frozen=True)
class Workload:
    """A network, trained with random data.

    network: its name in every peer's file; ``sizes`` are its arguments there.
    inputs: the shape of one sample, of floats or, with a ``vocabulary``, of tokens.
    targets: the shape of one sample's targets, classes.
    settings: what PyTorch's optimizer of that name is given.
    """

    name: str
    title: str
    network: str
    batch: int
    inputs: tuple[int, ...]
    classes: int
    optimizer: str
    settings: Mapping[str, float]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[int, ...] = ()
    vocabulary: int = 0

    @property
    def training(self) -> str:
        """How it is trained, in words."""
        momentum = " with momentum" if "momentum" in self.settings else ""
        return f"{self.title}, batch {self.batch}, {self.optimizer}{momentum}"

    @property
    def is_of_images(self) -> bool:
        """Whether samples are (C, H, W)."""
        return len(self.inputs) == 3

    def samples(self, count: int, batch: int) -> list[Array]:
        """Batches of inputs, always the same ones."""
        rng, shape = np.random.default_rng(1), (count, batch, *self.inputs)
        if self.vocabulary:
            return list(rng.integers(0, self.vocabulary, shape))
        return list(rng.standard_normal(shape, np.float32))

    def batches(self) -> list[Pair]:
        """What one training step after another is given, to be begun again at the end."""
        inputs = self.samples(INPUTS, self.batch)
        shape = (TARGETS, self.batch, *self.targets)
        targets = list(np.random.default_rng(2).integers(0, self.classes, shape))
        return [(inputs[i % INPUTS], targets[i % TARGETS]) for i in range(INPUTS * TARGETS)]


def mlp(name: str, layers: tuple[int, ...], batch: int, optimizer: str, lr: float) -> Workload:
    """A perceptron on as many floats as its first layer takes."""
    return Workload(
        name,
        f"MLP {'-'.join(map(str, layers))}",
        "mlp",
        batch=batch,
        inputs=layers[:1],
        classes=layers[-1],
        optimizer=optimizer,
        settings={"lr": lr},
        sizes={"layers": layers},
    )


_ALL = (
    mlp("mlp32", (784, 128, 10), 32, "Adam", 1e-3),
    mlp("mlp128", (784, 128, 10), 128, "Adam", 1e-3),
    mlp("mlp64", (64, 64, 10), 32, "SGD", 1e-2),
    Workload(
        "cnn",
        "CNN 28×28, convolutions 1-32-64, then 3136-128-10",
        "cnn",
        batch=64,
        inputs=(1, 28, 28),
        classes=10,
        optimizer="Adam",
        settings={"lr": 1e-3},
    ),
    Workload(
        "lstm",
        "LSTM 32-128, 50 steps",
        "lstm",
        batch=32,
        inputs=(50, 32),
        classes=10,
        optimizer="Adam",
        settings={"lr": 1e-3},
        sizes={"inputs": 32, "hidden": 128, "classes": 10},
    ),
    Workload(
        "gpt",
        "GPT, 4 layers, width 128, 4 heads, 128 tokens",
        "gpt",
        batch=8,
        inputs=(128,),
        targets=(128,),
        vocabulary=65,
        classes=65,
        optimizer="AdamW",
        settings={"lr": 1e-3, "weight_decay": 0.01},
        sizes={"vocabulary": 65, "width": 128, "layers": 4, "heads": 4, "context": 128},
    ),
    Workload(
        "resnet20",
        "ResNet-20, 32×32",
        "resnet",
        batch=32,
        inputs=(3, 32, 32),
        classes=10,
        optimizer="SGD",
        settings={"lr": 0.05, "momentum": 0.9},
        sizes={"blocks": 3, "classes": 10},
    ),
)

WORKLOADS = {workload.name: workload for workload in _ALL}
