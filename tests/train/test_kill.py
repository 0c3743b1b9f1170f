"""Kill -9 at any moment, resume, and nothing shows: weights, history and metrics.csv agree."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ganglion.serialize import load
from ganglion.train import RunFolder

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("program.py")
COMPARED = ("final.safetensors", "history.json", "metrics.csv")

MOMENTS = [
    "write:1",  # config.toml is half written; there is no run yet
    "fsync:5",  # run.json is written again; there is no checkpoint yet
    "rename:5",  # the first checkpoint is written and not yet renamed
    "write:6",  # half of a later checkpoint is written
    "renamed:6",  # it is renamed, and the folder not yet synced
    "batch:10",  # the loader makes a batch
    "step:14",  # between two checkpoints
    "step:17",  # after the epoch that will be the best
    "epoch:2",  # after validation, before best and metrics.csv
    "append:1",  # half of a row is written
]
INSIDE = [  # what is inside a step can be watched only when it is not compiled
    "updated:9",  # the parameters are updated, and nothing else
    "forward:21",  # validation of the third epoch
]

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "GANGLION_NUM_THREADS": "1"}
KILLED = -signal.SIGKILL


def run(*parts):
    """Exit statuses of the program run with these arguments one after the other."""
    arguments = [str(word) for part in parts for word in ("--then", *part)][1:]
    command = [sys.executable, str(PROGRAM), *arguments]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=True
    )
    statuses = json.loads(done.stdout)
    assert set(statuses) <= {0, KILLED}, done.stderr
    return statuses


def results(folder):
    return {name: (folder / name).read_bytes() for name in COMPARED}


def check_same_end(folder, reference):
    assert results(folder) == results(reference)
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = load(folder / name), load(reference / name)
        assert weights(ours["model"]) == weights(theirs["model"])
        ours["state"].pop("seconds")
        theirs["state"].pop("seconds")
        assert ours["state"] == theirs["state"]
    assert not RunFolder(folder)._leftovers()


def weights(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.items()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill") / "uninterrupted"
    assert run([folder]) == [0]
    return folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, uninterrupted, moment):
    folder = tmp_path / "run"
    assert run([folder, "--kill", moment], [folder, "--resume"]) == [KILLED, 0]
    check_same_end(folder, uninterrupted)


@pytest.fixture(scope="module")
def uninterrupted_eagerly(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill") / "eagerly"
    assert run([folder, "--eager"]) == [0]
    return folder


@pytest.mark.parametrize("moment", INSIDE)
def test_so_does_one_killed_inside_a_step(tmp_path, uninterrupted_eagerly, moment):
    folder = tmp_path / "run"
    statuses = run([folder, "--eager", "--kill", moment], [folder, "--eager", "--resume"])
    assert statuses == [KILLED, 0]
    check_same_end(folder, uninterrupted_eagerly)


def test_checkpoints_do_not_change_the_numbers(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    assert run([folder, "--checkpoint-steps", 1000]) == [0]
    assert results(folder) == results(uninterrupted)


def test_a_run_survives_several_kills_one_of_them_while_resuming(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    kills = ["step:7", "rename:2", "any:60"]
    statuses = run(*([folder, "--resume", "--kill", kill] for kill in kills), [folder, "--resume"])
    assert statuses == [KILLED, KILLED, KILLED, 0]
    check_same_end(folder, uninterrupted)


def test_rows_are_whole_while_a_resumed_run_goes_on(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    assert run([folder, "--kill", "append:1"], [folder, "--resume", "--kill", "step:1"]) == [
        KILLED,
        KILLED,
    ]
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert rows == (uninterrupted / "metrics.csv").read_text().splitlines()[:3]


def test_the_best_epoch_of_this_program_is_not_the_last(uninterrupted):
    assert load(uninterrupted / "last.safetensors")["state"]["best_epoch"] == 2


def test_resuming_a_finished_run_changes_nothing(tmp_path, uninterrupted):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    (folder / "final.safetensors").unlink()
    assert run([folder, "--resume"]) == [0]
    check_same_end(folder, uninterrupted)


@pytest.mark.full
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_any_moment_will_do(tmp_path, optimizer):
    reference, options = tmp_path / "reference", ["--optimizer", optimizer]
    assert run([reference, *options]) == [0]
    moments = json.loads((reference / "moments.json").read_text())["any"]
    choose = random.Random(0)
    for number in sorted(choose.sample(range(1, moments), 15)):
        folder = tmp_path / f"{optimizer}-{number}"
        kill = [folder, *options, "--kill", f"any:{number}"]
        assert run(kill, [folder, *options, "--resume"]) == [KILLED, 0]
        check_same_end(folder, reference)


@pytest.mark.full
def test_a_kill_from_outside_at_any_time(tmp_path, uninterrupted):
    """Killed again and again after a random time, the run still ends, and ends the same."""
    folder, choose = tmp_path / "run", random.Random(1)
    command = [sys.executable, str(PROGRAM), str(folder), "--slow", "--resume"]
    for _ in range(10):
        process = subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True)
        try:
            process.wait(choose.uniform(0.5, 2.0))
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert run([folder, "--resume"]) == [0]
    check_same_end(folder, uninterrupted)
