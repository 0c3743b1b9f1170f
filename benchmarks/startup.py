"""Where the time of a compiled step's first call goes, in processes of their own.

    python benchmarks/startup.py gpt resnet20 --starts 3
    python benchmarks/startup.py gpt --functions 25

``cold``: no compiled code on disk; ``cached``: all of it. What counts is processor time, of all
threads, since it does not depend on what else the machine does; ``clock`` is the whole call by the
clock. Beside the times stand the lines of LLVM text and those of the longest kernels. With
``--functions`` the slowest functions of a cold start follow.
"""

import argparse
import cProfile
import functools
import importlib
import json
import os
import pstats
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
from child import answer
from peers.table import OURS, PEERS, THREADS
from workloads import WORKLOADS

COMPILER = "ganglion.compiler"

# The functions that are a stage of the first call, by module; none calls one of another stage, but
# that text is written while what was written before is compiled.
STAGES = {
    "trace": ("compiled.capture",),
    "recall": ("native.remembered",),
    "expand": ("source.expand",),
    "plan": ("source.plan",),
    "text": ("source.Source",),
    "compile": ("source.objects", "pool.objects"),
    "load": ("native.load", "pool.load"),
    "keep": ("native.remember",),
}
IMPORTED_BY = {"compiled": "native", "native": "native", "pool": "native", "source": "source"}
COLUMNS = ("import", *STAGES, "rest", "all", "clock")
LONGEST = 4  # kernels of which the lines are shown
SECONDS = 300  # a first call that takes longer is given up


class Stages:
    """Processor time of each stage, in milliseconds, and the text that was written."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.kernels: list[int] = []
        native = self._import("native")
        later = native.later
        native.later = lambda name: self._import(name) if name == "source" else later(name)

    def _import(self, name: str) -> Any:
        """Import a file of the compiler, and what it imports, and watch its stages."""
        start = time.process_time()
        module = importlib.import_module(f"{COMPILER}.{name}")
        self.spent["import"] += 1e3 * (time.process_time() - start)
        if name == "source":
            self._watch_text(module.Source)
        for stage, names in STAGES.items():
            for of, watched in (path.split(".") for path in names):
                if name == IMPORTED_BY[of]:
                    self._watch(stage, of, watched)
        return module

    def _watch(self, stage: str, of: str, name: str) -> None:
        holder = importlib.import_module(f"{COMPILER}.{of}")
        setattr(holder, name, self._timed(stage, getattr(holder, name)))

    def _watch_text(self, source: Any) -> None:
        texts = source.texts

        def measured(written: Any) -> Iterator[str]:
            modules = texts(written)
            while True:
                start = time.thread_time()
                text = next(modules, None)
                spent = 1e3 * (time.thread_time() - start)
                self.spent["text"] += spent
                self.spent["compile"] -= spent
                if text is None:
                    break
                yield text
            self.kernels = sorted(written.lengths, reverse=True)

        source.texts = measured

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function, updated=())
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent[stage] += 1e3 * (time.process_time() - start)

        return timed


def costs(workload: str) -> dict[str, Any]:
    """Of a first call here and now: milliseconds by column, and the lines of each kernel."""
    side = PEERS[OURS].make("train", WORKLOADS[workload])
    clock, processor = time.perf_counter(), time.process_time()
    stages = Stages()
    side.run()
    spent = stages.spent
    total = 1e3 * (time.process_time() - processor)
    spent["rest"] = total - sum(spent.values())
    spent |= {"all": total, "clock": 1e3 * (time.perf_counter() - clock)}
    return {"spent": spent, "kernels": stages.kernels}


def start(workload: str, cache: str) -> dict[str, Any]:
    """The same in a process of its own, with a folder for compiled code."""
    environment = {**os.environ, "GANGLION_CACHE": cache, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # Python's own code is kept, once installed
    return answer(__file__, [workload, "--here"], environment, SECONDS)


def measure(workload: str, starts: int) -> None:
    """Print the medians of several cold and cached starts."""
    cold, cached = [], []
    with tempfile.TemporaryDirectory() as cache:
        start(workload, cache)
        for _ in range(starts):
            shutil.rmtree(Path(cache, "kernels"))
            cold.append(start(workload, cache))
            cached.append(start(workload, cache))
    for kind, found in (("cold", cold), ("cached", cached)):
        medians = [statistics.median(s["spent"].get(c, 0.0) for s in found) for c in COLUMNS]
        print(f"{workload:10}{kind:8}" + "".join(f"{m:9.0f}" for m in medians), flush=True)
    lines = cold[0]["kernels"]
    print(f"{'':18}{len(lines)} kernels, {sum(lines)} lines; longest {lines[:LONGEST]}", flush=True)


def slowest(workload: str, count: int) -> None:
    """Print the slowest functions of a first call without compiled code on disk."""
    os.environ["GANGLION_CACHE_MB"] = "0"
    side = PEERS[OURS].make("train", WORKLOADS[workload])
    profile = cProfile.Profile()
    profile.runcall(side.run)
    pstats.Stats(profile).sort_stats("tottime").print_stats(count)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), help=", ".join(WORKLOADS))
    parser.add_argument("--starts", type=int, default=3, help="cold and cached ones (3)")
    parser.add_argument("--functions", type=int, default=0, help="slowest functions to show (0)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    machine.limit(THREADS)
    if options.here:
        print(json.dumps(costs(options.workloads[0])))
        return
    print(f"{'milliseconds':18}" + "".join(f"{column:>9}" for column in COLUMNS))
    for workload in options.workloads:
        measure(workload, options.starts)
        if options.functions:
            slowest(workload, options.functions)


if __name__ == "__main__":
    main()
