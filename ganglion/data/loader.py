"""DataLoader: batches of a data set, in an order that can be repeated and resumed.

    loader = DataLoader(dataset, batch_size=32, shuffle=True, seed=0)
    for x, y in loader: ...             # epoch 0, then 1, 2, ...
    state = loader.state_dict()         # {"seed": 0, "epoch": 0, "batches": 117}
    loader.load_state_dict(state)       # the next pass gives exactly the batches after these

The shuffled order is a pure function of (seed, epoch). Data sets that draw from the default
generator, and samplers that are not Ganglion's own and not deterministic, are not resumed exactly.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np

from ganglion.data.collate import default_collate, default_convert
from ganglion.data.dataset import (
    Dataset,
    IterableDataset,
    TensorDataset,
    batch_reader,
    samples,
    size,
)
from ganglion.data.prefetch import Prefetcher
from ganglion.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SeededSampler,
    SequentialSampler,
    whole_order,
)
from ganglion.errors import ArgumentError, CheckpointError
from ganglion.random import Generator
from ganglion.tensor import Tensor, wrap

T_co = TypeVar("T_co", covariant=True)
Collate = Callable[[Any], Any]


@dataclass
class _Position:
    """Where a pass stands: its epoch, and how many of its batches were handed out."""

    epoch: int = 0
    batches: int = 0
    begun: bool = False


class DataLoader(Generic[T_co]):
    """Iterates over a data set in batches; the arguments are PyTorch's.

    batch_size: samples a batch; None hands out single samples.
    shuffle: visit the samples in a new random order every epoch.
    sampler, batch_sampler: own order of samples, or own batches.
    num_workers: 0 makes batches when they are asked for; any more starts one thread (never a
        process) that keeps `prefetch_factor` (2) batches a worker ready.
    collate_fn: makes a batch of a list of samples. Without it, data sets of arrays are indexed
        once a batch, and others go through `default_collate`.
    drop_last: leave out a last batch that is shorter.
    timeout: seconds to wait for the thread, 0 for ever; worker_init_fn(0) runs in it first.
    generator: where the seed of the order comes from, the default generator unless given.
    seed: the seed itself.

    pin_memory, pin_memory_device, multiprocessing_context, persistent_workers and in_order are
    accepted for PyTorch's sake: there is no device memory and there are no processes, and batches
    always come in order.

    Errors: `ArgumentError` for arguments that PyTorch refuses.
    """

    def __init__(
        self,
        dataset: Dataset[T_co] | Sequence[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Collate | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], object] | None = None,
        multiprocessing_context: object = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        seed: int | None = None,
    ) -> None:
        _check_workers(num_workers, prefetch_factor, timeout)
        _check_order(dataset, batch_size, shuffle, sampler, batch_sampler, drop_last)
        self.dataset = dataset
        self.batch_size = batch_size if batch_sampler is None else None
        self.drop_last = drop_last
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.pin_memory = pin_memory
        self.sampler = sampler
        if sampler is None and not isinstance(dataset, IterableDataset):
            self.sampler = _default_sampler(dataset, bool(shuffle), generator, seed)
        self.batch_sampler = batch_sampler
        if batch_sampler is None and batch_size is not None and self.sampler is not None:
            self.batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)
        inner = getattr(self.batch_sampler, "sampler", self.sampler)
        self._random = inner if isinstance(inner, SeededSampler) else None
        batching = batch_size is not None or batch_sampler is not None
        self._read_batch = batch_reader(dataset) if batching and collate_fn is None else None
        self.collate_fn: Collate = collate_fn or (default_collate if batching else default_convert)
        self._position = _Position()

    # --- position -------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Number of the pass under way, or of the next one when none is."""
        return self._position.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch, from its first batch on."""
        self._position = _Position(epoch)

    @property
    def batches(self) -> int:
        """Batches of the current epoch that were handed out."""
        return self._position.batches

    @property
    def seed(self) -> int | None:
        """Seed of the order; None when nothing is random, or not yet drawn."""
        return None if self._random is None else self._random.seed

    def state_dict(self) -> dict[str, int | None]:
        """Seed, epoch and batches handed out, as JSON values; batches prefetched do not count."""
        here = self._position
        return {"seed": self.seed, "epoch": here.epoch, "batches": here.batches}

    def load_state_dict(self, state: Mapping[str, int | None]) -> None:
        """Continue from a `state_dict`: the next pass gives the rest of that epoch's batches.

        Errors: `CheckpointError` for a state that is not a loader's.
        """
        epoch, batches = state.get("epoch"), state.get("batches")
        if epoch is None or batches is None or "seed" not in state:
            raise CheckpointError(
                f"A DataLoader's state has seed, epoch and batches; got {dict(state)}."
            )
        if self._random is not None:
            self._random.set_seed(state["seed"])
        self._position = _Position(epoch, batches)

    # --- passes ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        if self.batch_sampler is not None:
            return size(self.batch_sampler)
        count = size(self.dataset if self.sampler is None else self.sampler)
        if self.batch_size is None:
            return count
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        return self._walk(self._begin(), self._fetch)

    @property
    def rows(self) -> TensorDataset | None:
        """The data set, if a batch is nothing but rows of its tensors; then there are `picks`."""
        data: Any = self.dataset
        simple = type(self) is DataLoader and type(data) is TensorDataset and not self.num_workers
        return data if simple and self._read_batch is not None else None

    def picks(self) -> Iterator[Tensor]:
        """A pass of its own kind: of each batch the numbers of its samples, (N,) int64."""
        return self._walk(self._begin(), self._pick)

    def _begin(self) -> _Position:
        if self._position.begun:  # the last pass was left early; its rest is not made up for
            self._position = _Position(self.epoch + 1)
        self._position.begun = True
        return self._position

    def _walk(self, here: _Position, fetch: Callable[[Any], Any]) -> Iterator[Any]:
        with closing(self._batches(here, fetch)) as batches:
            for batch in batches:
                here.batches += 1
                yield batch
        here.epoch, here.batches, here.begun = here.epoch + 1, 0, False

    def _batches(self, here: _Position, fetch: Callable[[Any], Any]) -> Any:
        """The batches from `here` on: a generator, or a thread that runs one."""
        if isinstance(self.dataset, IterableDataset):
            source = self._streamed(here.batches)
        else:
            source = (fetch(indices) for indices in self._indices(here))
        if not self.num_workers:
            return source
        begin = partial(self.worker_init_fn, 0) if self.worker_init_fn else None
        depth = self.num_workers * (self.prefetch_factor or 2)
        return Prefetcher(source, depth, self.timeout, begin)

    def _indices(self, here: _Position) -> Iterator[Any]:
        """Sample numbers of each batch (or single ones) from `here` on."""
        if self._random is not None:
            self._random.set_epoch(here.epoch)
        if type(self.batch_sampler) is BatchSampler:
            order = whole_order(self.batch_sampler.sampler)
            if order is not None:
                return _cut(order, self.batch_sampler, here.batches)
        batches = self.sampler if self.batch_sampler is None else self.batch_sampler
        assert batches is not None
        return islice(iter(batches), here.batches, None)

    def _fetch(self, indices: Any) -> Any:
        if self._read_batch is not None:
            return self._read_batch(np.asarray(indices, np.int64))
        if self.batch_sampler is None:
            return self.collate_fn(self.dataset[indices])
        numbers = indices.tolist() if isinstance(indices, np.ndarray) else indices
        return self.collate_fn(samples(self.dataset, numbers))

    def _pick(self, indices: Any) -> Tensor:
        return wrap(np.asarray(indices, np.int64))

    def _streamed(self, skip: int) -> Iterator[Any]:
        """Batches of an iterable data set; skipped ones are read and thrown away."""
        stream = iter(self.dataset)
        if self.batch_size is None:
            for sample in islice(stream, skip, None):
                yield self.collate_fn(sample)
            return
        stream = islice(stream, skip * self.batch_size, None)
        while batch := list(islice(stream, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield self.collate_fn(batch)


def get_worker_info() -> None:
    """None, as in PyTorch's main process: one reader sees the whole of a stream."""


