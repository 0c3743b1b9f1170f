"""Ctrl-C wherever Python looks for it, in every stage of a compiled call."""

from functools import partial

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from tests.compiler import interruption
from tests.compiler.workloads import Training, python


class Busy(Training):
    """A training whose steps use all that a trace takes care of."""

    def __init__(self):
        super().__init__("mlp64")
        self.model = nn.Sequential(nn.Linear(64, 32), nn.Dropout(0.2), nn.ReLU(), nn.Linear(32, 10))
        self.optimizer = gg.optim.Adam(self.model.parameters(), lr=1e-2)
        first = self.model[0].weight
        first.register_hook(lambda grad: grad * 2)
        first.data = gg.from_numpy(np.asfortranarray(first.detach().numpy()))
        self.scale, self.count = 1.0, 0

    def eager_step(self, x, y):
        """It reads a number that changes, and sets an attribute."""
        self.count += 1
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x) * self.scale, y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss

    def prepare(self):
        """Numbers follow from how many steps were done; a weight moves to other memory."""
        last = self.model[-1].weight
        last.data = last.data.clone()
        self.scale = 1.0 + len(self.losses)
        self.optimizer.param_groups[0]["lr"] = 0.01 / self.scale


MLP = partial(Training, "mlp64")
STEPS = 5
CALLS = [(MLP, 0, 101), (MLP, 1, 7), (Busy, 0, 301), (Busy, 1, 301), (Busy, 2, 301), (Busy, 3, 21)]


def check(make, done, step):
    """Interrupt the call after so many at every so many-th place."""
    states = interruption.course(make, STEPS)
    training = make().run(done)
    everywhere = interruption.places(lambda: training.run(1))
    wrong = {
        f"{place[0]}, time {place[1]}": found
        for place in everywhere[::step]
        if (found := interruption.faults(make, states, done, place))
    }
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*is set while:UserWarning")
@pytest.mark.parametrize(("make", "done", "step"), CALLS)
def test_an_interrupted_call_is_done_wholly_or_not_at_all(make, done, step):
    check(make, done, step)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:.*is set while:UserWarning")
@pytest.mark.parametrize(("make", "done", "step"), CALLS)
def test_calls_interrupted_everywhere(make, done, step):
    check(make, done, 1)


def check_processes(what, step):
    done = python("-m", "tests.compiler.interruption", what, str(step), timeout=3000)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("what", "step"), [("call", 601), ("import", 1301)])
def test_interrupted_imports_can_be_done_again(what, step):
    check_processes(what, step)


@pytest.mark.full
@pytest.mark.parametrize("what", ["call", "import"])
def test_imports_interrupted_everywhere(what):
    check_processes(what, 7)
