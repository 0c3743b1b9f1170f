"""The test harness keeps its promises, shown on a small suite of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = {
    "test_plain.py": """
import pytest

def test_passes():
    assert True

@pytest.mark.full
def test_slow():
    assert True
""",
    "test_parity.py": """
import pytest
torch = pytest.importorskip("torch")

def test_never_reached():
    assert False
""",
    "test_mixed.py": """
import pytest

def test_parity():
    pytest.importorskip("torch")
    assert False

def test_needs_data(data_root):
    assert False
""",
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run pytest on chosen files of SUITE, on a machine without torch and without data."""
    conftest = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    without_torch = "import sys\nsys.modules['torch'] = None\n"
    (tmp_path / "conftest.py").write_text(without_torch + conftest)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = full: slow\n")
    monkeypatch.delenv("GANGLION_DATA", raising=False)

    def pytest_on(*arguments):
        for name, text in SUITE.items():
            (tmp_path / name).write_text(text)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    return pytest_on


def test_full_tests_are_deselected_unless_asked_for(run):
    code, output = run("test_plain.py")
    assert code == 0
    assert "1 passed, 1 deselected" in output
    code, output = run("test_plain.py", "--full", "--no-skips")
    assert code == 0
    assert "2 passed" in output


def test_the_report_counts_parity_tests_without_torch(run):
    code, output = run()
    assert code == 0
    assert "not tested: 1 tests and 1 whole files skipped" in output


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "in parallel"])
def test_no_skips_fails_a_run_with_skips(run, workers):
    code, output = run("--no-skips", *workers)
    assert code == 1
    assert "--no-skips: 3 skipped, so this run counts as failed" in output
    assert re.search(r"1 passed.* 3 skipped", output.splitlines()[-1])
