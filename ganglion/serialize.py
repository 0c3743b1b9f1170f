"""Saving and loading: tensors in safetensors, everything around them as JSON in its metadata.

    save_file(model.state_dict(), "model.safetensors")     # dict of tensors, as PyTorch's users do
    model.load_state_dict(load_file("model.safetensors"))

    save({"model": model.state_dict(), "epoch": 3}, "run.safetensors")   # any tree, in one file
    tree = load("run.safetensors")

Files appear complete or not at all: they are written under a temporary name in the same folder,
synced to disk and renamed. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

import ganglion.dtypes as dt
from ganglion.config import optional
from ganglion.creation import from_numpy
from ganglion.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    DTypeError,
    NotFoundError,
)
from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Target = str | os.PathLike[str] | BinaryIO

_METADATA: Final = "__metadata__"  # the one name that safetensors keeps for itself
_KEY: Final = "ganglion"  # where our JSON stands in the metadata

_NUMPY_NAMES: Final = {
    "BOOL": "bool", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip
_SAVED: Final = {*_NUMPY_NAMES.values(), "bfloat16"}

# First bytes of files that people try, with what they are.
_FOREIGN: Final = (
    (b"PK\x03\x04", "a zip archive, probably written by torch.save"),
    (b"\x80", "a pickle"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array; numpy.load reads it"),
)


# --- whole files or none ------------------------------------------------------------------------


def atomic_write(
    path: str | os.PathLike[str], writer: Callable[[BinaryIO], object], durable: bool = True
) -> None:
    """Let ``writer(file)`` fill a file that replaces ``path`` once it is whole and on disk.

    On any failure the temporary file is removed and ``path`` stays as it was. What is not
    ``durable`` is written without waiting for the disk: it is safe from the end of the process,
    but from a failure of the machine only after ``sync``.

    Errors: ``NotFoundError`` when the folder does not exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise NotFoundError(f"cannot write {target}: the folder {target.parent} does not exist")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            writer(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(target.parent)


def sync(path: str | os.PathLike[str]) -> None:
    """Wait until a file that was written without waiting is on disk, under its name."""
    with Path(path).open("rb+") as file:
        os.fsync(file.fileno())
    _sync_folder(Path(path).parent)


def _sync_folder(folder: Path) -> None:
    """Put a rename on disk; Windows does that by itself and cannot open folders."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(raw: bytes, to: Target, durable: bool = True) -> None:
    if isinstance(to, (str, os.PathLike)):
        atomic_write(to, lambda file: file.write(raw), durable)
    else:
        to.write(raw)


def _read(source: Target) -> tuple[bytes, str]:
    """Contents, and the name that errors give them."""
    if not isinstance(source, (str, os.PathLike)):
        return source.read(), getattr(source, "name", "the given stream")
    path = Path(source)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise NotFoundError(f"cannot load {path}: it {kind}")
    return path.read_bytes(), str(path)


# --- dictionaries of tensors --------------------------------------------------------------------


def save_file(
    tensors: Mapping[str, Tensor], path: Target, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors by name, with texts as ``metadata``; tied tensors are written each.

    Errors: ``ArgumentTypeError`` for anything but names and tensors.
    """
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ArgumentTypeError(
                f"save_file takes a dict from names to tensors, got {name!r}: "
                f"{type(tensor).__name__}; save() takes any tree"
            )
        if name == _METADATA:
            raise ArgumentError(f"a tensor cannot be called {_METADATA!r} in safetensors")
    _write(_packed({name: tensor._data for name, tensor in tensors.items()}, metadata), path)


def load_file(path: Target) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, sorted by it.

    Errors: ``CheckpointError`` for a damaged or foreign file, ``NotFoundError`` for none.
    """
    arrays, _ = _unpacked(*_read(path))
    return {name: _tensor(arrays[name], name, path) for name in sorted(arrays)}


def _tensor(array: Array, name: str, path: object) -> Tensor:
    try:
        return from_numpy(array)
    except DTypeError as error:
        raise CheckpointError(f"tensor {name!r} of {path}: {error}") from error


def _packed(arrays: Mapping[str, Array], metadata: dict[str, str] | None) -> bytes:
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    raw: bytes = optional("safetensors.numpy").save(contiguous, metadata)
    return raw


def _unpacked(raw: bytes, name: str) -> tuple[Arrays, dict[str, str]]:
    """Arrays over fresh memory, and the metadata."""
    library = optional("safetensors")
    _refuse_foreign(raw, name)
    try:
        found = library.deserialize(raw)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        return {key: _array(key, **record) for key, record in found}, header.get(_METADATA, {})
    except (library.SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{name} is damaged, truncated or not a safetensors file: {error}"
        ) from error


def _array(name: str, shape: list[int], dtype: str, data: bytearray) -> Array:
    if dtype == "BF16":
        return np.ndarray(tuple(shape), dt.bfloat16.numpy, data)
    if dtype not in _NUMPY_NAMES:
        raise ValueError(f"tensor {name!r} has dtype {dtype}, which NumPy does not know")
    return np.ndarray(tuple(shape), np.dtype(_NUMPY_NAMES[dtype]).newbyteorder("<"), data)


def _refuse_foreign(raw: bytes, name: str) -> None:
    for first, what in _FOREIGN:
        if raw.startswith(first) and raw[8:9] != b"{":  # where a safetensors header begins
            raise CheckpointError(
                f"{name} is {what}; Ganglion reads safetensors and never unpickles, because a "
                "pickle can run any program. Convert it where it was made, in PyTorch: "
                "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
            )


# --- trees --------------------------------------------------------------------------------------


def save(obj: Any, f: Target, *, durable: bool = True) -> None:
    """Write a tree of dicts, lists, tuples, tensors, arrays, numbers, texts and None as one file.

    Keys may be anything JSON has and tuples of it. Numbers come back bit for bit; subclasses
    come back as the plain dict, list, tuple or number. ``durable`` is as in `atomic_write`.

    Errors: ``ArgumentTypeError`` naming the place of anything else.
    """
    arrays: Arrays = {}
    tree = _encode(obj, "", arrays)
    text = json.dumps({"crc32": _checksum(tree, arrays), "tree": tree}, **_COMPACT)
    _write(_packed(arrays, {_KEY: text}), f, durable)


def load(f: Target, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """The tree that ``save`` wrote, or the dict of tensors of any other safetensors file.

    ``map_location`` and ``weights_only`` are accepted for PyTorch's sake: tensors live on the
    CPU, and nothing is ever unpickled.

    Errors: ``CheckpointError`` for a damaged or foreign file, ``NotFoundError`` for none.
    """
    raw, name = _read(f)
    arrays, metadata = _unpacked(raw, name)
    if _KEY not in metadata:
        return {key: _tensor(arrays[key], key, name) for key in sorted(arrays)}
    try:
        found = json.loads(metadata[_KEY])
        intact = found["crc32"] == _checksum(found["tree"], arrays)
        if intact:
            return _decode(found["tree"], arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name} is damaged: its structure cannot be read") from error
    raise CheckpointError(f"{name} is damaged: its contents do not match their checksum")


_COMPACT: Final[Any] = {"separators": (",", ":"), "allow_nan": False}


def _checksum(tree: Any, arrays: Arrays) -> int:
    """CRC-32 of the structure and of every array in order of name."""
    crc = zlib.crc32(json.dumps(tree, **_COMPACT).encode())
    for name in sorted(arrays):
        crc = zlib.crc32(np.asarray(arrays[name], order="C").reshape(-1).view(np.uint8).data, crc)
    return crc


# JSON keeps None, bool, int, str, finite floats and lists; everything else is an object with one
# key that says what it is. Tensors and arrays are named after their path in the tree.


def _encode(value: Any, path: str, arrays: Arrays) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return _encode_array(value, path, arrays)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
    if isinstance(value, dict):
        return _encode_dict(value, path, arrays)
    if isinstance(value, (list, tuple)):
        items = [_encode(item, _join(path, i), arrays) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    raise ArgumentTypeError(
        f"cannot save the {type(value).__name__} at {path or 'the top'!r}; save() takes dicts, "
        "lists, tuples, tensors, arrays, numbers, texts and None"
    )


def _encode_array(value: Any, path: str, arrays: Arrays) -> dict[str, str]:
    kind = "tensor" if isinstance(value, Tensor) else "array"
    kind = "scalar" if isinstance(value, np.generic) else kind
    array = value._data if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.name not in _SAVED:
        raise ArgumentTypeError(f"cannot save the array of dtype {array.dtype} at {path!r}")
    name = path or kind
    while name in arrays or name == _METADATA:  # {"a": {"b": x}, "a.b": y}
        name += "~"
    arrays[name] = array
    return {kind: name}


def _encode_dict(value: dict[Any, Any], path: str, arrays: Arrays) -> dict[str, Any]:
    if all(isinstance(key, str) for key in value):
        return {"dict": {k: _encode(v, _join(path, k), arrays) for k, v in value.items()}}
    pairs = [
        [_encode(k, f"{path} key", arrays), _encode(v, _join(path, k), arrays)]
        for k, v in value.items()
    ]
    return {"pairs": pairs}


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _decode(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    return _DECODERS[kind](content, arrays)


_DECODERS: Final[dict[str, Callable[[Any, Arrays], Any]]] = {
    "dict": lambda found, arrays: {k: _decode(v, arrays) for k, v in found.items()},
    "pairs": lambda found, arrays: {_decode(k, arrays): _decode(v, arrays) for k, v in found},
    "tuple": lambda found, arrays: tuple(_decode(found, arrays)),
    "float": lambda found, arrays: struct.unpack(">d", bytes.fromhex(found))[0],
    "tensor": lambda found, arrays: from_numpy(arrays[found]),
    "array": lambda found, arrays: arrays[found],
    "scalar": lambda found, arrays: arrays[found][()],
}
