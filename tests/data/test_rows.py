import gzip

import numpy as np
import pytest

from ganglion.data import SOURCES, decode, load_labelled, load_source, load_unlabelled
from ganglion.data.rows import read_images
from ganglion.data.sources import ImageSet
from ganglion.errors import ArgumentError, DataError, NotFoundError

HEADER = "width,colour,kind\n"


def text(count, start=0):
    return "".join(f"{(i * 7) % 13},{['red', 'blue'][i % 2]},{'ab'[i % 3 == 0]}\n"
                   for i in range(start, start + count))  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(content, name):
        path = tmp_path / name
        path.write_text(content)
        return path

    return write


@pytest.fixture
def table(write):
    return write(HEADER + text(60), "train.csv")


@pytest.fixture
def toy(monkeypatch):
    rng = np.random.default_rng(0)
    parts = {
        train: (rng.integers(0, 256, (count, 1, 4, 5), dtype=np.uint8), np.arange(count) % 3)
        for train, count in ((True, 90), (False, 12))
    }
    monkeypatch.setitem(SOURCES, "toy", ImageSet(parts.__getitem__, ("cat", "dog", "eel")))
    return parts


# --- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_the_training_file_gives_the_very_same_part(table, part):
    source = load_source(table, target="kind", seed=3)
    rows = load_labelled(source.preprocessing, table, part)
    np.testing.assert_array_equal(rows.x, getattr(source, part).x)
    np.testing.assert_array_equal(rows.y, getattr(source, part).y)
    assert not rows.whole


def test_another_file_is_used_whole(table, write):
    source = load_source(table, target="kind")
    other = write(HEADER + text(9, 100) + "1,red,\n", "other.csv")
    rows = load_labelled(source.preprocessing, other)
    assert rows.whole
    assert len(rows.x) == len(rows.y) == 9  # the row without a target is left out
    assert rows.lines == tuple(range(2, 11))


def test_predictions_need_no_target(table, write):
    source = load_source(table, target="kind")
    other = write("colour,width,more\nred,1,x\ngreen,,y\n", "new.csv")
    rows = load_unlabelled(source.preprocessing, other)
    assert rows.y is None
    assert rows.x.shape == (2, 3)
    assert rows.unseen == {"colour": 1}
    assert rows.filled == {"width": 1}
    assert rows.lines == (2, 3)


def test_predictions_for_the_training_file_are_for_all_its_rows(table):
    source = load_source(table, target="kind")
    assert len(load_unlabelled(source.preprocessing, table).x) == 60


def test_a_regression_part_and_its_unit(write):
    lines = "x,y\n" + "".join(f"{i % 17},{i % 17 * 100 + 0.5}\n" for i in range(80))
    path = write(lines, "r.csv")
    source = load_source(path, target="y", seed=1)
    rows = load_labelled(source.preprocessing, path)
    np.testing.assert_array_equal(rows.y, source.test.y)
    values = decode(source.preprocessing, rows.y)
    assert values.shape == (len(rows.y),)
    np.testing.assert_allclose((values - 0.5) % 100 % 99.99, 0, atol=0.02)


def test_class_names_of_outputs(table, toy):
    outputs = np.array([[0.2, 0.8], [5.0, -5.0]])
    assert decode(load_source(table, target="kind").preprocessing, outputs) == ["b", "a"]
    assert decode(load_source("toy").preprocessing, np.eye(3)[[2, 0]]) == ["eel", "cat"]


def test_a_column_that_is_gone_is_named(table, write):
    source = load_source(table, target="kind")
    with pytest.raises(DataError, match=r"new.csv lacks 1 of the 2 .*: colour"):
        load_unlabelled(source.preprocessing, write("width\n1\n", "new.csv"))
    with pytest.raises(DataError, match="no column 'kind'"):
        load_labelled(source.preprocessing, write("width,colour\n1,red\n", "new.csv"))


# --- images -------------------------------------------------------------------------------------


def test_a_named_set_gives_its_test_part(toy):
    source = load_source("toy", seed=4)
    for part in ("valid", "test"):
        rows = load_labelled(source.preprocessing, "toy", part)
        np.testing.assert_array_equal(rows.x, getattr(source, part).x)
        np.testing.assert_array_equal(rows.y, getattr(source, part).y)
    assert len(load_unlabelled(source.preprocessing, "toy").x) == 12


def test_another_kind_of_data_is_refused(toy, table):
    images = load_source("toy").preprocessing
    rows = load_source(table, target="kind").preprocessing
    with pytest.raises(ArgumentError, match="trained on 'toy', not on 'mnist'"):
        load_labelled(images, "mnist")
    with pytest.raises(ArgumentError, match="not on 'toy'"):
        load_labelled(rows, "toy")
    with pytest.raises(ArgumentError, match="evaluate on the named set 'toy'"):
        load_labelled(images, table)
    with pytest.raises(NotFoundError, match="neither a file"):
        load_unlabelled(images, "nothing.npy")


def test_files_of_images_are_standardised(toy, tmp_path):
    source = load_source("toy")
    raw = toy[False][0]
    np.save(tmp_path / "a.npy", raw)
    rows = load_unlabelled(source.preprocessing, tmp_path / "a.npy")
    np.testing.assert_array_equal(rows.x, source.test.x)
    assert rows.y is None


@pytest.mark.parametrize("shape", [(3, 1, 4, 5), (3, 4, 5), (1, 4, 5), (4, 5)])
def test_arrays_may_leave_out_axes_of_one(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    np.save(tmp_path / "a.npy", array)
    found = read_images(tmp_path / "a.npy", (1, 4, 5))
    assert found.shape == (3 if shape[0] == 3 else 1, 1, 4, 5)
    np.testing.assert_array_equal(found.reshape(-1), array.reshape(-1))


def test_a_single_colour_image(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), np.uint8))
    assert read_images(tmp_path / "a.npy", (3, 4, 5)).shape == (1, 3, 4, 5)


def test_idx_files_hold_images(tmp_path):
    array = np.arange(40, dtype=np.uint8).reshape(2, 4, 5)
    header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in array.shape)
    (tmp_path / "x-idx3-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    found = read_images(tmp_path / "x-idx3-ubyte.gz", (1, 4, 5))
    np.testing.assert_array_equal(found, array[:, None])


@pytest.mark.parametrize(("shape", "mode"), [((1, 4, 5), "L"), ((3, 4, 5), "RGB")])
def test_pictures_are_read(tmp_path, shape, mode):
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    flat = pixels[0] if mode == "L" else pixels.transpose(1, 2, 0)
    image.fromarray(np.ascontiguousarray(flat)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_images(tmp_path / "a.png", shape), pixels[None])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npy", b"\x93NUMPY broken", "no array of numbers"),
        ("a.npy", b"", "no array of numbers"),
        ("a.png", b"no picture", "no picture that can be read"),
        ("a.txt", b"hello", "holds no images; expected .npy, IDX"),
    ],
)
def test_files_that_hold_no_images_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        read_images(tmp_path / name, (1, 4, 5))
    assert words in str(caught.value)


def test_pickled_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="no array of numbers"):
        read_images(tmp_path / "a.npy", (1, 4, 5))


@pytest.mark.parametrize("array", [np.zeros((2, 1, 5, 4)), np.zeros(20), np.full((4, 5), "a")])
def test_images_of_another_shape_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=r"expects numbers of shape \(N, 1, 4, 5\)"):
        read_images(tmp_path / "a.npy", (1, 4, 5))
