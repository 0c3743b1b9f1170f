"""From a list of samples to a batch: PyTorch's default rules."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganglion.creation import from_numpy, tensor
from ganglion.errors import ArgumentTypeError, ShapeError
from ganglion.ops.join import stack
from ganglion.tensor import Tensor

Batch = Any


def default_collate(batch: Sequence[Any]) -> Batch:
    """Stack samples along a new first dimension, inside whatever containers they come in.

    Tensors and arrays become tensors; Python numbers int64, float64 or bool tensors. Strings and
    bytes stay as they are. Mappings, named tuples and lists keep their type; tuples become lists.

    Errors: `ShapeError` for samples of different shape or length; `ArgumentTypeError` for
    samples of another type.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        _same_shapes([tuple(sample.shape) for sample in batch])
        return stack(list(batch), 0)
    if isinstance(first, np.ndarray | np.generic):
        return _stacked(batch)
    if isinstance(first, bool | int):
        return tensor(list(batch))
    if isinstance(first, float):
        return from_numpy(np.array(batch, np.float64))
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        return _rebuilt(first, {key: default_collate([s[key] for s in batch]) for key in first})
    if isinstance(first, Sequence):
        return _collate_sequences(batch)
    raise _unknown(first, "Give the DataLoader a collate_fn that makes a batch of a list of them.")


def default_convert(sample: Any) -> Any:
    """Arrays and NumPy numbers as tensors, inside whatever containers; the rest unchanged."""
    if isinstance(sample, np.ndarray | np.generic):
        return from_numpy(np.array(sample)) if sample.dtype.kind in "biufc" else sample
    if isinstance(sample, Mapping):
        return _rebuilt(sample, {key: default_convert(value) for key, value in sample.items()})
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return type(sample)(*map(default_convert, sample))
    if isinstance(sample, Sequence) and not isinstance(sample, str | bytes):
        return [default_convert(value) for value in sample]
    return sample


def _stacked(batch: Sequence[Any]) -> Tensor:
    _same_shapes([np.shape(sample) for sample in batch])
    array = np.stack(batch)
    if array.dtype.kind in "OSUMm":
        raise _unknown(batch[0], "Convert it to numbers in the data set.")
    return from_numpy(array)


def _collate_sequences(batch: Sequence[Any]) -> Any:
    first = batch[0]
    lengths = {len(sample) for sample in batch}
    if len(lengths) > 1:
        raise ShapeError(f"Samples of one batch have different lengths: {sorted(lengths)}.")
    parts = [default_collate(part) for part in zip(*batch, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else parts


def _rebuilt(like: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    try:
        return type(like)(items)  # type: ignore[call-arg]
    except TypeError:  # a mapping whose constructor takes something else
        return items


def _same_shapes(shapes: Sequence[tuple[int, ...]]) -> None:
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ShapeError(
                f"Samples of one batch must have one shape; sample 0 has {shapes[0]} and sample "
                f"{number} has {shape}. Pad or crop them, or give the DataLoader a collate_fn."
            )


def _unknown(sample: Any, remedy: str) -> ArgumentTypeError:
    kind = f"{type(sample).__module__}.{type(sample).__name__}"
    dtype = f" of dtype {sample.dtype}" if hasattr(sample, "dtype") else ""
    return ArgumentTypeError(f"Samples of type {kind}{dtype} cannot be made a batch. {remedy}")
