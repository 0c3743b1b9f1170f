"""Data sets: what gives sample number i, and, for arrays, many samples in one indexing.

A data set may define `__getbatch__(indices)`, which returns the finished batch of those samples.
`DataLoader` uses it unless the caller brings an own `collate_fn`; a subclass that overrides
`__getitem__` alone is asked sample by sample again.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ganglion.creation import from_numpy
from ganglion.dispatch import read
from ganglion.errors import ArgumentError, IndexingError, ShapeError
from ganglion.ops.random import randperm
from ganglion.random import Generator
from ganglion.tensor import Tensor, wrap

T_co = TypeVar("T_co", covariant=True)
Indices = NDArray[np.int64]


class Dataset(Generic[T_co]):
    """Samples by number; subclasses define `__getitem__` and `__len__`."""

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index).")

    def __add__(self, other: "Dataset[Any]") -> "ConcatDataset[Any]":
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Samples in the order of a stream; subclasses define `__iter__`."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__().")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Rows of tensors (or arrays) that have the same size in their first dimension.

    Errors: `ShapeError` when they have not.
    """

    def __init__(self, *tensors: Tensor | NDArray[Any]) -> None:
        if not tensors:
            raise ArgumentError("TensorDataset() needs at least one tensor.")
        self.tensors = tuple(
            tensor if isinstance(tensor, Tensor) else from_numpy(tensor) for tensor in tensors
        )
        if any(tensor.ndim == 0 or len(tensor) != len(self) for tensor in self.tensors):
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in self.tensors)
            raise ShapeError(f"TensorDataset expects tensors with equally many rows, got {shapes}.")

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0]) if self.tensors[0].ndim else 0

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getbatch__(self, indices: Indices) -> list[Tensor]:
        return [_rows(tensor, indices) for tensor in self.tensors]


def _rows(tensor: Tensor, indices: Indices) -> Tensor:
    """A copy of these rows: one NumPy indexing, unless gradients must flow to the data."""
    if tensor.requires_grad:
        return tensor[from_numpy(indices)]
    array = read(tensor)  # `take` is quicker, but copies the whole of an array that lies otherwise
    return wrap(array.take(indices, 0) if array.flags.c_contiguous else array[indices])


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`, in that order."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: Sequence[int]) -> list[T_co]:
        return samples(self.dataset, [self.indices[i] for i in indices])

    def __getbatch__(self, indices: Indices) -> Any:
        read = batch_reader(self.dataset)
        assert read is not None, "only called when the data set makes batches"
        return read(np.asarray(self.indices, np.int64)[indices])


class ConcatDataset(Dataset[T_co]):
    """Data sets one after the other."""

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ArgumentError("ConcatDataset([]) needs at least one data set.")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise ArgumentError("ConcatDataset cannot number the samples of an IterableDataset.")
        self.cumulative_sizes = list(accumulate(map(size, self.datasets)))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        if not -len(self) <= index < len(self):
            raise IndexingError(f"Sample {index} of a data set with {len(self)} samples.")
        index %= len(self)
        part = bisect_right(self.cumulative_sizes, index)
        start = self.cumulative_sizes[part - 1] if part else 0
        return self.datasets[part][index - start]


def size(dataset: Any) -> int:
    """Number of samples; `ArgumentError` for a data set without `__len__`."""
    if not hasattr(dataset, "__len__"):
        raise ArgumentError(
            f"{type(dataset).__name__} has no __len__, which is needed to number its samples."
        )
    return len(dataset)


def samples(dataset: Any, indices: Sequence[int]) -> list[Any]:
    """These samples as a list, by the data set's `__getitems__` when it has one."""
    if hasattr(dataset, "__getitems__"):
        return list(dataset.__getitems__(indices))
    return [dataset[index] for index in indices]


def batch_reader(dataset: Any) -> Callable[[Indices], Any] | None:
    """`__getbatch__` of a data set; None without one, and when a subclass has own samples only."""
    for kind in type(dataset).__mro__:
        if "__getbatch__" in vars(kind):
            able = not isinstance(dataset, Subset) or batch_reader(dataset.dataset)
            return dataset.__getbatch__ if able else None
        if "__getitem__" in vars(kind) or "__getitems__" in vars(kind):
            return None
    return None


def random_split(
    dataset: Dataset[T_co],
    lengths: Sequence[int | float],
    generator: Generator | None = None,
) -> list[Subset[T_co]]:
    """Cut a data set at random into parts of these lengths, or these fractions of 1.

    Fractions are rounded down and the samples left over go to the first parts, one each.

    Errors: `ArgumentError` when the lengths do not add up to the data set's.
    """
    count = size(dataset)
    sizes = _lengths(lengths, count)
    if sum(sizes) != count:
        raise ArgumentError(
            f"random_split() lengths {list(lengths)} add up to {sum(sizes)}, but the data set has "
            f"{count} samples. Give lengths that fit, or fractions that add up to 1."
        )
    order = randperm(count, generator=generator).tolist()
    ends = accumulate(sizes)
    return [Subset(dataset, order[end - n : end]) for n, end in zip(sizes, ends, strict=True)]


def _lengths(lengths: Sequence[int | float], count: int) -> list[int]:
    if any(length < 0 for length in lengths):
        raise ArgumentError(f"random_split() lengths must not be negative, got {list(lengths)}.")
    if not math.isclose(sum(lengths), 1):
        return [int(length) for length in lengths]
    sizes = [math.floor(count * share) for share in lengths]
    left = count - sum(sizes)
    return [n + left // len(sizes) + (i < left % len(sizes)) for i, n in enumerate(sizes)]
