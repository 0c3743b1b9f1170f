"""The commands, their help, and what wrong words get."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ganglion import cli
from ganglion.cli import app
from ganglion.config import VERSION
from ganglion.errors import DataError

ROOT = Path(__file__).parents[2]
COMMANDS = ["train", "resume", "evaluate", "predict", "summary"]

LOADED = """
import json, sys
from ganglion.cli.app import run
run(["--help"])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

TIME = """
from time import process_time as now
start = now()
import numpy
between = now()
from ganglion.cli.app import run
run(["--help"])
print((now() - between) / (between - start))
"""


def python(*words):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )


def test_help_names_every_command(gang):
    code, out, err = gang("--help")
    assert code == 0
    assert err == ""
    assert all(f"  {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_its_help(gang, command):
    code, out, _ = gang(command, "--help")
    assert code == 0
    options = out.partition("Options:")[2].split("\n  --")[1:]
    assert options
    assert all(len(option.split()) > 2 for option in options)


def test_help_loads_nothing_that_it_does_not_show():
    loaded = set(json.loads(python("-c", LOADED).stdout.splitlines()[-1]))
    heavy = {"safetensors", "sklearn", "pandas", "llvmlite", "ml_dtypes", "rich", "threadpoolctl"}
    assert "typer" in loaded
    assert not loaded & heavy


def test_help_is_quick():
    """The aim is 0.4 s with NumPy, which takes a quarter; a ratio holds on a busy machine too."""
    times = [float(python("-c", TIME).stdout.splitlines()[-1]) for _ in range(3)]
    assert min(times) < 3


def test_the_package_runs_as_a_module():
    done = python("-m", "ganglion", "--version")
    assert (done.returncode, done.stdout) == (0, f"ganglion {VERSION}\n")


def test_a_module_passes_on_exit_codes():
    assert python("-m", "ganglion", "evaluate", "no-such-run", "iris").returncode == 1


def test_no_words_show_the_help(gang):
    code, out, err = gang()
    assert code == 2
    assert "Usage: ganglion" in out + err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian", "iris"], "train"),
        (["train"], "data"),
        (["train", "iris", "--epoch", "3"], "--epochs"),
        (["train", "iris", "--epochs", "many"], "--epochs"),
        (["train", "iris", "--epochs", "0"], "--epochs must be at least 1; got 0"),
        (["train", "iris", "--batch-size", "-1"], "--batch-size must be at least 1"),
        (["train", "iris", "--lr", "nan"], "--lr must be a number greater than 0; got nan"),
        (["train", "iris", "--lr", "inf"], "--lr"),
        (["train", "iris", "--weight-decay", "-0.1"], "--weight-decay"),
        (["train", "iris", "--dropout", "1"], "--dropout must be at least 0 and less than 1"),
        (["train", "iris", "--patience", "-1"], "--patience"),
        (["train", "iris", "--seed", str(2**64)], "--seed"),
        (["train", "iris", "--checkpoint-every", "-1"], "--checkpoint-every"),
        (["train", "iris", "--hidden", "12,x"], "--hidden must be sizes such as 128 or 256,64"),
        (["train", "iris", "--hidden", "12,0"], "--hidden"),
        (["train", "iris", "--model", "mpl"], "did you mean 'mlp'?"),
        (["train", "iris", "--activation", "rellu"], "did you mean 'relu'?"),
        (["train", "iris", "--optimizer", "adan"], "did you mean 'adam'?"),
        (["train", "iris", "--schedule", "linear"], "cosine, constant; got 'linear'"),
        (["train", "iris", "--task", "clustering"], "--task must be one of classification"),
        (["evaluate", "runs/x"], "data"),
        (["predict", "runs/x"], "file"),
        (["summary"], "run"),
    ],
)
def test_wrong_usage_gets_one_error_and_exit_code_2(gang, tmp_path, words, expected):
    code, out, err = gang(*words)
    assert code == 2
    assert out == ""
    assert err.count("Error: ") == 1
    assert expected in err.partition("Error: ")[2]
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_refused(gang, flowers_csv):
    code, _, err = gang("train", flowers_csv, "--target", "kind", "--output", flowers_csv)
    assert code == 2
    assert "is a file" in err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("the third row is odd"), 1, "Error: the third row is odd\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "Error: /x: Permission denied\n"),
        (OSError("disk gone"), 1, "Error: disk gone\n"),
        (MemoryError("8 TiB"), 1, "Error: out of memory: 8 TiB\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_command_raises_becomes_one_line(gang, monkeypatch, error, code, message):
    def fail(path):
        raise error

    monkeypatch.setattr(cli.inspect, "summary", fail)
    assert gang("summary", "run") == (code, "", message)


def test_a_defect_shows_its_traceback(gang, monkeypatch):
    def fail(path):
        raise ZeroDivisionError

    monkeypatch.setattr(cli.inspect, "summary", fail)
    with pytest.raises(ZeroDivisionError):
        app.run(["summary", "run"])
