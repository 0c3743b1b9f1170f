"""What a checkpoint remembers beyond the parameters, and how it tells programs apart."""

import random

import numpy as np

import ganglion as gg
from ganglion import nn, optim
from ganglion.serialize import load
from ganglion.train import Callback, StopTraining, Trainer
from ganglion.train.checkpoint import KEYS, described
from tests.train.program import StopAfter, data, model, trainer


class Draw(Callback):
    """Draws from every global source of randomness after each step."""

    def __init__(self, stop=None):
        self.stop, self.drawn = stop, []

    def on_step_end(self, trainer, step):
        numbers = random.random(), np.random.rand(), np.random.randn(), gg.rand(1).item()  # noqa: NPY002
        self.drawn.append(numbers)
        if step.step == self.stop:
            raise StopTraining

    def state_dict(self):
        return {"drawn": self.drawn}

    def load_state_dict(self, state):
        self.drawn = state["drawn"]


def drawn_after_resume(folder, stop):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = Draw(stop)
    trainer(folder, callbacks=[first]).fit(data(), epochs=2, batch_size=8)
    random.random()
    np.random.rand(3)  # noqa: NPY002
    gg.rand(5)
    second = Draw()
    trainer(folder, callbacks=[second]).fit(data(), resume=True, batch_size=8)
    return second.drawn


def test_every_global_source_of_randomness_continues(tmp_path):
    whole = drawn_after_resume(tmp_path / "whole", None)
    assert len(set(whole)) == 12
    assert drawn_after_resume(tmp_path / "cut", 7) == whole


def test_a_loss_with_parameters_is_saved_too(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(gg.ones(1))

        def forward(self, outputs, target):
            error = nn.functional.cross_entropy(outputs, target)
            return (error * self.scale.exp() - self.scale).sum()

    def work(folder, **options):
        network, loss = model(), Scaled()
        optimizer = optim.SGD([*network.parameters(), *loss.parameters()], lr=0.1, momentum=0.9)
        return Trainer(network, loss, optimizer, run_dir=folder, progress=False, seed=0, **options)

    whole = work(None)
    whole.fit(data(), epochs=2, batch_size=8)
    work(tmp_path / "run", callbacks=[StopAfter(7)]).fit(data(), epochs=2, batch_size=8)
    resumed = work(tmp_path / "run")
    resumed.fit(data(), resume=True, batch_size=8)
    assert resumed.loss.scale.tolist() == whole.loss.scale.tolist()


def test_a_checkpoint_is_one_file_that_other_programs_can_read(tmp_path):
    work = trainer(tmp_path / "run")
    work.fit(data(), epochs=1, batch_size=8)
    tree = load(tmp_path / "run" / "last.safetensors")
    assert tree.keys() == KEYS
    assert list(tree["model"]) == list(work.model.state_dict())
    assert tree["state"]["history"] == work.history
    named = gg.serialize.load_file(tmp_path / "run" / "best.safetensors")
    assert {"model.0.weight", "optimizer.state.0.exp_avg"} <= named.keys()


def test_things_are_described_without_addresses():
    def mean(outputs, target):
        return outputs

    assert described(mean).endswith("mean")
    assert described(object()) == "<object object>"
    assert described(nn.ReLU()) == "ReLU()"
    assert described(nn.ReLU) == "ReLU"
