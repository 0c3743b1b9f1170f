"""From what users have - loaders, data sets, arrays - to batches of inputs and a target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import numpy as np

from ganglion.creation import from_numpy
from ganglion.data.dataset import Dataset, TensorDataset
from ganglion.data.loader import DataLoader
from ganglion.data.sampler import SeededSampler
from ganglion.dispatch import read
from ganglion.errors import ArgumentError, ArgumentTypeError, ShapeError
from ganglion.tensor import Tensor

TRAIN_BATCH: Final = 32
EVAL_BATCH: Final = 256

Batch = Any  # what a loader gives: a tensor, or a sequence of inputs and, last, the target


def training_loader(data: Any, batch_size: int | None, seed: int | None) -> DataLoader[Any]:
    """A loader that shuffles, unless ``data`` is a loader already."""
    return _loader(data, batch_size, TRAIN_BATCH, shuffle=True, seed=seed)


def plain_loader(data: Any, batch_size: int | None) -> DataLoader[Any]:
    """A loader in the order of the data, unless ``data`` is a loader already."""
    return _loader(data, batch_size, EVAL_BATCH, shuffle=False, seed=None)


def _loader(
    data: Any, batch_size: int | None, default: int, shuffle: bool, seed: int | None
) -> DataLoader[Any]:
    if isinstance(data, DataLoader):
        if batch_size is not None:
            raise ArgumentError("a DataLoader has its own batch size; leave batch_size out")
        return data
    size = default if batch_size is None else batch_size
    if not isinstance(data, Dataset):
        data = _dataset(data)
    shuffle = shuffle and hasattr(data, "__len__")  # a stream has its own order
    return DataLoader(data, size, shuffle=shuffle or None, seed=seed if shuffle else None)


def _dataset(data: Any) -> TensorDataset:
    arrays = data if isinstance(data, (tuple, list)) else (data,)
    if not all(isinstance(array, (Tensor, np.ndarray)) for array in arrays):
        raise ArgumentTypeError(
            f"expected a DataLoader, a Dataset, or arrays or tensors such as (x, y), got "
            f"{type(data).__name__}"
        )
    return TensorDataset(*arrays)


def picked(loader: DataLoader[Any]) -> TensorDataset | None:
    """The data set of a loader whose batches a compiled step can pick by itself, on all threads."""
    rows = loader.rows
    if rows is None or any(x.requires_grad or not _plain(read(x)) for x in rows.tensors):
        return None
    return rows


def _plain(array: Any) -> bool:
    return bool(array.flags.c_contiguous and array.dtype.kind in "fiub")


def unshuffled(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The loader itself; ``ArgumentError`` for one whose order is random."""
    inner = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if isinstance(inner, SeededSampler):
        raise ArgumentError(
            "predict() returns outputs in the loader's order, and this loader shuffles; give one "
            "with shuffle=False"
        )
    return loader


def inputs_and_target(batch: Batch) -> tuple[tuple[Any, ...], Any]:
    """Everything but the last is input; ``ArgumentTypeError`` when there is no target."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise ArgumentTypeError(
            f"a batch must be (inputs..., target) to compute a loss, got {type(batch).__name__}"
            f"{f' of {len(batch)}' if isinstance(batch, (tuple, list)) else ''}; for batches of "
            "another form override Trainer.compute"
        )
    *inputs, target = map(as_tensor, batch)
    return tuple(inputs), target


def inputs_alone(batch: Batch) -> tuple[Any, ...]:
    """The inputs of a batch with or without target."""
    if not isinstance(batch, (tuple, list)):
        return (as_tensor(batch),)
    return tuple(map(as_tensor, batch[:-1] if len(batch) > 1 else batch))


def as_tensor(value: Any) -> Any:
    """Arrays as tensors; everything else as it is."""
    return from_numpy(value) if isinstance(value, np.ndarray) else value


def count(batch: Batch) -> int:
    """Samples in a batch: the rows of its first tensor."""
    first = batch
    while isinstance(first, (tuple, list, dict)):
        first = next(iter(first.values() if isinstance(first, dict) else first))
    shape = getattr(getattr(first, "_data", first), "shape", ())  # a tensor's own takes longer
    if not shape:
        raise ShapeError(f"the samples of a batch cannot be counted: it starts with {first!r}")
    return int(shape[0])


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of ``size`` batches, the last one shorter."""
    walk = iter(batches)
    while group := list(islice(walk, size)):
        yield group
