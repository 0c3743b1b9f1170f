"""Samplers: the order in which samples are visited.

The random ones are pure functions of (seed, epoch). Their seed is drawn from `generator`, or from
the default one, when it is first needed; every pass advances the epoch, unless `set_epoch` says
which one comes next. A `DataLoader` sets the epoch itself.
"""

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ganglion.data.dataset import size
from ganglion.errors import ArgumentError
from ganglion.random import Generator, default_generator
from ganglion.rng import integers, permutation, uniform

T_co = TypeVar("T_co", covariant=True)
Indices = NDArray[np.int64]

SHUFFLE_STREAM: Final = 1 << 56  # random offsets that generators do not reach


class Sampler(Generic[T_co]):
    """Iterates over sample numbers, or over lists of them; subclasses define `__iter__`."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__().")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ... to the end of `data_source`."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __len__(self) -> int:
        return size(self.data_source)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def order(self) -> Indices:
        """All numbers at once."""
        return np.arange(len(self))


class SeededSampler(Sampler[int]):
    """Base of the random samplers: subclasses define `__len__` and `draw(seed, offset)`."""

    def __init__(self, generator: Generator | None = None, seed: int | None = None) -> None:
        self.generator = generator
        self.epoch = 0
        self._seed = seed

    @property
    def seed(self) -> int | None:
        """The seed, or None before the first pass of a sampler that has to draw one."""
        return self._seed

    def set_seed(self, seed: int | None) -> None:
        """Order by this seed from the next pass on; None draws a new one."""
        self._seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Number of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        raise NotImplementedError

    def draw(self, seed: int, offset: int) -> Indices:
        """Sample numbers from the random stream at (seed, offset)."""
        raise NotImplementedError

    def order(self) -> Indices:
        """All numbers of the current epoch at once."""
        if self._seed is None:
            self._seed = draw_seed(self.generator)
        return self.draw(self._seed, SHUFFLE_STREAM + self.epoch)

    def __iter__(self) -> Iterator[int]:
        order = self.order()
        self.epoch += 1
        return iter(order.tolist())


def draw_seed(generator: Generator | None = None) -> int:
    """A seed below 2**63 from the next random numbers of `generator`, or of the default one."""
    source = generator or default_generator
    return int(integers(source.initial_seed(), source.next_offset(), 0, 2**63, 1)[0])


class RandomSampler(SeededSampler):
    """Samples in random order, or drawn with replacement.

    num_samples: how many a pass gives; all by default. More than there are begin again in a new
        random order.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__(generator, seed)
        if num_samples is not None and num_samples <= 0:
            raise ArgumentError(f"RandomSampler: num_samples must be positive, got {num_samples}.")
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples

    def __len__(self) -> int:
        return size(self.data_source) if self._num_samples is None else self._num_samples

    def draw(self, seed: int, offset: int) -> Indices:
        count, wanted = size(self.data_source), len(self)
        if not wanted:
            return np.empty(0, np.int64)
        if self.replacement:
            return integers(seed, offset, 0, count, wanted)
        rounds = range(-(-wanted // count))
        orders = [permutation(count, seed, offset + (again << 40)) for again in rounds]
        return np.concatenate(orders)[:wanted]


class SubsetRandomSampler(SeededSampler):
    """The given sample numbers in random order."""

    def __init__(
        self,
        indices: Sequence[int],
        generator: Generator | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__(generator, seed)
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def draw(self, seed: int, offset: int) -> Indices:
        return np.asarray(self.indices, np.int64)[permutation(len(self), seed, offset)]


class WeightedRandomSampler(SeededSampler):
    """Samples drawn with probabilities proportional to `weights`, which need not add up to 1.

    replacement=False draws every sample at most once (Efraimidis & Spirakis 2006).
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__(generator, seed)
        self.weights = np.asarray(weights, np.float64)
        self.num_samples = num_samples
        self.replacement = replacement
        self._check()

    def _check(self) -> None:
        valid = self.weights.ndim == 1 and np.isfinite(self.weights).all()
        if not valid or (self.weights < 0).any() or not self.weights.sum() > 0:
            raise ArgumentError(
                "WeightedRandomSampler: weights must be one row of finite numbers, none negative "
                "and not all zero."
            )
        available = int(np.count_nonzero(self.weights))
        if self.num_samples <= 0 or (not self.replacement and self.num_samples > available):
            raise ArgumentError(
                f"WeightedRandomSampler: cannot draw {self.num_samples} of {available} samples "
                f"with replacement={self.replacement}."
            )

    def __len__(self) -> int:
        return self.num_samples

    def draw(self, seed: int, offset: int) -> Indices:
        if self.replacement:
            edges = np.cumsum(self.weights)
            edges /= edges[-1]  # the last is exactly 1, above every point
            points = uniform(seed, offset, self.num_samples, "float64")
            return np.searchsorted(edges, points, side="right").astype(np.int64)
        chances = 1 - uniform(seed, offset, len(self.weights), "float64")  # in (0, 1]
        with np.errstate(divide="ignore"):
            waits = np.where(self.weights > 0, -np.log(chances) / self.weights, np.inf)
        return np.argsort(waits, kind="stable")[: self.num_samples].astype(np.int64)


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` numbers from `sampler`; the last, shorter one unless `drop_last`."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
            raise ArgumentError(f"batch_size must be a positive integer, got {batch_size!r}.")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __len__(self) -> int:
        count = size(self.sampler)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        batch = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch


def whole_order(sampler: Any) -> Indices | None:
    """All numbers of a sampler of ours at once; None for one that must be iterated."""
    if isinstance(sampler, SeededSampler | SequentialSampler) and not _iterates_itself(sampler):
        return sampler.order()
    return None


def _iterates_itself(sampler: SeededSampler | SequentialSampler) -> bool:
    return type(sampler).__iter__ not in {SeededSampler.__iter__, SequentialSampler.__iter__}
