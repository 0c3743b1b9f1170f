"""Compiled code on disk: a module that was compiled once is read back in well under a millisecond.

One file per module, named after everything that decides its contents. Files are written under
another name and renamed, so readers in other processes see whole files only; a file that is
damaged all the same, or is not ours, is compiled again. Object code is executed, so the folder
must belong to this user alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

from ganglion.compiler import llvm
from ganglion.compiler.target import Target
from ganglion.config import flags

ABI: Final = 1  # counts changes of what compiled code and its callers agree on
CHECKSUM: Final = 32
KEPT: Final = 0.75  # of the cap, after old files were removed


def objects(texts: Iterable[str], target: Target) -> list[bytes]:
    """The object code of each module, from disk or compiled, the missing ones abreast."""
    folder = _folder()
    names: list[str] = []
    found: list[bytes | None] = []

    def missing() -> Iterator[str]:
        for text in texts:
            names.append(_name(text, target))
            found.append(_read(folder / names[-1]) if folder else None)
            if found[-1] is None:
                yield text

    compiled = llvm.compile_all(missing(), target)
    places = [i for i, image in enumerate(found) if image is None]
    for i, image in zip(places, compiled, strict=True):
        found[i] = image
        if folder:
            _write(folder / names[i], image)
    if folder and places:
        _trim(folder, flags.cache_mb << 20)
    return [image for image in found if image is not None]


def stored(texts: Sequence[str], target: Target) -> int:
    """How many of these modules are on disk."""
    folder = _folder()
    return sum((folder / _name(text, target)).exists() for text in texts) if folder else 0


def recall(text: str, target: Target) -> bytes | None:
    """What was kept under this text for this target, if anything."""
    folder = _folder()
    return _read(folder / _name(text, target, ".step")) if folder else None


def keep(text: str, target: Target, contents: bytes) -> None:
    """Keep something under a text, as far as there is room."""
    folder = _folder()
    if folder:
        _write(folder / _name(text, target, ".step"), contents)
        _trim(folder, flags.cache_mb << 20)


def _name(text: str, target: Target, suffix: str = ".o") -> str:
    parts = (text, target.triple, target.cpu, llvm.version(), str(ABI))
    return blake2b("\0".join(parts).encode(), digest_size=20).hexdigest() + suffix


def _folder() -> Path | None:
    """The folder of compiled code, made at need; None when it cannot be ours alone."""
    if not flags.cache_mb:
        return None
    folder = flags.cache / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        private = _is_private(folder.lstat(), stat.S_ISDIR)
    except OSError:
        return None
    return folder if private and os.access(folder, os.W_OK | os.X_OK) else None


def _is_private(status: os.stat_result, kind: Callable[[int], bool]) -> bool:
    """Whether this is of that kind, belongs to this user and cannot be written by others."""
    others = stat.S_IWGRP | stat.S_IWOTH
    return kind(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & others


def _read(path: Path) -> bytes | None:
    """The object in this file, which counts as used now; None if it is not there and sound."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            if not _is_private(os.fstat(file.fileno()), stat.S_ISREG):
                return None
            contents = file.read()
            os.utime(file.fileno())
    except OSError:
        return None
    image = contents[CHECKSUM:]
    return image if contents[:CHECKSUM] == _checksum(image) else None


def _write(path: Path, image: bytes) -> None:
    """Store an object; a full disk or a lost folder only means that it is not stored."""
    with contextlib.suppress(OSError):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_checksum(image) + image)
        Path(temporary).replace(path)


def _checksum(image: bytes) -> bytes:
    return blake2b(image, digest_size=CHECKSUM).digest()


def _trim(folder: Path, cap: int) -> None:
    """Remove the files used longest ago, and what killed writers left, once all exceed the cap."""
    files = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process may have removed it
            status = path.stat()
            files.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in files)
    if total <= cap:
        return
    for _, size, path in sorted(files):
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
        if total <= KEPT * cap:
            return
