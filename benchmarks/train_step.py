"""How long one training step takes: Ganglion beside PyTorch, JAX and scikit-learn.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --rounds 30 --peers ganglion torch --json steps.json

All peers train the same network on the same batches in one process, round by round in turn, so
that a change in the machine's mood meets all of them. A round times `--steps` steps of each peer.
The table shows the median of the rounds, their least and greatest in microseconds per step, and
the median of the ratios to PyTorch eager within one round (below 1 is faster). Peers that are not
installed are left out and named. Nothing else should run meanwhile.
"""

import argparse
import importlib
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

THREADS = 2
BATCHES = 8
REFERENCE = "torch"

Step = Callable[[], Any]  # trains on the next batch and returns its loss, an array of one number


@dataclass(frozen=True)
class Workload:
    """A perceptron with one hidden layer, trained on batches of random data."""

    inputs: int
    hidden: int
    classes: int
    batch: int
    optimizer: str
    lr: float

    @property
    def title(self) -> str:
        sizes = f"{self.inputs}-{self.hidden}-{self.classes}"
        return f"MLP {sizes}, batch {self.batch}, {self.optimizer}"

    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(BATCHES, self.batch, self.inputs)).astype(np.float32)
        y = rng.integers(0, self.classes, size=(BATCHES, self.batch))
        return list(zip(x, y, strict=True))


WORKLOADS = (
    Workload(784, 128, 10, batch=32, optimizer="Adam", lr=1e-3),
    Workload(784, 128, 10, batch=128, optimizer="Adam", lr=1e-3),
    Workload(64, 64, 10, batch=32, optimizer="SGD", lr=1e-2),
)


def in_turn(batches: Sequence, run: Callable) -> Step:
    """A step that runs on the next batch at every call, round and round."""
    place = -1

    def step() -> Any:
        nonlocal place
        place = (place + 1) % len(batches)
        return run(*batches[place])

    return step


# --- the peers: each builds its step for a workload ---------------------------------------------


def eager_program(torch, work: Workload, compiled: Callable = lambda function: function) -> Step:
    """The ordinary training loop; `torch` is PyTorch or Ganglion, the text is the same."""
    nn, optim = torch.nn, torch.optim

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(work.inputs, work.hidden)
            self.relu = nn.ReLU()
            self.fc2 = nn.Linear(work.hidden, work.classes)

        def forward(self, x):
            return self.fc2(self.relu(self.fc1(x)))

    torch.manual_seed(0)
    model = Network()
    criterion = nn.CrossEntropyLoss()
    optimizer = getattr(optim, work.optimizer)(model.parameters(), lr=work.lr)

    forward, update = compiled(model), compiled(optimizer.step)

    def train(batch_x, batch_y):
        outputs = forward(batch_x)
        loss = criterion(outputs, batch_y)
        optimizer.zero_grad()
        loss.backward()
        update()
        return loss

    return in_turn([(torch.from_numpy(x), torch.from_numpy(y)) for x, y in work.batches()], train)


def ganglion(work: Workload) -> Step:
    return eager_program(importlib.import_module("ganglion"), work)


def torch_eager(work: Workload) -> Step:
    torch = importlib.import_module("torch")
    torch.set_num_threads(THREADS)
    return eager_program(torch, work)


def torch_compiled(work: Workload) -> Step:
    torch = importlib.import_module("torch")
    torch.set_num_threads(THREADS)
    torch.compiler.reset()  # one workload's graphs are not another's
    return eager_program(torch, work, compiled=torch.compile)


def jax_jit(work: Workload) -> Step:
    """The same step as one jitted function of the state, which is donated."""
    jax = importlib.import_module("jax")
    jnp = jax.numpy

    def initial(rng: np.random.Generator):
        def linear(n_in: int, n_out: int):
            bound = n_in**-0.5
            return [rng.uniform(-bound, bound, size) for size in ((n_in, n_out), n_out)]

        layers = linear(work.inputs, work.hidden) + linear(work.hidden, work.classes)
        parameters = [jnp.asarray(p, dtype=jnp.float32) for p in layers]
        zeros = [jnp.zeros_like(p) for p in parameters]
        return parameters, zeros, [jnp.zeros_like(p) for p in parameters], jnp.float32(0)

    def loss_of(parameters, x, y):
        w1, b1, w2, b2 = parameters
        logits = jax.nn.relu(x @ w1 + b1) @ w2 + b2
        return -jax.nn.log_softmax(logits)[jnp.arange(len(y)), y].mean()

    def adam(p, m, v, g, t):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        root = jnp.sqrt(v / (1 - 0.999**t)) + 1e-8
        return p - work.lr * m / (1 - 0.9**t) / root, m, v

    def sgd(p, m, v, g, t):
        return p - work.lr * g, m, v

    update = {"Adam": adam, "SGD": sgd}[work.optimizer]

    def train(state, x, y):
        parameters, means, squares, steps = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        rows = zip(parameters, means, squares, gradients, strict=True)
        updated = [update(*row, steps + 1) for row in rows]
        return (*map(list, zip(*updated, strict=True)), steps + 1), loss

    jitted = jax.jit(train, donate_argnums=0)
    state = initial(np.random.default_rng(0))

    def run(x, y):
        nonlocal state
        state, loss = jitted(state, x, y)
        return loss.block_until_ready()

    return in_turn([(jnp.asarray(x), jnp.asarray(y)) for x, y in work.batches()], run)


