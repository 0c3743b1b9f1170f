"""The processors code is made for: one record each.

Code is made for an instruction set, not for the one processor it runs on: ``x86-64-v4`` code
ran as fast as code tuned for the machine, and equal text then gives equal objects everywhere.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from ganglion.config import flags
from ganglion.errors import ArgumentError

CPU_FOLDER: Final = Path("/sys/devices/system/cpu/cpu0/cache")
CPU_INFO: Final = Path("/proc/cpuinfo")
SYSTEMS: Final = {"darwin": "apple-darwin", "win32": "pc-windows-msvc"}
HERE: Final = SYSTEMS.get(sys.platform, "unknown-linux-gnu")


@dataclass(frozen=True)
class Caches:
    """Bytes of the caches that one core reads through; the last is shared by several cores."""

    l1: int = 32 << 10
    l2: int = 512 << 10
    l3: int = 8 << 20


@dataclass(frozen=True)
class Target:
    """An instruction set and what kernels need to know about it.

    ``sums``: how many vectors of 16 floats a tile of a product may sum up in registers, which hold
    a row of the right side and a broadcast besides.
    """

    name: str
    triple: str
    cpu: str  # LLVM's name of the instruction set
    needs: frozenset[str]  # what the processor must report
    fma: bool  # llvm.fma is an instruction, and so are llvm.rint and conversions of float16
    lanes: int  # floats in one register
    registers: int
    sums: int
    caches: Caches = Caches()

    @property
    def architecture(self) -> str:
        """``x86_64`` or ``aarch64``."""
        return self.triple.partition("-")[0]

    @property
    def attributes(self) -> str:
        """What every function definition says behind its parameters.

        Unless told, LLVM halves the widest vectors on processors that it believes dislike them.
        """
        bits = 32 * self.lanes
        return f'nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'


_V3 = frozenset("avx avx2 bmi1 bmi2 f16c fma abm movbe".split())
_V4 = _V3 | frozenset("avx512f avx512bw avx512cd avx512dq avx512vl".split())

TARGETS: Final = {
    target.name: target
    for target in (  # an architecture's best first
        Target(
            name="avx512",
            triple=f"x86_64-{HERE}",
            cpu="x86-64-v4",
            needs=_V4,
            fma=True,
            lanes=16,
            registers=32,
            sums=24,
        ),
        Target(
            name="avx2",
            triple=f"x86_64-{HERE}",
            cpu="x86-64-v3",
            needs=_V3,
            fma=True,
            lanes=8,
            registers=16,
            sums=6,
        ),
        Target(
            name="sse2",
            triple=f"x86_64-{HERE}",
            cpu="x86-64",
            needs=frozenset(),
            fma=False,
            lanes=4,
            registers=16,
            sums=2,
        ),
        Target(
            name="neon",
            triple=f"aarch64-{HERE}",
            cpu="generic",
            needs=frozenset(),
            fma=True,
            lanes=4,
            registers=32,
            sums=6,
        ),
    )
}

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def host() -> Target:
    """What to make code for here: the best this processor has, or what ``GANGLION_TARGET`` names.

    Errors: `ArgumentError` when the processor cannot run the target named.
    """
    able = runnable()
    if not flags.target:
        return able[0]
    for target in able:
        if target.name == flags.target:
            return target
    raise ArgumentError(
        f"GANGLION_TARGET={flags.target!r} is not what this processor can run; "
        f"choose from: {', '.join(target.name for target in able)}"
    )


@cache
def runnable() -> tuple[Target, ...]:
    """The targets this processor can run, best first."""
    machine = platform.machine().lower()
    architecture = _MACHINES.get(machine, machine)
    found = processor_features(CPU_INFO)
    caches = read_caches(CPU_FOLDER)
    able = tuple(
        replace(target, caches=caches)
        for target in TARGETS.values()
        if target.architecture == architecture and target.needs <= found
    )
    if not able:
        raise ArgumentError(
            f"no code is made for {machine!r} processors; run without ganglion.compile"
        )
    return able


def processor_features(info: Path) -> frozenset[str]:
    """The features of the first processor in a ``/proc/cpuinfo``; none where there is none."""
    if not info.is_file():
        return frozenset()
    for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def read_caches(folder: Path) -> Caches:
    """The data caches that Linux describes in this folder; usual sizes where it does not."""
    sizes: dict[str, int] = {}
    for entry in sorted(folder.glob("index*")):
        try:
            kind, level, size = ((entry / name).read_text() for name in ("type", "level", "size"))
            if kind.strip() != "Instruction":
                sizes[f"l{level.strip()}"] = int(size.strip().removesuffix("K")) << 10
        except (OSError, ValueError):
            continue
    known = {name: sizes[name] for name in ("l1", "l2", "l3") if sizes.get(name)}
    return replace(Caches(), **known)
