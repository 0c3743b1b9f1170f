"""A compiled step as it is kept on disk: machine code, and what a caller must know to run it.

To read one back spares everything between a traced graph and its machine code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.compiler.cache import keep, recall
from ganglion.compiler.target import Target
from ganglion.config import VERSION, flags
from ganglion.graph import Graph

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Image:
    """Objects that define ``step0``, ``step1``, ..., and the memory these work on.

    ``places``: where in the argument block of ``size`` addresses each kind of buffer begins;
    ``used``: the numbers of those that are touched. ``arena`` and ``scratch`` (per thread) are
    bytes. ``flops`` of all kernels together. ``segments``: functions, without the calls of the
    host between them.
    """

    objects: tuple[bytes, ...]
    constants: tuple[Array, ...]
    places: dict[str, int]
    size: int
    used: dict[str, list[int]]
    arena: int
    scratch: int
    flops: int
    segments: int


def remembered(graph: Graph, target: Target) -> Image | None:
    """The image of a graph that was compiled before."""
    contents = recall(_key(graph), target)
    return None if contents is None else _read(contents)


def remember(graph: Graph, target: Target, image: Image) -> None:
    """Keep the image of a graph."""
    keep(_key(graph), target, _written(image))


def _key(graph: Graph) -> str:
    return f"{VERSION} {_sources()} {flags.conv}\n{graph.text()}"


@cache
def _sources() -> str:
    """What tells one state of this compiler from another: its files' sizes and times."""
    root = Path(__file__).parents[1]
    files = sorted([*root.glob("ops/*.py"), *root.glob("compiler/**/*.py"), root / "graph.py"])
    status = [(path.name, path.stat()) for path in files]
    return " ".join(f"{name}:{s.st_size}:{s.st_mtime_ns}" for name, s in status)


def _written(image: Image) -> bytes:
    head = {
        "places": image.places, "size": image.size, "used": image.used, "arena": image.arena,
        "scratch": image.scratch, "flops": image.flops, "segments": image.segments,
        "objects": [len(x) for x in image.objects],
        "constants": [[dt.of_numpy(x.dtype).name, x.shape, x.nbytes] for x in image.constants],
    }  # fmt: skip
    text = json.dumps(head).encode()
    parts = [x.tobytes() for x in image.constants]
    return b"".join([len(text).to_bytes(8, "little"), text, *image.objects, *parts])


def _read(contents: bytes) -> Image:
    start = 8 + int.from_bytes(contents[:8], "little")
    head = json.loads(contents[8:start])
    lengths = [*head.pop("objects"), *(n for _, _, n in head["constants"])]
    parts = _cut(contents, start, lengths)
    kinds = head.pop("constants")
    count = len(lengths) - len(kinds)
    constants = [
        np.frombuffer(part, dt.BY_NAME[name].numpy).reshape(shape)
        for part, (name, shape, _) in zip(parts[count:], kinds, strict=True)
    ]
    return Image(objects=tuple(parts[:count]), constants=tuple(constants), **head)


def _cut(contents: bytes, start: int, lengths: Sequence[int]) -> list[bytes]:
    parts = []
    for length in lengths:
        parts.append(contents[start : start + length])
        start += length
    return parts
