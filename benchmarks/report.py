"""What was measured, in words: for the terminal, as Markdown and as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from measure import Timings, quartiles
from peers.table import OURS, PEERS, is_ours
from workloads import WORKLOADS

TRAINING = "training step"


@dataclass
class Starts:
    """First steps in processes of their own, one entry each, with an empty cache and a full one."""

    cold: list[dict[str, Any]] = field(default_factory=list)
    cached: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Report:
    """All that a run of the benchmark found.

    tasks: timings by task, such as "training step", and workload.
    starts: first steps by workload and peer; ``left_out`` has the reasons of those that failed.
    """

    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    placements: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[str, dict[str, Timings]] = field(default_factory=dict)
    starts: dict[str, dict[str, Starts]] = field(default_factory=dict)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """``train_step.json`` with every round, and ``train_step.md``."""
        folder.mkdir(parents=True, exist_ok=True)
        contents = {"json": json.dumps(asdict(self), indent=1), "md": "\n".join(self._markdown())}
        for ending, text in contents.items():
            (folder / f"train_step.{ending}").write_text(text + "\n", encoding="utf-8")

    # --- Markdown ---------------------------------------------------------------------------------

    def _markdown(self) -> Iterator[str]:
        yield from ("# Ganglion beside other libraries", "")
        yield from self._about()
        for task, rows in self.tasks.items():
            yield from ("", f"## {task.capitalize()}", "")
            yield from _table(task, rows)
        if self.starts:
            yield from ("", "## First step", "", FIRST_STEP, "")
            yield from self._first_steps()

    def _about(self) -> Iterator[str]:
        versions = self.machine.get("packages", {})
        plain = {name: value for name, value in self.machine.items() if name != "packages"}
        for facts in (plain, versions, self.settings):
            yield "- " + ", ".join(f"{name} {value}" for name, value in facts.items())
        for when, place in zip(("start", "end"), self.placements, strict=False):
            facts = ", ".join(f"{name} {value}" for name, value in place.items())
            yield f"- cores at the {when}: {facts}"
        yield from ("", ABOUT_RATIOS)

    def _first_steps(self) -> Iterator[str]:
        yield from _row("workload", "library", "cold", "cached", "memory before", "at most")
        yield from _row(*["---"] * 2, *["---:"] * 4)
        for name, peers in self.starts.items():
            for peer, starts in peers.items():
                yield from _row(WORKLOADS[name].training, peer, *_costs(starts))
        yield from _without(self.left_out)


ABOUT_RATIOS = (
    "Times are medians over the rounds. *×* says how many times faster Ganglion's compiled step is "
    "than the fastest other library of the same round: the median over the rounds, and the "
    "quartiles. *Others* is the share of the processors that other processes took meanwhile."
)
FIRST_STEP = (
    "In a new process: the first step, and what the two after it take longer than the fastest of "
    "the three. Memory is the process's, before the first step and at its highest."
)


def _table(task: str, rows: Mapping[str, Timings]) -> Iterator[str]:
    peers = [name for name in PEERS if any(name in row.seconds for row in rows.values())]
    yield from _row("workload", "×", "than", *peers, "others")
    yield from _row("---", "---:", "---", *["---:"] * (len(peers) + 1))
    for name, row in rows.items():
        times = [duration(row.median(peer)) if peer in row.seconds else "" for peer in peers]
        ratio = _spread(row.ratios(OURS)) if OURS in row.seconds else ""
        others = f"{100 * row.neighbours:.0f} %"
        yield from _row(_label(name, task), ratio, row.fastest(), *times, others)
    yield from _without({name: row.left_out for name, row in rows.items()})


def _label(workload: str, task: str) -> str:
    found = WORKLOADS[workload]
    return found.training if task == TRAINING else found.title


def _row(*cells: str) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"


def _without(left_out: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    found = [
        f"- {WORKLOADS[name].title}: without {peer}: {reason}"
        for name, reasons in left_out.items()
        for peer, reason in reasons.items()
    ]
    if found:
        yield from ("", *found)


# --- the terminal ---------------------------------------------------------------------------------


def lines(workload: str, task: str, row: Timings) -> Iterator[str]:
    """One task's timings."""
    others = f"others took {100 * row.neighbours:.0f} % of the processors"
    yield f"\n{_label(workload, task)}: {task}; {others}"
    for peer, seconds in row.seconds.items():
        low, middle, high = quartiles(seconds)
        spread = f"{duration(low)} to {duration(high)}"
        ratio = _spread(row.ratios(peer)) if is_ours(peer) else ""
        against = f"  {ratio} × {row.fastest()}" if ratio else ""
        yield f"  {peer:28}{duration(middle):>10}   {spread:24}{against}".rstrip()
    yield from (f"  without {peer}: {reason}" for peer, reason in row.left_out.items())


def start_line(peer: str, starts: Starts) -> str:
    """One peer's first steps."""
    cold, cached, before, most = _costs(starts)
    return f"  {peer:28}{cold:>10} cold {cached:>10} cached   memory {before}, then {most}"


# --- numbers --------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """In µs, ms or s, with three digits."""
    for unit, size in (("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{_three(seconds / size)} {unit}"
    return f"{_three(seconds)} s"


def _three(x: float) -> str:
    """With three digits or more."""
    digits = 2 if x < 9.995 else 1 if x < 99.95 else 0
    return f"{x:.{digits}f}"


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    low, middle, high = quartiles(ratios)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _costs(starts: Starts) -> list[str]:
    """Seconds cold and cached, megabytes before and at most: medians."""
    memory = [
        median(start[key] for start in starts.cold)
        for key in ("megabytes_before", "megabytes_at_most")
    ]
    seconds = [median(map(_first, group)) for group in (starts.cold, starts.cached)]
    return [*map(duration, seconds), *(f"{x:.0f} MB" for x in memory)]


def _first(start: Mapping[str, Any]) -> float:
    calls: list[float] = start["seconds_of_calls"]
    return sum(calls) - (len(calls) - 1) * min(calls)
