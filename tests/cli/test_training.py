"""`train` leaves a run folder with everything in it, or nothing at all."""

import csv
import json
import tomllib

import numpy as np
import pytest

from ganglion.data import sources
from ganglion.errors import MissingExtraError
from ganglion.serialize import load
from tests.cli.tables import write_csv

FILES = {"config.toml", "run.json", "metrics.csv", "best.safetensors", "last.safetensors"}


def contents(folder):
    return {path.name for path in folder.iterdir()}


def record(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def metrics(folder):
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pictures(count, channels, size, train):
    """Images whose class is the brightest of four corners."""
    random = np.random.default_rng(count + train)
    labels = random.integers(0, 4, count)
    images = random.integers(0, 100, (count, channels, size, size), np.uint8)
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        top, left = half * (label // 2), half * (label % 2)
        image[:, top : top + half, left : left + half] += 120
    return images, labels.astype(np.int64)


def loader(channels, size):
    return lambda train: pictures(300 if train else 100, channels, size, train)


def test_a_csv_of_classes(gang, tmp_path, flowers_csv):
    code, out, err = gang("train", flowers_csv, "--target", "kind", "--epochs", 40, "--lr", 0.01)
    assert (code, err) == (0, "")
    folder = tmp_path / "runs" / "flowers-mlp-1"
    assert contents(folder) == FILES
    assert record(folder)["test"]["accuracy"] > 0.85
    assert record(folder)["samples"] == {"train": 280, "valid": 40, "test": 80}
    assert out.splitlines()[-2].startswith("test accuracy ")
    assert out.splitlines()[-1] == "weights and metrics are in runs/flowers-mlp-1"
    assert [int(row["epoch"]) for row in metrics(folder)] == [*range(1, len(metrics(folder)) + 1)]


def test_a_csv_of_numbers(gang, tmp_path, houses_csv):
    code, out, _ = gang("train", houses_csv, "--target", "price", "--epochs", 60, "--lr", 0.01)
    assert code == 0
    found = record(tmp_path / "runs" / "houses-mlp-1")["test"]
    assert found["r2"] > 0.97
    assert 3_000 < found["mae"] < found["rmse"] < 20_000  # in the unit of the prices
    assert f"rmse {found['rmse']:,.0f}" in out


def test_a_task_can_be_asked_for(gang, tmp_path, houses_csv):
    words = ["--target", "rooms", "--task", "regression", "--epochs", 1]
    assert gang("train", houses_csv, *words)[0] == 0
    assert record(tmp_path / "runs" / "houses-mlp-1")["task"] == "regression"
    assert gang("train", houses_csv, "--target", "rooms", "--epochs", 1)[0] == 0
    assert record(tmp_path / "runs" / "houses-mlp-2")["task"] == "classification"


@pytest.mark.parametrize(
    ("name", "channels", "size"), [("mnist", 1, 28), ("fashion-mnist", 1, 28), ("cifar10", 3, 32)]
)
def test_a_named_set_of_images(gang, tmp_path, monkeypatch, name, channels, size):
    small = sources.ImageSet(loader(channels, size), ("a", "b", "c", "d"))
    monkeypatch.setitem(sources.SOURCES, name, small)
    code, out, _ = gang("train", name, "--hidden", 16, "--epochs", 5)
    assert code == 0
    assert f"270 train, 30 valid, 100 test samples of ({channels}, {size}, {size})" in out
    assert record(tmp_path / "runs" / f"{name}-mlp-1")["test"]["accuracy"] > 0.9
    reported = out.splitlines()[-2]
    assert gang("evaluate", f"runs/{name}-mlp-1", name)[1].splitlines() == [reported]


@pytest.mark.parametrize("name", ["iris", "digits"])
def test_a_set_of_scikit_learn(gang, tmp_path, name):
    pytest.importorskip("sklearn")
    code, out, _ = gang("train", name, "--hidden", "16,8", "--epochs", 3)
    assert code == 0
    assert f"{name}: classification; " in out
    assert contents(tmp_path / "runs" / f"{name}-mlp-1") == FILES


def test_options_arrive_where_they_belong(gang, tmp_path, flowers_csv):
    options = {
        "--hidden": "12,6", "--activation": "gelu", "--dropout": "0.5", "--epochs": "2",
        "--batch-size": "50", "--optimizer": "sgd", "--lr": "0.02", "--weight-decay": "0.003",
        "--schedule": "constant", "--seed": "5", "--output": "else", "--name": "mine",
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    code, out, _ = gang("train", flowers_csv, "--target", "kind", *words)
    assert code == 0
    folder = tmp_path / "else" / "mine-1"
    assert "in else/mine-1" in out
    config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    assert config["data"] == str(flowers_csv)
    assert (config["hidden"], config["seed"]) == ([12, 6], 5)
    saved = load(folder / "last.safetensors")
    group = saved["optimizer"]["param_groups"][0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.02, 0.9, 0.003)
    assert saved["scheduler"] is None
    assert saved["state"]["step"] == 2 * 6  # 280 samples
    assert saved["model"]["0.weight"].shape == (12, 8)  # 2 numbers, 3 colours, 3 times missing
    assert saved["model"]["3.weight"].shape == (6, 12)
    assert "GELU(" in saved["identity"]["model"]
    assert "Dropout(p=0.5" in saved["identity"]["model"]


def test_the_cosine_schedule_ends_at_zero(gang, tmp_path, flowers_csv):
    assert gang("train", flowers_csv, "--target", "kind", "--epochs", 3, "--lr", 0.1)[0] == 0
    rates = [float(row["lr"]) for row in metrics(tmp_path / "runs" / "flowers-mlp-1")]
    assert rates == pytest.approx([0.075, 0.025, 0], abs=1e-9)


def test_patience_stops_and_the_best_epoch_is_kept(gang, tmp_path, flowers_csv):
    words = ["--lr", 0.1, "--epochs", 100, "--patience", 3, "--hidden", 64]
    code, out, _ = gang("train", flowers_csv, "--target", "kind", *words)
    assert code == 0
    assert "Stopped early" in out
    folder = tmp_path / "runs" / "flowers-mlp-1"
    losses = [float(row["valid_loss"]) for row in metrics(folder)]
    assert len(losses) < 100
    assert losses[-4] == min(losses)
    assert load(folder / "best.safetensors")["state"]["best_epoch"] == len(losses) - 3


def test_no_patience_goes_on_to_the_end(gang, tmp_path, flowers_csv):
    words = ["--lr", 0.1, "--epochs", 30, "--patience", 0, "--hidden", 64]
    assert gang("train", flowers_csv, "--target", "kind", *words)[0] == 0
    assert len(metrics(tmp_path / "runs" / "flowers-mlp-1")) == 30


def test_a_seed_decides_everything(gang, tmp_path, flowers_csv):
    for seed in (1, 1, 2):
        words = ["--epochs", 2, "--seed", seed, "--dropout", 0.2]
        assert gang("train", flowers_csv, "--target", "kind", *words)[0] == 0
    first, again, other = (
        load(tmp_path / "runs" / f"flowers-mlp-{i}" / "last.safetensors")["model"]["0.weight"]
        for i in (1, 2, 3)
    )
    assert (first == again).all()
    assert not (first == other).any()


def test_columns_left_out_are_named(gang, tmp_path):
    rows = [["same", i % 7, i % 2] for i in range(60)]
    path = write_csv(tmp_path / "t.csv", ["constant", "seven", "odd"], rows)
    _, _, err = gang("train", path, "--target", "odd", "--epochs", 1)
    assert err.startswith("note: Columns left out: 'constant'")


FIFTY = [f"{i},{i % 2}" for i in range(50)]


@pytest.mark.parametrize(
    ("table", "words", "message"),
    [
        (["a,b,y", "1,2"], ["--target", "y"], "line 2 has 2 cells; the header has 3"),
        (["a,b,y"], ["--target", "y"], "has column names but no rows"),
        ([], ["--target", "y"], "is empty"),
        (["a,y", *["1,2"] * 50], ["--target", "y"], "is '2' in every row"),
        (["a,y", "1,2", "2,3", "3,4"], ["--target", "y"], "cannot be split into 3 parts"),
        (["a,y", *FIFTY], [], "Which column"),
        (["a,y", *FIFTY], ["--target", "z"], "no column 'z'"),
        (["a,y", *[f"{i},x{i % 2}" for i in range(50)]],
         ["--target", "y", "--task", "regression"], "'x0'"),
    ],
)  # fmt: skip
def test_a_bad_table_leaves_no_run(gang, tmp_path, table, words, message):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(table), encoding="utf-8")
    code, out, err = gang("train", path, *words)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1
    assert contents(tmp_path) == {"t.csv"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.csv"], "'no.csv' is neither a file nor one of the data sets"),
        (["fashion_mnist"], "Did you mean 'fashion-mnist'?"),
        (["digits", "--target", "x"], "'digits' has its own target"),
    ],
)
def test_bad_data_leaves_no_run(gang, tmp_path, words, message):
    code, out, err = gang("train", *words)
    assert (code, out) == (1, "")
    assert message in err
    assert contents(tmp_path) == set()


def test_too_large_a_network_leaves_no_run(gang, tmp_path, flowers_csv):
    code, _, err = gang("train", flowers_csv, "--target", "kind", "--hidden", 10**13)
    assert code == 1
    assert err.startswith("Error: out of memory")
    assert contents(tmp_path) == {"flowers.csv"}


def test_a_name_that_is_a_path_is_refused(gang, tmp_path, flowers_csv):
    code, _, err = gang("train", flowers_csv, "--target", "kind", "--name", "a/b")
    assert code == 1
    assert "name must be that of one folder, got 'a/b'" in err
    assert contents(tmp_path) == {"flowers.csv"}


def test_a_loss_that_explodes_is_explained(gang, tmp_path, houses_csv):
    words = ["--optimizer", "sgd", "--lr", 1e30, "--schedule", "constant", "--epochs", 5]
    code, _, err = gang("train", houses_csv, "--target", "price", *words)
    assert code == 1
    assert err.startswith("Error: The loss is ")
    assert "lower the learning rate" in err
    assert record(tmp_path / "runs" / "houses-mlp-1")["outcome"] == "failed"


def test_a_missing_package_is_named(gang, tmp_path, monkeypatch):
    def gone(module, extra):
        raise MissingExtraError(f"run: pip install 'ganglion[{extra}]'")

    monkeypatch.setattr(sources, "optional", gone)
    assert gang("train", "iris") == (1, "", "Error: run: pip install 'ganglion[data]'\n")
    assert contents(tmp_path) == set()
