"""Ganglion from scratch: a neural network library on one page, to be read from top to bottom.

It shows the ideas of the real one without its machinery: a tensor that remembers how it was
made, gradients found by walking that memory backwards, layers, optimizers, a training loop and
a test that the gradients are right. It then learns to tell three species of iris apart.

    python docs/from_scratch.py
"""

import os
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy import ndarray as Array


class Tensor:
    """An array that remembers its parents and how to pull a gradient back to them.

    Every operation below computes its value and states, in a lambda, the way back.
    """

    def __init__(self, data, parents: tuple["Tensor", ...] = (), pull: Callable = lambda _: ()):
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = np.zeros_like(self.data)  # d loss / d self, once backward() has run
        self.parents, self.pull = parents, pull  # pull: gradient of self -> one for each parent

    def __add__(self, other: "Tensor") -> "Tensor":
        return Tensor(self.data + other.data, (self, other), lambda g: (g, g))

    def __sub__(self, other: "Tensor") -> "Tensor":
        return Tensor(self.data - other.data, (self, other), lambda g: (g, -g))

    def __mul__(self, other: "Tensor") -> "Tensor":
        a, b = self.data, other.data
        return Tensor(a * b, (self, other), lambda g: (g * b, g * a))

    def __matmul__(self, other: "Tensor") -> "Tensor":
        a, b = self.data, other.data
        return Tensor(a @ b, (self, other), lambda g: (g @ b.T, a.T @ g))

    def exp(self) -> "Tensor":
        y = np.exp(self.data)
        return Tensor(y, (self,), lambda g: (g * y,))

    def log(self) -> "Tensor":
        return Tensor(np.log(self.data), (self,), lambda g: (g / self.data,))

    def relu(self) -> "Tensor":
        return Tensor(np.maximum(self.data, 0), (self,), lambda g: (g * (self.data > 0),))

    def sum(self, axis: int | None = None) -> "Tensor":
        total = self.data.sum(axis, keepdims=axis is not None)
        return Tensor(total, (self,), lambda g: (np.broadcast_to(g, self.data.shape),))

    def history(self) -> list["Tensor"]:
        """Everything this tensor was made from, and itself: each one after its parents."""
        order, seen, stack = [], set(), [(self, False)]
        while stack:
            tensor, parents_done = stack.pop()
            if parents_done:
                order.append(tensor)
            elif tensor not in seen:
                seen.add(tensor)
                stack.append((tensor, True))
                stack += [(parent, False) for parent in tensor.parents]
        return order

    def backward(self) -> None:
        """The chain rule, once for every operation, from the last one back to the first."""
        self.grad = np.ones_like(self.data)
        for tensor in reversed(self.history()):
            for parent, grad in zip(tensor.parents, tensor.pull(tensor.grad)):
                parent.grad += sum_to(grad, parent.data.shape)


