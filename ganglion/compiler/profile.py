"""Where the time of a step goes: each kernel of real steps, beside what the machine could do.

    found = profile(step, arguments, states)
    print(found)              # a table; found.rows are its data

The step is compiled once more with a clock before and after every kernel, and runs on copies of
the states. Times are medians over the runs; rates are those of the threads at work on the kernel.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import numpy as np

from ganglion.blas import get_num_threads
from ganglion.compiler import pool
from ganglion.compiler.native import Step, address
from ganglion.compiler.roofline import Peaks, forecast, peaks
from ganglion.compiler.schedule import Launch
from ganglion.compiler.source import compiled, segments_of
from ganglion.compiler.target import host
from ganglion.errors import ArgumentError

Array = np.ndarray[Any, Any]

WARM: Final = 3  # steps before those that count


@dataclass(frozen=True)
class Row:
    """One kernel or host call: ``threads`` are seconds on each thread.

    ``ideal``: what the roofline says one thread would need for all of it. ``compute`` and ``flow``
    are shares of the machine's FLOP/s and bytes/s, ``reached`` is the share of the roofline.
    """

    number: int
    phase: int
    name: str
    tasks: int
    threads: tuple[float, ...]
    flops: int
    bytes: int
    ideal: float
    compute: float
    flow: float

    @property
    def seconds(self) -> float:
        """Of the slowest thread."""
        return max(self.threads)

    @property
    def total(self) -> float:
        """Of all threads."""
        return max(sum(self.threads), 1e-9)  # below one tick of the clock

    @property
    def reached(self) -> float:
        """How much of the roofline's rate."""
        return min(self.ideal / self.total, 1.0)

    def __str__(self) -> str:
        rate, flow = self.flops / self.total / 1e9, self.bytes / self.total / 1e9
        return (
            f"{self.phase:5} {self.number:3}  {self.name:24} {self.tasks:6} "
            f"{self.seconds * 1e6:10.1f} {self.total * 1e6:8.1f} "
            f"{rate:8.1f} {self.compute:4.0%} {flow:7.1f} {self.flow:4.0%} {self.reached:8.0%}"
        )


@dataclass(frozen=True)
class Phase:
    """What lies between two barriers: seconds from beginning to end, and those spent waiting.

    ``waiting`` is summed over threads: for slower ones, and for the barrier itself.
    """

    number: int
    seconds: float
    waiting: float


@dataclass(frozen=True)
class Span:
    """One thread at work on one kernel, in seconds from the start of a step."""

    number: int
    thread: int
    start: float
    end: float


HEAD: Final = (
    "phase   #  kernel                    tasks slowest us   sum us  GFLOP/s   of    GB/s   of "
    "roofline"
)


@dataclass(frozen=True)
class Profile:
    """What a profile found; ``str`` is a table.

    ``seconds``: a step as it is; ``clocked``: with clocks in it, to which all else belongs.
    ``spans``: one typical step.
    """

    rows: tuple[Row, ...]
    phases: tuple[Phase, ...]
    spans: tuple[Span, ...]
    seconds: float
    clocked: float
    threads: int
    peaks: Peaks

    @property
    def kernels(self) -> float:
        """Seconds that an average thread spends in kernels."""
        return sum(row.total for row in self.rows if row.flops or row.bytes) / self.threads

    @property
    def waiting(self) -> float:
        """Seconds that an average thread waits for others."""
        return sum(phase.waiting for phase in self.phases) / self.threads

    @property
    def host(self) -> float:
        """Seconds in NumPy."""
        return sum(row.total for row in self.rows if row.name.startswith("host "))

    @property
    def calling(self) -> float:
        """Seconds outside of kernels and barriers: Python, waking threads."""
        inside = sum(phase.seconds for phase in self.phases) + self.host
        return max(self.clocked - inside, 0.0)

    def __str__(self) -> str:
        parts = ("kernels", "waiting", "host", "calling")
        shares = ", ".join(f"{name} {getattr(self, name) * 1e6:.1f} us" for name in parts)
        slow = sorted(self.phases, key=lambda p: -p.waiting)[:5]
        waits = [
            f"{p.number:5} {p.seconds * 1e6:10.1f} {p.waiting / self.threads * 1e6:10.1f}"
            for p in slow
        ]
        summary = (
            f"a step takes {self.seconds * 1e6:.1f} us on {self.threads} threads, "
            f"{self.clocked * 1e6:.1f} us with clocks in it: {shares} a thread"
        )
        head = f"{summary}\nthe machine: {self.peaks}\n{HEAD}"
        tail = "phases with the most waiting: us in all, us waiting a thread"
        return "\n".join([head, *map(str, self.rows), tail, *waits])


