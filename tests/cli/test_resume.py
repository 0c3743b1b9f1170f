"""A run that was stopped or killed goes on to the same end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ganglion import cli
from ganglion.cli.app import run
from ganglion.serialize import load
from tests.cli.tables import FLOWERS, flowers, write_csv

ROOT = Path(__file__).parents[2]
OPTIONS = [
    *("--target", "kind", "--epochs", "30", "--patience", "0", "--batch-size", "16"),
    *("--dropout", "0.3", "--checkpoint-every", "0.02", "--output", "runs"),
]
# a shell that put us in the background ignores Ctrl-C, and so would its children
LISTENING = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from ganglion.cli import main; main()"
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A folder with a table and a run on it from beginning to end."""
    root = tmp_path_factory.mktemp("resume")
    write_csv(root / "flowers.csv", FLOWERS, flowers(600))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert run(["train", "flowers.csv", *OPTIONS, "--name", "whole"]) == 0
    return root


@pytest.fixture
def gang(uninterrupted, gang, monkeypatch):
    monkeypatch.chdir(uninterrupted)
    return gang


def started(root, name):
    """Another process in the midst of the same training; the folder of its run."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING, "train", "flowers.csv", *OPTIONS, "--name", name],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = root / "runs" / f"{name}-1"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        metrics = folder / "metrics.csv"
        if metrics.is_file() and metrics.read_bytes().count(b"\n") > 5:
            return process, folder
        time.sleep(0.002)
    process.kill()
    pytest.fail(f"training did not get going: {process.communicate()}")


def record(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def check_same_end(folder, root):
    whole = root / "runs" / "whole-1"
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert record(folder)["test"] == record(whole)["test"]
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = load(folder / name), load(whole / name)
        for key, tensor in theirs["model"].items():
            assert ours["model"][key].numpy().tobytes() == tensor.numpy().tobytes()
        assert ours["state"]["history"] == theirs["state"]["history"]


def test_ctrl_c_saves_and_says_how_to_go_on(gang, uninterrupted):
    process, folder = started(uninterrupted, "stopped")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Finishing this step and saving" in err
    assert out.splitlines()[-1].endswith("run: ganglion resume runs/stopped-1.")
    assert "test" not in record(folder)
    assert record(folder)["outcome"] == "interrupted"
    assert gang("resume", "runs/stopped-1")[0] == 0
    check_same_end(folder, uninterrupted)


def test_kill_9_costs_nothing(gang, uninterrupted):
    process, folder = started(uninterrupted, "killed")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert "outcome" not in record(folder)
    code, out, _ = gang("resume", "runs/killed-1")
    assert code == 0
    assert out.splitlines()[-2] == gang("evaluate", "runs/whole-1", "flowers.csv")[1].strip()
    check_same_end(folder, uninterrupted)


def test_a_run_killed_before_its_first_checkpoint_starts_again(gang, uninterrupted):
    whole, folder = uninterrupted / "runs" / "whole-1", uninterrupted / "runs" / "young-1"
    folder.mkdir()
    shutil.copy(whole / "config.toml", folder)
    facts = {k: v for k, v in record(whole).items() if k not in {"test", "outcome", "samples"}}
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    assert gang("resume", folder)[0] == 0
    check_same_end(folder, uninterrupted)


def test_a_run_killed_before_its_report_is_reported(gang, uninterrupted):
    whole, folder = uninterrupted / "runs" / "whole-1", uninterrupted / "runs" / "silent-1"
    shutil.copytree(whole, folder)
    facts = {k: v for k, v in record(whole).items() if k not in {"test", "samples"}}
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    code, out, _ = gang("resume", folder)
    assert code == 0
    assert "epoch 30/30" not in out
    check_same_end(folder, uninterrupted)


def test_a_finished_run_is_reported_and_left_alone(gang, uninterrupted):
    folder = uninterrupted / "runs" / "whole-1"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    code, out, err = gang("resume", "runs/whole-1")
    assert (code, err) == (0, "")
    first, result = out.splitlines()
    assert first == "runs/whole-1: training is over (finished); there is nothing to resume"
    assert result == gang("evaluate", "runs/whole-1", "flowers.csv")[1].strip()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def interrupted(root, name):
    """A copy of the finished run that looks as if it had been killed."""
    folder = root / "runs" / name
    shutil.copytree(root / "runs" / "whole-1", folder)
    facts = {k: v for k, v in record(folder).items() if k != "test"}
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def test_data_that_changed_is_refused(gang, uninterrupted, tmp_path):
    folder = interrupted(uninterrupted, "changed-1")
    other = write_csv(tmp_path / "other.csv", FLOWERS, flowers(600, seed=1))
    config = (folder / "config.toml").read_text(encoding="utf-8")
    path = str(uninterrupted / "flowers.csv")
    (folder / "config.toml").write_text(config.replace(path, str(other)), encoding="utf-8")
    code, _, err = gang("resume", folder)
    assert code == 1
    assert "other.csv is no longer what" in err


def test_data_that_is_gone_is_named(gang, uninterrupted):
    folder = interrupted(uninterrupted, "gone-1")
    config = (folder / "config.toml").read_text(encoding="utf-8")
    (folder / "config.toml").write_text(config.replace("flowers.csv", "x.csv"), encoding="utf-8")
    code, _, err = gang("resume", folder)
    assert code == 1
    assert "x.csv' is neither a file nor" in err


def test_other_settings_are_refused_unless_allowed(gang, uninterrupted):
    folder = interrupted(uninterrupted, "edited-1")
    config = (folder / "config.toml").read_text(encoding="utf-8")
    (folder / "config.toml").write_text(config.replace("0.3", "0.4"), encoding="utf-8")
    code, _, err = gang("resume", folder)
    assert code == 1
    assert "Dropout(p=0.3" in err
    assert "--allow-different" in err
    assert gang("resume", folder, "--allow-different")[0] == 0


def test_a_run_is_found_from_any_folder(gang, uninterrupted, tmp_path, monkeypatch):
    folder = interrupted(uninterrupted, "far-1")
    monkeypatch.chdir(tmp_path)
    assert gang("resume", folder)[0] == 0
    assert "test" in record(folder)


def test_what_is_no_run_is_explained(gang):
    code, _, err = gang("resume", "runs/hole-1")
    assert code == 1
    assert err.startswith("Error: there is no run folder runs/hole-1")


def test_ctrl_c_twice_ends_at_once(gang, monkeypatch):
    def fit(path, allow_different):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.training, "resume", fit)
    assert gang("resume", "runs/whole-1") == (130, "", "")
