"""Ctrl-C: noted once, raised the second time, left alone where it is not ours."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from ganglion.serialize import load
from ganglion.train.interrupt import CtrlC
from tests.train.program import data, trainer
from tests.train.test_kill import ENVIRONMENT, PROGRAM, results, run


def test_the_first_press_is_noted_and_the_second_raises(capfd):
    with CtrlC() as watch:
        signal.raise_signal(signal.SIGINT)
        assert watch.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert "Ctrl-C again stops at once" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_program_stays():
    presses = []
    before = signal.signal(signal.SIGINT, lambda *args: presses.append(1))
    try:
        with CtrlC() as watch:
            signal.raise_signal(signal.SIGINT)
            assert not watch.requested
    finally:
        signal.signal(signal.SIGINT, before)
    assert presses == [1]


def test_training_works_in_a_thread():
    work = trainer()
    thread = threading.Thread(target=lambda: work.fit(data(), epochs=1, batch_size=8))
    thread.start()
    thread.join()
    assert len(work.history) == 1


def test_ctrl_c_in_another_process_is_resumed_to_the_same_bits(tmp_path):
    folder, whole = tmp_path / "run", tmp_path / "whole"
    assert run([folder, "--interrupt-at", 9], [whole]) == [0, 0]
    assert load(folder / "last.safetensors")["state"]["step"] == 9
    assert not (folder / "final.safetensors").exists()
    assert run([folder, "--resume"]) == [0]
    assert results(folder) == results(whole)


def test_ctrl_c_from_outside(tmp_path):
    """As a terminal sends it, at a moment that training does not know in advance."""
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), "--slow"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (folder / "last.safetensors").exists():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Interrupted in epoch" in errors
    assert "resume=True" in errors
