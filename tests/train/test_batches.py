"""What users have becomes loaders, and loaders' batches become inputs and target."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.data import DataLoader, Subset, TensorDataset
from ganglion.errors import ArgumentError, ArgumentTypeError, ShapeError
from ganglion.train.batches import (
    count,
    grouped,
    inputs_alone,
    inputs_and_target,
    picked,
    plain_loader,
    training_loader,
)

X, Y = np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10)


def order(loader):
    return [int(y) for _, target in loader for y in target.tolist()]


def test_training_shuffles_by_the_seed_and_evaluation_does_not():
    shuffled = order(training_loader((X, Y), 4, seed=1))
    assert shuffled != list(range(10))
    assert sorted(shuffled) == list(range(10))
    assert order(training_loader((X, Y), 3, seed=1)) == shuffled
    assert order(plain_loader((X, Y), 4)) == list(range(10))


def test_batch_sizes():
    assert training_loader((X, Y), None, 0).batch_size == 32
    assert plain_loader((X, Y), None).batch_size == 256
    assert plain_loader((X, Y), 5).batch_size == 5


def test_a_loader_stays_and_has_its_own_batch_size():
    loader = DataLoader(TensorDataset(X, Y), 3)
    assert training_loader(loader, None, 0) is loader
    with pytest.raises(ArgumentError, match="leave batch_size out"):
        plain_loader(loader, 4)


@pytest.mark.parametrize("wrong", ["iris", 3, ([1, 2], [3, 4]), None, {"x": X}])
def test_other_data_is_refused(wrong):
    with pytest.raises(ArgumentTypeError, match="expected a DataLoader"):
        plain_loader(wrong, None)


def test_the_last_part_of_a_batch_is_the_target():
    inputs, target = inputs_and_target((X, X + 1, Y))
    assert len(inputs) == 2
    assert isinstance(inputs[0], gg.Tensor)
    assert target.tolist() == Y.tolist()
    assert len(inputs_alone((X, X + 1, Y))) == 2
    assert len(inputs_alone([X])) == len(inputs_alone(X)) == 1


@pytest.mark.parametrize("batch", [X, [X], {"x": X}])
def test_a_batch_without_target_is_explained(batch):
    with pytest.raises(ArgumentTypeError, match=r"override Trainer\.compute"):
        inputs_and_target(batch)


def test_samples_are_counted_in_any_nesting():
    assert count(X) == count((X, Y)) == count({"a": [X]}) == 10
    with pytest.raises(ShapeError, match="cannot be counted"):
        count((3, X))


def test_groups_cover_everything_once():
    assert list(grouped(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(grouped([], 2)) == []


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (Subset(TensorDataset(X, Y), [1, 2]), {}),
        (TensorDataset(X, Y), {"collate_fn": list}),
        (TensorDataset(X, Y), {"num_workers": 1}),
        (TensorDataset(X[:, ::2], Y), {}),
        (TensorDataset(gg.from_numpy(X.copy()).requires_grad_(), Y), {}),
    ],
)
def test_only_plain_rows_are_picked_by_the_step(data, options):
    assert picked(DataLoader(data, 4, **options)) is None
    assert picked(DataLoader(TensorDataset(X, Y), 4)) is not None


def test_picks_are_the_rows_of_the_batches_and_move_the_position_alike():
    loaders = [DataLoader(TensorDataset(X, Y), 4, shuffle=True, seed=3) for _ in range(2)]
    for _ in range(2):
        for (x, y), rows in zip(loaders[0], loaders[1].picks(), strict=True):
            assert X[rows.numpy()].tolist() == x.tolist()
            assert Y[rows.numpy()].tolist() == y.tolist()
            assert loaders[0].state_dict() == loaders[1].state_dict()
