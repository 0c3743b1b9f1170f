"""Readers of the two binary formats image sets come in: IDX (MNIST) and CIFAR records."""

import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ganglion.errors import DataError, NotFoundError

Bytes = NDArray[np.uint8]

_IDX_TYPES: Final = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_OPENERS: Final[dict[str, Callable[..., Any]]] = {".gz": gzip.open, ".xz": lzma.open}
_CIFAR_IMAGE: Final = (3, 32, 32)
_CIFAR_RECORD: Final = 1 + 3 * 32 * 32  # label, then the red, green and blue planes


def read_bytes(path: Path | str) -> bytes:
    """Contents of a file, decompressed when its name ends in .gz or .xz.

    Errors: `NotFoundError`; `DataError` for a damaged or truncated compressed file.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}.")
    try:
        with _OPENERS.get(path.suffix, open)(path, "rb") as stream:
            return bytes(stream.read())
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{path} cannot be decompressed: {error}. It is truncated or damaged; delete it and "
            "fetch it again."
        ) from error


def read_idx(path: Path | str) -> NDArray[Any]:
    """The array in an IDX file, plain or .gz; see `parse_idx`."""
    return parse_idx(read_bytes(path), str(path))


def parse_idx(data: bytes, name: str) -> NDArray[Any]:
    """The array in IDX bytes: 0, 0, type, number of dimensions, sizes, values; big-endian.

    Errors: `DataError` for another magic number and for a length that the sizes do not give.
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES or not data[3]:
        raise DataError(
            f"{name} is no IDX file: it begins with {data[:4].hex(' ') or 'nothing'}, expected "
            "00 00, a type from 08 to 0e, and the number of dimensions."
        )
    dtype, start = np.dtype(_IDX_TYPES[data[2]]), 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4))
    expected = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(data) != expected:
        raise DataError(
            f"{name} is truncated or has something added: its header gives shape {shape}, which "
            f"is {expected:,} bytes, and there are {len(data):,}. Fetch the file again."
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def parse_cifar(data: bytes, name: str) -> tuple[Bytes, NDArray[np.int64]]:
    """Images (N, 3, 32, 32) and labels (N,) of CIFAR-10's binary records.

    Errors: `DataError` for a length that is no whole number of records and labels over 9.
    """
    if not data or len(data) % _CIFAR_RECORD:
        raise DataError(
            f"{name} has {len(data):,} bytes, expected a multiple of {_CIFAR_RECORD:,}, one "
            "record of a label and an image. It is truncated or not CIFAR-10's binary version."
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _CIFAR_RECORD)
    labels = checked_labels(records[:, 0], 10, name)
    return records[:, 1:].reshape(-1, *_CIFAR_IMAGE), labels


def checked_labels(labels: NDArray[Any], classes: int, name: str) -> NDArray[np.int64]:
    """Labels as int64; `DataError` when one is no class number."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise DataError(
            f"{name}: label {labels[wrong[0]]} of sample {wrong[0]} is outside 0 to {classes - 1} "
            f"({wrong.size} such labels). The file is damaged or of another data set."
        )
    return labels.astype(np.int64)
