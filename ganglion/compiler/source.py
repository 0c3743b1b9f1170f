"""A schedule as LLVM text.

    void step(ptr arguments, i64 thread, i64 threads, ptr control)

All threads enter it together. It calls each kernel on the thread's share of the tasks and waits
at a barrier between phases. ``arguments`` holds the addresses of the arena, of scratch memory and
of every input, state, output and constant. A call of the host ends one such function, a *segment*,
and another follows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Final

from ganglion.compiler.cache import objects
from ganglion.compiler.image import Image
from ganglion.compiler.kernel import Kernel
from ganglion.compiler.plan import plan
from ganglion.compiler.report import Report
from ganglion.compiler.schedule import ALIGN, Buffer, Launch, Schedule
from ganglion.compiler.simplify import expand
from ganglion.compiler.target import Target
from ganglion.compiler.team import PROCESSORS
from ganglion.compiler.text import Code, Index, Module, Reg, spelled
from ganglion.graph import Graph

KINDS: Final = ("input", "state", "output", "const")
PARAMETERS: Final = (
    ("ptr", "arguments"),
    ("i64", "thread"),
    ("i64", "threads"),
    ("ptr", "control"),
)
LINES: Final = 1500  # of a module, at least: to begin one costs as much as a hundred lines


def planned(graph: Graph, report: Report | None = None) -> Schedule:
    """The schedule of a traced graph."""
    report = report or Report()
    graph = expand(graph)
    report.stage("expand")
    report.graph("expanded graph", graph)
    schedule = plan(graph)
    report.stage("plan")
    return schedule


def compiled(
    schedule: Schedule, target: Target, stamps: bool = False, report: Report | None = None
) -> Image:
    """The machine code of a schedule."""
    report = report or Report()
    source = Source(schedule, target, stamps)
    code = objects(report.texts(source.texts(), target), target)
    report.stage("compile")
    return Image(
        tuple(code),
        tuple(schedule.constants),
        source.places,
        source.size,
        _used(schedule),
        schedule.arena,
        scratch_step(schedule),
        sum(launch.kernel.flops for launch in schedule.launches if launch.kernel),
        len(source.segments),
    )


class Source:
    """A schedule as text: functions ``step0``, ``step1``, ... and the kernels they call.

    Kernels with equal keys are written once. ``places`` says where in the argument block the
    addresses of each kind begin; ``size`` is the block's length. With ``stamps``, one more address
    follows: there each thread writes the cycle counter before and after each kernel.
    """

    def __init__(self, schedule: Schedule, target: Target, stamps: bool = False) -> None:
        self.schedule, self.target, self.stamps = schedule, target, stamps
        self.order = {launch: k for k, launch in enumerate(schedule.launches)}
        self.kernels: dict[Hashable, Kernel] = {}
        for launch in schedule.launches:
            if launch.kernel is not None:
                self.kernels.setdefault(launch.kernel.key, launch.kernel)
        self.names = {key: f"kernel{k}" for k, key in enumerate(self.kernels)}
        self.lengths: list[int] = []  # lines of each kernel that is written
        self.places, self.size = _places(schedule)
        self.segments = segments_of(schedule)
        self.main = self._module()

    def texts(self) -> Iterator[str]:
        """The modules, each written when it is asked for: others can be compiled meanwhile.

        Kernels with much to do come first, since those have the longest texts.
        """
        for number, launches in enumerate(self.segments):
            if not launches[0].host:
                self._segment(f"step{number}", launches)
        yield self.main.text()
        part = self._module()
        for kernel in sorted(self.kernels.values(), key=lambda kernel: -kernel.flops):
            before = part.length
            kernel.write(part, self.names[kernel.key])
            self.lengths.append(part.length - before)
            if part.length >= LINES:
                yield part.text()
                part = self._module()
        if part.functions:
            yield part.text()

    def _module(self) -> Module:
        return Module(self.target.fma, self.target.attributes)

    def _segment(self, name: str, launches: Sequence[Launch]) -> None:
        code = self.main.function(name, PARAMETERS)
        _, thread, threads, control = code.parameters
        barrier = code.load(control, "ptr")
        phase, turn = launches[0].phase, 0
        for launch in launches:
            if launch.phase != phase:
                code.line(f"call void {barrier.name}({control}, {thread}, {threads})")
                phase = launch.phase
            turn += self._call(code, launch, turn)
        code.ret()

    def _call(self, code: Code, launch: Launch, turn: int) -> int:
        """Call a kernel for the thread's tasks; those of one task take turns among the threads."""
        assert launch.kernel is not None
        _, thread, threads, _ = code.parameters
        tasks = launch.kernel.tasks
        if tasks == 1:
            mine = code.pure("i64", f"urem i64 {turn}, {threads.name}")
            code.when(code.compare("eq", thread, mine), lambda: self._enter(code, launch, 0, 1))
            return 1
        low, high = (
            code.pure("i64", f"udiv i64 {spelled(code.mul(t, tasks))}, {threads.name}")
            for t in (thread, code.add(thread, 1))
        )
        some = code.compare("slt", low, high)
        code.when(some, lambda: self._enter(code, launch, low, high))
        return 0

    def _enter(self, code: Code, launch: Launch, low: Index, high: Index) -> None:
        assert launch.kernel is not None
        arguments, thread = code.parameters[:2]
        given = [self._pointer(code, arguments, b) for b in launch.buffers]
        scratch = self._argument(code, arguments, 1)
        given.append(code.at_index(scratch, code.mul(thread, scratch_step(self.schedule)), "i8"))
        values = ", ".join(map(str, given))
        name = self.names[launch.kernel.key]
        self.main.declare(name, "void", ", ".join(["ptr"] * len(given) + ["i64", "i64"]))
        self._stamp(code, launch, 0)
        code.line(f"call void @{name}({values}, i64 {spelled(low)}, i64 {spelled(high)})")
        self._stamp(code, launch, 1)

    def _stamp(self, code: Code, launch: Launch, end: int) -> None:
        if not self.stamps:
            return
        processor = PROCESSORS[self.target.architecture]
        if processor["counter"] not in self.main.globals:
            self.main.globals.append(processor["counter"])
        cycles = code.fresh("i64", processor["clock"])
        arguments, thread = code.parameters[:2]
        row = code.mul(thread, 2 * len(self.order))
        place = code.add(row, 2 * self.order[launch] + end)
        code.store(cycles, code.at_index(self._argument(code, arguments, self.size), place, "i64"))

    def _argument(self, code: Code, arguments: Reg, place: int) -> Reg:
        return code.load(code.at_index(arguments, place, "ptr"), "ptr")

    def _pointer(self, code: Code, arguments: Reg, b: Buffer) -> Reg:
        if b.kind == "arena":
            return code.at_index(self._argument(code, arguments, 0), b.offset, "i8")
        return self._argument(code, arguments, self.places[b.kind] + b.number)


