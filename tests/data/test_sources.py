import json

import numpy as np
import pytest

from ganglion.data import SOURCES, load_source
from ganglion.data.sources import ImageSet, load_parts
from ganglion.errors import ArgumentError, DataError, NotFoundError


@pytest.fixture
def toy(monkeypatch):
    """A named image set with an official test part, in memory."""
    rng = np.random.default_rng(0)

    def load(train):
        count = 400 if train else 50
        return rng.integers(0, 256, (count, 2, 3, 4), dtype=np.uint8), np.arange(count) % 5

    parts = {True: load(True), False: load(False)}
    record = ImageSet(parts.__getitem__, tuple("abcde"))
    monkeypatch.setitem(SOURCES, "toy", record)
    return record


@pytest.fixture
def houses(tmp_path):
    """A CSV file for regression: price = 3 size + noise, with holes."""
    rng = np.random.default_rng(0)
    size = rng.uniform(50, 200, 200)
    town = rng.choice(["Ulm", "Bonn", ""], 200)
    lines = ["size,town,price,constant"]
    for i in range(200):
        price = "" if i in {3, 7} else f"{3 * size[i] + rng.normal():.3f}"
        lines.append(f"{size[i]:.2f},{town[i]},{price},1")
    path = tmp_path / "houses.csv"
    path.write_text("\n".join(lines))
    return path


def test_an_official_test_part_is_kept(toy):
    source = load_source("toy", seed=1)
    assert [len(part) for part in (source.train, source.valid, source.test)] == [360, 40, 50]
    assert source.test.y.tolist() == toy.load(False)[1].tolist()
    assert source.feature_shape == (2, 3, 4)
    assert source.class_names == tuple("abcde")
    assert source.num_outputs == 5
    assert source.task == "classification"
    assert np.bincount(source.valid.y).tolist() == [8] * 5


def test_images_are_standardised_by_the_training_part(toy):
    source = load_source("toy")
    x = source.train.x.astype(np.float64)
    assert source.train.x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=(0, 2, 3)), 1, atol=1e-6)
    raw, _ = load_parts(toy, 0)
    mean, std = (np.array(source.preprocessing[key])[:, None, None] for key in ("mean", "std"))
    np.testing.assert_allclose(source.test.x, (raw["test"][0] - mean) / std, atol=1e-5)


def test_the_seed_decides_the_validation_part_alone(toy):
    first, again, other = (load_source("toy", seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.valid.x, again.valid.x)
    assert not np.array_equal(first.valid.x, other.valid.x)
    assert first.data_hash == other.data_hash
    assert len(first.data_hash) == 64


def test_the_hash_changes_with_one_pixel(monkeypatch, toy):
    before = load_source("toy").data_hash
    toy.load(False)[0][0, 0, 0, 0] ^= 1
    assert load_source("toy").data_hash != before


def test_a_regression_table(houses):
    source = load_source(houses, target="price")
    assert source.task == "regression"
    assert source.num_outputs == 1
    assert source.class_names == ()
    assert source.feature_names == ("size", "town=missing", "town=Bonn", "town=Ulm")
    assert source.feature_shape == (4,)
    sizes = [len(part) for part in (source.train, source.valid, source.test)]
    assert sum(sizes) == 198
    assert sizes[0] == 139
    assert source.train.y.shape == (139, 1)
    assert source.train.y.dtype == np.float32
    assert source.train.y.std() == pytest.approx(1, abs=1e-5)
    assert source.train.x[:, 0].std() == pytest.approx(1, abs=1e-5)
    correlation = np.corrcoef(source.test.x[:, 0], source.test.y[:, 0])[0, 1]
    assert correlation > 0.999


def test_notes_say_what_was_left_out(houses):
    notes = load_source(houses, target="price").notes
    assert notes[0] == "2 rows without a value in 'price' were left out."
    assert notes[1].startswith("Columns left out: 'constant'")


def test_a_classification_table_is_stratified(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{i % 9},{'ab'[i % 10 == 0]}\n" for i in range(200)))
    source = load_source(path, target="y")
    assert source.class_names == ("a", "b")
    assert [np.bincount(part.y).tolist() for part in (source.train, source.valid, source.test)] == [
        [126, 14],
        [18, 2],
        [36, 4],
    ]
    assert load_source(path, target="y", task=None, seed=5).data_hash == source.data_hash


def test_preprocessing_is_json(houses, toy):
    for source in (load_source(houses, target="price"), load_source("toy")):
        text = json.dumps(source.preprocessing, allow_nan=False)
        assert json.loads(text) == source.preprocessing
        assert source.preprocessing["data_hash"] == source.data_hash


def test_iris_is_a_table():
    pytest.importorskip("sklearn")
    source = load_source("iris")
    assert source.feature_names == ("sepal_length", "sepal_width", "petal_length", "petal_width")
    assert source.class_names == ("setosa", "versicolor", "virginica")
    counts = [np.bincount(p.y).tolist() for p in (source.train, source.valid, source.test)]
    assert counts == [[35] * 3, [5] * 3, [10] * 3]
    assert load_source("iris", target="petal_width").task == "regression"


def test_digits_are_images_cut_in_three():
    pytest.importorskip("sklearn")
    source = load_source("digits")
    assert source.feature_shape == (1, 8, 8)
    assert source.num_outputs == 10
    total = len(source.train) + len(source.valid) + len(source.test)
    assert total == 1797
    assert len(source.test) == pytest.approx(359, abs=5)
    assert source.notes == ()


@pytest.mark.parametrize(
    ("data", "options", "error", "words"),
    [
        ("irsi", {}, NotFoundError, "neither a file nor .* Did you mean 'iris'"),
        ("data/none.csv", {}, NotFoundError, "neither a file nor one of the data sets iris, dig"),
        ("toy", {"target": "y"}, ArgumentError, "'toy' has its own target, 5 classes"),
        ("toy", {"task": "regression"}, ArgumentError, "target and task are for CSV files"),
    ],
)
def test_what_cannot_be_loaded_is_explained(toy, data, options, error, words):
    with pytest.raises(error, match=words):
        load_source(data, **options)


def test_a_csv_file_needs_a_target(houses):
    with pytest.raises(ArgumentError, match="columns are: size, town, price, constant"):
        load_source(houses)
    with pytest.raises(DataError, match=r"no column 'Price'. Did you mean 'price'"):
        load_source(houses, target="Price")


def test_too_few_rows_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n1,2.5\n2,3.5\n3,1.5\n")
    with pytest.raises(ArgumentError, match="3 rows cannot be split into 3 parts"):
        load_source(path, target="y")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.full
def test_official_sets(data_root, name):
    source = load_source(name)
    assert [len(part) for part in (source.train, source.valid, source.test)] == [
        54_000,
        6_000,
        10_000,
    ]
    assert source.feature_shape == (1, 28, 28)
    assert source.train.x.mean(dtype=np.float64) == pytest.approx(0, abs=1e-4)
