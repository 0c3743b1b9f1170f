"""The ``ganglion`` command."""

from __future__ import annotations

import sys

from ganglion.cli.app import run


def main() -> None:
    """Run the command line; user errors end in one message and exit code 1, usage errors in 2."""
    sys.exit(run(sys.argv[1:]))
