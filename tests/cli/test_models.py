"""Every kind of network is trained, resumed, measured, used and described alike."""

import csv
import io
import json

import numpy as np
import pytest

from ganglion.data import sources
from ganglion.serialize import load

CLASSES = ("top", "middle", "low")


def images(train):
    """8 x 8 images of two channels, with a bright stripe that tells the class."""
    random = np.random.default_rng(train)
    labels = random.integers(0, 3, 200)
    pixels = random.integers(0, 60, (200, 2, 8, 8), np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[:, 1 + 2 * label : 3 + 2 * label] += 150
    return pixels, labels


@pytest.fixture
def gang(gang, monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "mnist", sources.ImageSet(images, CLASSES))
    return gang


def test_a_cnn_from_training_to_predictions(gang, tmp_path):
    words = ["--model", "cnn", "--hidden", 16, "--epochs", 3, "--lr", 0.01, "--dropout", 0.1]
    code, out, err = gang("train", "mnist", *words)
    assert (code, err) == (0, "")
    assert "cnn with " in out
    run = "runs/mnist-cnn-1"
    record = json.loads((tmp_path / run / "run.json").read_text(encoding="utf-8"))
    assert record["test"]["accuracy"] > 0.9
    assert gang("evaluate", run, "mnist")[1].splitlines() == [out.splitlines()[-2]]
    found = list(csv.DictReader(io.StringIO(gang("predict", run, "mnist")[1])))
    right = [
        row["prediction"] == CLASSES[i] for row, i in zip(found, images(False)[1], strict=True)
    ]
    assert np.mean(right) == record["test"]["accuracy"]
    shown = gang("summary", run)[1]
    assert "Conv2d" in shown
    assert "(1, 64, 2, 2)" in shown


def test_the_same_seed_makes_the_same_cnn(gang, tmp_path):
    found = []
    for i in (1, 2):
        assert gang("train", "mnist", "--model", "cnn", "--hidden", 8, "--epochs", 1)[0] == 0
        found.append(load(tmp_path / f"runs/mnist-cnn-{i}" / "best.safetensors"))
    assert found[0].keys() == found[1].keys()
    weights = [run["model"] for run in found]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_a_cnn_needs_images(gang, tmp_path, flowers_csv):
    code, out, err = gang("train", flowers_csv, "--target", "kind", "--model", "cnn")
    assert (code, out) == (1, "")
    assert "a cnn takes images" in err
    assert not (tmp_path / "runs").exists()
