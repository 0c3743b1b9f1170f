"""tinygrad: the networks that its layers write as briefly as PyTorch's, as one jitted step."""

from collections.abc import Callable
from typing import Any

import numpy as np
from peers.networks import first_state
from peers.side import Side, in_turn
from tinygrad import Context, Device, Tensor, TinyJit, nn
from tinygrad.nn.state import load_state_dict
from workloads import Workload

Array = np.ndarray[Any, Any]


class Network:
    """Layers by PyTorch's numbers, and functions between them."""

    def __init__(self, *layers: Callable[[Tensor], Tensor]) -> None:
        self.layers = layers
        self.named = {str(i): x for i, x in enumerate(layers) if hasattr(x, "weight")}

    def __call__(self, x: Tensor) -> Tensor:
        return x.sequential(list(self.layers))


def mlp(layers: tuple[int, ...]) -> Network:
    inputs, hidden, classes = layers
    return Network(nn.Linear(inputs, hidden), Tensor.relu, nn.Linear(hidden, classes))


def cnn() -> Network:
    return Network(
        nn.Conv2d(1, 32, 3, padding=1),
        Tensor.relu,
        Tensor.max_pool2d,
        nn.Conv2d(32, 64, 3, padding=1),
        Tensor.relu,
        Tensor.max_pool2d,
        lambda x: x.flatten(1),
        nn.Linear(3136, 128),
        Tensor.relu,
        nn.Linear(128, 10),
    )


NETWORKS: dict[str, Callable[..., Network]] = {"mlp": mlp, "cnn": cnn}
OPTIMIZERS = {"SGD": nn.optim.SGD, "Adam": nn.optim.Adam}


def train(workload: Workload) -> Side:
    """Forward, backward and update in one ``TinyJit``."""
    model = _network(workload)
    make = OPTIMIZERS[workload.optimizer]
    optimizer = make(nn.state.get_parameters(model.named), **workload.settings)

    @TinyJit
    @Context(TRAINING=1)
    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = model(x).sparse_categorical_crossentropy(y).backward()
        return loss.realize(*optimizer.schedule_step())

    batches = [(_tensor(x), _tensor(y.astype(np.int32))) for x, y in workload.batches()]
    return Side(in_turn(batches, _finished(step)), Tensor.numpy)


def infer(workload: Workload, batch: int) -> Side:
    """The forward pass in one ``TinyJit``."""
    model = _network(workload)
    forward = TinyJit(lambda x: model(x).realize())
    batches = [(_tensor(x),) for x in workload.samples(2, batch)]
    return Side(in_turn(batches, _finished(forward)), Tensor.numpy)


def _network(workload: Workload) -> Network:
    model = NETWORKS[workload.network](**workload.sizes)
    state = {name: Tensor(x) for name, x in first_state(workload).items()}
    load_state_dict(model.named, state, verbose=False)
    return model


def _tensor(x: Array) -> Tensor:
    return Tensor(x).realize()


def _finished(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The call with its end waited for: tinygrad's processor works on while Python goes ahead."""

    def run(*batch: Tensor) -> Tensor:
        result = call(*batch)
        Device[Device.DEFAULT].synchronize()
        return result

    return run
