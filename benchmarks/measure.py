"""Timing several libraries side by side: round by round in turn, so that moods meet all of them."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from machine import Neighbours
from peers.side import Side
from peers.table import is_ours

from ganglion.compiler import pool

CHECKED = 3  # steps whose results are compared between peers ...
TOLERANCE = 1e-3  # ... and may differ by this much, of the greatest
WARM = 0.2  # of a turn's time goes before its timing
SETTLE = 0.03  # seconds after which other libraries' threads have fallen asleep

Array = np.ndarray[Any, Any]


@dataclass
class Timings:
    """Seconds of one step: of every peer, in every round. ``left_out`` has reasons by peer."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    neighbours: float = 0.0  # the share of the processors that others took

    def median(self, peer: str) -> float:
        """A peer's median, seconds."""
        return float(np.median(self.seconds[peer]))

    def ratios(self, peer: str) -> list[float]:
        """How many times faster than the fastest of the others a peer of ours is, by round."""
        others = [times for name, times in self.seconds.items() if not is_ours(name)]
        if not others:
            return []
        return [min(row) / own for own, *row in zip(self.seconds[peer], *others, strict=True)]

    def fastest(self) -> str:
        """The fastest of the others, by medians; empty without others."""
        others = [name for name in self.seconds if not is_ours(name)]
        return min(others, key=self.median, default="")


def measure(makers: Mapping[str, Callable[[], Side]], rounds: int, seconds: float) -> Timings:
    """Make all sides, compare their results, then time them in turn, ``seconds`` each turn."""
    found = Timings()
    sides = _prepared(makers, found.left_out)
    counts = {name: _count(side, seconds) for name, side in sides.items()}
    found.seconds = {name: [] for name in sides}
    neighbours, names = Neighbours(), list(sides)
    for _ in range(rounds):
        for name in names:
            found.seconds[name].append(_turn(sides[name], counts[name]))
        names.append(names.pop(0))
    found.neighbours = neighbours.share()
    return found


def _prepared(
    makers: Mapping[str, Callable[[], Side]], left_out: dict[str, str]
) -> dict[str, Side]:
    """The sides that can be made and compute the same as the first of the others."""
    sides: dict[str, Side] = {}
    results: dict[str, list[Array]] = {}
    for name, make in makers.items():
        try:
            side = make()
            results[name] = [np.array(side.read(side.run())) for _ in range(CHECKED)]
            sides[name] = side
        except Exception as error:  # noqa: BLE001 - the others go on
            left_out[name] = _reason(error)
    model = next((name for name in sides if not is_ours(name)), next(iter(sides), ""))
    for name in list(sides):
        difference = max(map(_difference, results[name], results[model]))
        if difference > TOLERANCE:
            left_out[name] = f"its results differ from {model}'s by {difference:.1e}"
            del sides[name]
    return sides


def _reason(error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}"


def _difference(x: Array, y: Array) -> float:
    """The greatest difference, relative to the greatest element; infinite if it is not a number."""
    found = float(np.abs(x - y).max() / np.abs(y).max())
    return found if math.isfinite(found) else math.inf


def _count(side: Side, seconds: float) -> int:
    """Steps that fill a turn."""
    done, start = 0, time.perf_counter()
    while done < 2 or time.perf_counter() - start < seconds / 2:
        side.run()
        done += 1
    return max(1, round(seconds * done / (time.perf_counter() - start)))


def _turn(side: Side, count: int) -> float:
    """Seconds of one step, once the threads of the one before sleep and its own are awake."""
    pool.park()
    time.sleep(SETTLE)
    _seconds(side, math.ceil(WARM * count))
    return _seconds(side, count) / count


def _seconds(side: Side, count: int) -> float:
    run = side.run
    start = time.perf_counter()
    for _ in range(count):
        run()
    return time.perf_counter() - start


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(low), float(middle), float(high)
