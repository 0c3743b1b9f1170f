"""A small training that uses everything that must survive a kill, for this process or another.

    python program.py RUN [--resume] [--kill KIND:COUNT] [--then RUN --resume ...]

With --then, each part runs in a process of its own, forked after the imports. The exit statuses
are printed. With --kill the process ends itself, as by `kill -9`, at the COUNT-th
moment of a KIND, or of any kind ("any:17"). The moments stand in this script and not in the
library: it wraps what the library calls. The final weights, the history and the number of
moments passed are written into the run's folder.
"""

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

import ganglion as gg
from ganglion import nn, optim
from ganglion.serialize import save_file
from ganglion.train import Callback, RunFolder, StopTraining, Trainer

SAMPLES, FEATURES, CLASSES = 43, 6, 3  # batches of 8: the last one has 3
EPOCHS = 3  # the best is the second: its weights must survive, too


def data(samples=SAMPLES, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((samples, FEATURES)).astype(np.float32)
    y = (x[:, :CLASSES] + 0.5 * random.standard_normal((samples, CLASSES))).argmax(1)
    return x, y.astype(np.int64)


def model(hidden=8):
    gg.manual_seed(1)
    return nn.Sequential(
        nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Dropout(0.3), nn.Linear(hidden, CLASSES)
    )


def trainer(run_dir=None, network=None, optimizer="adam", **options):
    network = network or model()
    make = {
        "adam": lambda p: optim.Adam(p, lr=0.05),
        "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    }[optimizer]
    optimizer = make(network.parameters())
    settings = {
        "metrics": ["accuracy"],
        "scheduler": optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6),
        "seed": 0,
        "progress": False,
        "checkpoint_seconds": 1e9,
    }
    return Trainer(
        network, nn.CrossEntropyLoss(), optimizer, run_dir=run_dir, **(settings | options)
    )


class Moments:
    """Counts moments by kind and ends the process at the one asked for."""

    def __init__(self, wanted):
        self.kind, _, count = (wanted or "never:1").partition(":")
        self.count, self.seen = int(count), Counter()

    def pass_by(self, kind):
        self.seen.update([kind, "any"])
        if self.seen[self.kind] == self.count:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner, name, before=None, after=None):
        """Replace a function by one with moments around it."""
        original = getattr(owner, name)

        def wrapped(*args, **kwargs):
            if before:
                self.pass_by(before)
            result = original(*args, **kwargs)
            if after:
                self.pass_by(after)
            return result

        setattr(owner, name, wrapped)

    def in_the_middle_of_writes(self):
        """A moment when half of what is written to a file has reached it."""
        original = Path.open

        def opened(path, mode="r", *args, **kwargs):
            file = original(path, mode, *args, **kwargs)
            if mode in {"wb", "a"}:
                file = HalfWriter(file, self, "append" if mode == "a" else "write")
            return file

        Path.open = opened


class HalfWriter:
    def __init__(self, file, moments, kind):
        self.file, self.moments, self.kind = file, moments, kind

    def write(self, content):
        half = len(content) // 2
        self.file.write(content[:half])
        self.file.flush()
        self.moments.pass_by(self.kind)
        self.file.write(content[half:])

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()


class Validating(Callback):
    """Its events are moments too; it also draws random numbers between steps."""

    def __init__(self, moments):
        self.moments, self.drawn = moments, 0.0

    def on_step_end(self, trainer, step):
        self.drawn += float(gg.rand(1)) + np.random.rand()  # noqa: NPY002
        self.moments.pass_by("step")

    def on_epoch_end(self, trainer, record):
        record["drawn"] = self.drawn
        self.moments.pass_by("epoch")

    def state_dict(self):
        return {"drawn": self.drawn}

    def load_state_dict(self, state):
        self.drawn = state["drawn"]


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill")
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--interrupt-at", type=int, default=0)
    parser.add_argument("--checkpoint-steps", type=int, default=4)
    parser.add_argument("--slow", action="store_true", help="take 20 ms a step")
    parser.add_argument("--eager", action="store_true", help="with moments inside steps, too")
    options = parser.parse_args(arguments)
    moments = Moments(options.kill)
    np.random.seed(0)  # noqa: NPY002 - the global state is what is tested
    network = model()
    moments.around(os, "replace", "rename", "renamed")
    moments.around(os, "fsync", "fsync")
    moments.around(gg.data.DataLoader, "_fetch", "batch")
    moments.around(gg.data.DataLoader, "_pick", "batch")
    if options.eager:
        moments.around(optim.Adam, "step", "update", "updated")
        moments.around(network, "forward", "forward")
    moments.in_the_middle_of_writes()
    folder = RunFolder.at(options.run, {"epochs": EPOCHS})
    work = trainer(
        folder,
        network,
        options.optimizer,
        callbacks=[Validating(moments), Interrupt(options)],
        checkpoint_steps=options.checkpoint_steps,
        patience=3,
        restore_best=True,
        compile=not options.eager,
    )
    result = work.fit(data(), data(20, seed=1), epochs=EPOCHS, batch_size=8, resume=options.resume)
    if result.outcome.value in {"finished", "stopped early"}:
        save_file(network.state_dict(), folder.path / "final.safetensors")
        (folder.path / "history.json").write_text(json.dumps(result.history))
        (folder.path / "moments.json").write_text(json.dumps(moments.seen))


class StopAfter(Callback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, step):
        if step.step == self.step:
            raise StopTraining


class Interrupt(Callback):
    """Presses Ctrl-C after a step, and takes its time."""

    def __init__(self, options):
        self.step, self.pause = options.interrupt_at, 0.02 * options.slow

    def on_step_end(self, trainer, step):
        time.sleep(self.pause)
        if step.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def in_child(arguments):
    """The exit status of `main`, run in a child process; negative for a signal."""
    child = os.fork()
    if not child:
        try:
            main(arguments)
            sys.stdout.flush()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child must never return
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    parts = [[]]
    for argument in sys.argv[1:]:
        if argument == "--then":
            parts.append([])
        else:
            parts[-1].append(argument)
    statuses = list(map(in_child, parts)) if len(parts) > 1 else [main(parts[0]) or 0]
    sys.stdout.write(json.dumps(statuses))
