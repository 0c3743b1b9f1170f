"""Steps that the tests of the compiler's inspection look at."""

import numpy as np

import ganglion as gg
import ganglion.functional as F
from ganglion import nn
from ganglion.compiler.plan import plan
from ganglion.compiler.simplify import expand
from ganglion.compiler.trace import trace


def scheduled(program):
    """The plan of a program."""
    return plan(expand(program.graph))


def mlp(batch=4, width=8, hidden=16, classes=4):
    """One training step of a perceptron: the program, its arguments and its states."""
    gg.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    optimizer = gg.optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x, y = gg.randn(batch, width), gg.randn(batch, classes)
    program = trace(step, x, y, keep_grads=False)
    return program, [x.numpy(), y.numpy()], states(program)


def function(call, *arrays):
    """A function of arrays: the program, its arguments, no states."""
    tensors = [gg.tensor(x) for x in arrays]
    return trace(call, *tensors), [np.asarray(x) for x in arrays], []


def on_host(x, edges):
    """Something native before and after something that only NumPy does."""
    return gg.searchsorted(edges, x * 2) + 1


def states(program):
    """Copies of what the states hold."""
    return [x._data.copy() for x in program.states()]
