import gc
import json
import threading
import time
import traceback
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ganglion as gg
from ganglion.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)
from ganglion.errors import ArgumentError, CheckpointError


class Slow(Dataset):
    """Counts how often it is asked, sample by sample."""

    def __init__(self, count, fail_at=None):
        self.count, self.fail_at, self.asked = count, fail_at, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.fail_at:
            raise ZeroDivisionError(f"sample {index}")
        self.asked.append(index)
        return np.float32(index), index


class Stream(IterableDataset):
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(range(self.count))


def rows(count=20):
    return TensorDataset(np.arange(count * 2, dtype=np.float32).reshape(count, 2), np.arange(count))


def seen(loader):
    """Labels of every batch of one pass."""
    return [batch[1].tolist() for batch in loader]


# --- batches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("make", [rows, Slow])
def test_batches_are_lists_of_tensors(make, workers):
    batch = next(iter(DataLoader(make(10), batch_size=4, num_workers=workers)))
    assert type(batch) is list
    x, y = batch
    assert (x.dtype, y.dtype) == (gg.float32, gg.int64)
    assert y.tolist() == [0, 1, 2, 3]
    assert x.shape[0] == 4


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batch_counts_are_pytorchs(count, drop_last, batch_size):
    torch = pytest.importorskip("torch")
    loader = DataLoader(range(count), batch_size, drop_last=drop_last)
    reference = torch.utils.data.DataLoader(range(count), batch_size, drop_last=drop_last)
    assert len(loader) == len(reference)
    assert [b.tolist() for b in loader] == [b.tolist() for b in reference]


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": None},
        {"batch_size": 3, "sampler": [4, 2, 0, 1]},
        {"batch_size": None, "sampler": [4, 2]},
        {"batch_sampler": [[0, 1], [5], [2, 2]]},
        {"batch_size": 2, "collate_fn": sum},
        {"batch_size": None, "collate_fn": lambda x: x + 1},
        {"batch_size": 2, "drop_last": True, "sampler": range(5)},
    ],
    ids="-".join,
)
@pytest.mark.parametrize("workers", [0, 1])
def test_other_ways_to_batch_are_pytorchs(arguments, workers):
    torch = pytest.importorskip("torch")
    data = [10, 11, 12, 13, 14, 15]
    loader = DataLoader(data, **arguments, num_workers=workers)
    reference = torch.utils.data.DataLoader(data, **arguments)
    plain = [
        [b.tolist() if hasattr(b, "tolist") else b for b in each] for each in (loader, reference)
    ]
    assert plain[0] == plain[1]
    assert len(loader) == len(reference)


@pytest.mark.parametrize(
    "arguments",
    [
        {"sampler": [0], "shuffle": True},
        {"batch_sampler": [[0]], "batch_size": 2},
        {"batch_sampler": [[0]], "shuffle": True},
        {"batch_sampler": [[0]], "sampler": [0]},
        {"batch_sampler": [[0]], "drop_last": True},
        {"batch_size": None, "drop_last": True},
        {"batch_size": 0},
        {"num_workers": -1},
        {"timeout": -1},
        {"prefetch_factor": 2},
    ],
    ids=str,
)
def test_what_pytorch_refuses_is_refused(arguments):
    torch = pytest.importorskip("torch")
    for module, error in ((torch.utils.data, ValueError), (gg.data, ArgumentError)):
        with pytest.raises(error):
            module.DataLoader([1, 2], **arguments)


def test_pytorchs_other_arguments_are_accepted():
    loader = DataLoader(
        rows(), 5, True, pin_memory=True, timeout=5, num_workers=4, prefetch_factor=1,
        persistent_workers=True, multiprocessing_context="fork", pin_memory_device="",
        in_order=True,
    )  # fmt: skip
    assert sorted(chain(*seen(loader))) == list(range(20))
    assert get_worker_info() is None


