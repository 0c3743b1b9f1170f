"""How to compute a product: the form, the tile and the packing that an estimate finds cheapest.

Time is counted in slots of one vector multiplication each; a cycle of the machine that the
numbers come from (Zen 5) has two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product as combinations

import ganglion.dtypes as dt
from ganglion.compiler.kernel import STORED, Layout
from ganglion.compiler.kernels.tile import AVX512, dot_group, natural_lanes
from ganglion.compiler.target import Target
from ganglion.shapes import Shape

LATENCY = 8  # slots until a sum can be added to again
LINE = 0.25  # a line of 64 bytes from the second cache, read in order
STRIDED_LINE = 0.3  # one that lies apart from the line before it
FAR_LINE = 0.5  # one that lies half a page from it or more
ALIASED_LINE = 6.0  # one that competes with those before it for a place in the cache
STREAM = 2.2  # a line that nothing else takes the time of
PAGE = 4096  # lines that many bytes apart, or a multiple, compete
WAYS = 8  # of such lines stay in the first cache
NEAR = 24 << 10  # bytes that stay in the first cache
FAR = 1 << 20  # bytes that do not stay in the second
TILE = 30.0  # what a tile costs besides its products and its results
RESULT = 3.0  # a vector of results
SCATTER = 100.0  # more, if its elements lie apart
MERGE = 1.5  # lanes along k brought together to one result
COPY = 0.4  # an element brought into a panel
TURN = 0.5  # an element brought into a panel across its run
KERNEL = 2000.0  # one kernel more: a barrier, and bytes that cross cores
THREADS = (1, 2, 4, 8)  # for which shares should be even
VARIANT = 0.01  # more, for tiles of another size: code to be compiled
SHARED = 16000.0  # if there is more work than this

TALLEST, WIDEST = 16, 16  # rows and vectors of a tile
MANY = 16  # tiles that keep several threads busy
CHUNK = 1024  # steps of k in a chunk of a long sum
SHORTEST_CHUNK = 256
LONG = 4 * CHUNK
SMALL_RESULT = 1 << 17
PARTIALS = 1 << 22  # elements in all partial results together
WORTH_THREADS = 1 << 20  # products


@dataclass(frozen=True)
class Side:
    """An operand, seen from its tiles; strides in elements.

    ``across`` is the stride along the rows of A or the columns of B, ``along`` that of k. In
    panels, the tiles begin ``panel`` elements apart; 0 for an operand read where it lies.
    """

    operand: int
    offset: int
    batch: tuple[int, ...]
    across: int
    along: int
    panel: int = 0


@dataclass(frozen=True)
class Problem:
    """Rows of ``left`` times columns of ``right``; batch dimensions of size 1 are left out.

    ``dims`` are the dimensions of the result, out of ``rank``, that batch, rows and columns are.
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

    @property
    def element(self) -> str:
        """LLVM's type of an element."""
        return STORED[self.dtype]

    @property
    def lanes(self) -> int:
        """Elements of a vector."""
        return natural_lanes(self.element)

    @property
    def results(self) -> int:
        """Elements of the result."""
        return math.prod(self.batch) * self.rows * self.columns

    @property
    def flipped(self) -> Problem:
        """The transposed product: columns become rows."""
        *batch, row, column = self.dims
        return replace(
            self, rows=self.columns, columns=self.rows, left=self.right, right=self.left,
            dims=(*batch, column, row),
        )  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """How to do a problem: ``flip`` it first; lanes along k if ``dotted``, else along columns."""

    flip: bool
    dotted: bool
    height: int
    width: int
    pack_left: bool = False
    pack_right: bool = False


