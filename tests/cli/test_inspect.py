"""A trained run is measured, used and described."""

import csv
import io
import json
import warnings

import numpy as np
import pytest

from ganglion.cli.app import run
from ganglion.cli.inspect import evaluate
from ganglion.data import sources
from tests.cli.tables import FLOWERS, HOUSES, flowers, houses, write_csv


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One run on flowers, one on houses, one on 4 x 4 images; trained once for all tests."""
    root = tmp_path_factory.mktemp("inspect")
    write_csv(root / "flowers.csv", FLOWERS, flowers(400, missing=0.05))
    write_csv(root / "houses.csv", HOUSES, houses(400))
    words = ["--epochs", "20", "--lr", "0.01", "--output", str(root / "runs")]
    assert run(["train", str(root / "flowers.csv"), "--target", "kind", *words]) == 0
    assert run(["train", str(root / "houses.csv"), "--target", "price", *words]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.SOURCES, "mnist", IMAGES)
        assert run(["train", "mnist", *words]) == 0
    return root


def images(train):
    random = np.random.default_rng(train)
    labels = random.integers(0, 3, 200)
    pixels = random.integers(0, 60, (200, 1, 4, 4), np.uint8)
    pixels[np.arange(200), :, labels] += 150
    return pixels, labels


IMAGES = sources.ImageSet(images, ("top", "middle", "low"))
FLOWER_RUN, HOUSE_RUN, IMAGE_RUN = (f"runs/{n}-mlp-1" for n in ("flowers", "houses", "mnist"))


@pytest.fixture
def gang(folder, gang, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sources.SOURCES, "mnist", IMAGES)
    return gang


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def record(path):
    return json.loads((path / "run.json").read_text(encoding="utf-8"))


# --- evaluate -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run_folder", "data"),
    [(FLOWER_RUN, "flowers.csv"), (HOUSE_RUN, "houses.csv"), (IMAGE_RUN, "mnist")],
)
def test_evaluate_equals_what_training_reported(gang, folder, run_folder, data):
    found = evaluate(folder / run_folder, str(folder / data) if "." in data else data)
    assert found == record(folder / run_folder)["test"]  # to the last bit
    code, out, _ = gang("evaluate", run_folder, data)
    assert code == 0
    assert out.startswith("test ")
    assert out.count("\n") == 1


def test_other_data_is_measured_as_a_whole(gang, tmp_path):
    path = write_csv(tmp_path / "new.csv", FLOWERS, flowers(123, seed=1))
    code, out, err = gang("evaluate", FLOWER_RUN, path)
    assert (code, err) == (0, "")
    assert out.startswith("new.csv accuracy ")
    assert "(123 samples)" in out


def test_an_unknown_class_is_refused(gang, tmp_path):
    path = write_csv(tmp_path / "new.csv", FLOWERS, [*flowers(9), [1, 2, "red", "tulip"]])
    code, out, err = gang("evaluate", FLOWER_RUN, path)
    assert (code, out) == (1, "")
    assert "new.csv, line 11, column 'kind' is 'tulip'; the model knows the classes" in err


def test_warnings_of_the_data_are_notes(gang, monkeypatch):
    def halved(train):
        warnings.warn("half of it is missing", stacklevel=1)
        return images(train)

    monkeypatch.setitem(sources.SOURCES, "mnist", sources.ImageSet(halved, IMAGES.class_names))
    for command in ("evaluate", "predict"):
        code, _, err = gang(command, IMAGE_RUN, "mnist")
        assert (code, err) == (0, "note: half of it is missing\n")


def test_labels_are_needed(gang, tmp_path):
    path = write_csv(tmp_path / "new.csv", FLOWERS[:3], [row[:3] for row in flowers(9)])
    assert gang("evaluate", FLOWER_RUN, path)[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/flower-mlp-1", "flowers.csv"], "the runs flowers-mlp-1"),
        (["runs", "flowers.csv"], "runs is not a run folder"),
        ([FLOWER_RUN, "missing.csv"], "'missing.csv' is neither a file nor"),
        ([FLOWER_RUN, "houses.csv"], "has no column 'kind'"),
        ([IMAGE_RUN, "iris"], "evaluate on the named set 'mnist'"),
    ],
)
def test_what_cannot_be_evaluated_is_explained(gang, words, message):
    code, out, err = gang("evaluate", *words)
    assert (code, out) == (1, "")
    assert message in err


# --- predict ------------------------------------------------------------------------------------


def test_predictions_of_classes(gang, tmp_path):
    known = flowers(50, seed=1)
    path = write_csv(tmp_path / "new.csv", FLOWERS[:3], [row[:3] for row in known])
    code, out, err = gang("predict", FLOWER_RUN, path)
    assert (code, err) == (0, "")
    found = rows(out)
    assert [*found[0]] == ["prediction", "p(aster)", "p(rose)"]
    right = sum(row["prediction"] == kind for row, (*_, kind) in zip(found, known, strict=True))
    assert right > 42
    for row in found:
        shares = {name: float(row[f"p({name})"]) for name in ("aster", "rose")}
        assert sum(shares.values()) == pytest.approx(1, abs=2e-6)
        assert row["prediction"] == max(shares, key=shares.get)


def test_predictions_of_numbers_have_the_targets_unit(gang, tmp_path):
    known = houses(50, seed=1)
    path = write_csv(tmp_path / "new.csv", HOUSES, known)
    found = [float(row["prediction"]) for row in rows(gang("predict", HOUSE_RUN, path)[1])]
    errors = [abs(guess - price) for guess, (*_, price) in zip(found, known, strict=True)]
    assert np.mean(errors) < 20_000


def test_predictions_agree_with_what_training_reported(gang, folder):
    """Of the rows of the test part, as many are right as the reported accuracy says."""
    saved = record(folder / IMAGE_RUN)
    found = rows(gang("predict", IMAGE_RUN, "mnist")[1])
    names = [IMAGES.class_names[label] for label in images(False)[1]]
    right = [row["prediction"] == name for row, name in zip(found, names, strict=True)]
    assert np.mean(right) == saved["test"]["accuracy"]


def test_predictions_of_a_file_of_images(gang, tmp_path):
    pixels, labels = images(False)
    np.save(tmp_path / "new.npy", pixels[:30])
    found = rows(gang("predict", IMAGE_RUN, tmp_path / "new.npy")[1])
    right = [IMAGES.class_names[label] for label in labels[:30]]
    assert [row["prediction"] for row in found] == right


def test_output_is_what_would_be_printed(gang, tmp_path):
    printed = gang("predict", FLOWER_RUN, "flowers.csv")[1]
    target = tmp_path / "out.csv"
    target.write_text("old")
    code, out, _ = gang("predict", FLOWER_RUN, "flowers.csv", "--output", target)
    assert (code, out) == (0, f"400 predictions in {target}\n")
    assert target.read_text(encoding="utf-8") == printed
    assert [*tmp_path.iterdir()] == [target]


def test_unknown_categories_and_missing_values_are_noted(gang, tmp_path):
    path = write_csv(
        tmp_path / "new.csv",
        FLOWERS[:3],
        [[1, 2, "green"], ["", 2, "red"], [1, "NA", "purple"], [1, 2, "red"]],
    )
    code, out, err = gang("predict", FLOWER_RUN, path)
    assert code == 0
    assert len(rows(out)) == 4
    assert "note: column 'colour' has 2 cells of categories unknown in training" in err
    assert "note: column 'length' has 1 missing cells, which were filled" in err
    assert "note: column 'width' has 1 missing cells, which were filled" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([FLOWER_RUN, "houses.csv"], "lacks 3 of the 3 columns the model was trained on"),
        ([IMAGE_RUN, "flowers.csv"], "flowers.csv holds no images"),
        ([FLOWER_RUN, "no.csv"], "'no.csv' is neither a file nor"),
        ([FLOWER_RUN, "flowers.csv", "--output", "no/such/out.csv"], "no folder no/such"),
    ],
)
def test_what_cannot_be_predicted_is_explained(gang, words, message):
    code, out, err = gang("predict", *words)
    assert (code, out) == (1, "")
    assert message in err


def test_a_cell_that_is_no_number_is_named(gang, tmp_path):
    path = write_csv(tmp_path / "new.csv", FLOWERS[:3], [[1, 2, "red"], ["tall", 2, "red"]])
    target = tmp_path / "out.csv"
    code, _, err = gang("predict", FLOWER_RUN, path, "--output", target)
    assert code == 1
    assert "Column 'length'" in err
    assert "'tall' in line 3" in err
    assert not target.exists()


# --- summary ------------------------------------------------------------------------------------


def test_summary_of_a_run(gang):
    code, out, err = gang("summary", IMAGE_RUN)
    assert (code, err) == (0, "")
    assert "(1, 1, 4, 4)" in out
    assert f"parameters        {16 * 128 + 128 + 128 * 3 + 3:,}" in out


def test_a_run_of_another_program_is_refused(gang, tmp_path):
    (tmp_path / "config.toml").write_text("[trainer]\nseed = 0\n")
    (tmp_path / "run.json").write_text("{}")
    code, _, err = gang("summary", tmp_path)
    assert code == 1
    assert "not that of `ganglion train`: it has unknown keys trainer" in err


def test_a_damaged_record_is_named(gang, folder, tmp_path):
    config = (folder / IMAGE_RUN / "config.toml").read_text(encoding="utf-8")
    (tmp_path / "config.toml").write_text(config, encoding="utf-8")
    (tmp_path / "run.json").write_text("{")
    assert "run.json is no JSON" in gang("summary", tmp_path)[2]
    (tmp_path / "run.json").write_text('{"task": "classification", "outputs": 3}')
    assert "run.json lacks feature_shape, data_hash, preprocessing" in gang("summary", tmp_path)[2]


def test_a_run_without_weights_says_so(gang, folder, tmp_path):
    for name in ("config.toml", "run.json"):
        (tmp_path / name).write_bytes((folder / IMAGE_RUN / name).read_bytes())
    code, _, err = gang("evaluate", tmp_path, "mnist")
    assert code == 1
    assert "no epoch was finished. Resume the run first" in err


def test_a_damaged_checkpoint_is_named(gang, folder, tmp_path):
    for name in ("config.toml", "run.json", "best.safetensors"):
        (tmp_path / name).write_bytes((folder / IMAGE_RUN / name).read_bytes())
    with (tmp_path / "best.safetensors").open("r+b") as file:
        file.seek(-9, 2)
        file.write(b"damaged!!")
    code, out, err = gang("predict", tmp_path, "mnist")
    assert (code, out) == (1, "")
    assert "best.safetensors is damaged" in err