def _places(schedule: Schedule) -> tuple[dict[str, int], int]:
    """Where in the argument block each kind of buffer begins, and how long the block is."""
    counts = dict.fromkeys(KINDS, 0)
    for launch in schedule.launches:
        for b in launch.buffers:
            if b.kind in counts:
                counts[b.kind] = max(counts[b.kind], b.number + 1)
    places, place = {}, 2  # after the arena and the scratch memory
    for kind in KINDS:
        places[kind] = place
        place += counts[kind]
    return places, place


def segments_of(schedule: Schedule) -> list[list[Launch]]:
    """Runs of kernels, and host calls alone."""
    found: list[list[Launch]] = []
    for launch in schedule.launches:
        if launch.host or not found or found[-1][0].host:
            found.append([])
        found[-1].append(launch)
    return found


def scratch_step(schedule: Schedule) -> int:
    """Bytes from one thread's scratch memory to the next's; odd in lines, to keep them apart."""
    return (-(-schedule.scratch // ALIGN) | 1) * ALIGN


def _used(schedule: Schedule) -> dict[str, list[int]]:
    """The numbers of the inputs, states and outputs that kernels touch."""
    found: dict[str, set[int]] = {kind: set() for kind in KINDS}
    for launch in schedule.launches:
        for b in launch.buffers:
            if b.kind in found:
                found[b.kind].add(b.number)
    return {kind: sorted(numbers) for kind, numbers in found.items()}
