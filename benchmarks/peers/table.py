"""Who is measured."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peers.side import Side
from workloads import Workload

THREADS = 2


@dataclass(frozen=True)
class Peer:
    """A library, in one way of using it.

    module: the file here whose ``train`` and ``infer`` make its sides; ``options`` is for them.
    images: whether only networks on images make a difference.
    networks: those that are written for it; all if empty.
    tasks: "train", "infer" and "first", the first training step.
    """

    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    images: bool = False
    networks: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("train", "infer", "first")

    def takes(self, workload: Workload, task: str) -> bool:
        """Whether it has something to measure there."""
        written = not self.networks or workload.network in self.networks
        return written and task in self.tasks and (workload.is_of_images or not self.images)

    def make(self, task: str, *given: Any) -> Side:
        """Its training step of a workload, or its forward pass at a batch size."""
        module = importlib.import_module(f"peers.{self.module}")
        side: Side = getattr(module, task)(*given, **self.options)
        return side


def _torch(library: str, variant: str = "", **options: Any) -> Peer:
    """PyTorch or Ganglion; ``variant`` names options that cannot change a first step much."""
    tasks = {"": ("train", "infer", "first"), "channels_last": ("train", "infer")}
    options |= {"library": library, "threads": THREADS} | dict.fromkeys(variant.split(), True)
    return Peer("in_torch", options, "channels_last" in variant, (), tasks.get(variant, ("train",)))


OURS = "ganglion"

PEERS = {
    OURS: _torch("ganglion", compiled=True),
    f"{OURS} eager": _torch("ganglion"),
    "torch": _torch("torch"),
    "torch channels_last": _torch("torch", "channels_last"),
    "torch fused": _torch("torch", "fused"),
    "torch channels_last fused": _torch("torch", "channels_last fused"),
    "torch.compile": _torch("torch", compiled=True),
    "torch.compile channels_last": _torch("torch", "channels_last", compiled=True),
    "jax": Peer("in_jax"),
    "tinygrad": Peer("in_tinygrad", networks=("mlp", "cnn")),
    "sklearn": Peer("in_sklearn", networks=("mlp",), tasks=("train", "first")),
}

FAMILIES = tuple(dict.fromkeys(name.partition(" ")[0] for name in PEERS))


def is_ours(name: str) -> bool:
    """Whether this is Ganglion, compiled or eager."""
    return name.partition(" ")[0] == OURS


def members(families: Sequence[str], workload: Workload, task: str) -> Iterator[str]:
    """The names of the peers of these families that take part."""
    for name, peer in PEERS.items():
        if name.partition(" ")[0] in families and peer.takes(workload, task):
            yield name
