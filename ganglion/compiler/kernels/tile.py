"""The register tile: a block of a matrix product that stays in registers over the whole k loop.

Products, convolutions, recurrent layers and attention are made of it. ``tile`` puts lanes along
the columns of B, ``dots`` along k; ``transpose`` turns a square of registers around. In which
tile an element lies never changes its bits: each of the two forms sums over k in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ganglion.compiler.target import TARGETS, Target
from ganglion.compiler.text import (
    BYTES,
    Code,
    Index,
    Reg,
    const,
    element_of,
    first_lanes,
    is_float,
    lanes_of,
    vector,
)

Registers = list[list[Reg]]
Step = Callable[[Index, Registers], Registers]


AVX512 = TARGETS["avx512"]
AVX2 = TARGETS["avx2"]


def natural_lanes(element: str) -> int:
    """Elements of a virtual vector: 64 bytes, and at most 16 elements."""
    return min(16, 64 // BYTES[element])


def multiply_add(code: Code, x: Reg, y: Reg, z: Reg) -> Reg:
    """``x * y + z``; floats in one rounding."""
    if is_float(x.type):
        return code.fma(x, y, z)
    return code.op("add", code.op("mul", x, y), z)


def add(code: Code, x: Reg, y: Reg) -> Reg:
    """``x + y``, floats or integers."""
    return code.op("fadd" if is_float(x.type) else "add", x, y)


def zeros(rows: int, vectors: int, type: str) -> Registers:
    """A tile of nothing yet."""
    return [[const(0, type)] * vectors for _ in range(rows)]


def load_lanes(code: Code, pointer: Reg, type: str, count: int) -> Reg:
    """The first ``count`` lanes from consecutive places; the others are zero and not read."""
    zero = const(0, type)
    if count <= 0:
        return zero
    if count < zero.lanes:
        return code.masked_load(pointer, first_lanes(count, zero.lanes), zero)
    return code.load(pointer, type)


def tile(
    code: Code,
    rows: Sequence[int],
    vectors: int | Sequence[int],
    k: Index,
    a: Reg,
    a_step: int,
    b: Reg,
    b_step: int,
    *,
    initial: Sequence[Sequence[Reg]] | None = None,
    columns: int | None = None,
    element: str = "float",
    lanes: int = 0,
    unroll: int = 1,
) -> Registers:
    """``[r][v]``: sum over k of ``a[rows[r] + k * a_step] * b[vectors[v] + k * b_step + lane]``.

    ``rows`` and ``vectors`` are offsets in elements; a number of vectors means consecutive ones.
    ``initial`` is what the sums start from (zero). ``columns``: how many lanes, counted through
    all vectors, are read from B (all). A ``k`` known only at run time must be positive.
    """
    lanes = lanes or natural_lanes(element)
    type = vector(element, lanes)
    offsets = range(0, vectors * lanes, lanes) if isinstance(vectors, int) else vectors
    columns = len(offsets) * lanes if columns is None else columns

    def once(at: Index, sums: Registers) -> Registers:
        left = code.at_index(a, code.mul(at, a_step), element)
        right = code.at_index(b, code.mul(at, b_step), element)
        loaded = [
            load_lanes(code, code.at_index(right, offset, element), type, columns - v * lanes)
            for v, offset in enumerate(offsets)
        ]
        result = []
        for row, before in zip(rows, sums, strict=True):
            x = code.broadcast(code.at_index(left, row, element), element, lanes)
            pairs = zip(loaded, before, strict=True)
            result.append([multiply_add(code, x, y, s) for y, s in pairs])
        return result

    if initial is None:
        initial = zeros(len(rows), len(offsets), type)
    return summed(code, k, initial, once, unroll=unroll)


def summed(
    code: Code,
    k: Index,
    initial: Sequence[Sequence[Reg]],
    once: Step,
    *,
    step: int = 1,
    unroll: int = 1,
) -> Registers:
    """Carry a tile of sums through ``once(at, sums)`` for ``at`` = 0, step, ... below ``k``."""
    sums = [list(row) for row in initial]
    wide, stride = len(sums[0]), step * unroll
    whole = k - k % stride if isinstance(k, int) else k
    assert unroll == 1 or isinstance(k, int), "a k known at run time is not unrolled"

    def body(at: Index, *carried: Reg) -> list[Reg]:
        sums = _in_rows(carried, wide)
        for u in range(unroll):
            sums = once(code.add(at, u * step), sums)
        return _flat(sums)

    if whole != 0:
        sums = _in_rows(code.loop(0, whole, stride, _flat(sums), body), wide)
    if isinstance(k, int) and isinstance(whole, int):
        for at in range(whole, k, step):
            sums = once(at, sums)
    return sums


def _flat(sums: Registers) -> list[Reg]:
    return [s for row in sums for s in row]


def _in_rows(flat: Sequence[Reg], wide: int) -> Registers:
    return [list(flat[i : i + wide]) for i in range(0, len(flat), wide)]


def dots(
    code: Code,
    rows: Sequence[int],
    columns: Sequence[int],
    k: int,
    a: Reg,
    b: Reg,
    *,
    element: str = "float",
    lanes: int = 0,
    target: Target = AVX512,
) -> list[Reg]:
    """``[r]``, lane c: sum over k of ``a[rows[r] + k] * b[columns[c] + k]``.

    At most ``lanes`` columns; the lanes after them are junk. Lanes run along k inside and are
    summed by one fixed tree at the end.
    """
    lanes = lanes or natural_lanes(element)
    type = vector(element, lanes)
    group = dot_group(len(rows), lanes, target)
    groups = []
    for first in range(0, len(columns), group):
        sums = _dot_sums(code, rows, columns[first : first + group], k, a, b, type)
        groups.append([_merged(code, row, group, lanes) for row in sums])
    return [_merged(code, row, lanes // group, lanes // group) for row in zip(*groups, strict=True)]


def dot_group(rows: int, lanes: int, target: Target) -> int:
    """As many columns at a time, a power of two, as leave the sums of ``dots`` in registers."""
    return 1 << (max(1, min(lanes, target.sums // rows)).bit_length() - 1)


def _dot_sums(
    code: Code, rows: Sequence[int], columns: Sequence[int], k: int, a: Reg, b: Reg, type: str
) -> Registers:
    """Sums with lanes along k, a register for each row and column."""
    element, lanes = element_of(type), lanes_of(type)

    def once(at: Index, sums: Registers) -> Registers:
        count = k - at if isinstance(at, int) else lanes

        def load(pointer: Reg, offset: int) -> Reg:
            here = code.at_index(code.at_index(pointer, at, element), offset, element)
            return load_lanes(code, here, type, count)

        right = [load(b, column) for column in columns]
        result = []
        for row, before in zip(rows, sums, strict=True):
            x = load(a, row)
            pairs = zip(right, before, strict=True)
            result.append([multiply_add(code, x, y, s) for y, s in pairs])
        return result

    return summed(code, k, zeros(len(rows), len(columns), type), once, step=lanes)


def _merged(code: Code, sums: Sequence[Reg], count: int, width: int) -> Reg:
    """``count`` sums, each in blocks of ``width`` lanes still to be added, become one register.

    Sums that are missing at the end leave junk behind.
    """
    lanes, row = sums[0].lanes, list(sums)
    while count > 1:
        row += row[-1:] * (len(row) % 2)
        row = [_pair(code, x, y, width, lanes) for x, y in zip(row[::2], row[1::2], strict=True)]
        count, width = count // 2, width // 2
    return row[0]


def _pair(code: Code, x: Reg, y: Reg, width: int, lanes: int) -> Reg:
    """Halves of all blocks of ``width`` lanes added, those of x before those of y."""
    lower = [i for i in range(2 * lanes) if i % width < width // 2]
    upper = [i + width // 2 for i in lower]
    return add(code, code.shuffle(x, y, lower), code.shuffle(x, y, upper))


def transpose(code: Code, registers: Sequence[Reg]) -> list[Reg]:
    """Lane i of register j becomes lane j of register i; as many registers as lanes."""
    size, turned = len(registers), list(registers)
    distance = size // 2
    while distance:
        kept = [lane if not lane & distance else size + lane - distance for lane in range(size)]
        given = [lane + distance if not lane & distance else size + lane for lane in range(size)]
        for i in range(size):
            if not i & distance:
                x, y = turned[i], turned[i + distance]
                turned[i] = code.shuffle(x, y, kept)
                turned[i + distance] = code.shuffle(x, y, given)
        distance //= 2
    return turned
