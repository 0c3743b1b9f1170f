import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "docs" / "from_scratch.py"


def load():
    spec = importlib.util.spec_from_file_location("from_scratch", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page = load()


@pytest.fixture
def problem():
    """A small network, data for it, and its loss as a function of its parameters."""
    rng = np.random.default_rng(1)
    model = page.MLP(5, 7, 6, 4, rng=rng)
    x, y = rng.normal(size=(12, 5)), rng.integers(0, 4, size=12)
    return model, lambda: page.cross_entropy(model(page.Tensor(x)), y)


def test_gradients_equal_measured_slopes(problem):
    model, loss = problem
    for seed in range(5):
        rng = np.random.default_rng(seed)
        assert page.gradient_error(loss, model.parameters, rng) < 1e-7


def test_the_gradient_check_fails_on_a_wrong_rule(problem, monkeypatch):
    model, loss = problem

    def wrong_relu(self):
        return page.Tensor(np.maximum(self.data, 0), (self,), lambda g: (g,))

    monkeypatch.setattr(page.Tensor, "relu", wrong_relu)
    assert page.gradient_error(loss, model.parameters, np.random.default_rng(0)) > 1e-2


def test_the_loss_survives_huge_logits():
    logits = page.Tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]])
    loss = page.cross_entropy(logits, np.array([0, 1]))
    np.testing.assert_allclose(loss.data, np.log(3) / 2)


def test_long_histories_do_not_recurse():
    x = page.Tensor(1.0)
    y = x
    for _ in range(5000):
        y = y + x
    y.backward()
    assert x.grad == 5001


@pytest.mark.parametrize("optimizer", [page.SGD, page.Adam])
def test_it_learns_iris(optimizer):
    pytest.importorskip("sklearn")
    on_seen, on_unseen = page.learn_iris(optimizer)
    assert on_seen > 0.95
    assert on_unseen > 0.93


def test_it_reads_iris_from_a_folder(data_root, monkeypatch):
    monkeypatch.setenv("GANGLION_DATA", str(data_root))
    x, y = page.load_iris()
    assert x.shape == (150, 4)
    assert np.bincount(y).tolist() == [50, 50, 50]


def test_the_script_prints_both_accuracies():
    pytest.importorskip("sklearn")
    done = subprocess.run([sys.executable, PATH], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["SGD", "Adam"]
    assert all("train accuracy 0.9" in line and "test accuracy 0.9" in line for line in lines)


def test_the_page_stays_short():
    assert len(PATH.read_text(encoding="utf-8").splitlines()) < 200