def pose(a: Layout, b: Layout, result_shape: Shape) -> Problem:
    """The problem of two operands (..., m, k) and (..., k, n).

    If m is 1, a batch dimension along which B is shared takes the place of the rows; if n is 1,
    one along which A is shared that of the columns.
    """
    *sizes, m, n = result_shape
    rank = len(result_shape)
    batch = [i for i, size in enumerate(sizes) if size > 1]
    row = rank - 2 if m > 1 else _largest(batch, result_shape, b.strides, rank - 2)
    batch = [i for i in batch if i != row]
    column = rank - 1 if n > 1 else _largest(batch, result_shape, a.strides, rank - 1)
    batch = [i for i in batch if i != column]
    left = Side(0, a.offset, tuple(a.strides[i] for i in batch), a.strides[row], a.strides[-1])
    right = Side(1, b.offset, tuple(b.strides[i] for i in batch), b.strides[column], b.strides[-2])
    return Problem(
        a.dtype, tuple(sizes[i] for i in batch), result_shape[row], result_shape[column],
        a.shape[-1], left, right, (*batch, row, column), rank,
    )  # fmt: skip


def _largest(batch: list[int], shape: Shape, strides: tuple[int, ...], otherwise: int) -> int:
    """The largest batch dimension along which an operand is shared."""
    shared = [i for i in batch if strides[i] == 0]
    return max(shared, key=lambda i: shape[i], default=otherwise)


# --- a sum over k in chunks -----------------------------------------------------------------------


