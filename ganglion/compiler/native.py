"""Native steps: a schedule as LLVM text, and the object that runs it.

    void step(ptr arguments, i64 thread, i64 threads, ptr control)

All threads enter it together. It calls each kernel on the thread's share of the tasks and waits
at a barrier between phases. ``arguments`` holds the addresses of the arena, of scratch memory and
of every input, state, output and constant. A call of the host ends one such function, a *segment*,
and another follows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ganglion.blas import get_num_threads
from ganglion.compiler import pool
from ganglion.compiler.cache import objects
from ganglion.compiler.explain import explain
from ganglion.compiler.image import Image, remember, remembered
from ganglion.compiler.llvm import load
from ganglion.compiler.memory import allocate
from ganglion.compiler.plan import plan
from ganglion.compiler.program import Program
from ganglion.compiler.report import Report
from ganglion.compiler.schedule import ALIGN, Buffer, Launch, Schedule
from ganglion.compiler.simplify import expand
from ganglion.compiler.target import Target, host
from ganglion.compiler.team import PROCESSORS
from ganglion.compiler.text import Code, Index, Module, Reg
from ganglion.compiler.view import page
from ganglion.eager import run_kernel
from ganglion.graph import Graph
from ganglion.ops.record import OPS

if TYPE_CHECKING:
    from ganglion.compiler.profile import Profile

Array = np.ndarray[Any, Any]

SHORT: Final = 1 << 26  # FLOP of steps during which the GIL is held: below a millisecond
KINDS: Final = ("input", "state", "output", "const")
PARAMETERS: Final = (
    ("ptr", "arguments"),
    ("i64", "thread"),
    ("i64", "threads"),
    ("ptr", "control"),
)
LINES_APART: Final = ((8000, 4), (2000, 2), (0, 1))  # of text, and modules to compile abreast


def build(program: Program) -> Step:
    """Compile a traced program, or read back what was compiled before."""
    report, target = Report(), host()
    report.graph("traced graph", program.graph)
    image = remembered(program.graph, target) if report.level < 2 else None
    if image is not None:
        report.stage("read")
        report.recalled(program.graph)
        return Step(program.graph, image)
    graph = expand(program.graph)
    report.stage("expand")
    report.graph("expanded graph", graph)
    schedule = plan(graph)
    report.stage("plan")
    image = compiled(schedule, target, report=report)
    report.schedule(schedule)
    if not any(launch.host for launch in schedule.launches):
        remember(program.graph, target, image)
    return Step(program.graph, image, schedule)


def compiled(
    schedule: Schedule, target: Target, stamps: bool = False, report: Report | None = None
) -> Image:
    """The machine code of a schedule."""
    report = report or Report()
    source = Source(schedule, target, stamps)
    texts = source.texts()
    report.texts(texts, target)
    code = objects(texts, target)
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


# --- text -----------------------------------------------------------------------------------------


class Source:
    """A schedule as text: functions ``step0``, ``step1``, ... and the kernels they call.

    Kernels with equal keys are written once. ``places`` says where in the argument block the
    addresses of each kind begin; ``size`` is the block's length. With ``stamps``, one more address
    follows: there each thread writes the cycle counter before and after each kernel.
    """

    def __init__(self, schedule: Schedule, target: Target, stamps: bool = False) -> None:
        self.schedule, self.target, self.stamps = schedule, target, stamps
        self.order = {launch: k for k, launch in enumerate(schedule.launches)}
        self.names: dict[Hashable, str] = {}
        self.kernels: list[Module] = []
        self.places, self.size = _places(schedule)
        self.segments = _segments(schedule)
        self.main = Module(target.fma, target.attributes)
        for number, launches in enumerate(self.segments):
            if not launches[0].host:
                self._segment(f"step{number}", launches)

    def texts(self) -> list[str]:
        """Modules of about the same length."""
        lines = sum(module.length for module in self.kernels)
        count = next(n for least, n in LINES_APART if lines >= least)
        parts = [Module(self.target.fma, self.target.attributes) for _ in range(count)]
        for module in sorted(self.kernels, key=lambda m: -m.length):
            min(parts, key=lambda part: part.length).take(module)
        return [part.text() for part in (self.main, *parts)]

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
            code.pure("i64", f"udiv i64 {_name(code.mul(t, tasks))}, {threads.name}")
            for t in (thread, code.add(thread, 1))
        )
        some = code.compare("slt", low, high)
        code.when(some, lambda: self._enter(code, launch, low, high))
        return 0

    def _enter(self, code: Code, launch: Launch, low: Index, high: Index) -> None:
        arguments, thread = code.parameters[:2]
        given = [self._pointer(code, arguments, b) for b in launch.buffers]
        scratch = self._argument(code, arguments, 1)
        given.append(code.at_index(scratch, code.mul(thread, scratch_step(self.schedule)), "i8"))
        spelled = ", ".join(map(str, given))
        name = self._kernel(launch)
        self._stamp(code, launch, 0)
        code.line(f"call void @{name}({spelled}, i64 {_name(low)}, i64 {_name(high)})")
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

    def _kernel(self, launch: Launch) -> str:
        kernel = launch.kernel
        assert kernel is not None
        name = self.names.get(kernel.key)
        if name is None:
            name = self.names[kernel.key] = f"kernel{len(self.names)}"
            module = Module(self.target.fma, self.target.attributes)
            pointers = [("ptr", f"b{i}") for i in range(len(kernel.operands))]
            parameters = [*pointers, ("ptr", "scratch"), ("i64", "low"), ("i64", "high")]
            code = module.function(name, parameters)
            *buffers, scratch, low, high = code.parameters
            kernel.emit(code, buffers, scratch, low, high)
            code.ret()
            self.kernels.append(module)
            self.main.declare(name, "void", ", ".join(kind for kind, _ in parameters))
        return name


def _name(x: Index) -> str:
    return str(x) if isinstance(x, int) else x.name


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


def _segments(schedule: Schedule) -> list[list[Launch]]:
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


# --- running --------------------------------------------------------------------------------------


def _address_by_protocol(x: Array) -> int:
    return int(x.ctypes.data)


def _address_in_object(x: Array) -> int:
    """Ten times faster: NumPy keeps the address first in an array's object."""
    return _word(id(x) + HEADER).value or 0