def sum_to(grad: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: a value that was used many times gets the sum of its gradients."""
    grad = grad.sum(axis=tuple(range(grad.ndim - len(shape))))
    stretched = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return grad.sum(axis=stretched, keepdims=True)


class MLP:
    """Linear layers with a ReLU between them: MLP(4, 16, 3) has 4 inputs and 3 classes."""

    def __init__(self, *sizes: int, rng: np.random.Generator):
        self.layers = [
            (Tensor(rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out))), Tensor(np.zeros(n_out)))
            for n_in, n_out in pairwise(sizes)  # the scale keeps the variance, He et al. 2015
        ]
        self.parameters = [parameter for layer in self.layers for parameter in layer]

    def __call__(self, x: Tensor) -> Tensor:
        *hidden, (w_last, b_last) = self.layers
        for w, b in hidden:
            x = (x @ w + b).relu()
        return x @ w_last + b_last


def cross_entropy(logits: Tensor, labels: Array) -> Tensor:
    """The mean of -log softmax(logits)[label]. logits: (N, classes), labels: (N,) integers."""
    shifted = logits - Tensor(logits.data.max(axis=1, keepdims=True))  # exp cannot overflow
    log_probabilities = shifted - shifted.exp().sum(axis=1).log()
    one_hot = Tensor(np.eye(logits.data.shape[1])[labels])
    return (log_probabilities * one_hot).sum() * Tensor(-1 / len(labels))


class SGD:
    """Walk downhill: w ← w − lr · gradient."""

    def __init__(self, parameters: list[Tensor], lr: float = 0.1):
        self.parameters, self.lr = parameters, lr

    def step(self) -> None:
        for p in self.parameters:
            p.data -= self.lr * p.grad


class Adam:
    """Steps of about lr in every direction, however large its gradients (arXiv:1412.6980)."""

    def __init__(self, parameters: list[Tensor], lr: float = 0.01):
        self.parameters, self.lr, self.steps = parameters, lr, 0
        self.means = [np.zeros_like(p.data) for p in parameters]  # of the gradients
        self.squares = [np.zeros_like(p.data) for p in parameters]  # of the squared gradients

    def step(self) -> None:
        self.steps += 1
        for p, m, v in zip(self.parameters, self.means, self.squares):
            m += 0.1 * (p.grad - m)
            v += 0.001 * (p.grad**2 - v)
            mean, square = m / (1 - 0.9**self.steps), v / (1 - 0.999**self.steps)  # began at 0
            p.data -= self.lr * mean / (np.sqrt(square) + 1e-8)


def train(model: MLP, optimizer: SGD | Adam, x: Array, y: Array, epochs: int, rng) -> None:
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(x)), len(x) // 16):
            zero_gradients(model.parameters)
            cross_entropy(model(Tensor(x[rows])), y[rows]).backward()
            optimizer.step()


def zero_gradients(parameters: list[Tensor]) -> None:
    for p in parameters:
        p.grad[...] = 0


def accuracy(model: MLP, x: Array, y: Array) -> float:
    return float((model(Tensor(x)).data.argmax(axis=1) == y).mean())


def gradient_error(loss: Callable[[], Tensor], parameters: list[Tensor], rng) -> float:
    """How far backward() is from the slope measured along one random direction."""
    directions = [rng.normal(size=p.data.shape) for p in parameters]

    def loss_at(step: float) -> float:
        for p, d in zip(parameters, directions):
            p.data += step * d
        return float(loss().data)

    h = 1e-6  # small enough to be a slope, large enough to survive rounding
    measured = (loss_at(h) - loss_at(-2 * h)) / (2 * h)
    loss_at(h)  # back to where we began
    zero_gradients(parameters)
    loss().backward()
    claimed = sum((p.grad * d).sum() for p, d in zip(parameters, directions))
    return float(abs(claimed - measured) / max(abs(claimed), abs(measured)))


def load_iris() -> tuple[Array, Array]:
    """150 flowers: 4 lengths in cm, and the species as 0, 1 or 2 (Fisher 1936)."""
    folder = os.environ.get("GANGLION_DATA")
    if not folder:
        return import_module("sklearn.datasets").load_iris(return_X_y=True)
    rows = [line.split(",") for line in Path(folder, "iris/iris.data").read_text().split()]
    x = np.array([row[:4] for row in rows], dtype=np.float64)
    return x, np.unique([row[4] for row in rows], return_inverse=True)[1]


def learn_iris(optimizer: type[SGD] | type[Adam], seed: int = 0) -> tuple[float, float]:
    """Train on 120 flowers; the accuracy on these and on the 30 never seen."""
    rng = np.random.default_rng(seed)
    x, y = load_iris()
    seen, unseen = np.split(rng.permutation(len(x)), [120])
    x = (x - x[seen].mean(axis=0)) / x[seen].std(axis=0)
    model = MLP(4, 16, 3, rng=rng)
    train(model, optimizer(model.parameters), x[seen], y[seen], 40, rng)
    return accuracy(model, x[seen], y[seen]), accuracy(model, x[unseen], y[unseen])


if __name__ == "__main__":
    for method in (SGD, Adam):
        scores = learn_iris(method)
        print(f"{method.__name__:5} train accuracy {scores[0]:.3f}, test accuracy {scores[1]:.3f}")
