"""`import ganglion` is light: NumPy and nothing else from outside, and no wait."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

REPORT = """
import json, sys
before = set(sys.modules)
{statement}
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""

TIME = """
from time import process_time as now
start = now()
import numpy
between = now()
import ganglion
print((now() - between) / (between - start))
"""


def run(code: str, **variables: str) -> str:
    """What a fresh interpreter prints when it runs this code."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def third_party(statement: str) -> set[str]:
    loaded = json.loads(run(REPORT.format(statement=statement)))
    return set(loaded) - sys.stdlib_module_names - {"ganglion"}


def test_import_loads_numpy_and_nothing_else_from_outside():
    assert third_party("import ganglion") == {"numpy"}


@pytest.mark.parametrize("module", ["ganglion.errors", "ganglion.config"])
def test_the_lowest_floor_adds_nothing(module):
    assert third_party(f"import {module}") <= {"numpy"}


def test_the_measurement_sees_a_third_party_module():
    assert "rich" in third_party("import rich")


def test_import_is_quick(tmp_path):
    """The aim is 0.15 s with NumPy, which takes about half; a ratio holds on a busy machine too."""
    compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    assert min(float(run(TIME, **compiled)) for _ in range(5)) < 1.2
