from collections import Counter

import numpy as np
import pytest

import ganglion as gg
from ganglion.data import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from ganglion.errors import ArgumentError

MAKE = {
    "random": lambda **how: RandomSampler(range(50), **how),
    "replacing": lambda **how: RandomSampler(range(50), replacement=True, **how),
    "subset": lambda **how: SubsetRandomSampler(range(100, 150), **how),
    "weighted": lambda **how: WeightedRandomSampler([1.0] * 50, 50, **how),
    "once": lambda **how: WeightedRandomSampler([1.0] * 50, 50, replacement=False, **how),
}


def test_the_sequential_sampler_counts():
    sampler = SequentialSampler("abc")
    assert list(sampler) == list(sampler) == [0, 1, 2]
    assert len(sampler) == 3


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_orders_are_functions_of_seed_and_epoch(make):
    first, second = make(seed=3), make(seed=3)
    orders = [list(first) for _ in range(3)]
    assert orders[0] != orders[1] != orders[2]
    second.set_epoch(2)
    assert list(second) == orders[2]
    second.set_epoch(0)
    assert list(second) == orders[0]
    assert list(make(seed=4)) != orders[0]
    assert all(isinstance(index, int) for index in orders[0])


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_the_seed_comes_from_the_default_generator(make):
    orders = []
    for _ in range(2):
        gg.manual_seed(5)
        orders.append(list(make()))
    assert orders[0] == orders[1]
    assert list(make()) != orders[0]


def test_an_own_generator_leaves_the_default_one_alone():
    gg.manual_seed(1)
    expected = gg.rand(3).tolist()
    gg.manual_seed(1)
    generator = gg.Generator().manual_seed(2)
    order = list(RandomSampler(range(50), generator=generator))
    assert gg.rand(3).tolist() == expected
    assert order == list(RandomSampler(range(50), generator=gg.Generator().manual_seed(2)))


def test_a_shuffle_and_a_generator_of_one_seed_are_unrelated():
    order = np.array(list(RandomSampler(range(1000), seed=0)))
    drawn = gg.randperm(1000, generator=gg.Generator().manual_seed(0)).numpy()
    assert (order == drawn).sum() < 10


@pytest.mark.parametrize("count", [7, 50, 120])
def test_num_samples_begins_again_in_a_new_order(count):
    sampler = RandomSampler(range(50), num_samples=count, seed=0)
    order = list(sampler)
    assert len(sampler) == len(order) == count
    assert max(Counter(order).values()) == -(-count // 50)
    assert order[50:100] != order[:50]


def test_replacement_draws_evenly_and_repeats():
    order = list(RandomSampler(range(10), replacement=True, num_samples=10_000, seed=0))
    assert all(850 < count < 1150 for count in Counter(order).values())


def test_weights_are_probabilities():
    order = list(WeightedRandomSampler([0, 1, 3, 0], 8000, seed=0))
    counts = Counter(order)
    assert set(counts) == {1, 2}
    assert counts[2] / 8000 == pytest.approx(0.75, abs=0.02)


def test_without_replacement_heavy_weights_come_first():
    firsts = [
        list(WeightedRandomSampler([1, 8, 0, 1], 3, replacement=False, seed=seed))
        for seed in range(500)
    ]
    assert all(sorted(order) == [0, 1, 3] for order in firsts)
    assert np.mean([order[0] == 1 for order in firsts]) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("weights", "count", "replacement"),
    [
        ([], 1, True),
        ([0, 0], 1, True),
        ([1, -1], 1, True),
        ([1, float("nan")], 1, True),
        ([[1, 2]], 1, True),
        ([1, 2], 0, True),
        ([1, 0], 2, False),
    ],
)
def test_impossible_weights_are_refused(weights, count, replacement):
    with pytest.raises(ArgumentError, match="WeightedRandomSampler"):
        WeightedRandomSampler(weights, count, replacement)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11])
@pytest.mark.parametrize("drop_last", [True, False])
def test_batches_are_pytorchs(count, drop_last):
    torch = pytest.importorskip("torch")
    sampler = BatchSampler(SequentialSampler(range(count)), 5, drop_last)
    expected = torch.utils.data.BatchSampler(range(count), 5, drop_last)
    assert list(sampler) == list(expected)
    assert len(sampler) == len(expected)


@pytest.mark.parametrize("size", [0, -1, 2.0, True])
def test_batch_sizes_are_positive_integers(size):
    with pytest.raises(ArgumentError, match="positive integer"):
        BatchSampler(range(3), size, False)


def test_an_own_sampler_must_iterate():
    with pytest.raises(NotImplementedError, match="Own must define __iter__"):
        iter(type("Own", (Sampler,), {})())
    with pytest.raises(ArgumentError, match="num_samples must be positive"):
        RandomSampler(range(3), num_samples=0)
