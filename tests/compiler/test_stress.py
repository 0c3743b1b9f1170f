"""Compiled training in trouble, in processes of its own: see `stress` for what is done."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.compiler.workloads import python

QUICK = (
    ("forks", "cnn-small"), ("threads", "mlp64"), ("sharing", "mlp64"), ("interrupts", "mlp64"),
    ("first_interrupts", "mlp64"), ("exit_while_training", "mlp64"), ("one_core", "lstm-small"),
)  # fmt: skip
LONG = tuple((trouble, f"{name}-small") for trouble, _ in QUICK for name in ("cnn", "lstm", "gpt"))
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check(trouble, name, seconds):
    """Run a program of `stress` with more threads than cores."""
    threads = str(CORES + 1)
    done = python(
        "-m", "tests.compiler.stress", trouble, name, str(seconds), timeout=120 + 10 * seconds,
        GANGLION_NUM_THREADS=threads, OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def busy_neighbours():
    """On each core a process that never rests."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(CORES)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.parametrize(("trouble", "name"), QUICK)
def test_trouble(trouble, name):
    printed = check(trouble, name, 0.5)
    assert printed == ("followed\n" if trouble == "exit_while_training" else "")


def test_busy_neighbours_only_slow_it_down():
    with busy_neighbours():
        check("peace", "mlp64", 0.5)


@pytest.mark.full
@pytest.mark.parametrize(("trouble", "name"), LONG)
def test_trouble_for_long(trouble, name):
    check(trouble, name, 10)


@pytest.mark.full
@pytest.mark.parametrize("trouble", ["peace", "forks", "threads", "interrupts"])
@pytest.mark.parametrize("name", ["mlp64", "cnn-small"])
def test_trouble_with_busy_neighbours(trouble, name):
    with busy_neighbours():
        check(trouble, name, 10)
