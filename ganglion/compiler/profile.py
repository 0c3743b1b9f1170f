"""Where the time of a step goes: each kernel of a real step, beside what the machine could do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganglion.blas import get_num_threads
from ganglion.compiler import pool
from ganglion.compiler.cache import objects
from ganglion.compiler.llvm import load
from ganglion.compiler.native import Source, Step, address
from ganglion.compiler.target import host

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Row:
    """One kernel: median seconds of the slowest thread, and the sum over threads."""

    phase: int
    name: str
    tasks: int
    seconds: float
    total: float
    flops: int
    bytes: int

    def __str__(self) -> str:
        rate, flow = self.flops / self.total / 1e9, self.bytes / self.total / 1e9
        return (
            f"{self.phase:4} {self.name:24} {self.tasks:6} {self.seconds * 1e6:10.1f} "
            f"{self.total * 1e6:10.1f} {rate:8.1f} {flow:8.1f}"
        )


HEAD = "phase kernel                    tasks  slowest us   sum us   GFLOP/s   GB/s (per thread)"


def profile(
    step: Step, arguments: Sequence[Array], states: Sequence[Array], repeats: int = 30
) -> list[Row]:
    """Run a step with a clock around every kernel; states are copied first and stay as they are."""
    source = Source(step.schedule, host(), stamps=True)
    library = load(objects(source.texts(), host()))
    states = [x.copy() for x in states]
    outputs = step(arguments, states)  # fills the argument block
    threads, count = get_num_threads(), len(step.schedule.launches)
    stamps = np.zeros((threads, count, 2), np.int64)
    block = np.append(step.block, address(stamps))
    segments = [
        library.address(f"step{k}") for k, part in enumerate(source.segments) if not part[0].host
    ]
    found, scales = [], []
    for _ in range(repeats):
        stamps[...] = 0
        start = time.perf_counter()
        for segment in segments:
            pool.run(segment, address(block), threads=threads, hold_gil=step.hold_gil)
        seconds = time.perf_counter() - start
        used = stamps[stamps > 0]
        scales.append(seconds / max(int(used.max() - used.min()), 1))
        found.append((stamps[:, :, 1] - stamps[:, :, 0]).copy())
    del outputs  # written until here
    cycles = np.median(found, axis=0) * min(scales)
    return [
        Row(
            launch.phase, launch.kernel.name, launch.kernel.tasks, float(cycles[:, k].max()),
            max(float(cycles[:, k].sum()), 1e-12), launch.kernel.flops, launch.kernel.bytes,
        )
        for k, launch in enumerate(step.schedule.launches)
        if launch.kernel is not None
    ]  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    return "\n".join([HEAD, *map(str, rows)])
