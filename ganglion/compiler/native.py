"""Native steps: a schedule as LLVM text, and the object that runs it.

    void step(ptr arguments, i64 thread, i64 threads, ptr control)

All threads enter it together. It calls each kernel on the thread's share of the tasks and waits
at a barrier between phases. ``arguments`` holds the addresses of the arena, of scratch memory and
of every input, state, output and constant.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from ganglion.compiler import pool
from ganglion.compiler.cache import objects
from ganglion.compiler.llvm import load
from ganglion.compiler.memory import allocate
from ganglion.compiler.plan import Buffer, Launch, Schedule, plan
from ganglion.compiler.simplify import expand
from ganglion.compiler.target import host
from ganglion.compiler.text import Code, Index, Module, Reg
from ganglion.compiler.trace import Program
from ganglion.eager import run_kernel
from ganglion.blas import get_num_threads
from ganglion.graph import Node
from ganglion.ops.record import OPS

Array = np.ndarray[Any, Any]

SHORT = 1 << 24  # FLOP of steps during which the GIL is held
KINDS = ("input", "state", "output", "const")


def build(program: Program) -> Step:
    """Compile a traced program."""
    return Step(plan(expand(program.graph)))


# --- text -------------------------------------------------------------------------------------------


class _Writer:
    """Writes a schedule's modules; kernels with equal keys are written once."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        target = host()
        self.module = Module(target.fma, target.attributes)
        self.names: dict[Hashable, str] = {}
        counts = {kind: 0 for kind in KINDS}
        for launch in schedule.launches:
            for b in launch.buffers:
                if b.kind in counts:
                    counts[b.kind] = max(counts[b.kind], b.number + 1)
        self.first: dict[str, int] = {}
        place = 2  # after the arena and the scratch memory
        for kind in KINDS:
            self.first[kind] = place
            place += counts[kind]
        self.size = place

    def text(self) -> str:
        """The module."""
        segments = self._segments()
        for number, launches in enumerate(segments):
            self._segment(number, launches)
        self.segments = [launches[0].host for launches in segments]
        return self.module.text()

    def _segments(self) -> list[list[Launch]]:
        """Runs of kernels, and host calls alone."""
        found: list[list[Launch]] = []
        for launch in self.schedule.launches:
            if launch.host or not found or found[-1][0].host:
                found.append([])
            found[-1].append(launch)
        return found

    def _segment(self, number: int, launches: list[Launch]) -> None:
        if launches[0].host:
            return
        calls = [(launch, self._kernel(launch)) for launch in launches]
        parameters = [("ptr", "arguments"), ("i64", "thread"), ("i64", "threads"), ("ptr", "control")]
        code = self.module.function(f"step{number}", parameters)
        arguments, thread, threads, control = code.parameters
        barrier = code.load(control, "ptr")
        phase = launches[0].phase
        turn = 0
        for launch, name in calls:
            if launch.phase != phase:
                code.line(f"call void {barrier.name}({control}, {thread}, {threads})")
                phase = launch.phase
            turn += self._call(code, launch, name, turn)
        code.ret()

    def _call(self, code: Code, launch: Launch, name: str, turn: int) -> int:
        assert launch.kernel is not None
        arguments, thread, threads, _ = code.parameters
        tasks = launch.kernel.tasks
        if tasks == 1:  # small kernels take turns among the threads
            mine = code.pure("i64", f"urem i64 {turn}, {threads.name}")
            code.when(code.compare("eq", thread, mine), lambda: self._enter(code, launch, name, 0, 1))
            return 1
        after = code.add(thread, 1)
        low = code.pure("i64", f"udiv i64 {_name(code.mul(thread, tasks))}, {threads.name}")
        high = code.pure("i64", f"udiv i64 {_name(code.mul(after, tasks))}, {threads.name}")
        code.when(
            code.compare("slt", low, high), lambda: self._enter(code, launch, name, low, high)
        )
        return 0

    def _enter(self, code: Code, launch: Launch, name: str, low: Index, high: Index) -> None:
        arguments, thread = code.parameters[:2]
        pointers = [self._pointer(code, arguments, b) for b in launch.buffers]
        scratch = self._argument(code, arguments, 1)
        private = code.at_index(scratch, code.mul(thread, _scratch(self.schedule)), "i8")
        given = ", ".join(map(str, [*pointers, private]))
        code.line(f"call void @{name}({given}, i64 {_name(low)}, i64 {_name(high)})")

    def _argument(self, code: Code, arguments: Reg, place: int) -> Reg:
        return code.load(code.at_index(arguments, place, "ptr"), "ptr")

    def _pointer(self, code: Code, arguments: Reg, b: Buffer) -> Reg:
        if b.kind == "arena":
            return code.at_index(self._argument(code, arguments, 0), b.offset, "i8")
        return self._argument(code, arguments, self.first[b.kind] + b.number)

    def _kernel(self, launch: Launch) -> str:
        kernel = launch.kernel
        assert kernel is not None
        name = self.names.get(kernel.key)
        if name is None:
            name = self.names[kernel.key] = f"kernel{len(self.names)}"
            pointers = [("ptr", f"b{i}") for i in range(len(kernel.operands))]
            parameters = [*pointers, ("ptr", "scratch"), ("i64", "low"), ("i64", "high")]
            code = self.module.function(name, parameters, linkage="internal")
            *buffers, scratch, low, high = code.parameters
            kernel.emit(code, buffers, scratch, low, high)
            code.ret()
        return name