def test_arrays_are_indexed_once_a_batch(monkeypatch):
    takes = []
    monkeypatch.setattr(TensorDataset, "__getitem__", lambda *_: pytest.fail("asked for a sample"))
    original = TensorDataset.__getbatch__
    monkeypatch.setattr(
        TensorDataset, "__getbatch__", lambda self, i: takes.append(len(i)) or original(self, i)
    )
    assert len(seen(DataLoader(Subset(rows(), range(5, 15)), 4))) == 3
    assert takes == [4, 4, 2]


def test_an_own_collate_fn_gets_samples():
    loader = DataLoader(rows(4), 2, collate_fn=lambda samples: [int(label) for _, label in samples])
    assert list(loader) == [[0, 1], [2, 3]]


def test_a_subclass_with_own_samples_is_asked_for_them():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x, y * 2

    data = Doubled(np.zeros((4, 1), np.float32), np.arange(4))
    assert seen(DataLoader(data, 2)) == [[0, 2], [4, 6]]
    assert seen(DataLoader(Subset(data, [3, 1]), 2)) == [[6, 2]]


def test_getitems_is_used_when_there_is_one():
    class Many(Slow):
        def __getitems__(self, indices):
            return [(np.float32(0), -i) for i in indices]

    assert seen(DataLoader(Many(4), 2)) == [[0, -1], [-2, -3]]


def test_batches_do_not_share_memory_with_the_data():
    data = rows(4)
    for x, _ in DataLoader(data, 4):
        x.zero_() if hasattr(x, "zero_") else x.numpy().fill(0)
    assert data.tensors[0].numpy().max() == 7


def test_concatenated_data_can_be_loaded():
    assert seen(DataLoader(ConcatDataset([rows(2), rows(3)]), 4)) == [[0, 1, 0, 1], [2]]


# --- streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "arguments",
    [{"batch_size": 3}, {"batch_size": 3, "drop_last": True}, {"batch_size": None}],
    ids=str,
)
def test_streams_are_cut_as_by_pytorch(arguments, workers):
    torch = pytest.importorskip("torch")

    class Reference(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(7))

    loader = DataLoader(Stream(7), num_workers=workers, **arguments)
    plain = [b if isinstance(b, int) else b.tolist() for b in loader]
    expected = torch.utils.data.DataLoader(Reference(), **arguments)
    assert plain == [b if isinstance(b, int) else b.tolist() for b in expected]


def test_a_stream_resumes_by_reading_on():
    loader, again = DataLoader(Stream(7), 2), DataLoader(Stream(7), 2)
    passing = iter(loader)
    next(passing)
    again.load_state_dict(loader.state_dict())
    assert [b.tolist() for b in again] == [[2, 3], [4, 5], [6]]


@pytest.mark.parametrize(
    "arguments", [{"shuffle": True}, {"sampler": []}, {"batch_sampler": [[0]]}]
)
def test_a_stream_has_its_own_order(arguments):
    with pytest.raises(ArgumentError, match="IterableDataset decides the order itself"):
        DataLoader(Stream(3), **arguments)


def test_a_stream_has_no_length():
    with pytest.raises(ArgumentError, match="Stream has no __len__"):
        len(DataLoader(Stream(3)))


# --- order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("make", [rows, Slow])
def test_the_order_is_a_function_of_seed_and_epoch(make, workers):
    options = {"batch_size": 6, "shuffle": True, "seed": 3}
    loader = DataLoader(make(20), **options, num_workers=workers)
    passes = [seen(loader) for _ in range(3)]
    assert passes[0] != passes[1] != passes[2]
    assert all(sorted(chain(*one)) == list(range(20)) for one in passes)
    other = DataLoader(make(20), **options)
    other.set_epoch(2)
    assert seen(other) == passes[2]
    assert other.epoch == 3
    other.set_epoch(1)
    assert seen(other) == passes[1]


def test_known_order_so_that_old_runs_stay_reproducible():
    assert seen(DataLoader(rows(8), 8, shuffle=True, seed=0)) == KNOWN


KNOWN = [[0, 6, 4, 2, 3, 5, 1, 7]]


def test_every_sample_is_equally_likely_in_every_place():
    loader = DataLoader(rows(5), 5, shuffle=True, seed=0)
    counts = np.zeros((5, 5))
    for _ in range(1000):
        counts[np.arange(5), seen(loader)[0]] += 1
    assert abs(counts / 1000 - 0.2).max() < 0.06


