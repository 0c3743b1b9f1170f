"""Sequences of different lengths: packed for recurrent layers, padded, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import ArgumentError, ArgumentTypeError, ShapeError
from ganglion.nn.ragged import Ragged, numbers
from ganglion.ops.along import index_select
from ganglion.ops.create import arange, zeros_like
from ganglion.ops.join import stack, unbind
from ganglion.ops.movement import SLICE, transpose
from ganglion.ops.pad import pad
from ganglion.ops.scatter import scatter
from ganglion.shapes import show
from ganglion.tensor import Tensor, wrap


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """Steps of several sequences, time by time; ``pack_padded_sequence`` and others make it.

    ``data`` (all steps, ...); ``batch_sizes`` says how many sequences have a step at each time;
    ``sorted_indices`` order the sequences by length, ``unsorted_indices`` order them back.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> Self:
        if unsorted_indices is None and sorted_indices is not None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The same with ``data`` converted, as by ``Tensor.to``."""
        return self._replace(data=self.data.to(*args, **kwargs))

    def cpu(self) -> Self:
        """Itself: everything is on the cpu."""
        return self

    def double(self) -> Self:
        """``data`` as float64."""
        return self.to(dt.float64)

    def float(self) -> Self:
        """``data`` as float32."""
        return self.to(dt.float32)

    def half(self) -> Self:
        """``data`` as float16."""
        return self.to(dt.float16)

    @property
    def is_cuda(self) -> bool:
        """False."""
        return False


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes another."""
    if permutation is None:
        return None
    count = arange(permutation._data.shape[0], dtype=permutation.dtype)
    return scatter(zeros_like(permutation), 0, permutation, count)


def pack_padded_sequence(
    input: Tensor,
    lengths: Tensor | Sequence[int],
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """The steps of padded sequences (T, B, ...), the first ``lengths[b]`` of each.

    Lengths decrease, unless ``enforce_sorted`` is False: then the sequences are sorted first.
    """
    known, order = numbers(lengths), None
    x = transpose(input, 0, 1) if batch_first else input
    _check_lengths(known, x)
    if not enforce_sorted:
        places = np.argsort([-n for n in known], kind="stable")
        known, order = [known[i] for i in places], wrap(places)
        x = index_select(x, 1, order)
    if known != sorted(known, reverse=True):
        raise ShapeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You "
            "can pass `enforce_sorted=False` to pack_padded_sequence to sidestep this requirement"
        )
    sizes = [sum(n > t for n in known) for t in range(known[0])]
    data = Ragged(sizes).packed(SLICE(x, key=(slice(len(sizes)),)))
    return PackedSequence(data, wrap(np.asarray(sizes, np.int64)), order)


def _check_lengths(lengths: list[int], x: Tensor) -> None:
    steps, batch = x._data.shape[:2]
    if len(lengths) != batch:
        raise ShapeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(lengths)} "
            f"(batch_size={batch})"
        )
    if not lengths or min(lengths) <= 0:
        raise ShapeError(
            f"Length of all samples has to be greater than 0, but got lengths {lengths}"
        )
    if max(lengths) > steps:
        raise ShapeError(
            f"Expected all lengths to be at most the number of steps, {steps}, got {lengths}"
        )


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Padded sequences (T, B, ...) in their first order, and their lengths."""
    ragged = Ragged(numbers(sequence.batch_sizes))
    if total_length is not None and total_length < ragged.steps:
        raise ArgumentError(
            "Expected total_length to be at least the length of the longest sequence in input, but "
            f"got total_length={total_length} and max sequence length being {ragged.steps}"
        )
    padded = ragged.blanked(ragged.padded(sequence.data, total_length), padding_value)
    lengths = wrap(ragged.lengths)
    if sequence.unsorted_indices is not None:
        padded = index_select(padded, 1, sequence.unsorted_indices)
        lengths = index_select(lengths, 0, sequence.unsorted_indices)
    return transpose(padded, 0, 1) if batch_first else padded, lengths


def pad_sequence(
    sequences: Tensor | Iterable[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences (L, ...) of different lengths as one tensor (T, B, ...), padded at one end."""
    if padding_side not in ("left", "right"):
        raise ShapeError(
            f"padding_side should be left or right but got padding_side={padding_side}"
        )
    if not isinstance(sequences, (Tensor, Iterable)):
        raise ArgumentTypeError(
            "pad_sequence: Expected iterable for input sequences, but got arg of type: "
            f"{type(sequences).__name__}"
        )
    listed = unbind(sequences) if isinstance(sequences, Tensor) else list(sequences)
    if not listed:
        raise ShapeError("received an empty list of sequences")
    _check_alike(listed)
    longest = max(x._data.shape[0] for x in listed)
    found = []
    for x in listed:
        more = longest - x._data.shape[0]
        ends = (more, 0) if padding_side == "left" else (0, more)
        found.append(pad(x, (*(0, 0) * (x.ndim - 1), *ends), value=padding_value) if more else x)
    return stack(found, 0 if batch_first else 1)


def _check_alike(sequences: Sequence[Tensor]) -> None:
    rest = sequences[0]._data.shape[1:]
    for x in sequences:
        if x._data.shape[1:] != rest:
            raise ShapeError(
                "sequences to pad differ in their first dimension only, got shapes "
                f"{show(sequences[0]._data.shape)} and {show(x._data.shape)}"
            )


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False
) -> list[Tensor]:
    """The sequences of a padded batch (T, B, ...), each of its own length."""
    each = unbind(padded_sequences, 0 if batch_first else 1)
    known = numbers(lengths)
    return [SLICE(x, key=(slice(n),)) for x, n in zip(each, known, strict=True)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (L, ...) of different lengths, packed."""
    lengths = [x._data.shape[0] for x in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed batch, each of its own length."""
    padded, lengths = pad_packed_sequence(packed_sequences)
    return unpad_sequence(padded, lengths)