def _name(x: Index) -> str:
    return str(x) if isinstance(x, int) else x.name


def _scratch(schedule: Schedule) -> int:
    """Bytes of scratch memory from one thread's to the next's."""
    return -(-schedule.scratch // 128) * 128


# --- running ----------------------------------------------------------------------------------------


class Step:
    """A compiled program: call it with the arguments' and the states' arrays."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        writer = _Writer(schedule)
        self.text = writer.text()
        self.library = load(objects([self.text], host()))
        self.first = writer.first
        self.arguments = np.zeros(writer.size, np.int64)
        self.arena = allocate(schedule.arena + 64)
        self.scratch = allocate(1)
        self.arguments[0] = self.arena.ctypes.data
        self.constants = schedule.constants
        for i, constant in enumerate(self.constants):
            self.arguments[self.first["const"] + i] = constant.ctypes.data
        self.segments: list[int | Launch] = []
        for number, node in enumerate(writer.segments):
            if node is None:
                self.segments.append(self.library.address(f"step{number}"))
            else:
                launch = next(x for x in schedule.launches if x.host is node)
                self.segments.append(launch)
        self.states: list[Array | None] = [None] * len(schedule.graph.states)
        self.threads = 0
        work = sum(launch.kernel.flops for launch in schedule.launches if launch.kernel)
        self.hold_gil = work < SHORT

    def __call__(self, arguments: Sequence[Array], states: Sequence[Array]) -> list[Array]:
        """Fresh outputs; states are overwritten in place."""
        block, first = self.arguments, self.first
        kept: list[Array] = []
        for i, x in enumerate(arguments):
            if not x.flags.c_contiguous:
                x = np.ascontiguousarray(x)
            kept.append(x)
            block[first["input"] + i] = x.ctypes.data
        for i, x in enumerate(states):
            if x is not self.states[i]:
                block[first["state"] + i] = x.ctypes.data
                self.states[i] = x
        outputs = [np.empty(v.shape, v.dtype.numpy) for v in self.schedule.graph.outputs]
        for i, x in enumerate(outputs):
            block[first["output"] + i] = x.ctypes.data
        threads = get_num_threads()
        if threads != self.threads:
            self.scratch = allocate(_scratch(self.schedule) * threads + 64)
            block[1] = self.scratch.ctypes.data
            self.threads = threads
        for segment in self.segments:
            if isinstance(segment, int):
                pool.run(segment, block.ctypes.data, hold_gil=self.hold_gil)
            else:
                self._host(segment, kept, states, outputs)
        return outputs

    def _host(self, launch: Launch, *groups: Sequence[Array]) -> None:
        node = launch.host
        assert isinstance(node, Node)
        op = OPS[node.op_name]
        arrays: list[Any] = []
        buffers = iter(launch.reads)
        for value in node.inputs:
            arrays.append(None if value is None else self._array(next(buffers), groups).copy())
        found = run_kernel(op, arrays, node.kwargs)
        found = found if op.outputs > 1 else (found,)
        for buffer, array in zip(launch.writes, found, strict=True):
            np.copyto(self._array(buffer, groups), array)

    def _array(self, b: Buffer, groups: tuple[Sequence[Array], ...]) -> Array:
        inputs, states, outputs = groups
        if b.kind != "arena":
            held = {"input": inputs, "state": states, "output": outputs, "const": self.constants}
            return held[b.kind][b.number]
        raw = self.arena[b.offset : b.offset + b.nbytes].view(b.layout.dtype.numpy)
        steps = [s * b.layout.dtype.itemsize for s in b.layout.strides]
        return np.lib.stride_tricks.as_strided(raw[b.layout.offset :], b.layout.shape, steps)
