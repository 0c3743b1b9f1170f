"""How many threads serve a function best just now, learned from its own runs.

Two threads are slower than one when a step takes ten microseconds and the cores are far apart, when
another process has a core, or when workers have fallen asleep between steps. None of it can be
asked for, all of it changes, and results do not depend on the number of threads: so try. Level 0 is
all threads, each further level half as many.
"""

from __future__ import annotations

import ctypes
from typing import Final

from ganglion.compiler.team import Record

STEADY: Final = 10e-3  # seconds of runs before a mean is believed ...
TRIAL: Final = 1e-3  # ... and that a trial of another level may cost
FIRST: Final = 20e-3  # seconds of runs until the first trial; doubled by each that fails ...
LONGEST: Final = 1.0  # ... up to this
SHORT: Final = 100e-6  # longer functions try fewer threads only when ...
DISTURBED: Final = 1.25  # ... they take this many times their best
GAIN: Final = 0.95  # a level that needs less than this share of the time is taken


class Pace:
    """The level of one function, and the record of its runs that `dispatch` keeps."""

    def __init__(self, ticks_per_second: float) -> None:
        self.second = ticks_per_second
        self.record = Record()
        self.address = ctypes.addressof(self.record)
        self._restart(0)

    def _restart(self, threads: int) -> None:
        self.threads = threads  # of level 0
        self.level = 0
        self.home = 0  # the level outside trials
        self.mean = 0.0
        self.best: dict[int, float] = {}
        self.waited, self.patience = 0.0, FIRST
        self.trials = 0
        self._begin(STEADY)

    def _begin(self, seconds: float) -> None:
        self.record.ticks = self.record.runs = 0
        self.record.until = int(seconds * self.second)

    def decide(self, threads: int) -> None:
        """Choose the level of the next runs, once the record is full."""
        if threads != self.threads:
            self._restart(threads)
            return
        seconds = self.record.ticks / self.second
        mean = seconds / max(self.record.runs, 1)
        if self.level != self.home:
            self._end_trial(mean)
        else:
            self.mean = mean
            self.best[self.level] = min(mean, self.best.get(self.level, mean))
            self.waited += seconds
            self.level = self._next_trial()
        trial = self.level != self.home
        self._begin(max(TRIAL, 2 * self.mean) if trial else max(STEADY, 4 * self.mean))

    def _end_trial(self, mean: float) -> None:
        if mean < GAIN * self.mean:
            self.home, self.mean, self.patience = self.level, mean, FIRST
        else:
            self.level, self.patience = self.home, min(2 * self.patience, LONGEST)

    def _next_trial(self) -> int:
        """The level to try now, or the present one."""
        if self.waited < self.patience:
            return self.level
        suspect = self.mean < SHORT or self.mean > DISTURBED * self.best[self.level]
        options = [self.level - 1] if self.level else []
        if suspect and self.threads >> self.level > 1:
            options.append(self.level + 1)
        self.waited = 0.0
        self.trials += 1
        return options[self.trials % len(options)] if options else self.level
