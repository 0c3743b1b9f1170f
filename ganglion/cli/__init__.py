"""The ``ganglion`` command. What a command does is loaded when the command is given."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganglion.cli import inspect, training

__all__ = ["inspect", "main", "training"]


def __getattr__(name: str) -> Any:
    if name in ("inspect", "training"):
        return importlib.import_module(f"ganglion.cli.{name}")
    raise AttributeError(f"module 'ganglion.cli' has no attribute '{name}'")


def main() -> None:
    """Run the command line; user errors end in one message and exit code 1, usage errors in 2."""
    from ganglion.cli.app import run

    sys.exit(run(sys.argv[1:]))
