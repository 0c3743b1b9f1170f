"""What besides the program decides the bits of a result, and what a reader wants to know later."""

from __future__ import annotations

import platform
import sys
from typing import Any

import numpy as np

from ganglion.blas import get_num_threads
from ganglion.config import VERSION, flags, optional


def environment() -> dict[str, Any]:
    """Versions, machine and threads; equal environments give equal bits."""
    return {
        "ganglion": VERSION,
        "numpy": np.__version__,
        "blas": _blas(),
        "threads": get_num_threads(),
        "machine": platform.machine(),
        "simd": _simd(),
        "eager_kernels": flags.eager_kernels,
        "conv": flags.conv,
    }


def surroundings() -> dict[str, Any]:
    """What is recorded beside that and may change freely."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": sys.argv,
    }


def _simd() -> str:
    """The instruction sets that NumPy's own loops use on this processor."""
    found: Any = np.show_config(mode="dicts")
    return " ".join(found.get("SIMD Extensions", {}).get("found", ()))


def _blas() -> str:
    """Library, version and the kernels it chose for this processor."""
    found = optional("threadpoolctl").threadpool_info()
    return ", ".join(
        f"{library['internal_api']} {library['version']} {library.get('architecture', '')}".strip()
        for library in found
        if library["user_api"] == "blas"
    )