def profile(
    step: Step, arguments: Sequence[Array], states: Sequence[Array], repeats: int = 30
) -> Profile:
    """Run a step with clocks in it; the states are copied first and stay as they are.

    The result is kept in ``step.profile``, for its page.
    """
    if not isinstance(step, Step):
        raise ArgumentError(f"only native steps have a profile, got {type(step).__name__}")
    clocked = _Clocked(step)
    runs = clocked.measure(arguments, [x.copy() for x in states], repeats)
    plain = _seconds(step, arguments, [x.copy() for x in states], repeats)
    step.profile = _Summary(clocked, runs).profile(plain)
    return step.profile


def _seconds(
    step: Step, arguments: Sequence[Array], states: Sequence[Array], repeats: int
) -> float:
    times = []
    for _ in range(WARM + repeats):
        start = time.perf_counter()
        step(arguments, states)
        times.append(time.perf_counter() - start)
    return median(times[WARM:])


# --- measuring ------------------------------------------------------------------------------------


class _Segment(pool.Step):
    """A native function that notes when it was last called."""

    started = 0.0

    def __call__(self, argument: int) -> None:
        self.started = time.perf_counter()
        super().__call__(argument)


@dataclass(frozen=True)
class _Run:
    """One step: ``stamps[thread, launch]`` are ticks before and after, zeros where there was none.

    ``segments`` says when each native function was called, ``hosts`` when NumPy was, in seconds.
    """

    start: float
    end: float
    stamps: Array
    segments: list[float]
    hosts: dict[Launch, tuple[float, float]]


class _Clocked(Step):
    """The same step with clocks in it."""

    def __init__(self, step: Step) -> None:
        schedule = step.schedule
        super().__init__(step.graph, compiled(schedule, host(), stamps=True), schedule)
        self.stamps = np.zeros((get_num_threads(), len(schedule.launches), 2), np.int64)
        self.block = np.append(self.block, address(self.stamps))
        self.place = address(self.block)
        self.segments = [
            _Segment(x.function, hold_gil=x.hold_gil) for x in self.run if isinstance(x, pool.Step)
        ]
        waiting = iter(self.segments)
        self.run = [next(waiting) if isinstance(x, pool.Step) else x for x in self.run]
        self.hosts: dict[Launch, tuple[float, float]] = {}

    def measure(
        self, arguments: Sequence[Array], states: Sequence[Array], repeats: int
    ) -> list[_Run]:
        """Run again and again."""
        runs = []
        for _ in range(WARM + repeats):
            self.stamps[...] = 0
            start = time.perf_counter()
            self(arguments, states)
            end = time.perf_counter()
            segments = [segment.started for segment in self.segments]
            runs.append(_Run(start, end, self.stamps.copy(), segments, dict(self.hosts)))
        return runs[WARM:]

    def _host(self, launch: Launch, *groups: Sequence[Array]) -> None:
        start = time.perf_counter()
        super()._host(launch, *groups)
        self.hosts[launch] = start, time.perf_counter()


# --- summing up -----------------------------------------------------------------------------------