def _cut(order: Any, sampler: BatchSampler, first: int) -> Iterator[Any]:
    for number in range(first, len(sampler)):
        yield order[number * sampler.batch_size : (number + 1) * sampler.batch_size]


def _default_sampler(
    dataset: Any, shuffle: bool, generator: Generator | None, seed: int | None
) -> Sampler[int]:
    if shuffle:
        return RandomSampler(dataset, generator=generator, seed=seed)
    return SequentialSampler(dataset)


def _check_workers(num_workers: int, prefetch_factor: int | None, timeout: float) -> None:
    if num_workers < 0 or timeout < 0:
        raise ArgumentError(
            f"num_workers and timeout must not be negative, got {num_workers} and {timeout}."
        )
    if prefetch_factor is not None and (prefetch_factor < 1 or num_workers == 0):
        raise ArgumentError(
            f"prefetch_factor={prefetch_factor} with num_workers={num_workers}: it is a number of "
            "batches from 1 on, and needs num_workers=1 or more."
        )


def _check_order(
    dataset: Any,
    batch_size: int | None,
    shuffle: bool | None,
    sampler: object,
    batch_sampler: object,
    drop_last: bool,
) -> None:
    """Raise for options that contradict each other."""
    own_order = shuffle or sampler is not None or batch_sampler is not None
    if isinstance(dataset, IterableDataset) and own_order:
        raise ArgumentError(
            "An IterableDataset decides the order itself: leave out shuffle, sampler and "
            "batch_sampler, and shuffle in its __iter__."
        )
    if sampler is not None and shuffle:
        raise ArgumentError("sampler and shuffle exclude each other; a sampler is the order.")
    other = batch_size != 1 or shuffle or sampler is not None or drop_last
    if batch_sampler is not None and other:
        raise ArgumentError(
            "batch_sampler excludes batch_size, shuffle, sampler and drop_last; it decides all."
        )
    if batch_size is None and drop_last:
        raise ArgumentError("drop_last needs batches; with batch_size=None there are none.")
