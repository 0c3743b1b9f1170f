"""Random and stratified splits as pure functions of the seed.

    train, valid, test = split_indices(150, (0.7, 0.1, 0.2), seed=0, labels=species)

The same arguments give the same parts on every machine.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ganglion.errors import ArgumentError
from ganglion.rng import permutation

Indices = NDArray[np.int64]

SPLIT_STREAM: Final = 2 << 56  # random offsets that neither generators nor shuffles reach


def split_indices(
    count: int,
    fractions: Sequence[float],
    seed: int,
    labels: NDArray[Any] | None = None,
) -> list[Indices]:
    """Cut the numbers 0 to count - 1 into random parts; each part comes in ascending order.

    fractions: positive shares that add up to 1.
    labels: (count,), when given every class is cut by itself, so that each part holds
        `fraction * class size` of it, rounded up or down.

    Errors: `ArgumentError` for shares that do not add up, labels of another length and parts
    that would be empty.
    """
    _check_fractions(fractions)
    if labels is not None and len(labels) != count:
        raise ArgumentError(f"Expected {count} labels to stratify by, one a row; got {len(labels)}")
    groups = np.zeros(count, np.int64) if labels is None else _codes(labels)
    parts = _part_of_each(groups, np.cumsum(fractions)[:-1], permutation(count, seed, SPLIT_STREAM))
    found = [np.flatnonzero(parts == part) for part in range(len(fractions))]
    _check_parts(found, fractions, count)
    return found


def _check_fractions(fractions: Sequence[float]) -> None:
    if any(share <= 0 for share in fractions) or not np.isclose(sum(fractions), 1):
        raise ArgumentError(
            f"Split fractions must be positive and add up to 1, got {list(fractions)}."
        )


def _check_parts(parts: list[Indices], fractions: Sequence[float], count: int) -> None:
    if all(len(part) for part in parts):
        return
    sizes = ", ".join(str(len(part)) for part in parts)
    raise ArgumentError(
        f"{count} rows cannot be split into {len(parts)} parts by {list(fractions)}: "
        f"the parts would have {sizes} rows. Add rows or change the fractions."
    )


def _codes(labels: NDArray[Any]) -> Indices:
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64, copy=False)


def _part_of_each(groups: Indices, edges: NDArray[np.float64], order: Indices) -> Indices:
    """Part of every row: its random rank within its group, as a share, falls between edges."""
    rows = order[np.argsort(groups[order], kind="stable")]  # by group, in random order within
    sizes = np.bincount(groups, minlength=1)
    starts = np.cumsum(sizes) - sizes
    ranks = np.arange(len(rows)) - starts[groups[rows]]
    parts = np.empty(len(rows), np.int64)
    parts[rows] = np.searchsorted(edges, (ranks + 0.5) / sizes[groups[rows]], side="right")
    return parts
