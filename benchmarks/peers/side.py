"""What a peer is to the benchmark."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Side:
    """One training step, or one forward pass, of one library.

    run: does it once, on the next batch, and is over when it returns.
    read: the array of what ``run`` returned, a loss or logits (N, classes).
    """

    run: Callable[[], Any]
    read: Callable[[Any], Array]


def in_turn(batches: Sequence[Any], run: Callable[..., Any]) -> Callable[[], Any]:
    """``run`` on the next batch at every call, round and round."""
    following = itertools.cycle(batches).__next__
    return lambda: run(*following())
