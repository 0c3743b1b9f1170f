"""The seven networks of the benchmark as training steps whose every result can be compared.

    python -m tests.compiler.workloads mlp32:100 gpt-small:20

trains from the start for as many steps and prints a line of JSON: for each workload the digest of
everything it ended with.
"""

import hashlib
import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import ganglion as gg
from ganglion import nn

ROOT = Path(__file__).parents[2]


def _of_benchmarks(name):
    """A module of the benchmarks, which import each other as scripts do."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


WORKLOADS = _of_benchmarks("workloads").WORKLOADS
NETWORKS = _of_benchmarks("peers.networks").NETWORKS

# The same kernels on less work.
_SMALLER = {
    "mlp32": {},
    "mlp128": {},
    "mlp64": {},
    "cnn": {"batch": 8},
    "lstm": {"batch": 8, "inputs": (12, 32)},
    "gpt": {
        "batch": 2,
        "inputs": (32,),
        "targets": (32,),
        "sizes": {"vocabulary": 65, "width": 64, "layers": 2, "heads": 4, "context": 32},
    },
    "resnet20": {"batch": 4, "sizes": {"blocks": 1, "classes": 10}},
}


def workload(name):
    """A workload of the benchmark; "gpt-small" is "gpt" made smaller."""
    whole, dash, _ = name.partition("-")
    return replace(WORKLOADS[whole], **(_SMALLER[whole] if dash else {}))


class Training:
    """A network in training, from the same beginning in every process."""

    def __init__(self, name, *, compiled=True):
        work = workload(name)
        gg.manual_seed(0)
        self.model = NETWORKS[work.network](gg, **work.sizes)
        make = getattr(gg.optim, work.optimizer)
        self.optimizer = make(self.model.parameters(), **work.settings)
        self.criterion = nn.CrossEntropyLoss()
        self.batches = [(_inputs(x), gg.from_numpy(y.reshape(-1))) for x, y in work.batches()]
        self.step = gg.compile(self.eager_step) if compiled else self.eager_step
        self.losses = []

    def eager_step(self, x, y):
        """One step of training; its loss."""
        loss = self.criterion(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def prepare(self):
        """What is done before each step."""

    def run(self, steps):
        """Train on; the training itself."""
        for _ in range(steps):
            self.prepare()
            batch = self.batches[len(self.losses) % len(self.batches)]
            self.losses.append(self.step(*batch).detach().numpy().copy())
        return self

    def resume(self, done):
        """Go on as if so many steps had been done; the training itself."""
        self.losses = [None] * done
        return self

    def state(self):
        """Parameters, buffers and the optimizer's state, by name."""
        found = {name: x.numpy() for name, x in self.model.state_dict().items()}
        for place, state in self.optimizer.state_dict()["state"].items():
            for name, x in state.items():
                found[f"{name} of {place}"] = x.numpy() if isinstance(x, gg.Tensor) else x
        return found

    def results(self):
        """The losses and the state."""
        return {"losses": self.losses} | self.state()

    @property
    def traces(self):
        """How many its step has; 0 when it runs eagerly."""
        return len(self.step.specialisations)


def digest(results):
    """What two sets of results share only if all their bits are the same."""
    total = hashlib.sha256()
    for name, x in results.items():
        array = np.asarray(x)
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _inputs(x):
    """Floats in the default dtype, tokens as they are."""
    return gg.from_numpy(x) if x.dtype.kind == "i" else gg.tensor(x, dtype=gg.get_default_dtype())


def assert_equal(one, other):
    """Name the first result in which two trainings differ."""
    for (name, x), y in zip(one.results().items(), other.results().values(), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)


def trained(*tasks, **environment):
    """Digests of trainings such as "gpt:100", made in a process with this environment."""
    done = python("-m", "tests.compiler.workloads", *tasks, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def python(*arguments, timeout=600, **environment):
    """A Python process in the checkout, when it has ended."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def main():
    """Train what the command line names."""
    found = {}
    for task in sys.argv[1:]:
        name, _, steps = task.partition(":")
        training = Training(name).run(int(steps))
        assert training.traces == 1
        found[name] = digest(training.results())
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
