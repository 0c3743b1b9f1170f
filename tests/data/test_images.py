import gzip
import hashlib
import io
import lzma
import tarfile
from dataclasses import replace

import numpy as np
import pytest

import ganglion as gg
from ganglion.data import DataLoader, ImageDataset, Subset, images
from ganglion.errors import DataError, NotFoundError

rng = np.random.default_rng(0)


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def register(monkeypatch, table, part, folder, content):
    """Put `content` in place of an official file and its hash in the table."""
    file = table[part]
    known = replace(file, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(table, part, known)
    path = folder / file.folder / file.name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty GANGLION_DATA; downloads go nowhere."""
    monkeypatch.setenv("GANGLION_DATA", str(tmp_path))
    monkeypatch.setenv("GANGLION_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def mnist(monkeypatch, folder):
    """A small MNIST of 6 training images."""
    pixels = rng.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    register(monkeypatch, images.MNIST_FILES, "train-images", folder, idx(pixels))
    labels = np.array([3, 1, 4, 1, 5, 9], np.uint8)
    register(monkeypatch, images.MNIST_FILES, "train-labels", folder, idx(labels))
    return pixels, labels


def batch_bytes(count=4, seed=0):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    labels = random.integers(0, 10, count, dtype=np.uint8)
    return np.concatenate([labels[:, None], pixels.reshape(count, -1)], axis=1).tobytes()


@pytest.fixture
def cifar10(monkeypatch, folder):
    """Six small batches, known to the table by their hashes, in memory."""
    names = list(images.CIFAR10_BATCHES)
    batches = {name: batch_bytes(seed=seed) for seed, name in enumerate(names)}
    for name, content in batches.items():
        known = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(images.CIFAR10_BATCHES, name, known)
    (folder / "cifar10").mkdir()
    return batches


def archive(batches):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


# --- MNIST --------------------------------------------------------------------------------------


def test_mnist_arrays(mnist):
    pixels, labels = mnist
    x, y = images.load_mnist(train=True)
    np.testing.assert_array_equal(x, pixels[:, None])
    assert (x.dtype, y.dtype) == (np.uint8, np.int64)
    assert y.tolist() == labels.tolist()


def test_images_and_labels_must_belong_together(monkeypatch, folder, mnist):
    for bad in (rng.integers(0, 9, 5, dtype=np.uint8), np.full(6, 10, np.uint8)):
        register(monkeypatch, images.MNIST_FILES, "train-labels", folder, idx(bad))
        with pytest.raises(DataError, match=r"labels of shape \(5,\)|label 10 of sample 0"):
            images.load_mnist()


def test_images_must_be_28_by_28(monkeypatch, folder, mnist):
    bad = np.zeros((6, 27, 28), np.uint8)
    register(monkeypatch, images.MNIST_FILES, "train-images", folder, idx(bad))
    with pytest.raises(DataError, match=r"uint8 of shape \(6, 27, 28\)"):
        images.load_mnist()


def test_a_file_that_is_not_the_official_one_is_refused(folder, mnist):
    path = folder / "mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz is truncated"):
        images.load_mnist()


def test_a_missing_part_is_named(mnist):
    with pytest.raises(NotFoundError, match="t10k-images"):
        images.load_mnist(train=False, download=False)


# --- data sets ----------------------------------------------------------------------------------


def test_samples_are_tensors_between_0_and_1(mnist):
    pixels, _ = mnist
    data = images.MNIST(train=True)
    image, label = data[2]
    assert (image.shape, image.dtype) == ((1, 28, 28), gg.float32)
    np.testing.assert_array_equal(image.numpy()[0], pixels[2] / np.float32(255))
    assert label == 4
    assert type(label) is int
    assert len(data) == 6
    assert data.classes == list("0123456789")


def test_batches_equal_samples(mnist):
    data = images.MNIST()
    (x, y), *_ = DataLoader(Subset(data, [5, 0, 2]), 3)
    assert (x.dtype, y.dtype) == (gg.float32, gg.int64)
    assert y.tolist() == [9, 3, 4]
    for row, index in zip(x, [5, 0, 2], strict=True):
        np.testing.assert_array_equal(row.numpy(), data[index][0].numpy())


def test_transforms_apply_to_samples_and_batches(mnist):
    data = images.MNIST(transform=lambda image: image * 2, target_transform=lambda y: -y)
    image, label = data[1]
    assert label == -1
    (x, y), *_ = DataLoader(data, 6)
    assert y.tolist() == [-3, -1, -4, -1, -5, -9]
    np.testing.assert_array_equal(x[1].numpy(), image.numpy())


def test_a_root_is_searched_first(monkeypatch, tmp_path, mnist):
    labels = np.zeros(6, np.uint8)
    (tmp_path / "root").mkdir()
    register(monkeypatch, images.MNIST_FILES, "train-labels", tmp_path / "root", idx(labels))
    assert images.MNIST(tmp_path / "root").targets.tolist() == [0] * 6


def test_own_images_make_a_data_set():
    data = ImageDataset(np.full((2, 3, 4, 4), 255, np.uint8), np.array([0, 1]), ["a", "b"])
    assert data[0][0].tolist() == np.ones((3, 4, 4)).tolist()


# --- CIFAR-10 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}.bin", "{}.bin.xz", "cifar-10-batches-bin/{}.bin"])
def test_loose_batches_are_read(folder, cifar10, form):
    for name, content in cifar10.items():
        path = folder / "cifar10" / form.format(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(lzma.compress(content) if form.endswith("xz") else content)
    x, y = images.load_cifar10(train=True)
    assert (x.shape, x.dtype, y.dtype) == ((20, 3, 32, 32), np.uint8, np.int64)
    first = np.frombuffer(cifar10["data_batch_1"], np.uint8).reshape(4, 3073)
    np.testing.assert_array_equal(x[:4].reshape(4, -1), first[:, 1:])
    assert y[:4].tolist() == first[:, 0].tolist()
    assert images.load_cifar10(train=False)[0].shape == (4, 3, 32, 32)


def test_some_training_batches_are_used_and_counted(folder, cifar10):
    for name in ("data_batch_2", "data_batch_5"):
        (folder / "cifar10" / f"{name}.bin").write_bytes(cifar10[name])
    with pytest.warns(UserWarning, match=r"2 of CIFAR-10's 5 training batches \(data_batch_2, dat"):
        x, _ = images.load_cifar10()
    second = np.frombuffer(cifar10["data_batch_2"], np.uint8).reshape(4, 3073)
    np.testing.assert_array_equal(x[:4].reshape(4, -1), second[:, 1:])


def test_the_official_archive_is_read(monkeypatch, folder, cifar10):
    content = archive(cifar10)
    known = replace(
        images.CIFAR10_ARCHIVE, size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    monkeypatch.setattr(images, "CIFAR10_ARCHIVE", known)
    (folder / "cifar10" / known.name).write_bytes(content)
    (folder / "cifar10" / "data_batch_1.bin").write_bytes(b"not looked at")
    assert images.load_cifar10()[0].shape == (20, 3, 32, 32)
    assert images.load_cifar10(train=False)[0].shape == (4, 3, 32, 32)


@pytest.mark.parametrize(
    ("suffix", "content", "words"),
    [
        (".bin", batch_bytes(seed=99), "is not CIFAR-10's data_batch_1.bin: expected contents"),
        (".bin", batch_bytes(seed=0)[:-1], "is not CIFAR-10's data_batch_1.bin"),
        (".bin.xz", lzma.compress(batch_bytes(seed=0))[:-40], "cannot be decompressed"),
        (".bin.xz", b"nothing of the kind", "cannot be decompressed"),
    ],
)
def test_a_damaged_batch_is_named(folder, cifar10, suffix, content, words):
    path = folder / "cifar10" / f"data_batch_1{suffix}"
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="1 of"), pytest.raises(DataError) as caught:
        images.load_cifar10()
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_without_batches_the_archive_is_asked_for(folder, cifar10):
    with pytest.raises(NotFoundError, match=r"cifar-10-binary\.tar\.gz"):
        images.load_cifar10(download=False)


# --- the real files -----------------------------------------------------------------------------


@pytest.mark.parametrize("load", [images.load_mnist, images.load_fashion_mnist])
def test_the_official_sets(data_root, load):
    for train, count in ((True, 60_000), (False, 10_000)):
        x, y = load(train)
        assert x.shape == (count, 1, 28, 28)
        assert np.bincount(y, minlength=10).min() > count * 0.08
    if load is images.load_fashion_mnist:
        assert np.bincount(y).tolist() == [1000] * 10
        assert x.mean() / 255 == pytest.approx(0.2868, abs=2e-4)


@pytest.mark.full
def test_the_local_cifar10(data_root):
    with pytest.warns(UserWarning, match="20,000 of 50,000"):
        x, y = images.load_cifar10()
    assert x.shape == (20_000, 3, 32, 32)
    assert np.bincount(y).tolist() == [1989, 1981, 2042, 2011, 2009, 1925, 2038, 2027, 2012, 1966]
    mean = (x / np.float32(255)).mean(axis=(0, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=0.002)
    assert np.bincount(images.load_cifar10(train=False)[1]).tolist() == [1000] * 10
