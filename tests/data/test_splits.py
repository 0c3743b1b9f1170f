import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.data.splits import split_indices
from ganglion.errors import ArgumentError

shares = st.lists(st.integers(1, 10), min_size=2, max_size=4).map(lambda w: [x / sum(w) for x in w])


@given(st.integers(50, 400), shares, st.integers(0, 2**63 - 1))
def test_parts_are_a_partition_of_the_expected_sizes(count, fractions, seed):
    parts = split_indices(count, fractions, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    for part, share in zip(parts, fractions, strict=True):
        assert abs(len(part) - share * count) <= 1
        assert (np.diff(part) > 0).all()


@given(st.lists(st.integers(0, 4), min_size=60, max_size=300), shares, st.integers(0, 99))
def test_every_class_is_cut_by_the_same_shares(labels, fractions, seed):
    labels = np.array(labels)
    try:
        parts = split_indices(len(labels), fractions, seed, labels)
    except ArgumentError:  # only when some part is too small to get a row of any class
        assert min(fractions) * np.bincount(labels).max() < 1
        return
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for name in np.unique(labels):
        for part, share in zip(parts, fractions, strict=True):
            assert abs((labels[part] == name).sum() - share * (labels == name).sum()) <= 1


def test_the_seed_alone_decides():
    first, second, other = (split_indices(1000, (0.5, 0.5), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], second[0])
    assert not np.array_equal(first[0], other[0])
    assert 400 < np.intersect1d(first[0], other[0]).size * 2 < 600  # as chance would have it


def test_known_rows_so_that_old_runs_stay_reproducible():
    parts = split_indices(10, (0.6, 0.2, 0.2), seed=0)
    assert [part.tolist() for part in parts] == [[0, 2, 3, 4, 6, 9], [1, 8], [5, 7]]


def test_labels_may_be_words():
    parts = split_indices(40, (0.5, 0.5), 0, np.array(["a", "b"] * 20))
    assert [len(part) for part in parts] == [20, 20]


@pytest.mark.parametrize("fractions", [(0.5, 0.6), (0.5, 0.4), (1.5, -0.5), (1.0, 0.0)])
def test_fractions_must_be_shares_of_one(fractions):
    with pytest.raises(ArgumentError, match="add up to 1"):
        split_indices(100, fractions, 0)


def test_an_empty_part_is_refused():
    with pytest.raises(ArgumentError, match=r"4 rows cannot be split .*: the parts would have"):
        split_indices(4, (0.98, 0.01, 0.01), 0)


def test_labels_must_be_one_a_row():
    with pytest.raises(ArgumentError, match="Expected 5 labels"):
        split_indices(5, (0.5, 0.5), 0, np.zeros(4))
