"""The matrix product: C[..., m, n] = sum over k of A[..., m, k] B[..., k, n].

``product`` writes a plan for operands with any strides; the result goes through an epilogue. What
is done follows from shapes and strides alone (``choose``): lanes along n or m (``tile``) or along
k (``dots``), operands read where they lie or brought into panels first. A long k over a small
result is cut into chunks, whose sums are added in order. So the bits of a result depend neither on
the number of threads nor on the size of the registers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Epilogue, Kernel, Layout, Plan, Tile, packed, stored
from ganglion.compiler.kernels.choice import Choice, Problem, Side, choose, chunks
from ganglion.compiler.kernels.grid import Axis, Grid, Spot, cut
from ganglion.compiler.kernels.pack import panels
from ganglion.compiler.kernels.tile import (
    AVX512,
    Registers,
    Target,
    dots,
    load_lanes,
    natural_lanes,
    tile,
    zeros,
)
from ganglion.compiler.text import Code, Reg, is_float, vector
from ganglion.shapes import Shape

TASKS = 32  # so many at least, where there are as many tiles: even shares for several threads
BLOCK = 1 << 18  # bytes of A that a task goes through: they stay in the second cache


def product(
    a: Layout,
    b: Layout,
    epilogue: Epilogue,
    result_shape: Shape,
    *,
    target: Target = AVX512,
) -> Plan:
    """The product of a: (..., m, k) and b: (..., k, n), handed to ``epilogue`` tile by tile.

    Any strides; an operand that is shared along a batch dimension has stride 0 there. The
    caller's operands are (a, b); tiles are indexed by (..., m, n).
    """
    builder = _Builder(epilogue)
    if math.prod(result_shape):
        _multiply(builder, a, b, epilogue, builder.results, result_shape, target)
    return builder.plan()


@dataclass
class _Builder:
    """A plan in the making. Operands 0 and 1 are the caller's, then come the epilogue's."""

    epilogue: Epilogue
    temporaries: list[Layout] = field(default_factory=list)
    steps: list[tuple[Kernel, tuple[int, ...]]] = field(default_factory=list)

    @property
    def results(self) -> tuple[int, ...]:
        """The numbers of the epilogue's operands."""
        return tuple(range(2, 2 + len(self.epilogue.operands)))

    def temporary(self, layout: Layout) -> int:
        """The number of a new buffer."""
        self.temporaries.append(layout)
        return 1 + len(self.results) + len(self.temporaries)

    def plan(self) -> Plan:
        """What was built."""
        return Plan(tuple(self.temporaries), tuple(self.steps))
