"""A benchmark's file started again, for what only a process of its own can measure."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def answer(
    file: str, arguments: list[str], environment: Mapping[str, str], seconds: float
) -> dict[str, Any]:
    """The JSON on the last line that the file prints.

    Errors: ``RuntimeError`` with what it wrote on standard error when it fails;
    ``subprocess.TimeoutExpired`` when it takes more than ``seconds``.
    """
    done = subprocess.run(  # noqa: S603 - the benchmark's own file
        [sys.executable, file, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
