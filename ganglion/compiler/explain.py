"""What a compiled step is, as text: its graph, kernels, memory, barriers, and what they cost.

    phase   #  kernel                   tasks      KFLOP         KB  predicted us
        0   4  loop exp                     1        2.1        4.1      0.1 call  train.py:7
                exp, mul, sum:  t3 input0 -> t4

``Explanation`` holds the facts that the text and the page of ``view`` show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final

from ganglion.compiler.lower import Part, Stored
from ganglion.compiler.roofline import Forecast, Peaks, forecast, predict
from ganglion.compiler.roofline import peaks as measured
from ganglion.compiler.schedule import Buffer, Launch, Schedule
from ganglion.compiler.templates import TEMPLATES, template
from ganglion.graph import LEAVES, Node, Value
from ganglion.ops.record import OPS
from ganglion.shapes import Meta

SHOWN: Final = 3  # of a list of lines or values


def explain(schedule: Schedule, peaks: Peaks | None = None) -> str:
    """A schedule for people; ``peaks`` are measured unless given."""
    return Explanation(schedule, peaks).text()


@dataclass(frozen=True)
class State:
    """What becomes of one state: ``how`` it is updated, and by which launch."""

    slot: int
    type: str
    how: str
    launch: int | None


class Explanation:
    """The facts about a schedule, computed as they are asked for."""

    def __init__(self, schedule: Schedule, peaks: Peaks | None = None) -> None:
        self.schedule, self._peaks = schedule, peaks
        self.launches = schedule.launches
        self.names = {node: k for k, node in enumerate(schedule.graph.topological())}

    # --- the graph ----------------------------------------------------------------------------

    @property
    def counts(self) -> list[tuple[str, int]]:
        """Every op and how many nodes it has, the most frequent first."""
        found = Counter(node.op_name for node in self.names if node.op_name not in LEAVES)
        return sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))

    def spelled(self, value: Stored) -> str:
        """``%7 f32[2,3] add``; parts of a value are marked by ``'``."""
        whole = value.of if isinstance(value, Part) else value
        index = f".{whole.index}" if len(whole.node.outputs) > 1 else ""
        mark = "'" if isinstance(value, Part) else ""
        meta = value.meta
        return f"%{self.names.get(whole.node, '?')}{index}{mark} {meta} {whole.node.op_name}"

    # --- kernels ------------------------------------------------------------------------------

    @cached_property
    def _kept(self) -> set[Value]:
        """The values in buffers."""
        made = (pair for launch in self.launches for pair in launch.made.items())
        return {v for v, buffer in made if isinstance(v, Value) and buffer is not None}

    @cached_property
    def nodes(self) -> list[list[Node]]:
        """For each launch, the nodes that it computes: from what is in buffers to what it makes."""
        return [sorted(self._computed(x), key=self.names.__getitem__) for x in self.launches]

    def _computed(self, launch: Launch) -> set[Node]:
        roots = [v.of if isinstance(v, Part) else v for v in launch.made]
        waiting = [v.node for v in roots if v.node.op_name not in LEAVES]
        found: set[Node] = set()
        while waiting:
            node = waiting.pop()
            if node in found or node not in self.names:
                continue
            found.add(node)
            waiting += [
                v.node
                for v in node.operands
                if v.node.op_name not in LEAVES and (v in launch.made or v not in self._kept)
            ]
        return found

    def ops(self, number: int) -> str:
        """What a launch computes: ``matmul, then add, relu`` for what is finished in registers.

        ``for matmul``: it only prepares operands.
        """
        launch = self.launches[number]
        nodes = [node for node in self.nodes[number] if not OPS[node.op_name].view]
        heads = [node for node in nodes if template(node) is not None][:1]
        rest = ", ".join(_counted([node.op_name for node in nodes if node not in heads]))
        parts = [*(node.op_name for node in heads), *([rest] if rest else [])]
        if heads and not any(b in launch.writes for b in launch.made.values()):
            return f"for {parts[0]}"
        return ", then ".join(parts) or self._moved(launch)

    def _moved(self, launch: Launch) -> str:
        """What a launch without ops of its own copies."""
        return "copy of " + ", ".join(map(self.spelled, launch.made))

    def lines(self, number: int) -> list[str]:
        """The user's lines that a launch comes from."""
        origins = self.schedule.graph.origins
        found = [origins[node] for node in self.nodes[number] if node in origins]
        return list(dict.fromkeys(_short(str(origin)) for origin in found if origin.file))

    @cached_property
    def peaks(self) -> Peaks:
        """What the machine can do: measured unless given."""
        return self._peaks or measured()

    @cached_property
    def forecasts(self) -> list[Forecast]:
        """The roofline's time of each launch."""
        return [forecast(launch, self.peaks) for launch in self.launches]

    @cached_property
    def seconds(self) -> float:
        """The predicted time of a step."""
        return predict(self.schedule, self.peaks)

    def host_reason(self, launch: Launch) -> str:
        """Why an op is not native."""
        assert launch.host is not None
        op = OPS[launch.host.op_name]
        if op.runs == "host":
            return "the op is meant to run on the host"
        if op.name in TEMPLATES:
            return "its kernel takes no operands of these dtypes or shapes"
        return "the op has no native form yet"

    # --- memory -------------------------------------------------------------------------------

    @cached_property
    def arena(self) -> list[Buffer]:
        """The buffers of the arena, by address and time."""
        found = {b: None for launch in self.launches for b in launch.buffers if b.kind == "arena"}
        return sorted(found, key=lambda b: (b.offset, b.first))

    @cached_property
    def contents(self) -> dict[Buffer, list[Stored]]:
        """The values that each buffer holds, one after the other."""
        found: dict[Buffer, list[Stored]] = {}
        for launch in self.launches:
            for value, buffer in launch.made.items():
                if buffer is not None:
                    held = found.setdefault(buffer, [])
                    held += [] if value in held else [value]
        return found

    def content(self, buffer: Buffer) -> str:
        """What a buffer holds."""
        found = [self.spelled(v) for v in self.contents.get(buffer, ())]
        if found:
            return ", ".join(_first(found))
        users = [str(k) for k, x in enumerate(self.launches) if buffer in x.buffers]
        return f"{Meta(buffer.layout.shape, buffer.layout.dtype)} of kernels {', '.join(users)}"

    def barriers(self) -> Iterator[tuple[int, list[str]]]:
        """Each phase but the first, and what of the one before it the threads wait for."""
        phases = [list(group) for _, group in groupby(self.launches, lambda x: x.phase)]
        for before, now in pairwise(phases):
            written = {b.name: b for x in before for b in x.writes}
            read = {b.name: b for x in before for b in x.reads}
            why = [n for n, b in written.items() if any(b in (*x.reads, *x.writes) for x in now)]
            why += [n for n, b in read.items() if any(b in x.writes for x in now) and n not in why]
            hosts = [x.name for x in (*before, *now) if x.kernel is None]
            yield now[0].phase, [*why, *hosts]

    @property
    def states(self) -> Iterator[State]:
        """Every state, and how it gets its new content."""
        updated = dict(self.schedule.graph.updates)
        for value in self.schedule.graph.states:
            slot = value.node.kwargs["slot"]
            how, launch = "read only", None
            if slot in updated:
                how, launch = self._update(slot, value, updated[slot])
            yield State(slot, str(value.meta), how, launch)

    def _update(self, slot: int, old: Value, new: Value) -> tuple[str, int | None]:
        for k, launch in enumerate(self.launches):
            for value, buffer in launch.made.items():
                if buffer is not None and (buffer.kind, buffer.number) == ("state", slot):
                    if value == new:
                        return "written in place", k
                    late = isinstance(value, Part) and value.of == old
                    return "copied at the end" if late else "copied", k
        return "unchanged: nothing to write", None

    # --- text ---------------------------------------------------------------------------------

    def text(self) -> str:
        """All of it."""
        parts = [
            [self.summary()],
            ["graph: " + ", ".join(_counted_pairs(self.counts))],
            [f"  {line}" for line in self.schedule.graph.text(origins=True).splitlines()],
            self._kernels(),
            self._hosts(),
            self._barriers(),
            self._arena(),
            self._states(),
        ]
        return "\n".join(line for part in parts for line in part) + "\n"

    def summary(self) -> str:
        """One line of numbers."""
        kernels = sum(launch.kernel is not None for launch in self.launches)
        hosts = len(self.launches) - kernels
        schedule = self.schedule
        flops = sum(launch.kernel.flops for launch in self.launches if launch.kernel)
        return (
            f"{len(self.names)} nodes, {_many(kernels, 'kernel')}, {_many(hosts, 'host call')}, "
            f"{_many(schedule.phases, 'phase')}; {flops / 1e6:.2f} MFLOP; arena "
            f"{size(schedule.arena)}, scratch {size(schedule.scratch)} a thread"
        )

    def _kernels(self) -> list[str]:
        head = "phase   #  kernel                   tasks      KFLOP         KB  predicted us"
        lines = ["", f"kernels, predicted on {_many(self.peaks.threads, 'thread')}", head]
        for k, launch in enumerate(self.launches):
            lines += self._kernel(k, launch)
        total = f"a step should take {self.seconds * 1e6:.1f} us and more"
        return [*lines, f"{total}: predicted from {self.peaks}, not measured"]

    def _kernel(self, k: int, launch: Launch) -> list[str]:
        kernel, found = launch.kernel, self.forecasts[k]
        flops, moved = (kernel.flops, kernel.bytes) if kernel else (0, 0)
        reads, writes = (" ".join(b.name for b in bs) for bs in (launch.reads, launch.writes))
        where = ", ".join(_first(self.lines(k)))
        return [
            f"{launch.phase:5} {k:3}  {launch.name:24} {launch.tasks:5} {flops / 1e3:10.1f} "
            f"{moved / 1e3:10.1f} {found.seconds * 1e6:8.1f} {found.bound:5} {where}".rstrip(),
            f"            {self.ops(k)}:  {reads} -> {writes}",
        ]

    def _hosts(self) -> list[str]:
        hosts = [(k, x) for k, x in enumerate(self.launches) if x.host is not None]
        found = [f"  {k:3}  {x.name}: {self.host_reason(x)}" for k, x in hosts]
        return ["", "calls of the host, between which native code ends and begins", *found] * bool(
            hosts
        )

    def _barriers(self) -> list[str]:
        found = [f"  {phase:4}  {', '.join(_first(why, 6))}" for phase, why in self.barriers()]
        return ["", "phases, and what the threads wait for before them", *found] * bool(found)

    def _arena(self) -> list[str]:
        total = sum(b.nbytes for b in self.arena)
        head = f"arena: {size(self.schedule.arena)} hold {size(total)} of temporaries"
        found = [
            f"  {b.offset:9} {b.nbytes:10}  {b.first:3}-{b.last:<3} {b.name:8} {self.content(b)}"
            for b in self.arena
        ]
        return ["", head, "     offset      bytes  phases  buffer  content", *found] * bool(found)

    def _states(self) -> list[str]:
        found = [
            f"  {s.slot:3}  {s.type:16} {s.how}"
            + (f" by kernel {s.launch}" if s.launch is not None else "")
            for s in self.states
        ]
        return ["", "states", *found] * bool(found)


# --- spelling -------------------------------------------------------------------------------------


def size(nbytes: int) -> str:
    """Bytes in a unit that fits."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if nbytes >= factor:
            return f"{nbytes / factor:.1f} {unit}"
    return f"{nbytes} B"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _short(origin: str) -> str:
    """The line without its folders."""
    place, _, module = origin.partition(" ")
    return f"{Path(place).name} {module}".rstrip()


def _counted(names: Sequence[str]) -> list[str]:
    return _counted_pairs(list(Counter(names).items()))


def _counted_pairs(pairs: Sequence[tuple[str, int]]) -> list[str]:
    return [name if count == 1 else f"{count} {name}" for name, count in pairs]


def _first(found: Sequence[str], most: int = SHOWN) -> list[str]:
    """The first few, and how many more there are."""
    rest = len(found) - most
    return [*found[:most], f"{rest} more"] if rest > 0 else list(found)
