"""Random generators and the seed of the default one; the draws are in ``ganglion.ops.random``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from ganglion.dispatch import read, write
from ganglion.errors import ArgumentError, ArgumentTypeError
from ganglion.ops.movement import clone
from ganglion.ops.random import ADVANCE, Default
from ganglion.storage import device as as_device
from ganglion.tensor import Tensor, wrap

FIXED_SEED: Final = 67280421310721  # PyTorch's, for generators that are given none


def _state(seed: int, offset: int = 0) -> Tensor:
    low = seed & 0xFFFFFFFFFFFFFFFF
    return wrap(np.array([low, offset], np.uint64).view(np.int64))


class Generator:
    """A source of random numbers: ``state`` is an int64 tensor of its seed and its next offset."""

    def __init__(self, device: Any = "cpu") -> None:
        self.device = as_device(device)
        self.state = _state(FIXED_SEED)

    def manual_seed(self, seed: int) -> Generator:
        """Start anew from a seed; negative ones count down from 2**64."""
        if not -(2**63) <= int(seed) < 2**64:
            raise ArgumentError(f"a seed must lie between -2**63 and 2**64 - 1, got {seed}")
        write(self.state, _state(int(seed)))
        return self

    def seed(self) -> int:
        """Start anew from a seed of the system's randomness, and return it."""
        found = int.from_bytes(os.urandom(8), "little")
        self.manual_seed(found)
        return found

    def initial_seed(self) -> int:
        """The seed it was started from."""
        return int(read(self.state).view(np.uint64)[0])

    def next_offset(self) -> int:
        """Take the offset of one draw, for draws made outside the tensor library."""
        taken = int(read(self.state)[1])
        ADVANCE(self.state)
        return taken

    def get_state(self) -> Tensor:
        """A copy of the state."""
        return clone(self.state)

    def set_state(self, new_state: Tensor) -> None:
        """Go back to a state that ``get_state`` gave."""
        if not isinstance(new_state, Tensor) or tuple(new_state.shape) != (2,):
            raise ArgumentTypeError("set_state takes what get_state returned: an int64 tensor of 2")
        write(self.state, new_state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Generator:
        made = Generator(self.device)
        made.set_state(self.state)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.get_state(),)


def _restored(state: Tensor) -> Generator:
    made = Generator()
    made.set_state(state)
    return made


default_generator = Default.generator = Generator()
default_generator.seed()


def manual_seed(seed: int) -> Generator:
    """Start the default generator anew from a seed, and return it."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Start the default generator anew from the system's randomness; return the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the default generator was started from."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """A copy of the default generator's state."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Set the default generator back to a state that ``get_rng_state`` gave."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True) -> Iterator[None]:
    """Afterwards the default generator stands where it stood before the block."""
    before = get_rng_state()
    try:
        yield
    finally:
        if enabled:
            set_rng_state(before)
