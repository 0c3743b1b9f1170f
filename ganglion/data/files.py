"""Official data files: where they lie, how they are fetched, and proof that they are whole.

    path = locate(MNIST["train-images"])     # $GANGLION_DATA/mnist/..., cache, or download

A file is looked for in `root/<folder>/<name>` when a root is given, then in
`$GANGLION_DATA/<folder>/<name>`, then in `$GANGLION_CACHE/datasets/<folder>/<name>`. What is
nowhere is downloaded, into the root when there is one and into the cache otherwise. Every file
is checked by size and SHA-256 on every use. A download goes to a temporary name, is checked,
and only then gets its own name.
"""

import hashlib
import http.client
import os
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ganglion.config import flags, optional
from ganglion.errors import DataError, NotFoundError

_CHUNK = 1 << 18  # bytes read at a time
_TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class DataFile:
    """One official file: folder and name on disk, its size in bytes, SHA-256 and sources."""

    folder: str
    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


_MNIST = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_FASHION = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
_CIFAR10 = ("https://www.cs.toronto.edu/~kriz/",)
_IDX_NAMES = {
    "train-images": "train-images-idx3-ubyte.gz",
    "train-labels": "train-labels-idx1-ubyte.gz",
    "test-images": "t10k-images-idx3-ubyte.gz",
    "test-labels": "t10k-labels-idx1-ubyte.gz",
}


def _idx_files(
    folder: str, bases: tuple[str, ...], facts: dict[str, tuple[int, str]]
) -> dict[str, DataFile]:
    return {
        part: DataFile(folder, name, *facts[part], tuple(base + name for base in bases))
        for part, name in _IDX_NAMES.items()
    }


# Size and SHA-256 of each part; the contents prove the file, so plain http is no risk.
MNIST = _idx_files(
    "mnist",
    _MNIST,
    {
        "train-images": (
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        "train-labels": (
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "test-images": (
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        "test-labels": (
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    },
)
FASHION_MNIST = _idx_files(
    "fashion-mnist",
    _FASHION,
    {
        "train-images": (
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        "train-labels": (
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        "test-images": (
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        "test-labels": (
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    },
)
CIFAR10 = DataFile(
    "cifar10",
    "cifar-10-binary.tar.gz",
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    tuple(base + "cifar-10-binary.tar.gz" for base in _CIFAR10),
)


def locate(file: DataFile, root: Path | str | None = None, *, download: bool = True) -> Path:
    """Path of a verified copy of `file`, downloaded first when it is nowhere.

    Errors: `DataError` for a copy that is not the official file; `NotFoundError` when there
    is none and it cannot be, or must not be, downloaded.
    """
    places = [folder / file.name for folder in search_folders(file.folder, root)]
    for path in places:
        if path.exists():
            verify(path, file)
            return path
    target = places[0] if root is not None else places[-1]
    if not download:
        looked = ", ".join(str(path) for path in places)
        raise NotFoundError(f"None of these exists: {looked}. {_remedy(file, target)}")
    return _download(file, target)


def search_folders(folder: str, root: Path | str | None = None) -> list[Path]:
    """Folders that may hold the data set, in the order in which they are searched."""
    roots = [root, flags.data, flags.cache / "datasets"]
    return [Path(place).expanduser() / folder for place in roots if place is not None]


def _remedy(file: DataFile, path: Path) -> str:
    return (
        f"Download {file.urls[0]} to {path}, or set GANGLION_DATA to a folder that holds "
        f"{file.folder}/{file.name}."
    )


def verify(path: Path, file: DataFile) -> None:
    """Compare size and SHA-256 with the official ones; `DataError` when they differ."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    _check(path, file, size, found)


def _check(path: Path, file: DataFile, size: int, sha256: str) -> None:
    if (size, sha256) == (file.size, file.sha256):
        return
    kind = "truncated" if size < file.size else "wrong"
    raise DataError(
        f"{path} is {kind}: expected {file.size:,} bytes with SHA-256 {file.sha256}, found "
        f"{size:,} bytes with SHA-256 {sha256}. Delete it and run again to download it, or "
        f"set GANGLION_DATA to a folder with a good copy in {file.folder}/{file.name}."
    )


def _download(file: DataFile, path: Path) -> Path:
    failures = []
    for url in file.urls:
        try:
            _fetch(url, file, path)
        except (OSError, http.client.HTTPException, DataError) as error:
            failures.append(f"{url}: {error}")
        else:
            return path
    raise NotFoundError(
        f"{file.folder}/{file.name} could not be downloaded ({'; '.join(failures)}). "
        f"{_remedy(file, path)}"
    )


def _fetch(url: str, file: DataFile, path: Path) -> None:
    """Stream `url` to a temporary name beside `path`, check it, rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as target:
            size, sha256 = _copy(url, file, target)
            target.flush()
            os.fsync(target.fileno())
        _check(path, file, size, sha256)
        temporary.chmod(0o644)  # mkstemp made it private; a data cache may be shared
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(url: str, file: DataFile, target: BinaryIO) -> tuple[int, str]:
    """Bytes copied and their SHA-256; stops soon after more than the official size."""
    digest, size = hashlib.sha256(), 0
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT) as response,  # noqa: S310 - our own table
        _progress(f"{file.folder}/{file.name}", file.size) as advance,
    ):
        while size <= file.size and (chunk := response.read(_CHUNK)):
            target.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            advance(len(chunk))
    return size, digest.hexdigest()


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, silence elsewhere; yields what takes the bytes done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    rich = optional("rich.progress")
    columns = [
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    ]
    console = optional("rich.console").Console(stderr=True)
    with rich.Progress(*columns, console=console) as bar:
        task = bar.add_task(f"Downloading {title}", total=total)
        yield lambda done: bar.advance(task, done)
