"""scikit-learn: perceptrons only, trained batch by batch."""

from typing import Any

import numpy as np
from peers.networks import first_state
from peers.side import Side, in_turn
from sklearn.neural_network import MLPClassifier
from workloads import Workload

Array = np.ndarray[Any, Any]


def train(workload: Workload) -> Side:
    """``partial_fit`` without weight decay or momentum."""
    state = first_state(workload)
    layers = iter([(state["0.weight"], state["0.bias"]), (state["2.weight"], state["2.bias"])])

    class Network(MLPClassifier):  # type: ignore[misc]
        def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[Array, Array]:
            weight, bias = next(layers)
            return np.array(weight.T, dtype), np.array(bias, dtype)

    model = Network(
        hidden_layer_sizes=workload.sizes["layers"][1:-1],
        solver=workload.optimizer.lower(),
        learning_rate_init=workload.settings["lr"],
        batch_size=workload.batch,
        alpha=0.0,
        momentum=0.0,
        nesterovs_momentum=False,
    )
    classes = np.arange(workload.classes)

    def step(x: Array, y: Array) -> float:
        return float(model.partial_fit(x, y, classes=classes).loss_)

    return Side(in_turn(workload.batches(), step), np.asarray)
