import gzip
import lzma

import numpy as np
import pytest

from ganglion.data.formats import checked_labels, parse_cifar, parse_idx, read_bytes, read_idx
from ganglion.errors import DataError, NotFoundError


def idx(array, code):
    header = bytes([0, 0, code, array.ndim])
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def cifar(labels):
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    records = np.concatenate([np.array(labels, np.uint8)[:, None], images], axis=1)
    return records.tobytes(), images.reshape(-1, 3, 32, 32)


@pytest.mark.parametrize(
    ("dtype", "code"),
    [("u1", 0x08), ("i1", 0x09), ("i2", 0x0B), ("i4", 0x0C), ("f4", 0x0D), ("f8", 0x0E)],
)
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (0, 28, 28)])
def test_idx_arrays_come_back_with_their_type(dtype, code, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    found = parse_idx(idx(array, code), "x")
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)


GOOD = idx(np.zeros((3, 2), np.uint8), 0x08)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "begins with nothing"),
        (b"\x89PNG....", "begins with 89 50 4e 47"),
        (b"\0\0\x07" + GOOD[3:], "no IDX file"),
        (b"\0\0\x08\0", "no IDX file"),
        (GOOD[:-1], "truncated"),
        (GOOD[:6], "truncated"),
        (GOOD + b"\0", "something added"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "truncated"),  # 2**96 values must not be allocated
    ],
)
def test_what_is_no_idx_file_is_refused(data, words):
    with pytest.raises(DataError, match=f"digits.*{words}"):
        parse_idx(data, "digits")


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)]
)
def test_compressed_and_plain_files_are_read(tmp_path, suffix, pack):
    path = tmp_path / f"a-idx2-ubyte{suffix}"
    path.write_bytes(pack(GOOD))
    np.testing.assert_array_equal(read_idx(path), np.zeros((3, 2), np.uint8))


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "other"])
def test_damaged_compressed_files_are_named(tmp_path, suffix, pack, damage):
    packed = bytearray(pack(np.random.default_rng(0).bytes(5000)))
    path = tmp_path / f"labels{suffix}"
    packed[2500] ^= 0xFF
    contents = {"truncated": packed[:2000], "flipped": packed, "other": b"<html>not found</html>"}
    path.write_bytes(contents[damage])
    with pytest.raises(DataError, match=rf"labels\{suffix} cannot be decompressed"):
        read_bytes(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"no file .*nothing\.gz"):
        read_bytes(tmp_path / "nothing.gz")


def test_cifar_records_become_planes_and_labels():
    data, images = cifar([3, 0, 9])
    found, labels = parse_cifar(data, "x")
    np.testing.assert_array_equal(found, images)
    assert labels.dtype == np.int64
    assert labels.tolist() == [3, 0, 9]


@pytest.mark.parametrize("cut", [0, 1, 3072, 3074])
def test_a_cifar_file_of_another_length_is_refused(cut):
    with pytest.raises(DataError, match=r"batch.bin.*multiple of 3,073"):
        parse_cifar(cifar([1, 2])[0][:cut], "batch.bin")


def test_labels_out_of_range_are_counted():
    with pytest.raises(DataError, match=r"label 10 of sample 1 is outside 0 to 9 \(2 such"):
        parse_cifar(cifar([3, 10, 255])[0], "x")
    with pytest.raises(DataError, match="label -1 of sample 0"):
        checked_labels(np.array([-1, 2]), 3, "x")
