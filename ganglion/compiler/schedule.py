"""What a step does, laid out in time and memory.

Kernels between two barriers form a phase; all threads pass a barrier together. A buffer in the
arena lives from the first phase that writes it to the last that reads it, and shares its place
with buffers of other times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ganglion.compiler.kernel import Kernel, Layout
from ganglion.compiler.lower import Stored
from ganglion.graph import Graph, Node

ALIGN = 64  # bytes; buffers start at a cache line

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class Buffer:
    """Memory of one value: ``kind`` is arena, input, state, output or const."""

    kind: str
    number: int
    layout: Layout
    name: str = ""
    first: int = -1  # phases in which it is alive
    last: int = -1
    offset: int = -1  # in the arena

    @property
    def nbytes(self) -> int:
        return self.layout.elements * self.layout.dtype.itemsize


@dataclass(eq=False)
class Launch:
    """One kernel on its buffers; or, with ``host``, a call of a NumPy kernel.

    ``made``: the values it computes, each with its buffer, or None if it stays in registers.
    """

    kernel: Kernel | None
    buffers: tuple[Buffer, ...]
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    host: Node | None = None
    phase: int = 0
    made: Mapping[Stored, Buffer | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The kernel's, or the host's op."""
        if self.kernel is not None:
            return self.kernel.name
        return f"host {self.host.op_name}" if self.host is not None else ""

    @property
    def tasks(self) -> int:
        """Into how many parts the work can be cut."""
        return self.kernel.tasks if self.kernel is not None else 1


@dataclass
class Schedule:
    """Everything that a native step needs."""

    graph: Graph
    launches: list[Launch]
    phases: int
    arena: int  # bytes
    scratch: int  # bytes a thread
    constants: list[Array]

    def text(self) -> str:
        """One line a kernel."""
        lines = []
        for k, launch in enumerate(self.launches):
            reads = ", ".join(b.name for b in launch.reads)
            writes = ", ".join(b.name for b in launch.writes)
            start = f"{launch.phase:3} {k:3} {launch.name:24} tasks {launch.tasks:5}"
            lines.append(f"{start}  {reads} -> {writes}")
        lines.append(f"{self.phases} phases, arena {self.arena} B, scratch {self.scratch} B")
        return "\n".join(lines)


# --- time and memory ------------------------------------------------------------------------------


def set_phases(launches: Sequence[Launch]) -> int:
    """Put a barrier where a kernel needs what others may still work on; how many phases."""
    phase = 0
    written: set[Buffer] = set()
    read: set[Buffer] = set()
    for launch in launches:
        reads, writes = set(launch.reads), set(launch.writes)
        if launch.host or reads & written or writes & (written | read):
            phase += 1
            written, read = set(), set()
        launch.phase = phase
        written |= writes
        read |= reads
        if launch.host:
            phase += 1
            written, read = set(), set()
    return phase + 1


def set_places(launches: Sequence[Launch]) -> int:
    """Give temporaries places in the arena, and return its bytes.

    The largest come first; each takes the lowest gap that is free all its time.
    """
    found: dict[Buffer, None] = {}
    for launch in launches:
        for buffer in launch.buffers:
            if buffer.kind == "arena":
                found[buffer] = None
                buffer.first = launch.phase if buffer.first < 0 else buffer.first
                buffer.last = launch.phase
    placed: dict[int, list[Buffer]] = {}  # by phase
    top = 0
    for buffer in sorted(found, key=lambda b: -b.nbytes):
        times = range(buffer.first, buffer.last + 1)
        near = {other for t in times for other in placed.get(t, ())}
        offset = 0
        for other in sorted(near, key=lambda b: b.offset):
            if offset + buffer.nbytes <= other.offset:
                break
            offset = max(offset, _aligned(other.offset + other.nbytes))
        buffer.offset = offset
        top = max(top, _aligned(offset + buffer.nbytes))
        for t in times:
            placed.setdefault(t, []).append(buffer)
    return top


def _aligned(n: int) -> int:
    return -(-n // ALIGN) * ALIGN
