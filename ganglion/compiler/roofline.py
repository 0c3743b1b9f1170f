"""What the machine can do at most, and what that predicts for a step.

    seconds of a kernel  >=  max(FLOP / FLOP/s, bytes / bytes/s)

The rates are measured once in a process, by two small native loops: one multiplies and adds in
registers, one reads and writes memory. Predictions take them as if kernels reached them, so a
real step is slower; how much slower is what a profile shows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

import ganglion.dtypes as dt
from ganglion.blas import get_num_threads
from ganglion.compiler import pool
from ganglion.compiler.cache import objects
from ganglion.compiler.llvm import Library, load
from ganglion.compiler.memory import allocate
from ganglion.compiler.schedule import Launch, Schedule
from ganglion.compiler.target import Target, host
from ganglion.compiler.text import LANES, Code, Index, Module, Reg, consts, vector

Array = np.ndarray[Any, Any]

CALL: Final = 50e-9  # seconds to enter a kernel
BARRIER: Final = 300e-9  # seconds for all threads to meet
HOST: Final = 5e-6  # seconds to leave native code, call NumPy and come back
REPEATS: Final = 8  # of a measurement; the best counts
PASSED: Final = 32 << 20  # bytes that a thread goes through at least
MOST: Final = 64 << 20  # bytes that the measurement of memory takes at most
ROW: Final = 4  # vectors that the loop over memory takes at a time


@dataclass(frozen=True)
class Peaks:
    """The rates of one thread while all of them work.

    ``flops``: float32 FLOP/s. ``flows``: bytes/s, read or written, of data that lies in the
    threads' own caches, in their shared one, in memory; each with the bytes that fit there.
    """

    flops: float
    flows: tuple[tuple[float, float], ...]
    threads: int

    def flow(self, nbytes: int) -> float:
        """Bytes/s for a kernel that works on so many bytes, which lie as near as they fit."""
        return next(rate for size, rate in self.flows if nbytes <= size)

    def __str__(self) -> str:
        flows = "/".join(f"{rate / 1e9:.0f}" for _, rate in self.flows)
        return f"{self.flops / 1e9:.0f} GFLOP/s, {flows} GB/s (own caches/shared/memory) a thread"


# --- measuring ------------------------------------------------------------------------------------


def peaks() -> Peaks:
    """This machine's rates for as many threads as are in use, measured at the first call."""
    return _measured(host(), get_num_threads())


@cache
def _measured(target: Target, threads: int) -> Peaks:
    caches, loops = target.caches, _Loops(target)
    sizes = (caches.l2 * threads, caches.l3, math.inf)
    blocks = (caches.l3 // 4 // threads, min(MOST, 2 * caches.l3) // threads)
    flows = [loops.flow(caches.l2 // 2, 1), *(loops.flow(n, threads) / threads for n in blocks)]
    return Peaks(loops.flops(), tuple(zip(sizes, flows, strict=True)), threads)


class _Loops:
    def __init__(self, target: Target) -> None:
        self.sums = target.sums
        module = Module(target.fma, target.attributes)
        parameters = [("ptr", "given"), ("i64", "thread"), ("i64", "threads"), ("ptr", "control")]
        for name, body in (("flops", self._multiply_add), ("flow", self._scale)):
            code = module.function(name, parameters)
            body(code)
            code.ret()
        self.library: Library = load(objects([module.text()], target))

    def flops(self) -> float:
        """FLOP/s of one thread."""
        turns = (1 << 17) // self.sums
        data = np.zeros(LANES * self.sums, np.float32)
        seconds = self._best("flops", [data.ctypes.data, turns], 1)
        return 2 * turns * data.size / seconds

    def flow(self, nbytes: int, threads: int) -> float:
        """Bytes/s of all threads together, each with its own bytes."""
        vectors = nbytes // (ROW * LANES * 4)
        data = allocate(vectors * ROW * LANES * 4 * threads)
        turns = max(1, PASSED // nbytes)
        seconds = self._best("flow", [data.ctypes.data, turns, vectors], threads)
        return 2 * turns * data.size / seconds

    def _best(self, name: str, given: Sequence[int], threads: int) -> float:
        block = np.array(given, np.int64)
        function, times = self.library.address(name), []
        for _ in range(REPEATS):
            start = time.perf_counter()
            pool.run(function, block.ctypes.data, threads=threads)
            times.append(time.perf_counter() - start)
        return min(times)

    def _multiply_add(self, code: Code) -> None:
        """``x = x * a + b`` on as many vectors as a tile of a product has."""
        data, turns = _word(code, 0, "ptr"), _word(code, 1, "i64")
        scale, shift = (consts([c] * LANES, "float") for c in (0.5, 1.0))
        places = [code.at_index(data, k * LANES, "float") for k in range(self.sums)]

        def turn(_: Index, *sums: Reg) -> list[Reg]:
            return [code.fma(x, scale, shift) for x in sums]

        first = [code.load(place, vector("float", LANES)) for place in places]
        for place, x in zip(places, code.loop(0, turns, 1, first, turn), strict=True):
            code.store(x, place)

    def _scale(self, code: Code) -> None:
        """``x = x * a`` on the thread's share of memory, again and again."""
        data, turns, vectors = (_word(code, k, t) for k, t in enumerate(("ptr", "i64", "i64")))
        scale = consts([0.5] * LANES, "float")
        start = code.mul(code.mul(code.parameters[1], vectors), ROW * LANES)
        own = code.at_index(data, start, "float")

        def step(i: Index) -> None:
            place = code.at_index(own, code.mul(i, ROW * LANES), "float")
            for k in range(ROW):
                here = code.at_index(place, k * LANES, "float")
                code.store(code.fmul(code.load(here, vector("float", LANES)), scale), here)

        def turn(_: Index) -> None:
            code.loop(0, vectors, 1, (), step)

        code.loop(0, turns, 1, (), turn)


def _word(code: Code, place: int, type: str) -> Reg:
    return code.load(code.at_index(code.parameters[0], place, "i64"), type)


# --- predicting -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forecast:
    """Seconds that a kernel, and its slowest thread, should take; ``bound`` says what limits it."""

    alone: float
    seconds: float
    bound: str


def forecast(launch: Launch, peaks: Peaks) -> Forecast:
    """The roofline's time of one kernel or host call."""
    if launch.kernel is None:
        moved = sum(b.nbytes for b in (*launch.reads, *launch.writes))
        seconds = HOST + moved / peaks.flow(moved)
        return Forecast(seconds, seconds, "host")
    kernel = launch.kernel
    double = any(layout.dtype is dt.float64 for layout in kernel.operands)
    flops = kernel.flops / peaks.flops * (2 if double else 1)
    flow = kernel.bytes / peaks.flow(kernel.bytes)
    alone = max(flops, flow)
    share = -(-kernel.tasks // peaks.threads) / max(kernel.tasks, 1)
    bound = "call" if alone * share < CALL else "flops" if flops > flow else "bytes"
    return Forecast(alone + CALL, alone * share + CALL, bound)


def predict(schedule: Schedule, peaks: Peaks) -> float:
    """Seconds of a whole step: threads share the tasks of each phase and then meet."""
    busy = np.zeros((schedule.phases, peaks.threads))
    turn = 0
    for launch in schedule.launches:
        seconds = forecast(launch, peaks).seconds
        if launch.tasks > 1:
            busy[launch.phase] += seconds
        else:  # kernels of one task take turns among the threads
            busy[launch.phase, turn % peaks.threads] += seconds
            turn += 1
    return float(busy.max(axis=1).sum()) + BARRIER * (schedule.phases - 1)
