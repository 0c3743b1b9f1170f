"""What GANGLION_DEBUG prints about a compilation, on standard error.

1: one line with kernels, phases, memory, the time of each stage, what came from disk;
2: the schedule too; 3: the graph after each pass too; 4: LLVM's text too, in files.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from ganglion.compiler.cache import stored
from ganglion.config import flags
from ganglion.graph import Graph

if TYPE_CHECKING:
    from ganglion.compiler.schedule import Schedule
    from ganglion.compiler.target import Target


class Report:
    """Watches one compilation."""

    def __init__(self) -> None:
        self.level = flags.debug
        self.stages: list[str] = []
        self.last = time.perf_counter()

    def stage(self, name: str) -> None:
        """A stage ends here."""
        now = time.perf_counter()
        self.stages.append(f"{name} {(now - self.last) * 1e3:.1f} ms")
        self.last = now

    def graph(self, title: str, graph: Graph) -> None:
        """The graph at this point."""
        self._show(3, title, graph)

    def schedule(self, schedule: Schedule) -> None:
        """The schedule, and the line about all of it."""
        self._show(2, "schedule", schedule)
        hosts = sum(launch.host is not None for launch in schedule.launches)
        self._say(
            f"{len(schedule.launches) - hosts} kernels, {hosts} host calls, {schedule.phases} "
            f"phases, arena {schedule.arena} B, scratch {schedule.scratch} B; "
            + ", ".join(self.stages)
        )

    def recalled(self, graph: Graph) -> None:
        """A step was read back from disk instead of compiled."""
        self._say(f"{len(graph.topological())} nodes, from disk; {', '.join(self.stages)}")

    def texts(self, modules: Iterable[str], target: Target) -> Iterable[str]:
        """The modules of LLVM's text; if there is something to tell, they are all written first."""
        if not self.level:
            return modules
        texts = list(modules)
        self.stage("emit")
        self.stages.append(f"{stored(texts, target)} of {len(texts)} modules on disk")
        if self.level >= 4:
            self._keep(texts)
        return texts

    def _keep(self, texts: Sequence[str]) -> None:
        """One file a module."""
        key = blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()
        folder = flags.cache / "llvm" / key
        folder.mkdir(parents=True, exist_ok=True)
        for k, text in enumerate(texts):
            (folder / f"module{k}.ll").write_text(text)
        self._say(f"LLVM text of {len(texts)} modules in {folder}")

    def _show(self, level: int, title: str, thing: Graph | Schedule) -> None:
        if self.level >= level:
            lines = thing.text().rstrip().splitlines()
            self._say("\n  ".join([title, *lines]))
            self.last = time.perf_counter()

    def _say(self, text: str) -> None:
        if self.level:
            print(f"ganglion.compile: {text}", file=sys.stderr)  # noqa: T201
