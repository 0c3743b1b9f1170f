import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """The benchmark's modules, which import each other as scripts do."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    yield __import__("measure")
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(FOLDER)):
            del sys.modules[name]


def side(benchmark, *results):
    results = iter(results)
    return lambda: benchmark.Side(lambda: next(results, 1.0), np.asarray)


def fails():
    raise ImportError("No module named 'torch'")


def test_one_round_of_the_smallest_network_is_printed_and_written(tmp_path):
    command = f"train_step.py --workloads mlp64 --peers ganglion --tasks train infer --rounds 1 \
        --seconds 0.001 --results {tmp_path}"
    done = subprocess.run(
        [sys.executable, FOLDER / "train_step.py", *command.split()[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "train_step.json").read_text())
    assert set(found["tasks"]) == {"training step", "inference, batch 1", "inference, batch 256"}
    for rows in found["tasks"].values():
        row = rows["mlp64"]
        assert not row["left_out"]
        assert all(0 < seconds[0] < 1 for seconds in row["seconds"].values())
        assert set(row["seconds"]) == {"ganglion", "ganglion eager"}
    assert "MLP 64-64-10" in (tmp_path / "train_step.md").read_text()
    assert "MLP 64-64-10, batch 32, SGD: training step" in done.stdout


def test_a_library_that_computes_something_else_is_not_timed(benchmark):
    makers = {"ganglion": side(benchmark, 2.0, 1.0, 1.0), "jax": side(benchmark, 2.1, 1.0, 1.0)}
    found = benchmark.measure(makers, 1, 1e-4)
    assert list(found.seconds) == ["jax"]
    assert found.left_out == {"ganglion": "its results differ from jax's by 4.8e-02"}


def test_a_library_that_is_missing_is_named(benchmark):
    found = benchmark.measure({"ganglion": side(benchmark), "torch": fails}, 2, 1e-4)
    assert len(found.seconds["ganglion"]) == 2
    assert found.left_out == {"torch": "ImportError: No module named 'torch'"}


def test_a_ratio_is_to_the_fastest_of_the_others_in_each_round(benchmark):
    rounds = {"ganglion": [1.0, 2.0], "ganglion eager": [0.1, 9.0], "torch": [4.0, 4.0]}
    found = benchmark.Timings({**rounds, "jax": [3.0, 12.0]})
    assert found.ratios("ganglion") == [3.0, 2.0]
    assert found.fastest() == "torch"
    assert benchmark.Timings({"ganglion": [1.0]}).ratios("ganglion") == []
