"""Settings read from the environment, in one table, and the door to optional packages.

    from ganglion.config import flags, optional

    flags.cache                                   # Path, read from GANGLION_CACHE now
    Flags.table()                                 # every flag with its variable and meaning
    pandas = optional("pandas", extra="data")     # the module, or an error naming the pip command

Values are read when asked for, so a changed environment counts at once.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from ganglion.errors import ArgumentError, MissingExtraError

VERSION = "0.1.0"
COMPILE = True  # whether Trainer and the command line compile, unless told

T = TypeVar("T")


@dataclass
class Flag(Generic[T]):
    """One setting: its environment variable, how to read it, its default and its meaning.

    `parse` raises `ValueError` on a bad value; `expected` completes that error's sentence.
    """

    variable: str
    parse: Callable[[str], T]
    expected: str
    default: Callable[[], T]
    doc: str
    name: str = field(default="", init=False)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> T:
        text = os.environ.get(self.variable, "")
        if not text:
            return self.default()
        try:
            return self.parse(text)
        except ValueError:
            raise ArgumentError(
                f"{self.variable}={text!r} is not {self.expected}; change it or unset it."
            ) from None


_SWITCH = {"0": False, "false": False, "1": True, "true": True}


def _bool(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError(text)
    return _SWITCH[text.lower()]


def _int_between(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return parse


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _cache_folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "ganglion"


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(text)
        return text

    return parse


def usable_cores() -> int:
    """Cores this process may keep busy: its affinity, and whole cores of its cgroups' quotas.

    Threads beyond a quota would be stopped in the middle of a step, with all others waiting.
    """
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([cores, *map(int, _cpu_quotas())]))


def _cpu_quotas(
    groups: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> Iterator[float]:
    """The cores that each control group around this process grants, of cgroups 2 and 1."""
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        inner = mount / controllers / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(mount):
                yield from _cpu_quota(folder)


def _cpu_quota(folder: Path) -> Iterator[float]:
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        if quota not in {"max", "-1"}:
            yield int(quota) / int(period)


class Flags:
    """Every setting the package reads from the environment."""

    data: Flag[Path | None] = Flag(
        "GANGLION_DATA",
        _path,
        "a folder",
        lambda: None,
        "Folder with local copies of the data sets; without it they are downloaded.",
    )
    cache: Flag[Path] = Flag(
        "GANGLION_CACHE",
        _path,
        "a folder",
        _cache_folder,
        "Folder for downloads and compiled code; $XDG_CACHE_HOME/ganglion unless set.",
    )
    num_threads: Flag[int] = Flag(
        "GANGLION_NUM_THREADS",
        _int_between(1, 1024),
        "a whole number from 1 to 1024",
        usable_cores,
        "Threads for our own kernels and for NumPy's BLAS; the usable cores unless set.",
    )
    eager_kernels: Flag[bool] = Flag(
        "GANGLION_EAGER_KERNELS",
        _bool,
        "0, 1, false or true",
        lambda: True,
        "Whether heavy eager operations use compiled kernels; 0 means NumPy alone.",
    )
    cache_mb: Flag[int] = Flag(
        "GANGLION_CACHE_MB",
        _int_between(0, 1 << 20),
        "a whole number of megabytes",
        lambda: 256,
        "How much compiled code is kept on disk, in MB; 0 keeps none.",
    )
    target: Flag[str] = Flag(
        "GANGLION_TARGET",
        _one_of("avx512", "avx2", "sse2", "neon"),
        "avx512, avx2, sse2 or neon",
        str,
        "Instruction set that code is compiled for; the best of the processor unless set.",
    )
    compiler: Flag[str] = Flag(
        "GANGLION_COMPILER",
        _one_of("native", "interpret"),
        "native or interpret",
        lambda: "native",
        "What runs compiled functions: native code, or the graph interpreter on NumPy.",
    )
    conv: Flag[str] = Flag(
        "GANGLION_CONV",
        _one_of("fast", "direct"),
        "fast or direct",
        lambda: "fast",
        "How compiled convolutions are computed: direct is slower and has the smaller errors.",
    )
    debug: Flag[int] = Flag(
        "GANGLION_DEBUG",
        _int_between(0, 4),
        "a whole number from 0 to 4",
        lambda: 0,
        "How much the compiler prints about each stage; 0 is silent.",
    )
    debug_memory: Flag[bool] = Flag(
        "GANGLION_DEBUG_MEMORY",
        _bool,
        "0, 1, false or true",
        lambda: False,
        "Whether compiled steps run in watched memory: slow; names a kernel that goes astray.",
    )

    @classmethod
    def table(cls) -> tuple[Flag[Any], ...]:
        """All flags in the order written here, for documentation and reports."""
        return tuple(flag for flag in vars(cls).values() if isinstance(flag, Flag))


flags = Flags()


def optional(module: str, extra: str = "") -> ModuleType:
    """Import a package that `import ganglion` must not need, or say how to install it.

    `extra` is the extra of this package that brings it; "" is for its core dependencies.
    A package that is installed and fails while importing raises its own error.

    Errors: `MissingExtraError` when it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        package = f"'ganglion[{extra}]'" if extra else "ganglion"
        raise MissingExtraError(
            f"This needs the package {error.name!r}, which is not installed; "
            f"run: pip install {package}"
        ) from error
