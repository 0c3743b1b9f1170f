"""The benchmark of a whole training runs, and its two programs learn alike."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.full
def test_it_compares_and_writes(tmp_path):
    pytest.importorskip("torch")
    if not os.environ.get("GANGLION_DATA"):
        pytest.skip("GANGLION_DATA is not set")
    words = ["--epochs", "1", "--rounds", "1", "--peers", "torch", "--results", str(tmp_path)]
    subprocess.run([sys.executable, FOLDER / "fashion.py", *words], check=True, timeout=600)
    rounds = json.loads((tmp_path / "fashion_mlp.json").read_text())["rounds"]
    ours, theirs = (rounds[name][0]["accuracy"] for name in ("ganglion", "torch"))
    assert ours == pytest.approx(theirs, abs=0.02)
    assert ours > 0.82
    assert "| torch |" in (tmp_path / "fashion_mlp.md").read_text()
