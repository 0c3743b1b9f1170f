"""Compiled steps in watched memory: slow, and sure to notice a kernel that goes astray.

Every buffer stands alone, between guard zones. What holds nothing is filled with poison: guard
zones, scratch memory, what was not written yet, and buffers after the last phase that needs them.
A step runs kernel by kernel and twice over, in two *worlds*: in one the poison is 0xFF (NaN, -1)
and tasks run as they do on one thread; in the other it is 0xA5 and tasks run in pieces, the last
first. A correct kernel writes nothing but what it says, reads no poison, and its tasks do not
depend on each other: so after each kernel the rest of memory must be as it was, and both worlds
must hold the same. Where they do not, an error names the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from ganglion.compiler import pool
from ganglion.compiler.cache import objects
from ganglion.compiler.explain import Explanation
from ganglion.compiler.llvm import load
from ganglion.compiler.memory import allocate
from ganglion.compiler.plan import plan
from ganglion.compiler.program import Program
from ganglion.compiler.schedule import ALIGN, Buffer, Launch, Schedule
from ganglion.compiler.simplify import expand
from ganglion.compiler.source import PARAMETERS, Source
from ganglion.compiler.target import host
from ganglion.compiler.text import Module
from ganglion.compiler.view import page
from ganglion.eager import run_kernel
from ganglion.errors import GraphError
from ganglion.ops.record import OPS

Array = np.ndarray[Any, Any]

GUARD: Final = 4096  # bytes between buffers
POISONS: Final = (0xFF, 0xA5)
UNWRITTEN: Final = (0xFB, 0xA7)  # instead, in what a kernel is about to write
PIECES: Final = 16  # into which the tasks of a kernel are cut


def build(program: Program) -> Guarded:
    """A traced program that watches its memory."""
    return Guarded(plan(expand(program.graph)))


# --- the plan -------------------------------------------------------------------------------------


def verify(schedule: Schedule) -> None:
    """Raise `GraphError` unless a schedule obeys its rules.

    Temporaries alive in one phase lie apart from each other and inside the arena; nothing is
    read before it is written; kernels of one phase do not touch what another one writes; every
    output and every updated state is written.
    """
    for problem in (*_memory(schedule), *_races(schedule), *_order(schedule), *_results(schedule)):
        raise GraphError(f"a compiled step's plan is wrong: {problem}\n{schedule.text()}")


def _memory(schedule: Schedule) -> Iterator[str]:
    arena = Explanation(schedule).arena
    for k, b in enumerate(arena):
        if not 0 <= b.offset <= schedule.arena - b.nbytes or b.offset % ALIGN:
            yield f"{b.name} lies at {b.offset}, outside of the arena or across cache lines"
        for other in arena[k + 1 :]:
            if other.offset >= b.offset + b.nbytes:
                break
            if b.first <= other.last and other.first <= b.last and other.nbytes:
                yield f"{b.name} and {other.name} share memory at the same time"
    for launch in schedule.launches:
        for b in launch.buffers:
            if b.kind == "arena" and not b.first <= launch.phase <= b.last:
                yield f"{launch.name} uses {b.name} in phase {launch.phase}, when it is dead"


def _races(schedule: Schedule) -> Iterator[str]:
    for k, a in enumerate(schedule.launches):
        for b in schedule.launches[k + 1 :]:
            if b.phase != a.phase:
                break
            shared = set(a.writes) & {*b.reads, *b.writes} | set(a.reads) & set(b.writes)
            for buffer in sorted(shared, key=lambda x: x.name):
                yield f"{a.name} and {b.name} meet at {buffer.name} in phase {a.phase}"


def _order(schedule: Schedule) -> Iterator[str]:
    written: set[Buffer] = set()
    for launch in schedule.launches:
        for b in launch.reads:
            if b.kind in ("arena", "output") and b not in written and b not in launch.writes:
                yield f"{launch.name} reads {b.name} before it is written"
        written |= set(launch.writes)


def _results(schedule: Schedule) -> Iterator[str]:
    written = {(b.kind, b.number) for launch in schedule.launches for b in launch.writes}
    wanted = [("output", k, v) for k, v in enumerate(schedule.graph.outputs)]
    wanted += [("state", slot, v) for slot, v in schedule.graph.updates]
    for kind, number, value in wanted:
        if value.meta.numel and (kind, number) not in written:
            yield f"nothing writes {kind} {number}"


# --- memory ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Region:
    """Bytes that belong together; ``buffer`` is None for scratch memory and the decoy."""

    name: str
    start: int
    nbytes: int
    buffer: Buffer | None = None

    @property
    def bytes(self) -> slice:
        return slice(self.start, self.start + self.nbytes)


class World:
    """One copy of a step's memory; ``image`` is what it should hold."""

    def __init__(self, nbytes: int, poison: int, pieces: int) -> None:
        self.memory, self.poison, self.pieces = allocate(nbytes), poison, pieces
        self.image = np.empty_like(self.memory)

    def address(self, region: Region) -> int:
        """Where a region starts."""
        return int(self.memory.ctypes.data) + region.start

    def ruin(self, part: slice) -> None:
        """Fill bytes with poison."""
        self.memory[part] = self.image[part] = self.poison

    def put(self, region: Region, array: Array) -> None:
        """Store an array."""
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.memory[region.bytes] = self.image[region.bytes] = raw

    def array(self, region: Region) -> Array:
        """The array in a region."""
        assert region.buffer is not None
        layout = region.buffer.layout
        flat = self.memory[region.bytes].view(layout.dtype.numpy)[layout.offset :]
        steps = [s * layout.dtype.itemsize for s in layout.strides]
        return np.lib.stride_tricks.as_strided(flat, layout.shape, steps)

    def tasks(self, count: int) -> list[tuple[int, int]]:
        """The ranges of tasks, in the order in which they run here."""
        cuts = sorted({count * k // self.pieces for k in range(self.pieces + 1)})
        return list(pairwise(cuts))[::-1]


class Regions:
    """Where everything lies."""

    def __init__(self, schedule: Schedule) -> None:
        self.all: list[Region] = []
        self.end = GUARD
        used = dict.fromkeys(b for launch in schedule.launches for b in launch.buffers)
        self.of = {b: self._place(b.name, b.nbytes, b) for b in used}
        self.scratch = self._place("scratch memory", schedule.scratch)
        # stands for operands that a kernel neither reads nor writes
        self.decoy = self._place("an operand that it does not name", max([0, *map(_size, used)]))

    def _place(self, name: str, nbytes: int, buffer: Buffer | None = None) -> Region:
        """The next place; the user's arrays start at any element, as theirs may."""
        shift = buffer.layout.dtype.itemsize if buffer and buffer.kind != "arena" else 0
        region = Region(name, self.end + shift, nbytes, buffer)
        self.all.append(region)
        self.end += -(-(nbytes + shift) // ALIGN) * ALIGN + GUARD
        return region

    def kind(self, *kinds: str) -> Iterator[tuple[Buffer, Region]]:
        """The buffers of some kinds."""
        return ((b, r) for b, r in self.of.items() if b.kind in kinds)

    def around(self, place: int) -> tuple[Region, str]:
        """The region nearest to a place, and how the place stands to it."""
        region = min(self.all, key=lambda r: max(r.start - place, place - r.start - r.nbytes + 1))
        if place >= region.start + region.nbytes:
            return region, "past the end of "
        return region, "before the start of " if place < region.start else ""

    def guards(self) -> Iterator[Region]:
        """What lies between regions."""
        last = Region("", 0, 0)
        for region in [*self.all, Region("", self.end, 0)]:
            start = last.start + last.nbytes
            near = " and ".join(r.name for r in (last, region) if r.name)
            yield Region(f"memory next to {near}", start, region.start - start)
            last = region


def _size(buffer: Buffer) -> int:
    return buffer.nbytes


# --- running --------------------------------------------------------------------------------------


class Guarded:
    """A step that runs in watched memory; call it like a compiled program.

    Errors: `GraphError` naming the kernel that goes astray, and how.
    """

    def __init__(self, schedule: Schedule) -> None:
        verify(schedule)
        self.schedule, self.graph = schedule, schedule.graph
        self.facts = Explanation(schedule)
        source = Source(schedule, host())
        self.names = source.names
        code = [*objects(source.texts(), host()), *objects([_callers(schedule)], host())]
        self.library = load(code)
        self.regions = Regions(schedule)
        end = self.regions.end
        self.worlds = (World(end, POISONS[0], 1), World(end, POISONS[1], PIECES))

    def explain(self) -> str:
        """What the step is."""
        return self.facts.text()

    def html(self) -> str:
        """The same as a page."""
        return page(self.schedule)

    def __call__(self, arguments: Sequence[Array], states: Sequence[Array]) -> list[Array]:
        """Fresh outputs; states are overwritten in place."""
        self._fill(arguments, states)
        for number, launch in enumerate(self.schedule.launches):
            self._step(number, launch)
            if launch is self.schedule.launches[-1] or self._ends_phase(number):
                self._bury(launch.phase)
        outputs = [np.empty(v.shape, v.dtype.numpy) for v in self.graph.outputs]
        for b, region in self.regions.kind("output"):
            self._whole(region)
            np.copyto(outputs[b.number], self.worlds[0].array(region))
        for b, region in self.regions.kind("state"):
            if b.number in dict(self.graph.updates):
                np.copyto(states[b.number], self.worlds[0].array(region))
        return outputs

    def _ends_phase(self, number: int) -> bool:
        launches = self.schedule.launches
        return launches[number + 1].phase != launches[number].phase

    def _fill(self, arguments: Sequence[Array], states: Sequence[Array]) -> None:
        given = {"input": arguments, "state": states, "const": self.schedule.constants}
        for world in self.worlds:
            world.ruin(slice(None))
            for b, region in self.regions.kind(*given):
                world.put(region, given[b.kind][b.number])

    def _bury(self, phase: int) -> None:
        """Poison the buffers that nothing needs after a phase."""
        for b, region in self.regions.kind("arena"):
            if b.last == phase:
                for world in self.worlds:
                    world.ruin(region.bytes)

    def _step(self, number: int, launch: Launch) -> None:
        """One kernel in both worlds, and what it must have left alone."""
        written = [self.regions.of[b] for b in dict.fromkeys(launch.writes)]
        before = [[world.image[r.bytes].copy() for r in written] for world in self.worlds]
        for region in written:
            self._mark(region, POISONS, UNWRITTEN)
        for world in self.worlds:
            self._run(launch, world, world.tasks(launch.tasks))
            for region in written:
                world.image[region.bytes] = world.memory[region.bytes]
            world.ruin(self.regions.scratch.bytes)
            self._untouched(number, launch, world)
        wrong = [region for region in written if self._differ(region)]
        if wrong:
            raise self._error(number, launch, self._why(launch, written, before, wrong[0]))
        for region in written:
            self._mark(region, UNWRITTEN, POISONS)

    def _mark(self, region: Region, old: tuple[int, int], new: tuple[int, int]) -> None:
        """Exchange the poison of a region, where it holds nothing yet."""
        where = self._holds(region.bytes, old)
        for world, poison in zip(self.worlds, new, strict=True):
            world.memory[region.bytes][where] = world.image[region.bytes][where] = poison

    def _holds(self, bytes: slice, poisons: tuple[int, int]) -> Array:
        """Which bytes are poison in both worlds."""
        a, b = (world.memory[bytes] for world in self.worlds)
        found: Array = (a == poisons[0]) & (b == poisons[1])
        return found

    def _run(self, launch: Launch, world: World, tasks: Iterable[tuple[int, int]]) -> None:
        if launch.kernel is None:
            self._host(launch, world)
            return
        kernel, regions = launch.kernel, self.regions
        named = {*kernel.reads, *kernel.writes}
        places = [regions.of[b] for b in launch.buffers]
        used = [place if k in named else regions.decoy for k, place in enumerate(places)]
        function = self.library.address(self.names[kernel.key])
        caller = self.library.address(f"call{len(used)}")
        for low, high in tasks:
            world.ruin(regions.scratch.bytes)
            pointers = [world.address(r) for r in (*used, regions.scratch)]
            block = np.array([function, *pointers, low, high], np.int64)
            pool.run(caller, block.ctypes.data, threads=1)

    def _host(self, launch: Launch, world: World) -> None:
        node = launch.host
        assert node is not None
        op = OPS[node.op_name]
        arrays = iter([world.array(self.regions.of[b]).copy() for b in launch.reads])
        given = [None if value is None else next(arrays) for value in node.inputs]
        found = run_kernel(op, given, node.kwargs)
        for b, x in zip(launch.writes, found if op.outputs > 1 else (found,), strict=True):
            np.copyto(world.array(self.regions.of[b]), x)

    # --- what may be wrong --------------------------------------------------------------------

    def _untouched(self, number: int, launch: Launch, world: World) -> None:
        wrong = np.flatnonzero(world.memory.view(np.int64) != world.image.view(np.int64))
        if not wrong.size:
            return
        word = slice(8 * int(wrong[0]), 8 * int(wrong[0]) + 8)
        place = word.start + int(np.flatnonzero(world.memory[word] != world.image[word])[0])
        region, where = self.regions.around(place)
        raise self._error(number, launch, f"writes {where}{self._named(region)}")

    def _differ(self, region: Region) -> bool:
        """Whether the worlds disagree about what was written."""
        a, b = (world.memory[region.bytes] for world in self.worlds)
        return bool(np.any((a != b) & ~self._holds(region.bytes, UNWRITTEN)))

    def _whole(self, region: Region) -> None:
        if self._holds(region.bytes, POISONS).any():
            raise GraphError(f"a compiled step leaves {region.name} partly unwritten")

    def _why(
        self, launch: Launch, written: list[Region], before: list[list[Array]], wrong: Region
    ) -> str:
        """Why a kernel's result differs: repeat it with one thing changed at a time."""
        first, second = self.worlds
        for world, old in zip(self.worlds, before, strict=True):
            for region, content in zip(written, old, strict=True):
                world.image[region.bytes] = world.memory[region.bytes] = content
        nothing, empty = self._holds(slice(None), POISONS), slice(0, 0)

        def result(bytes: slice, pieces: World) -> Array:
            first.memory[:] = first.image
            first.memory[bytes][nothing[bytes]] = second.poison
            self._run(launch, first, pieces.tasks(launch.tasks))
            return first.memory[wrong.bytes].copy()

        usual = result(empty, first)
        if not np.array_equal(result(empty, second), usual):
            return f"computes {wrong.name} otherwise when its tasks run in another order"
        for region in (*self.regions.all, *self.regions.guards()):
            if region is self.regions.scratch or np.array_equal(result(region.bytes, first), usual):
                continue
            dead = self._dead(region, launch)
            return f"reads {self._named(region)}, where nothing was written{dead}"
        return f"computes {wrong.name} from scratch memory that it has not written"

    def _named(self, region: Region) -> str:
        if region.buffer is None or region.buffer.kind != "arena":
            return region.name
        return f"{region.name} ({self.facts.content(region.buffer)})"

    def _dead(self, region: Region, launch: Launch) -> str:
        b = region.buffer
        if b is None or b.kind != "arena" or launch.phase <= b.last:
            return ""
        return f": it is dead since phase {b.last}"

    def _error(self, number: int, launch: Launch, what: str) -> GraphError:
        lines = "".join(f", {line}" for line in self.facts.lines(number)[:3])
        return GraphError(
            f"kernel {number} '{launch.name}' (phase {launch.phase}{lines}) {what}; a defect of "
            "the compiler, please report it with the output of GANGLION_DEBUG=2"
        )


def _callers(schedule: Schedule) -> str:
    """``call3``: call the function of three buffers that the argument block names."""
    module = Module(host().fma, host().attributes)
    for count in sorted({len(launch.buffers) for launch in schedule.launches if launch.kernel}):
        code = module.function(f"call{count}", PARAMETERS)
        words = [code.at_index(code.parameters[0], k, "i64") for k in range(count + 4)]
        function, *pointers = [code.load(x, "ptr") for x in words[: count + 2]]
        given = [*pointers, *(code.load(x, "i64") for x in words[count + 2 :])]
        code.line(f"call void {function.name}({', '.join(map(str, given))})")
        code.ret()
    return module.text()
