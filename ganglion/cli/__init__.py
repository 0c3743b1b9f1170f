"""The ``ganglion`` command. What a command does is loaded when the command is given."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganglion.cli import inspect, training

__all__ = ["inspect", "main", "training"]


def __getattr__(name: str) -> Any:
    if name in {"inspect", "training"}:
        return importlib.import_module(f"ganglion.cli.{name}")
    raise AttributeError(f"module 'ganglion.cli' has no attribute {name!r}")


def main() -> None:
    """Run the command line and exit: with 1 for what went wrong, with 2 for wrong usage."""
    sys.exit(importlib.import_module("ganglion.cli.app").run(sys.argv[1:]))
