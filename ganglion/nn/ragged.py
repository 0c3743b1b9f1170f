"""Where the steps of sequences of different lengths stand, packed and padded.

Padded, a batch is (time, batch, ...). Packed, the steps at time 0 of all sequences come first, then
those at time 1, and so on; longer sequences stand before shorter ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ganglion.ops.index import INDEX
from ganglion.ops.movement import reshape
from ganglion.ops.select import masked_fill
from ganglion.ops.stacked import Layer, whole
from ganglion.tensor import Tensor, wrap

Array = np.ndarray[Any, Any]


def numbers(x: Tensor | Sequence[int]) -> list[int]:
    """Lengths or batch sizes as Python numbers.

    A tensor made of known numbers while a step is traced is not part of the step: it may be read.
    """
    if not isinstance(x, Tensor):
        return [int(n) for n in x]
    known = isinstance(x._data, np.ndarray)
    return x._data.tolist() if known else x.tolist()  # type: ignore[no-any-return]


def _taken(x: Tensor, places: Array) -> Tensor:
    """The rows of ``x`` at positions."""
    return INDEX(x, wrap(places), dims=(0,), wrap=False)  # type: ignore[no-any-return]


class Ragged:
    """A batch of sequences, from how many of them have a step at each time."""

    def __init__(self, batch_sizes: Sequence[int]) -> None:
        self.sizes = np.asarray(batch_sizes, np.int64)
        self.steps, self.batch = len(self.sizes), int(self.sizes[0])
        self.there = np.arange(self.batch) < self.sizes[:, None]  # (time, batch)
        self.lengths = self.there.sum(axis=0)

    def packed(self, x: Tensor) -> Tensor:
        """(time, batch, ...) to (all steps, ...)."""
        rest = x._data.shape[2:]
        return _taken(reshape(x, (-1, *rest)), np.flatnonzero(self.there))

    def padded(self, x: Tensor, length: int | None = None) -> Tensor:
        """(all steps, ...) to (time, batch, ...); steps that are not there repeat the first."""
        starts = np.cumsum(self.sizes) - self.sizes
        column = np.arange(self.batch)
        places = np.where(self.there, starts[:, None] + column, column)
        more = (length or self.steps) - self.steps
        return _taken(x, np.concatenate((places, np.tile(column, (more, 1)))))

    def blanked(self, x: Tensor, value: float) -> Tensor:
        """``x`` (time, batch, ...) with one value where no step is."""
        missing = np.ones(x._data.shape[:2], bool)
        missing[: self.steps] = ~self.there
        shape = (*missing.shape, *(1,) * (x.ndim - 2))
        return masked_fill(x, wrap(missing.reshape(shape)), value)

    def walk(
        self,
        layer: Layer,
        x: Tensor,
        states: Sequence[Tensor],
        weights: Sequence[Tensor | None],
        reverse: bool,
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """One layer over padded sequences: output and final states.

        What it computes after a sequence's end goes nowhere and takes no gradient.
        """
        if self.there.all():
            return whole(layer, x, states, weights, reverse)
        x = self._turned(x) if reverse else x
        found = layer(x, states, weights, False)
        final = [_taken(_flat(sequence), self._at(self.lengths - 1)) for sequence in found]
        return self._turned(found[0]) if reverse else found[0], final

    def _at(self, time: Array) -> Array:
        return time * self.batch + np.arange(self.batch)

    def _turned(self, x: Tensor) -> Tensor:
        """Every sequence from its last step to its first."""
        time = np.arange(self.steps)[:, None]
        return _taken(_flat(x), self._at(np.where(self.there, self.lengths - 1 - time, time)))


def _flat(x: Tensor) -> Tensor:
    return reshape(x, (-1, x._data.shape[2]))
