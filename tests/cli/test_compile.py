"""``--compile`` and ``--no-compile``."""

import json
import tomllib

import pytest

from ganglion.config import COMPILE


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    monkeypatch.setenv("GANGLION_COMPILER", "interpret")


def train(gang, tmp_path, table, name, *words):
    code, _, err = gang(
        "train", table, "--target", "kind", "--epochs", 2, "--name", name, *words
    )  # fmt: skip
    assert code == 0, err
    folder = tmp_path / "runs" / f"{name}-1"
    return tomllib.loads((folder / "config.toml").read_text()), json.loads(
        (folder / "run.json").read_text()
    )


def test_both_give_the_same_result_and_say_which_it_was(gang, tmp_path, flowers_csv):
    config, with_it = train(gang, tmp_path, flowers_csv, "with", "--compile")
    assert config["compile"] is True
    assert with_it["compile"] == "interpret"
    config, without = train(gang, tmp_path, flowers_csv, "without", "--no-compile")
    assert config["compile"] is False
    assert without["compile"] == "off"
    assert with_it["test"] == without["test"]  # the interpreter has the bits of eager execution


def test_one_of_them_is_the_default(gang, tmp_path, flowers_csv):
    config, _ = train(gang, tmp_path, flowers_csv, "run")
    assert config["compile"] is COMPILE


def test_evaluation_repeats_what_training_reported(gang, tmp_path, flowers_csv):
    _, record = train(gang, tmp_path, flowers_csv, "run", "--compile")
    code, out, _ = gang("evaluate", "runs/run-1", flowers_csv)
    assert code == 0
    assert f"{record['test']['accuracy']:.1%}".rstrip("%") in out
