"""BLAS threads follow the size of a product, and the setting."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import ganglion as gg
from ganglion import blas
from ganglion.errors import ArgumentError


def threads():
    """Of NumPy's BLAS; PyTorch may have loaded another one."""
    blas = [found for found in threadpool_info() if found["user_api"] == "blas"]
    return {found["num_threads"] for found in blas if "numpy" in found["filepath"]}


@pytest.fixture(autouse=True)
def _two_threads():
    before = gg.get_num_threads()
    gg.set_num_threads(2)
    yield
    gg.set_num_threads(before)


def product(n):
    x = np.ones((n, n), np.float32)
    return blas.matmul(x, x)


def test_small_products_run_on_one_thread_and_large_ones_on_all():
    product(8)
    assert threads() == {1}
    product(512)
    assert threads() == {2}
    product(8)
    assert threads() == {1}


def test_the_setting_takes_effect_at_the_next_product():
    product(512)
    gg.set_num_threads(1)
    assert gg.get_num_threads() == 1
    product(512)
    assert threads() == {1}


def test_a_batch_counts_by_its_matrices():
    x = np.ones((64, 64, 64), np.float32)
    np.testing.assert_array_equal(blas.matmul(x, x), np.full_like(x, 64))
    assert threads() == {1}


@pytest.mark.parametrize("count", [0, -1, 1.5, "2"])
def test_a_thread_count_is_a_positive_integer(count):
    with pytest.raises(ArgumentError, match="positive integer"):
        gg.set_num_threads(count)


@pytest.mark.parametrize("variable", ["GANGLION_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_the_environment_limits_them(variable):
    code = "import ganglion; print(ganglion.get_num_threads())"
    environment = os.environ | {variable: "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
