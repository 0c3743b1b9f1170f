"""A whole training on Fashion-MNIST: ``ganglion train`` beside the same program in PyTorch.

    GANGLION_DATA=... python benchmarks/fashion.py
    GANGLION_DATA=... python benchmarks/fashion.py --model cnn --epochs 5 --rounds 1

Every program runs in a process of its own, in turns, on two threads, and trains the network of
``ganglion train fashion-mnist`` as that command does: AdamW, a cosine schedule, losses and
accuracies of training, of validation after each epoch, and at the end of the best weights on the
test part. PyTorch runs eagerly and slices tensors in memory, ``x[order[i : i + batch]]``.

The time begins with the samples in memory, in float32, and modules imported. It ends with the
result on the test part. Ganglion's has the compilation in it, from an empty cache the first time
("cold", shown by itself), and run folder, checkpoints and metrics on disk.
"""

import argparse
import contextlib
import copy
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import machine
from child import answer
from measure import Timings, quartiles
from peers.table import OURS, THREADS
from report import duration

from ganglion.cli import training
from ganglion.cli.report import BATCH
from ganglion.cli.saved import build, facts
from ganglion.cli.settings import Settings
from ganglion.data.sources import Source, Split, load_source
from ganglion.train import RunFolder

RESULTS = Path(__file__).parent / "results"
DATA = "fashion-mnist"
SECONDS = 1800  # a program that takes longer is given up

# --- the programs ---------------------------------------------------------------------------------


def in_ganglion(settings: Settings, source: Source) -> float:
    """Test accuracy of the command, printed lines and files included."""
    with tempfile.TemporaryDirectory() as root, contextlib.redirect_stdout(sys.stderr):
        model = build(settings, source.feature_shape, source.num_outputs)
        folder = RunFolder.create(root, "run", settings.to_config(), facts(source))
        training.fit(settings, source, model, folder)
        return float(folder.record()["test"]["accuracy"])


