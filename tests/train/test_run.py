"""The run folder: created once, complete, and clear about what is missing."""

import json

import pytest

import ganglion as gg
from ganglion.errors import ArgumentError, ArgumentTypeError, CheckpointError, NotFoundError
from ganglion.serialize import save
from ganglion.train import RunFolder

CONFIG = {"data": "digits", "model": {"hidden": [128, 64], "dropout": 0.1}}


def names(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_runs_are_numbered_and_never_overwritten(tmp_path):
    made = [RunFolder.create(tmp_path / "runs", "digits-mlp", CONFIG) for _ in range(3)]
    assert [run.path.name for run in made] == ["digits-mlp-1", "digits-mlp-2", "digits-mlp-3"]
    (tmp_path / "runs" / "digits-mlp-2" / "run.json").write_text("mine")
    (tmp_path / "runs" / "digits-mlp-4").touch()
    assert RunFolder.create(tmp_path / "runs", "digits-mlp", CONFIG).path.name == "digits-mlp-5"
    assert (made[1].path / "run.json").read_text() == "mine"


def test_a_new_run_has_its_config_and_record(tmp_path):
    run = RunFolder.create(tmp_path, "a", CONFIG, {"seed": 3})
    assert names(run) == ["config.toml", "run.json"]
    found = RunFolder.open(run.path)
    assert found.config() == CONFIG
    assert found.record() == {"seed": 3}


def test_facts_are_added_to_the_record(tmp_path):
    run = RunFolder.create(tmp_path, "a", {}, {"seed": 3, "name": "é"})
    run.update_record(test={"accuracy": 0.5}, seed=4)
    assert run.record() == {"seed": 4, "name": "é", "test": {"accuracy": 0.5}}


@pytest.mark.parametrize("name", ["", "a/b", "..", "/tmp/x"])
def test_a_name_is_one_folder(tmp_path, name):
    with pytest.raises(ArgumentError, match="one folder"):
        RunFolder.create(tmp_path, name, {})


def test_opening_what_is_no_run_says_what_is_missing(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(NotFoundError, match=r"config\.toml and run\.json are missing"):
        RunFolder.open(tmp_path / "photos")
    run = RunFolder.create(tmp_path, "digits-mlp", {})
    (run.path / "run.json").unlink()
    with pytest.raises(NotFoundError, match=r"run\.json is missing"):
        RunFolder.open(run.path)


def test_opening_a_folder_that_is_not_there_names_its_neighbours(tmp_path):
    RunFolder.create(tmp_path, "digits-mlp", {})
    with pytest.raises(NotFoundError, match=r"there are the runs digits-mlp-1\."):
        RunFolder.open(tmp_path / "digit-mlp-1")
    with pytest.raises(NotFoundError, match="there is no run folder"):
        RunFolder.open(tmp_path / "nowhere" / "run")


def test_at_makes_a_run_opens_it_again_and_spares_other_folders(tmp_path):
    run = RunFolder.at(tmp_path / "deep" / "run", CONFIG)
    assert RunFolder.at(run.path, {"other": 1}).config() == CONFIG
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(ArgumentError, match="no run folder and not empty"):
        RunFolder.at(tmp_path / "photos", {})
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.png"]


def test_at_completes_a_run_whose_making_was_killed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text("old = 1")
    (tmp_path / "run" / ".run.json.77.tmp").write_text("{")
    run = RunFolder.at(tmp_path / "run", CONFIG)
    assert run.config() == CONFIG
    run.tidy()
    assert names(run) == ["config.toml", "run.json"]


def test_weights_are_the_model_of_a_checkpoint(tmp_path):
    run = RunFolder.create(tmp_path, "a", {})
    with pytest.raises(NotFoundError, match=r"no best\.safetensors yet"):
        run.weights()
    save({"model": {"w": gg.ones(2)}, "state": {}}, run.best)
    save({"model": {"w": gg.zeros(2)}, "state": {}}, run.last)
    assert run.weights()["w"].tolist() == [1, 1]
    assert run.weights("last")["w"].tolist() == [0, 0]


def test_weights_of_another_file_are_refused(tmp_path):
    run = RunFolder.create(tmp_path, "a", {})
    save([1, 2], run.best)
    with pytest.raises(CheckpointError, match=r"best\.safetensors is no checkpoint"):
        run.weights()


def test_damaged_texts_are_named(tmp_path):
    run = RunFolder.create(tmp_path, "a", {})
    (run.path / "config.toml").write_text("a = = 1")
    (run.path / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.toml is no TOML"):
        run.config()
    with pytest.raises(CheckpointError, match=r"run\.json is no JSON"):
        run.record()


def test_a_config_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ArgumentTypeError, match=r"model\.layer is a set"):
        RunFolder.create(tmp_path, "a", {"model": {"layer": {1}}})
    assert not any(tmp_path.iterdir())


# --- metrics.csv --------------------------------------------------------------------------------


def test_metrics_can_be_read_back_exactly(tmp_path):
    run = RunFolder.create(tmp_path, "a", {})
    history = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": float("nan")}]
    run.write_metrics(history)
    assert run.metrics.read_text() == "epoch,loss\n1,0.30000000000000004\n2,nan\n"


def test_rows_added_one_by_one_make_the_same_file(tmp_path):
    run = RunFolder.create(tmp_path, "a", {})
    history = [{"epoch": i, "loss": 1 / i} for i in range(1, 5)]
    for count in range(1, 5):
        run.append_metrics(history[:count])
    added = run.metrics.read_bytes()
    run.write_metrics(history)
    assert run.metrics.read_bytes() == added


def test_new_columns_change_the_header(tmp_path):
    run = RunFolder.create(tmp_path, "a", {})
    history = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4, "valid_loss": 0.6}]
    run.append_metrics(history[:1])
    run.append_metrics(history)
    assert run.metrics.read_text() == "epoch,loss,valid_loss\n1,0.5,\n2,0.4,0.6\n"


def test_the_record_is_readable_by_anything(tmp_path):
    run = RunFolder.create(tmp_path, "a", {}, {"command": ["train", "--lr", "0.1"]})
    assert json.loads((run.path / "run.json").read_text())["command"] == ["train", "--lr", "0.1"]
