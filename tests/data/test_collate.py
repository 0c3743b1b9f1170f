from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest

import ganglion as gg
from ganglion.data import default_collate, default_convert
from ganglion.errors import ArgumentTypeError, ShapeError


class Point(NamedTuple):
    x: int
    y: float


SAMPLES = {
    "ints": [1, 2, 3],
    "floats": [0.5, 1.5],
    "bools": [True, False],
    "strings": ["a", "b"],
    "bytes": [b"a", b"b"],
    "arrays": [np.ones(3, np.float32), np.zeros(3, np.float32)],
    "numpy numbers": [np.float32(1), np.float32(2)],
    "numpy integers": [np.int16(1), np.int16(2)],
    "tuples": [(1, 2.0), (3, 4.0)],
    "lists": [[1, 2.0], [3, 4.0]],
    "dicts": [{"a": 1, "b": [1.0]}, {"a": 2, "b": [2.0]}],
    "named tuples": [Point(1, 2.0), Point(3, 4.0)],
    "nested": [({"x": np.zeros((2, 2))}, "s", 1), ({"x": np.ones((2, 2))}, "t", 2)],
}


def plain(batch):
    """Containers as they are; tensors as their dtype and values."""
    if hasattr(batch, "dtype"):
        return str(batch.dtype).split(".")[-1], batch.tolist()
    if isinstance(batch, dict):
        return {key: plain(value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch).__name__, [plain(value) for value in batch]
    return batch


@pytest.mark.parametrize("samples", SAMPLES.values(), ids=SAMPLES)
def test_batches_are_pytorchs(samples):
    torch = pytest.importorskip("torch")
    expected = torch.utils.data.default_collate(samples)
    assert plain(default_collate(samples)) == plain(expected)


@pytest.mark.parametrize("samples", SAMPLES.values(), ids=SAMPLES)
def test_conversion_is_pytorchs(samples):
    torch = pytest.importorskip("torch")
    expected = torch.utils.data.default_convert(samples[0])
    assert plain(default_convert(samples[0])) == plain(expected)


def test_tensors_are_stacked():
    batch = default_collate([gg.ones(2, 3), gg.zeros(2, 3)])
    assert batch.shape == (2, 2, 3)
    assert batch[0].sum().item() == 6


def test_mappings_keep_their_type():
    batch = default_collate([OrderedDict(a=1), OrderedDict(a=2)])
    assert type(batch) is OrderedDict
    assert batch["a"].tolist() == [1, 2]


@pytest.mark.parametrize("make", [gg.zeros, np.zeros])
def test_other_shapes_are_named(make):
    with pytest.raises(ShapeError, match=r"sample 0 has \(2,\) and sample 2 has \(3,\)"):
        default_collate([make(2), make(2), make(3)])


def test_other_lengths_are_named():
    with pytest.raises(ShapeError, match=r"different lengths: \[1, 2\]"):
        default_collate([[1], [1, 2]])


@pytest.mark.parametrize("sample", [None, object(), np.array(["a"]), np.array([None])])
def test_what_is_no_number_is_refused(sample):
    with pytest.raises(ArgumentTypeError, match="cannot be made a batch"):
        default_collate([sample, sample])