def in_torch(settings: Settings, source: Source, fused: bool = False) -> float:
    """Test accuracy of the same program in PyTorch; ``fused`` is its optimizer's option."""
    import torch
    from torch.optim.lr_scheduler import CosineAnnealingLR

    torch.manual_seed(settings.seed)
    model = _torch_network(settings, source)
    criterion = torch.nn.CrossEntropyLoss()
    decay = settings.weight_decay
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, weight_decay=decay, fused=fused
    )
    (x, y), valid, test = (
        (torch.from_numpy(part.x), torch.from_numpy(part.y))
        for part in (source.train, source.valid, source.test)
    )
    batch, epochs = settings.batch_size, settings.planned_epochs(len(x))
    schedule = CosineAnnealingLR(optimizer, epochs * -(-len(x) // batch))

    def epoch() -> tuple[float, float]:
        model.train()
        order, total, right = torch.randperm(len(x)), 0.0, 0
        for i in range(0, len(x), batch):
            rows = order[i : i + batch]
            images, classes = x[rows], y[rows]
            optimizer.zero_grad()
            outputs = model(images)
            loss = criterion(outputs, classes)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
            right += int((outputs.argmax(1) == classes).sum())
        return total / len(x), right / len(x)

    @torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
    def evaluated(images: Any, classes: Any) -> tuple[float, float]:
        model.eval()
        total, right = 0.0, 0
        for i in range(0, len(images), BATCH):
            outputs, expected = model(images[i : i + BATCH]), classes[i : i + BATCH]
            total += criterion(outputs, expected).item() * len(expected)
            right += int((outputs.argmax(1) == expected).sum())
        return total / len(images), right / len(images)

    best, weights = float("inf"), model.state_dict()
    for number in range(epochs):
        trained, (loss, accuracy) = epoch(), evaluated(*valid)
        print(number + 1, *trained, loss, accuracy, file=sys.stderr)
        if loss < best:
            best, weights = loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return evaluated(*test)[1]


def _torch_network(settings: Settings, source: Source) -> Any:
    """PyTorch's form of what ``build`` makes."""
    from torch import nn

    layers: list[Any] = []
    channels, *sides = source.feature_shape
    for count in (32, 64) if settings.model == "cnn" else ():
        layers += [nn.Conv2d(channels, count, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels, sides = count, [side // 2 for side in sides]
    size = channels * sides[0] * sides[1]
    layers.append(nn.Flatten())
    for width in settings.hidden:
        layers += [nn.Linear(size, width), nn.ReLU()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, source.num_outputs))


PROGRAMS: dict[str, Callable[[Settings, Source], float]] = {
    OURS: in_ganglion,
    "torch": in_torch,
    "torch fused": partial(in_torch, fused=True),
}

# --- a process ------------------------------------------------------------------------------------


def work(name: str, settings: Settings) -> dict[str, float]:
    """Run a program here and now: its seconds, those of loading before, and its accuracy."""
    start = time.perf_counter()
    source = load_source(settings.data, seed=settings.seed)
    loaded = time.perf_counter() - start
    _touch(source)
    if name != OURS:
        import torch

        torch.set_num_threads(THREADS)
    start = time.perf_counter()
    accuracy = PROGRAMS[name](settings, source)
    return {"seconds": time.perf_counter() - start, "loading": loaded, "accuracy": accuracy}


def _touch(source: Source) -> None:
    """Let the system give all memory of the samples, so that nobody pays for it later."""
    parts: tuple[Split, ...] = (source.train, source.valid, source.test)
    for part in parts:
        part.x.sum()


def start(name: str, settings: Settings, cache: str) -> dict[str, float]:
    """The same in a process of its own, with a folder for compiled code."""
    given = [f"--{key}={getattr(settings, key)}" for key in ("model", "epochs", "seed")]
    environment = {**os.environ, "GANGLION_CACHE": cache}
    return answer(__file__, ["--here", name, *given], environment, SECONDS)


# --- the report -----------------------------------------------------------------------------------


@dataclass
class Report:
    """What was found: one entry a round and program, and what came before the first round."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    cold: dict[str, float]
    rounds: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @property
    def timings(self) -> Timings:
        """Seconds by program and round."""
        seconds = {name: [one["seconds"] for one in found] for name, found in self.rounds.items()}
        return Timings(seconds)

    def lines(self) -> Iterator[str]:
        """As Markdown."""
        yield from (f"# {self.settings['model']} on {DATA}, end to end", "")
        for facts_ in (self.machine, self.settings):
            yield "- " + ", ".join(f"{key} {value}" for key, value in facts_.items())
        yield f"- {OURS} with an empty cache of compiled code: {duration(self.cold['seconds'])}"
        yield from ("", "| program | median | quartiles | ×, by round | test accuracy | loading |")
        yield "| --- | ---: | ---: | ---: | ---: | ---: |"
        ours = self.timings.seconds[OURS]
        for name, found in self.rounds.items():
            seconds = self.timings.seconds[name]
            low, middle, high = map(duration, quartiles(seconds))
            ratios = quartiles([b / a for a, b in zip(ours, seconds, strict=True)])
            times = "{1:.2f} ({0:.2f} to {2:.2f})".format(*ratios)
            accuracy = f"{100 * mean(one['accuracy'] for one in found):.2f} %"
            loading = duration(min(one["loading"] for one in found))
            yield f"| {name} | {middle} | {low} to {high} | {times} | {accuracy} | {loading} |"

    def write(self, folder: Path) -> None:
        """``fashion_MODEL.json`` with every round, and ``fashion_MODEL.md``."""
        folder.mkdir(parents=True, exist_ok=True)
        contents = {"json": json.dumps(asdict(self), indent=1), "md": "\n".join(self.lines())}
        for ending, text in contents.items():
            path = folder / f"fashion_{self.settings['model']}.{ending}"
            path.write_text(text + "\n", encoding="utf-8")


def compare(options: argparse.Namespace, settings: Settings) -> None:
    """All programs in turns; results are written after every round."""
    names = [OURS, *(name for name in options.peers if name != OURS)]
    with tempfile.TemporaryDirectory() as cache:
        shown = {key: getattr(settings, key) for key in ("model", "epochs", "batch_size", "seed")}
        cold = start(OURS, settings, cache)
        report = Report(machine.description(), {"threads": THREADS, **shown}, cold)
        report.rounds = {name: [] for name in names}
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                found = start(name, settings, cache)
                report.rounds[name].append(found)
                seconds, share = duration(found["seconds"]), 100 * found["accuracy"]
                print(f"{name:14}{seconds:>10}   test accuracy {share:.2f} %", flush=True)
            report.write(options.results)
    print(*report.lines(), sep="\n")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mlp", help="mlp or cnn (%(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every program (5)")
    parser.add_argument(
        "--peers", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS), metavar="NAME"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (%(default)s)")
    parser.add_argument("--here", choices=list(PROGRAMS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    machine.limit(THREADS)
    settings = Settings(DATA, model=options.model, epochs=options.epochs, seed=options.seed)
    if options.here:
        print(json.dumps(work(options.here, settings)))
    else:
        compare(options, settings)


if __name__ == "__main__":
    main()