def test_without_a_seed_manual_seed_decides():
    passes = []
    for seed in (1, 1, 2):
        loader = DataLoader(rows(), 5, shuffle=True)
        gg.manual_seed(seed)
        passes.append(seen(loader))
    assert passes[0] == passes[1] != passes[2]


def test_a_loader_in_order_draws_no_random_numbers():
    gg.manual_seed(0)
    expected = gg.rand(2).tolist()
    gg.manual_seed(0)
    loader = DataLoader(rows(), 5)
    seen(loader)
    assert loader.state_dict() == {"seed": None, "epoch": 1, "batches": 0}
    assert gg.rand(2).tolist() == expected


def test_a_generator_decides_the_order():
    passes = [
        seen(DataLoader(rows(), 5, shuffle=True, generator=gg.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    ]
    assert passes[0] == passes[1] != passes[2]


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"sampler": RandomSampler(range(20), seed=3), "batch_size": 6},
        lambda: {"sampler": WeightedRandomSampler([1.0] * 20, 20, seed=3), "batch_size": 6},
        lambda: {"batch_sampler": BatchSampler(RandomSampler(range(20), seed=3), 6, False)},
        lambda: {"sampler": RandomSampler(range(20), seed=3), "batch_size": None},
    ],
)
def test_random_samplers_follow_the_loaders_epoch(make):
    loader = DataLoader(rows(), **make())
    passes = [seen(loader), seen(loader)]
    assert passes[0] != passes[1]
    assert loader.seed == 3
    other = DataLoader(rows(), **make())
    other.set_epoch(1)
    assert seen(other) == passes[1]
    other.load_state_dict({"seed": 3, "epoch": 0, "batches": 2})
    assert seen(other) == passes[0][2:]


def test_a_pass_left_early_is_not_repeated():
    loader = DataLoader(rows(), 5, shuffle=True, seed=0)
    firsts = [next(iter(loader))[1].tolist() for _ in range(3)]
    assert firsts[0] != firsts[1] != firsts[2]
    assert loader.epoch == 2
    assert len(seen(loader)) == 4
    assert loader.state_dict() == {"seed": 0, "epoch": 4, "batches": 0}


@pytest.mark.parametrize("workers", [0, 1])
def test_two_passes_at_once_do_not_disturb_each_other(workers):
    loader = DataLoader(rows(), 5, shuffle=True, seed=0, num_workers=workers)
    together = [(a[1].tolist(), b[1].tolist()) for a, b in zip(loader, loader, strict=True)]
    again = DataLoader(rows(), 5, shuffle=True, seed=0)
    assert [a for a, _ in together] == seen(again)
    assert [b for _, b in together] == seen(again)


# --- position -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@given(
    count=st.integers(1, 30),
    size=st.integers(1, 8),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    epoch=st.integers(0, 3),
    data=st.data(),
)
def test_resuming_gives_exactly_the_remaining_batches(
    workers, count, size, drop_last, shuffle, epoch, data
):
    def fresh():
        options = {"shuffle": shuffle, "drop_last": drop_last, "seed": 5, "num_workers": workers}
        return DataLoader(rows(count), size, **options)

    whole = fresh()
    expected = [seen(whole) for _ in range(epoch + 2)]
    stop = data.draw(st.integers(0, len(whole)))

    loader = fresh()
    for _ in range(epoch):
        seen(loader)
    passing = iter(loader)
    taken = [next(passing)[1].tolist() for _ in range(stop)]
    state = json.loads(json.dumps(loader.state_dict()))
    passing.close()
    assert state["epoch"] == epoch
    assert state["batches"] == stop
    assert taken == expected[epoch][:stop]

    other = fresh()
    other.load_state_dict(state)
    assert other.state_dict()["batches"] == stop
    assert seen(other) == expected[epoch][stop:]
    assert seen(other) == expected[epoch + 1]


