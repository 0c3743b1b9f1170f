import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ganglion as gg
from ganglion.data import (
    ConcatDataset,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    random_split,
)
from ganglion.data.dataset import batch_reader
from ganglion.errors import ArgumentError, IndexingError, ShapeError


class Squares(Dataset):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        return index * index


def pair(count=10):
    return np.arange(count * 3, dtype=np.float32).reshape(count, 3), np.arange(count)


def test_tensor_dataset_gives_rows():
    x, y = pair()
    dataset = TensorDataset(gg.from_numpy(x), y)
    assert len(dataset) == 10
    row, label = dataset[4]
    assert row.tolist() == x[4].tolist()
    assert label.item() == 4
    assert dataset[-1][1].item() == 9
    assert dataset[2:5][0].shape == (3, 3)


@pytest.mark.parametrize("shapes", [[(3, 2), (4,)], [(3,), ()], [()]])
def test_tensors_need_equally_many_rows(shapes):
    with pytest.raises(ShapeError, match="equally many rows"):
        TensorDataset(*map(np.zeros, shapes))


def test_a_tensor_dataset_needs_tensors():
    with pytest.raises(ArgumentError, match="at least one tensor"):
        TensorDataset()


def test_whole_batches_are_copies():
    x, y = pair()
    dataset = TensorDataset(gg.from_numpy(x), gg.from_numpy(y))
    rows, labels = dataset.__getbatch__(np.array([3, 1, 3]))
    np.testing.assert_array_equal(rows.numpy(), x[[3, 1, 3]])
    assert labels.tolist() == [3, 1, 3]
    rows.numpy()[:] = -1
    assert x.min() == 0


def test_gradients_flow_to_data_that_wants_them():
    x = gg.ones(4, 2).requires_grad_()
    (rows,) = TensorDataset(x).__getbatch__(np.array([1, 1, 3]))
    rows.sum().backward()
    assert x.grad.tolist() == [[0, 0], [2, 2], [0, 0], [1, 1]]


def test_a_subset_of_a_subset_counts_in_its_own_numbers():
    dataset = Subset(Subset(Squares(20), [10, 11, 12, 13]), [3, 0])
    assert [dataset[i] for i in range(len(dataset))] == [169, 100]
    assert dataset.__getitems__([1, 0, 1]) == [100, 169, 100]


def test_a_subset_of_tensors_makes_whole_batches():
    x, y = pair()
    inner = Subset(TensorDataset(x, y), [9, 7, 5])
    rows, labels = Subset(inner, [2, 0]).__getbatch__(np.array([1, 0]))
    assert labels.tolist() == [9, 5]
    np.testing.assert_array_equal(rows.numpy(), x[[9, 5]])


def test_who_makes_whole_batches():
    class Noisy(TensorDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)

    class Renamed(TensorDataset):
        pass

    x, _ = pair()
    assert batch_reader(TensorDataset(x)) is not None
    assert batch_reader(Renamed(x)) is not None
    assert batch_reader(Subset(Subset(TensorDataset(x), [1]), [0])) is not None
    assert batch_reader(Noisy(x)) is None  # its own samples count
    assert batch_reader(Subset(Noisy(x), [0])) is None
    assert batch_reader(Squares(3)) is None
    assert batch_reader([1, 2, 3]) is None


def test_concatenated_datasets_follow_each_other():
    dataset = Squares(3) + Squares(2) + Squares(4)
    assert isinstance(dataset, ConcatDataset)
    assert len(dataset) == 9
    assert [dataset[i] for i in range(9)] == [0, 1, 4, 0, 1, 0, 1, 4, 9]
    assert dataset[-1] == 9
    assert dataset[-9] == 0
    for index in (9, -10):
        with pytest.raises(IndexingError, match="9 samples"):
            dataset[index]


def test_what_cannot_be_concatenated():
    with pytest.raises(ArgumentError, match="at least one"):
        ConcatDataset([])
    with pytest.raises(ArgumentError, match="IterableDataset"):
        ConcatDataset([IterableDataset()])


def test_a_dataset_without_samples_says_what_to_define():
    with pytest.raises(NotImplementedError, match="Empty must define __getitem__"):
        type("Empty", (Dataset,), {})()[0]
    with pytest.raises(NotImplementedError, match="Empty must define __iter__"):
        iter(type("Empty", (IterableDataset,), {})())


@given(st.integers(0, 200), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_random_split_by_fractions_has_pytorchs_lengths(count, weights):
    torch = pytest.importorskip("torch")
    fractions = [w / sum(weights) for w in weights]
    if sum(fractions) > 1:  # PyTorch refuses what rounding makes larger than 1
        fractions[-1] -= sum(fractions) - 1
    parts = random_split(Squares(count), fractions)
    lengths = [len(part) for part in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # it warns of empty parts
        reference = torch.utils.data.random_split(range(count), fractions)
    assert lengths == [len(part) for part in reference]
    assert sorted(i for part in parts for i in part.indices) == list(range(count))


def test_random_split_repeats_with_its_generator():
    def parts(seed):
        generator = gg.Generator().manual_seed(seed)
        return [list(part.indices) for part in random_split(Squares(30), [20, 10], generator)]

    assert parts(1) == parts(1)
    assert parts(1) != parts(2)


def test_random_split_follows_manual_seed():
    orders = []
    for _ in range(2):
        gg.manual_seed(7)
        orders.append(random_split(Squares(30), [0.5, 0.5])[0].indices)
    assert orders[0] == orders[1]


@pytest.mark.parametrize("lengths", [[5, 6], [0.5, 0.6], [-1, 11], [20]])
def test_random_split_lengths_must_fit(lengths):
    with pytest.raises(ArgumentError, match="lengths"):
        random_split(Squares(10), lengths)


def test_a_stream_cannot_be_split():
    with pytest.raises(ArgumentError, match="IterableDataset has no __len__"):
        random_split(IterableDataset(), [0.5, 0.5])
