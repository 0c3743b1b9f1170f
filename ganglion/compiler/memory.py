"""Memory for compiled steps: large pages, all of them in place before the first step.

The first touch of a page costs a fault, about as long as writing the page several times; inside
a step it would stop one thread while all others wait.
"""

from __future__ import annotations

import mmap
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

HUGE: Final = 2 << 20


def allocate(nbytes: int) -> Array:
    """Zeroed bytes, every page present; the memory is freed with the last view of it.

    It starts at a page, or at a large page when it fills one.
    """
    large = nbytes >= HUGE and hasattr(mmap, "MADV_HUGEPAGE")
    align = HUGE if large else mmap.PAGESIZE
    # private: a forked child gets a copy
    block = mmap.mmap(-1, nbytes + align, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if large:
        block.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(block, np.uint8)
    start = -whole.ctypes.data % align
    found = whole[start : start + nbytes]
    found[:: mmap.PAGESIZE] = 0
    return found


class Room:
    """The memory of steps of which one runs at a time; it grows to what the largest needs."""

    def __init__(self) -> None:
        self.blocks = [allocate(0), allocate(0)]

    def take(self, *sizes: int) -> list[Array]:
        """Blocks of at least these numbers of bytes, the same ones for every step if possible.

        Steps that came before keep the blocks they have; as sizes double, these are few.
        """
        for i, size in enumerate(sizes):
            present = self.blocks[i].nbytes
            if size > present:
                self.blocks[i] = allocate(max(size, 2 * present))
        return list(self.blocks)