def chunks(problem: Problem) -> tuple[int, int]:
    """Into how many chunks to cut k, and their length; what is left over is one chunk more."""
    k, tiles = problem.k, _tile_count(problem, 8, 2 * problem.lanes)
    count = 1
    both = problem.rows > 8 and problem.columns > 2 * problem.lanes  # operands are read again
    if k >= LONG and problem.results <= SMALL_RESULT and both:
        count = k // CHUNK
    if tiles < MANY and problem.results * k >= WORTH_THREADS:
        count = max(count, min(-(-2 * MANY // tiles), k // SHORTEST_CHUNK))
    most = PARTIALS // problem.results
    count = min(count, most)
    if count < 2:
        return 1, k
    even = next((c for c in range(count, min(2 * count, most + 1)) if k % c == 0), count)
    return even, k // even


# --- the estimate ---------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def choose(problem: Problem, target: Target = AVX512) -> Choice:
    """The cheapest way. Whether lanes run along k, which bits depend on, is not the target's."""
    best = min(_candidates(problem, AVX512), key=lambda pair: pair[0])[1]
    if target == AVX512:
        return best
    same = (pair for pair in _candidates(problem, target) if pair[1].dotted == best.dotted)
    return min(same, key=lambda pair: pair[0])[1]


def _candidates(problem: Problem, target: Target) -> Iterator[tuple[float, Choice]]:
    for flip in (False, True) if problem.columns <= problem.lanes else (False,):
        p = problem.flipped if flip else problem
        result = RESULT + (SCATTER if flip and problem.columns > 1 else 0.0)
        if p.left.along == p.right.along == 1:
            for height in range(1, max(1, min(p.rows, target.sums // 4)) + 1):
                cost = _dots_cost(p, height, result, target)
                yield cost, Choice(flip, True, height, p.lanes)
        for pack_left, pack_right in _packings(p):
            packing = _packing_cost(p, pack_left, pack_right)
            for height, vectors in _tile_sizes(p, target):
                if pack_left and p.lanes % height:  # whole vectors are copied
                    continue
                cost = packing + _tiles_cost(p, height, vectors, result, pack_left, pack_right)
                choice = Choice(flip, False, height, vectors * p.lanes, pack_left, pack_right)
                yield cost, choice


def _packings(p: Problem) -> list[tuple[bool, bool]]:
    """Whether to pack (left, right): lanes must be neighbours, rows may be brought together."""
    left = [False, True] if p.left.across == 1 != p.left.along else [False]
    right = [False, True] if p.right.across == 1 or p.columns == 1 else [True]
    return list(combinations(left, right)) if p.k else [(False, False)]


def _tile_sizes(p: Problem, target: Target) -> Iterator[tuple[int, int]]:
    """Heights and vectors; rows that compete for places in the first cache must be few."""
    compete = p.left.along == 1 and p.left.across * p.dtype.numpy.itemsize % PAGE == 0
    tallest = min(WAYS if compete else TALLEST, p.rows)
    for vectors in range(1, min(WIDEST, -(-p.columns // p.lanes), target.sums) + 1):
        fitting = (target.sums + target.sums // 3 - 1) // vectors - 1  # beside a row of B
        highest = min(tallest, target.sums // vectors, max(1, fitting))
        lowest = min(highest, -(-LATENCY // vectors))
        for height in range(lowest, highest + 1):
            yield height, vectors


def _parts(size: int, step: int) -> list[tuple[int, int]]:
    """How many tiles of which size."""
    return [(n, s) for n, s in ((size // step, step), (1, size % step)) if n and s]


def _tile_count(p: Problem, height: int, width: int) -> int:
    return math.prod(p.batch) * -(-p.rows // height) * -(-p.columns // width)


def _all(p: Problem, each: float, height: int, width: int) -> float:
    """The cost of all batches, more if shares of several threads cannot be even."""
    short = (p.rows % height > 0) + (p.columns % width > 0)
    total = each * math.prod(p.batch) * (1 + VARIANT * short)
    if total < SHARED:
        return total
    tiles = _tile_count(p, height, width)
    longest = sum(-(-tiles // threads) * threads / tiles for threads in THREADS)
    return total * longest / len(THREADS)


def _tiles_cost(
    p: Problem, height: int, vectors: int, result: float, pack_left: bool, pack_right: bool
) -> float:
    width = vectors * p.lanes
    left = 0.0 if pack_left or p.left.along == 1 else _line(p, p.left, 64, p.columns > width)
    right = (
        _packed_line(p, width) if pack_right
        else _line(p, p.right, 64 * vectors, p.rows > height)
    )  # fmt: skip
    total = 0.0
    for (m, r), (n, c) in combinations(_parts(p.rows, height), _parts(p.columns, width)):
        v = -(-c // p.lanes)
        step = max(r * v, r + v, LATENCY) + left + right * v
        total += m * n * (step * p.k + TILE + result * r * v)
    return _all(p, total, height, width)


def _packed_line(p: Problem, width: int) -> float:
    return LINE if p.k * width * p.dtype.numpy.itemsize > NEAR else 0.0


def _line(p: Problem, side: Side, read: int, again: bool) -> float:
    """What a line costs of an operand in rows along k, of which ``read`` bytes each are wanted.

    Where a line lies matters if it is read ``again``.
    """
    stride = side.along * p.dtype.numpy.itemsize
    if not again:
        return LINE
    if stride % PAGE == 0 and stride and p.k > LATENCY:
        return ALIASED_LINE
    if p.k * read <= NEAR:
        return 0.0
    return FAR_LINE if stride >= PAGE // 2 else STRIDED_LINE


def _dots_cost(p: Problem, height: int, result: float, target: Target) -> float:
    total = 0.0
    for (m, r), (n, c) in combinations(_parts(p.rows, height), _parts(p.columns, p.lanes)):
        step = _dots_step(p, r, c, target)
        total += m * n * (step * -(-p.k // p.lanes) + TILE + r * (result + MERGE * c))
    return _all(p, total, height, p.lanes)


def _dots_step(p: Problem, rows: int, columns: int, target: Target) -> float:
    """A vector of k for a tile: its multiplications, or the lines that they wait for."""
    row = p.k * p.dtype.numpy.itemsize
    groups = _parts(columns, dot_group(rows, p.lanes, target))
    slots = sum(n * max(rows * g, rows + g, LATENCY) for n, g in groups)
    left, right = (_farness(size * row) for size in (p.rows, p.columns))
    kept = (rows + groups[0][1]) * row <= 2 * NEAR  # rows stay near for the next group
    times = 1 if kept else sum(n for n, _ in groups)
    return max(slots, STREAM * (columns * right + rows * left * times)) + LINE * columns * right


def _farness(bytes: int) -> int:
    """In which cache an operand is: the first (0), the second (1) or one behind (2)."""
    return (bytes > NEAR) + (bytes > FAR)


def _packing_cost(p: Problem, pack_left: bool, pack_right: bool) -> float:
    cost = 0.0
    for packs, side, size in ((pack_left, p.left, p.rows), (pack_right, p.right, p.columns)):
        if packs:
            shared = zip(p.batch, side.batch, strict=True)
            elements = size * p.k * math.prod(n for n, stride in shared if stride)
            cost += KERNEL + elements * (COPY if side.across == 1 else TURN)
    return cost
