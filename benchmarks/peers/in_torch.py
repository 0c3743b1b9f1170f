"""PyTorch and Ganglion: the same program in both, eager or compiled."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from peers.networks import network
from peers.side import Side, in_turn
from workloads import Workload

Array = np.ndarray[Any, Any]


class Library:
    """PyTorch or Ganglion, as a benchmark uses it."""

    def __init__(self, name: str, threads: int, compiled: bool, channels_last: bool) -> None:
        self.torch = importlib.import_module(name)
        self.torch.set_num_threads(threads)
        self.name, self.compiled, self.channels_last = name, compiled, channels_last
        if compiled and name == "torch":
            self.torch.compiler.reset()  # one workload's graphs are not another's

    def network(self, workload: Workload) -> Any:
        """The network where its library wants it."""
        found = network(self.torch, workload)
        return found.to(memory_format=self.torch.channels_last) if self.channels_last else found

    def tensor(self, x: Array) -> Any:
        """An array as a batch."""
        found = self.torch.from_numpy(x)
        if self.channels_last and x.ndim == 4:
            found = found.to(memory_format=self.torch.channels_last)
        return found

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, compiled if that is what is measured."""
        if not self.compiled:
            return function
        found: Callable[..., Any] = self.torch.compile(function)
        return found


def train(
    workload: Workload,
    library: str,
    threads: int,
    compiled: bool = False,
    channels_last: bool = False,
    fused: bool = False,
) -> Side:
    """The ordinary training step.

    Ganglion compiles the step as a whole. PyTorch would break it at ``backward()``; there, as its
    manual says, the forward pass with the loss is compiled, and the optimizer's step.
    """
    lib = Library(library, threads, compiled, channels_last)
    torch, model = lib.torch, lib.network(workload)
    make = getattr(torch.optim, workload.optimizer)
    options = {"fused": True} if fused else {}
    optimizer = make(model.parameters(), **workload.settings, **options)
    criterion = torch.nn.CrossEntropyLoss()
    parts = lib.compile if library == "torch" else lambda function: function
    loss_of = parts(lambda x, y: criterion(model(x), y))
    update = parts(optimizer.step)

    def step(x: Any, y: Any) -> Any:
        loss = loss_of(x, y)
        optimizer.zero_grad()
        loss.backward()
        update()
        return loss

    whole = step if library == "torch" else lib.compile(step)
    batches = [(lib.tensor(x), lib.tensor(y.reshape(-1))) for x, y in workload.batches()]
    return Side(in_turn(batches, whole), _read)


def infer(
    workload: Workload,
    batch: int,
    library: str,
    threads: int,
    compiled: bool = False,
    channels_last: bool = False,
) -> Side:
    """The forward pass of a network in evaluation mode."""
    lib = Library(library, threads, compiled, channels_last)
    model = lib.compile(lib.network(workload).eval())
    mode = lib.torch.inference_mode

    def forward(x: Any) -> Any:
        with mode():
            return model(x)

    batches = [(lib.tensor(x),) for x in workload.samples(2, batch)]
    return Side(in_turn(batches, forward), _read)


def _read(x: Any) -> Array:
    found: Array = x.detach().numpy()
    return found