def test_prefetched_batches_do_not_count():
    data = Slow(40)
    loader = DataLoader(data, 2, num_workers=1, prefetch_factor=6)
    passing = iter(loader)
    next(passing)
    limit = time.monotonic() + 5
    while len(data.asked) < 14 and time.monotonic() < limit:
        time.sleep(0.001)
    assert len(data.asked) == 14  # the first batch, and six made in advance
    assert loader.state_dict()["batches"] == 1
    passing.close()


def test_a_state_before_the_first_pass_draws_nothing():
    gg.manual_seed(0)
    loader = DataLoader(rows(), 5, shuffle=True)
    state = loader.state_dict()
    assert state == {"seed": None, "epoch": 0, "batches": 0}
    other = DataLoader(rows(), 5, shuffle=True, seed=9)
    other.load_state_dict(state)
    gg.manual_seed(1)
    first = seen(loader)
    gg.manual_seed(1)
    assert seen(other) == first


def test_resuming_does_not_load_what_is_skipped():
    data = Slow(1000)
    loader = DataLoader(data, 10)
    loader.load_state_dict({"seed": None, "epoch": 4, "batches": 99})
    assert seen(loader) == [list(range(990, 1000))]
    assert data.asked == list(range(990, 1000))
    assert loader.epoch == 5


def test_own_samplers_are_skipped_through():
    class Even(Sampler):
        def __iter__(self):
            return iter(range(0, 20, 2))

    loader = DataLoader(rows(), 3, sampler=Even())
    loader.load_state_dict({"seed": None, "epoch": 0, "batches": 2})
    assert seen(loader) == [[12, 14, 16], [18]]
    assert seen(loader) == [[0, 2, 4], [6, 8, 10], [12, 14, 16], [18]]


@pytest.mark.parametrize("state", [{}, {"epoch": 1, "batches": 2}, {"seed": 1, "epoch": 0}])
def test_a_strange_state_is_refused(state):
    with pytest.raises(CheckpointError, match="seed, epoch and batches"):
        DataLoader(rows()).load_state_dict(state)


# --- the thread ---------------------------------------------------------------------------------


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "ganglion-prefetch"]


def test_an_error_of_the_data_set_keeps_its_traceback():
    loader = DataLoader(Slow(20, fail_at=7), 2, num_workers=1)
    passing = iter(loader)
    for expected in (1, 2, 3):
        next(passing)
        assert loader.batches == expected
    with pytest.raises(ZeroDivisionError, match="sample 7") as caught:
        next(passing)
    assert "__getitem__" in [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert loader.state_dict() == {"seed": None, "epoch": 0, "batches": 3}
    assert workers() == []


def test_leaving_a_pass_ends_the_thread():
    for _ in DataLoader(Slow(1000), 2, num_workers=3):
        assert len(workers()) == 1
        break
    gc.collect()
    assert workers() == []


def test_a_finished_pass_leaves_no_thread():
    loader = DataLoader(rows(), 5, num_workers=2)
    for _ in range(3):
        assert len(seen(loader)) == 4
        assert workers() == []


def test_worker_init_runs_in_the_thread():
    names = []
    init = lambda worker: names.append((worker, threading.current_thread().name))  # noqa: E731
    seen(DataLoader(rows(), 5, num_workers=2, worker_init_fn=init))
    assert names == [(0, "ganglion-prefetch")]


# --- speed --------------------------------------------------------------------------------------


@pytest.mark.full
def test_loading_costs_about_the_indexing_itself():
    x, y = np.ones((60_000, 784), np.float32), np.ones(60_000, np.int64)
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True, seed=0)
    order = np.random.default_rng(0).permutation(60_000)

    def bare():
        for start in range(0, 60_000, 32):
            rows = order[start : start + 32]
            x[rows], y[rows]

    def timed(run):
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    pairs = [(timed(bare), timed(lambda: list(map(len, loader)))) for _ in range(5)]
    assert min(own for _, own in pairs) < 1.8 * min(indexing for indexing, _ in pairs)


def test_sequential_sampler_is_the_default():
    assert isinstance(DataLoader(rows()).sampler, SequentialSampler)
    assert isinstance(DataLoader(rows(), shuffle=True).sampler, RandomSampler)
