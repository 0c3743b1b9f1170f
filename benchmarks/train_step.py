"""How long training and inference take: Ganglion beside PyTorch, JAX, tinygrad and scikit-learn.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --workloads mlp32 cnn --peers ganglion torch jax --rounds 10

Seven networks, each with: a training step; the forward pass at batch 1 and 256; and the first step
in a process of its own, with an empty cache of compiled code and with a full one, and its memory.

All libraries begin with the same weights, see the same batches and must compute the same losses.
They work in one process on two threads, in float32, round by round in turn: a turn lasts
``--seconds`` and counts whole steps. Threads of the library before sleep first. Ratios are to the
fastest other library of the same round. Libraries that are not installed, or fail, are left out
and named. PyTorch runs convolutions in both memory formats, and with fused optimizers too.

Everything is printed and written to ``--results`` as JSON and Markdown. Nothing else should run
meanwhile; how much did, and how far apart the processors are, is reported.
"""

import argparse
import functools
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import alone
import machine
from measure import measure
from peers.table import FAMILIES, PEERS, THREADS, members
from placement import placement
from report import TRAINING, Report, Starts, lines, start_line
from workloads import WORKLOADS

TASKS = ("train", "infer", "first")
INFERENCE = (1, 256)  # batch sizes
RESULTS = Path(__file__).parent / "results"


class Benchmark:
    """One run, as the command line asks for it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        settings = {name: getattr(options, name) for name in ("rounds", "seconds", "starts")}
        self.report = Report(machine.description(), {"threads": THREADS, **settings})

    def run(self) -> None:
        """Everything, task by task; results are written after each."""
        self.report.placements.append(placement())
        tasks = {"train": self.train, "infer": self.infer, "first": self.first}
        for task in self.options.tasks:
            for name in self.options.workloads:
                tasks[task](name)
                self.report.write(self.options.results)
        self.report.placements.append(placement())
        self.report.write(self.options.results)

    def train(self, name: str) -> None:
        """Time the training step of a workload."""
        self._time(name, TRAINING, "train")

    def infer(self, name: str) -> None:
        """Time the forward pass of a workload, at each batch size."""
        for batch in INFERENCE:
            self._time(name, f"inference, batch {batch}", "infer", batch)

    def first(self, name: str) -> None:
        """Time first steps, each in a process of its own."""
        print(f"\n{WORKLOADS[name].training}: first step")
        found, left_out = {}, {}
        for peer in self._members(name, "first"):
            starts = Starts()
            try:
                for _ in range(self.options.starts):
                    cold, cached = alone.first_steps(name, peer)
                    starts.cold.append(cold)
                    starts.cached.append(cached)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                left_out[peer] = str(error).strip().rpartition("\n")[2]
                print(f"  without {peer}: {error}", flush=True)
                continue
            found[peer] = starts
            print(start_line(peer, starts), flush=True)
        self.report.starts[name], self.report.left_out[name] = found, left_out

    def _members(self, name: str, task: str) -> Iterator[str]:
        return members(self.options.peers, WORKLOADS[name], task)

    def _time(self, name: str, title: str, task: str, *given: int) -> None:
        makers = {
            peer: functools.partial(PEERS[peer].make, task, WORKLOADS[name], *given)
            for peer in self._members(name, task)
        }
        row = measure(makers, self.options.rounds, self.options.seconds)
        self.report.tasks.setdefault(title, {})[name] = row
        print("\n".join(lines(name, title, row)), flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, known in (("workloads", WORKLOADS), ("peers", FAMILIES), ("tasks", TASKS)):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            choices=known,
            default=list(known),
            metavar="NAME",
            help=", ".join(known),
        )
    parser.add_argument("--rounds", type=int, default=15, help="turns of every library (15)")
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a turn (0.25)")
    parser.add_argument("--starts", type=int, default=1, help="first steps of each kind (1)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (%(default)s)")
    return parser.parse_args()


def main() -> None:
    """Measure what the command line asks for."""
    options = arguments()
    machine.limit(THREADS)
    warnings.filterwarnings("ignore", category=FutureWarning)
    Benchmark(options).run()


if __name__ == "__main__":
    main()