def scikit_learn(work: Workload) -> Step:
    network = importlib.import_module("sklearn.neural_network")
    model = network.MLPClassifier(
        hidden_layer_sizes=(work.hidden,),
        solver=work.optimizer.lower(),
        learning_rate_init=work.lr,
        batch_size=work.batch,
        alpha=0.0,
        momentum=0.0,
        nesterovs_momentum=False,
        random_state=0,
    )
    classes = np.arange(work.classes)
    return in_turn(work.batches(), lambda x, y: model.partial_fit(x, y, classes=classes).loss_)


PEERS = {
    "ganglion": ganglion,
    "torch": torch_eager,
    "torch.compile": torch_compiled,
    "jax": jax_jit,
    "sklearn": scikit_learn,
}


# --- measuring ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """Microseconds per step in every round, and the mean loss before and after them."""

    peer: str
    rounds: list[float]
    first_loss: float
    last_loss: float


def prepare(names: Sequence[str], work: Workload) -> dict[str, Step]:
    """The steps of the peers that are installed."""
    steps = {}
    for name in names:
        try:
            steps[name] = PEERS[name](work)
        except ImportError as error:
            print(f"without {name}: {error}")
    return steps


def mean_loss(step: Step) -> float:
    """Over one pass of the batches; the first pass also warms the step up."""
    return float(np.mean([step().item() for _ in range(BATCHES)]))


def microseconds(step: Step, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps * 1e6


def measure(peers: dict[str, Step], rounds: int, steps: int) -> list[Result]:
    """Time all peers in turn; each round begins with another one."""
    names = list(peers)
    first = {name: mean_loss(peers[name]) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            times[name].append(microseconds(peers[name], steps))
        names.append(names.pop(0))
    last = {name: mean_loss(peers[name]) for name in names}
    return [Result(name, times[name], first[name], last[name]) for name in peers]


def ratio(result: Result, reference: Result) -> float:
    return median(a / b for a, b in zip(result.rounds, reference.rounds, strict=True))


# --- reporting ----------------------------------------------------------------------------------


def show(work: Workload, results: Sequence[Result]) -> None:
    reference = next((r for r in results if r.peer == REFERENCE), results[0])
    print(f"\n{work.title}")
    ours = f"/ {reference.peer}"
    print(f"{'':15}{'median µs':>11}{'min':>10}{'max':>10}{ours:>10}   loss")
    for r in results:
        times = f"{median(r.rounds):11.1f}{min(r.rounds):10.1f}{max(r.rounds):10.1f}"
        losses = f"{r.first_loss:.3f} → {r.last_loss:.3f}"
        print(f"{r.peer:15}{times}{ratio(r, reference):10.2f}   {losses}")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "numpy": np.__version__}
    for name in ("ganglion", "torch", "jax", "sklearn"):
        try:
            found[name] = str(getattr(importlib.import_module(name), "__version__", "unknown"))
        except ImportError:
            continue
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds of all peers (15)")
    parser.add_argument("--steps", type=int, default=100, help="steps of a peer in a round (100)")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all rounds here")
    return parser.parse_args()


def main() -> None:
    warnings.filterwarnings("ignore", category=FutureWarning)
    options = arguments()
    report = {"versions": versions(), "threads": THREADS, "cores": os.cpu_count(), "workloads": {}}
    for work in WORKLOADS:
        peers = prepare(options.peers, work)
        if not peers:
            raise SystemExit("none of these peers is installed")
        results = measure(peers, options.rounds, options.steps)
        show(work, results)
        report["workloads"][work.title] = [asdict(result) for result in results]
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
