"""Compiled training has the same bits however it runs, and the numbers of eager training."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.compiler.target import runnable
from tests.compiler.workloads import WORKLOADS, Training, assert_equal, trained

QUICK = [f"{name}-small" for name in WORKLOADS]
THREADS = (1, 2, 3, 7)
FUSING = [target.name for target in runnable() if target.fma]  # these round alike
RUNS = [("shared", 2, ""), ("shared", 3, ""), *(("shared", 2, name) for name in FUSING[1:])]


@pytest.fixture
def threads():
    """A function that sets their number for the rest of the test."""
    before = gg.get_num_threads()
    yield gg.set_num_threads
    gg.set_num_threads(before)


@pytest.fixture
def doubles():
    """Tensors are float64 unless they say otherwise."""
    before = gg.get_default_dtype()
    gg.set_default_dtype(gg.float64)
    yield
    gg.set_default_dtype(before)


def relative(losses, others):
    """The largest relative difference of two trainings' losses."""
    return float(np.max(np.abs(np.subtract(losses, others) / np.array(others))))


def check_threads(name, steps, threads):
    first = None
    for number in (*THREADS, THREADS[1]):
        threads(number)
        training = Training(name).run(steps)
        assert training.traces == 1
        first = first or training
        assert_equal(first, training)


def check_processes(tasks, folder, runs):
    """The same digests in processes of their own; those with the same cache share their code."""
    found = [
        trained(
            *tasks, GANGLION_CACHE=str(folder / cache), GANGLION_NUM_THREADS=str(threads),
            GANGLION_TARGET=target,
        )
        for cache, threads, target in runs
    ]  # fmt: skip
    assert all(any(folder.glob(f"{cache}/kernels/*.step")) for cache, _, _ in runs)
    assert all(digests == found[0] for digests in found)
    assert len(set(found[0].values())) == len(tasks)


@pytest.mark.parametrize("name", QUICK)
def test_any_number_of_threads_and_any_run_gives_the_same_bits(name, threads):
    check_threads(name, 5, threads)


def test_kept_code_and_other_vectors_give_the_same_bits(tmp_path):
    check_processes([f"{name}:3" for name in QUICK], tmp_path, RUNS)


@pytest.mark.full
@pytest.mark.parametrize("name", WORKLOADS)
def test_any_number_of_threads_gives_the_same_bits_for_long(name, threads):
    check_threads(name, 120, threads)


@pytest.mark.full
@pytest.mark.parametrize("name", WORKLOADS)
def test_kept_code_and_other_vectors_give_the_same_bits_for_long(name, tmp_path):
    alone = [(f"for {number}", number, "") for number in THREADS]
    check_processes([f"{name}:120"], tmp_path, [*alone, *RUNS, ("shared", 7, FUSING[-1])])


@pytest.mark.parametrize("name", ["mlp64", "cnn-small", "lstm-small", "gpt-small"])
def test_losses_follow_those_of_eager_training(name):
    compiled, eager = (Training(name, compiled=c).run(20) for c in (True, False))
    assert relative(compiled.losses, eager.losses) < 1e-5


@pytest.mark.parametrize("name", ["cnn-small", "resnet20-small"])
def test_losses_follow_those_of_eager_training_in_double_precision(name, doubles):
    compiled, eager = (Training(name, compiled=c).run(10) for c in (True, False))
    assert relative(compiled.losses, eager.losses) < 1e-13


@pytest.mark.full
@pytest.mark.parametrize("name", WORKLOADS)
def test_losses_follow_those_of_eager_training_for_the_whole_networks(name):
    """ResNet-20 at this learning rate doubles every rounding within a step or two."""
    steps, apart = (4, 1e-3) if name == "resnet20" else (20, 1e-4)
    compiled, eager = (Training(name, compiled=c).run(steps) for c in (True, False))
    assert relative(compiled.losses, eager.losses) < apart


@pytest.mark.full
@pytest.mark.parametrize("name", WORKLOADS)
def test_losses_follow_for_the_whole_networks_in_double_precision(name, doubles):
    compiled, eager = (Training(name, compiled=c).run(20) for c in (True, False))
    assert relative(compiled.losses, eager.losses) < 1e-12
