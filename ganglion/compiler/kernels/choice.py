"""How to compute a product: the form, the tile and the packing that an estimate finds cheapest.

Time is counted in slots of one vector multiplication each, of which a cycle has two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product as combinations

import ganglion.dtypes as dt
from ganglion.compiler.kernel import STORED, Layout
from ganglion.compiler.kernels.tile import AVX512, Target, natural_lanes, dot_group
from ganglion.shapes import Shape

LATENCY = 8  # slots until a sum can be added to again
LINE = 2.5  # a line of 64 bytes from the second cache, read in order
STRIDED_LINE = 5.0  # one that lies far from the line before it
ALIASED_LINE = 10.0  # one that competes with those before it for a place in the cache
PAGE = 4096  # lines so far apart, or a multiple, compete
NEAR = 24 << 10  # bytes that stay in the first cache besides all else
TILE = 30.0  # what a tile costs besides its products and its results
RESULT = 3.0  # what a vector of results costs
SCATTER = 32.0  # and if its elements lie apart
COPY = 0.3  # an element brought into a panel
TURN = 0.5  # an element brought into a panel whose lanes run elsewhere
KERNEL = 2000.0  # a kernel more: a barrier, and bytes that cross cores
THREADS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Side:
    """An operand seen from its tiles; strides in elements.

    ``across`` is the stride along rows of A or columns of B, ``along`` that of k. In panels,
    tiles begin ``panel`` elements apart; 0 if the operand is read where it lies.
    """

    offset: int
    batch: tuple[int, ...]
    across: int
    along: int
    panel: int = 0


@dataclass(frozen=True)
class Problem:
    """A product without dimensions of size 1: rows of ``left`` by columns of ``right``.

    ``dims`` are the result's dimensions that batch, rows and columns belong to, out of ``rank``.
    """

    dtype: dt.dtype
    batch: tuple[int, ...]
    rows: int
    columns: int
    k: int
    left: Side
    right: Side
    dims: tuple[int, ...]
    rank: int