class _Summary:
    """The runs as seconds: ``times[run, thread, launch]`` from the step's start, NaN for none."""

    def __init__(self, step: _Clocked, runs: Sequence[_Run]) -> None:
        self.launches, self.peaks = step.schedule.launches, peaks()
        self.parts = [part for part in segments_of(step.schedule) if not part[0].host]
        self.number = {launch: k for k, launch in enumerate(self.launches)}
        self.walls = [run.end - run.start for run in runs]
        scale = self._scale(runs)
        self.times = np.array([self._seconds(run, scale) for run in runs])
        self.phases = [self._phases(times) for times in self.times]

    def _scale(self, runs: Sequence[_Run]) -> float:
        """Seconds a tick."""
        first, last = ((run, run.stamps[run.stamps > 0]) for run in (runs[0], runs[-1]))
        if not self.parts or first[0] is last[0]:
            return 1.0
        ticks = int(last[1].min()) - int(first[1].min())
        return (last[0].segments[0] - first[0].segments[0]) / ticks

    def _seconds(self, run: _Run, scale: float) -> Array:
        found = np.full(run.stamps.shape, np.nan)
        for part, called in zip(self.parts, run.segments, strict=True):
            own = [self.number[launch] for launch in part]
            ticks = run.stamps[:, own]
            begin = ticks[ticks > 0].min()
            seconds = (ticks - begin) * scale + (called - run.start)
            found[:, own] = np.where(ticks > 0, seconds, np.nan)
        for launch, times in run.hosts.items():
            found[0, self.number[launch]] = [x - run.start for x in times]
        return found

    def profile(self, plain: float) -> Profile:
        """All of it."""
        typical = int(np.argsort(self.walls)[len(self.walls) // 2])
        return Profile(
            tuple(self._row(k, launch) for k, launch in enumerate(self.launches)),
            tuple(map(_typical, zip(*self.phases, strict=True))),
            tuple(_spans(self.times[typical])),
            plain,
            median(self.walls),
            self.times.shape[1],
            self.peaks,
        )

    def _row(self, k: int, launch: Launch) -> Row:
        times = self.times[:, :, k]
        threads = np.median(np.nan_to_num(times[:, :, 1] - times[:, :, 0]), axis=0)
        total = max(float(threads.sum()), 1e-9)
        kernel = launch.kernel
        flops, moved = (kernel.flops, kernel.bytes) if kernel else (0, 0)
        return Row(
            k, launch.phase, launch.name, launch.tasks, tuple(map(float, threads)), flops, moved,
            forecast(launch, self.peaks).alone if kernel else 0.0,
            flops / total / self.peaks.flops, moved / total / self.peaks.flow(moved),
        )  # fmt: skip

    def _phases(self, times: Array) -> list[Phase]:
        """What each phase of one run took."""
        threads = int((~np.isnan(times[:, :, 0])).any(axis=1).sum())
        found = []
        for part in self.parts:
            numbers = dict.fromkeys(launch.phase for launch in part)
            groups = [[self.number[x] for x in part if x.phase == n] for n in numbers]
            starts = [float(np.nanmin(times[:, own, 0])) for own in groups]
            ends = [*starts[1:], float(np.nanmax(times[:, groups[-1], 1]))]
            for n, own, start, end in zip(numbers, groups, starts, ends, strict=True):
                busy = float(np.nansum(times[:, own, 1] - times[:, own, 0]))
                found.append(Phase(n, end - start, max(threads * (end - start) - busy, 0.0)))
        return found


def _typical(same: Sequence[Phase]) -> Phase:
    """One phase of all runs."""
    waiting = median(phase.waiting for phase in same)
    return Phase(same[0].number, median(phase.seconds for phase in same), waiting)


def _spans(times: Array) -> Iterator[Span]:
    for thread, launches in enumerate(times):
        for k, (start, end) in enumerate(launches):
            if not np.isnan(start):
                yield Span(k, thread, float(start), float(end))
