"""A first step in a process of its own: how long it takes, and how much memory.

    python benchmarks/alone.py cnn "torch channels_last"

prints them as a line of JSON. ``train_step.py`` starts it, twice: the caches of compiled code, all
in one folder, are empty the first time and full the second.
"""

import compileall
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
from child import answer
from peers.table import PEERS, THREADS
from workloads import WORKLOADS

import ganglion

CALLS = 3
SECONDS = 600  # a first step that takes longer is given up

# Where each library keeps compiled code; JAX and tinygrad keep quick and small things if asked to.
CACHES = {
    "GANGLION_CACHE": "ganglion",
    "TORCHINDUCTOR_CACHE_DIR": "torch",
    "TRITON_CACHE_DIR": "triton",
    "JAX_COMPILATION_CACHE_DIR": "jax",
    "CACHEDB": "tinygrad.db",
}
KEEP_ALL = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def first_steps(workload: str, peer: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a training step's first calls cost with no compiled code on disk, and with it.

    Python's own byte code is there, as an installer leaves it.
    """
    compileall.compile_dir(Path(ganglion.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        return _start(workload, peer, folder), _start(workload, peer, folder)


def _start(workload: str, peer: str, folder: str) -> dict[str, Any]:
    caches = {variable: str(Path(folder, name)) for variable, name in CACHES.items()}
    return answer(__file__, [workload, peer], {**os.environ, **KEEP_ALL, **caches}, SECONDS)


def costs(workload: str, peer: str) -> dict[str, Any]:
    """Here and now: seconds to import and build, seconds of each call, and megabytes.

    All peers' megabytes hold Ganglion's 8 for the first weights, besides their own libraries.
    """
    start = time.perf_counter()
    side = PEERS[peer].make("train", WORKLOADS[workload])
    built = time.perf_counter() - start
    before = _megabytes("VmRSS")
    calls = []
    for _ in range(CALLS):
        start = time.perf_counter()
        side.run()
        calls.append(time.perf_counter() - start)
    return {
        "seconds_before": built,
        "seconds_of_calls": calls,
        "megabytes_before": before,
        "megabytes_at_most": _megabytes("VmHWM"),
    }


def _megabytes(name: str) -> float:
    """Memory of this process; unlike ``ru_maxrss``, not that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else float("nan")


if __name__ == "__main__":
    machine.limit(THREADS)
    print(json.dumps(costs(*sys.argv[1:])))
