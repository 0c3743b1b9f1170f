"""Native steps: the objects that run compiled programs.

A step that was compiled before is read back from disk. It needs neither the planner nor the
kernels, and more than half of the compiler is not even imported.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ganglion.blas import get_num_threads
from ganglion.compiler import pool
from ganglion.compiler.image import Image, remember, remembered
from ganglion.compiler.llvm import load
from ganglion.compiler.memory import Room
from ganglion.compiler.report import Report
from ganglion.compiler.target import host
from ganglion.eager import run_kernel
from ganglion.graph import Graph
from ganglion.ops.record import OPS

if TYPE_CHECKING:
    from ganglion.compiler.profile import Profile
    from ganglion.compiler.program import Program
    from ganglion.compiler.schedule import Buffer, Launch, Schedule

Array = np.ndarray[Any, Any]

SHORT: Final = 1 << 26  # FLOP of steps during which the GIL is held: below a millisecond


def build(program: Program, room: Room | None = None) -> Step:
    """Compile a traced program, or read back what was compiled before.

    Its memory is its own, or in the given room.
    """
    report, target = Report(), host()
    report.graph("traced graph", program.graph)
    image = remembered(program.graph, target) if report.level < 2 else None
    if image is not None:
        report.stage("read")
        report.recalled(program.graph)
        return Step(program.graph, image, room=room)
    source: Any = later("source")
    schedule = source.planned(program.graph, report)
    image = source.compiled(schedule, target, report=report)
    report.schedule(schedule)
    if not any(launch.host for launch in schedule.launches):
        remember(program.graph, target, image)
    return Step(program.graph, image, schedule, room)


def later(name: str) -> Any:
    """A file of the compiler that steps from disk do without."""
    return importlib.import_module(f"ganglion.compiler.{name}")


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

    One call at a time: its memory, ``room``, is shared by all calls, and may be by other steps.
    """

    def __init__(
        self,
        graph: Graph,
        image: Image,
        schedule: Schedule | None = None,
        room: Room | None = None,
    ) -> None:
        self.graph, self.image = graph, image
        if schedule is not None:
            self.schedule = schedule
        self.library = load(image.objects)
        self.block = np.zeros(image.size, np.int64)
        self.place = address(self.block)
        self.room = room or Room()
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
        found: Schedule = later("source").planned(self.graph)
        return found

    def explain(self) -> str:
        """What the step does, on what memory, and what that should cost."""
        found: str = later("explain").explain(self.schedule)
        return found

    def html(self) -> str:
        """The same as a page, with the last profile if one was taken."""
        found: str = later("view").page(self.schedule, self.profile)
        return found

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
            self.states, first = None, self.first_state  # none, if Ctrl-C comes in between
            for i in self.slots:
                block[first + i] = address(states[i])
            self.states = states
        first = self.first_output
        outputs = [np.empty(shape, dtype) for shape, dtype in self.results]
        for i in self.outputs:
            block[first + i] = address(outputs[i])
        if self.threads != (threads := get_num_threads()):
            self._make_room(threads)
        place = self.place
        for segment in self.run:
            if isinstance(segment, pool.Step):
                segment(place)
            else:
                self._host(segment, kept, states, outputs)
        return outputs

    def _make_room(self, threads: int) -> None:
        scratch = self.image.scratch * threads
        self.arena, self.scratch = self.room.take(self.image.arena, scratch)
        self.block[:2] = address(self.arena), address(self.scratch)
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