HEADER: Final = object.__basicsize__
_word = ctypes.c_void_p.from_address
_probe = np.zeros(3)
_same = _address_in_object(_probe) == _address_by_protocol(_probe)
address = _address_in_object if _same else _address_by_protocol


class Step:
    """A compiled program: call it with the arguments' and the states' arrays.

    One call at a time: its memory is shared by all calls.
    """

    def __init__(self, graph: Graph, image: Image, schedule: Schedule | None = None) -> None:
        self.graph, self.image = graph, image
        if schedule is not None:
            self.schedule = schedule
        self.library = load(image.objects)
        self.block = np.zeros(image.size, np.int64)
        self.place = address(self.block)
        self.arena = allocate(max(image.arena, 1))
        self.block[0] = address(self.arena)
        self.first_input, self.first_state, self.first_output, first = image.places.values()
        self.constants = image.constants
        for i in image.used["const"]:
            self.block[first + i] = address(self.constants[i])
        self.hold_gil = image.flops < SHORT
        known = self.library.names
        hosts = iter(x for x in schedule.launches if x.host) if schedule is not None else iter(())
        self.run: list[pool.Step | Launch] = [
            pool.Step(self.library.address(f"step{k}"), hold_gil=self.hold_gil)
            if f"step{k}" in known
            else next(hosts)
            for k in range(image.segments)
        ]
        self.inputs, self.outputs = image.used["input"], image.used["output"]
        self.slots = image.used["state"]
        self.results = [(v.shape, v.dtype.numpy) for v in graph.outputs]
        self.states: Sequence[Array] | None = None
        self.profile: Profile | None = None
        self.threads = 0

    @cached_property
    def schedule(self) -> Schedule:
        """The plan; made again for a step that was read back."""
        return plan(expand(self.graph))

    def explain(self) -> str:
        """What the step does, on what memory, and what that should cost."""
        return explain(self.schedule)

    def html(self) -> str:
        """The same as a page, with the last profile if one was taken."""
        return page(self.schedule, self.profile)

    def __call__(self, arguments: Sequence[Array], states: Sequence[Array]) -> list[Array]:
        """Fresh outputs; states are overwritten in place."""
        block = self.block
        first = self.first_input
        kept: Sequence[Array] = arguments
        for i in self.inputs:
            x = arguments[i]
            if not x.flags.c_contiguous:
                kept = [*kept]
                x = kept[i] = np.ascontiguousarray(x)
            block[first + i] = address(x)
        if states is not self.states:
            self.states, first = states, self.first_state
            for i in self.slots:
                block[first + i] = address(states[i])
        first = self.first_output
        outputs = [np.empty(shape, dtype) for shape, dtype in self.results]
        for i in self.outputs:
            block[first + i] = address(outputs[i])
        if self.threads != (threads := get_num_threads()):
            self._make_room(threads)
        place = self.place
        for segment in self.run:
            if isinstance(segment, Launch):
                self._host(segment, kept, states, outputs)
            else:
                segment(place)
        return outputs

    def _make_room(self, threads: int) -> None:
        self.scratch = allocate(self.image.scratch * threads)
        self.block[1] = address(self.scratch)
        self.threads = threads

    def _host(self, launch: Launch, *groups: Sequence[Array]) -> None:
        """Run a NumPy kernel between two segments."""
        node = launch.host
        assert node is not None
        op = OPS[node.op_name]
        arrays = iter([self._array(b, groups).copy() for b in launch.reads])
        given = [None if value is None else next(arrays) for value in node.inputs]
        found = run_kernel(op, given, node.kwargs)
        found = found if op.outputs > 1 else (found,)
        for buffer, array in zip(launch.writes, found, strict=True):
            np.copyto(self._array(buffer, groups), array)

    def _array(self, b: Buffer, groups: tuple[Sequence[Array], ...]) -> Array:
        inputs, states, outputs = groups
        if b.kind != "arena":
            held = {"input": inputs, "state": states, "output": outputs,
                    "const": self.constants}  # fmt: skip
            return held[b.kind][b.number]
        raw = self.arena[b.offset : b.offset + b.nbytes].view(b.layout.dtype.numpy)
        steps = [s * b.layout.dtype.itemsize for s in b.layout.strides]
        return np.lib.stride_tricks.as_strided(raw[b.layout.offset :], b.layout.shape, steps)


def _used(schedule: Schedule) -> dict[str, list[int]]:
    """The numbers of the inputs, states and outputs that kernels touch."""
    found: dict[str, set[int]] = {kind: set() for kind in KINDS}
    for launch in schedule.launches:
        for b in launch.buffers:
            if b.kind in found:
                found[b.kind].add(b.number)
    return {kind: sorted(numbers) for kind, numbers in found.items()}
