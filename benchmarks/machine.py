"""The machine that measures: what it is, and what else it does."""

import contextlib
import importlib.metadata
import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from ganglion.compiler.target import host
from ganglion.config import VERSION, usable_cores

PACKAGES = ("numpy", "llvmlite", "torch", "jax", "jaxlib", "tinygrad", "scikit-learn")
COUNTERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GANGLION_NUM_THREADS")
ELSEWHERE = {"JAX_PLATFORMS": "cpu", "DEV": "CPU"}  # JAX's and tinygrad's devices


def limit(threads: int) -> None:
    """Give this process and its libraries that many processors; call before importing them.

    Libraries without a setting of their own count the processors they may use.
    """
    os.environ.update(dict.fromkeys(COUNTERS, str(threads)) | ELSEWHERE)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


# --- what it is -----------------------------------------------------------------------------------


def description() -> dict[str, Any]:
    """Processor, memory, system and the versions of everything measured."""
    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "processors": usable_cores(),
        "code": host().name,
        "memory": _field(Path("/proc/meminfo"), "MemTotal"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {"ganglion": VERSION, **_versions()},
    }


def _field(path: Path, name: str) -> str:
    """What a line such as "name : value" says."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


# --- what else it does ----------------------------------------------------------------------------


class Neighbours:
    """The share of this process's processors that others took since this was made."""

    def __init__(self) -> None:
        self.start, self.busy, self.own = time.perf_counter(), _busy(), _own()

    def share(self) -> float:
        """From 0 to 1; time that a hypervisor took counts as theirs. NaN if unknown."""
        elapsed = time.perf_counter() - self.start
        foreign = (_busy() - self.busy) - (_own() - self.own)
        return float(np.clip(foreign / (elapsed * usable_cores()), 0, 1))


def _busy() -> float:
    """Seconds that this process's processors have been busy; NaN where the system is silent."""
    path = Path("/proc/stat")
    if not path.is_file():
        return float("nan")
    names = {f"cpu{i}" for i in os.sched_getaffinity(0)}
    lines = [line.split() for line in path.read_text().splitlines()]
    return sum(_busy_of(*map(int, line[1:9])) for line in lines if line[0] in names)


def _busy_of(
    user: int, nice: int, system: int, idle: int, wait: int, irq: int, softirq: int, steal: int
) -> float:
    ticks = user + nice + system + irq + softirq + steal
    return ticks / float(os.sysconf("SC_CLK_TCK"))


def _own() -> float:
    """Seconds of processor time of this process and its ended children."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))
