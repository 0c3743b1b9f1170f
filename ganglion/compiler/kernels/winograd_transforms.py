"""The transforms of Winograd's F(4x4, 3x3), on vectors of channels.

The points are 0, ±3/4, ±3/2 and infinity, whose errors are a quarter of those of 0, ±1, ±2. Each
transform is applied to columns and then to rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ganglion.compiler.text import LANES, Code, Reg, const, vector

A, B = 0.75, 1.5  # the points are 0, A, -A, B, -B and infinity
VECTOR: Final = vector("float", LANES)

Transform = Callable[[Code, Sequence[Reg]], list[Reg]]
Grid = list[list[Reg]]


def _c(value: float) -> Reg:
    return const(value, VECTOR)


def _pair(code: Code, even: Reg, odd: Reg, factor: float) -> list[Reg]:
    """The values at a point and its negative: even + factor * odd, even - factor * odd."""
    return [code.fma(odd, _c(factor), even), code.fma(odd, _c(-factor), even)]


def inputs_to_products(code: Code, d: Sequence[Reg]) -> list[Reg]:
    """6 inputs to 6: coefficients of the products of all (x - point) but one."""
    both, all = A * A + B * B, A * A * B * B
    first = code.fma(d[0], _c(all), code.fma(d[2], _c(-both), d[4]))
    last = code.fma(d[1], _c(all), code.fma(d[3], _c(-both), d[5]))
    found = [first]
    for point, other in ((A, B), (B, A)):
        even = code.fma(d[2], _c(-other * other), d[4])
        odd = code.fma(d[1], _c(-other * other), d[3])
        found += _pair(code, even, odd, point)
    return [*found, last]


def weights_to_products(code: Code, g: Sequence[Reg]) -> list[Reg]:
    """3 weights to 6: the values of their polynomial at the points, divided by the norms."""
    found = [code.fmul(g[0], _c(1 / (A * A * B * B)))]
    for point, norm in _NORMS:
        even = code.fma(g[2], _c(point * point / norm), code.fmul(g[0], _c(1 / norm)))
        found += _pair(code, even, g[1], point / norm)
    return [*found, g[2]]


_NORMS = ((A, 2 * A * A * (A * A - B * B)), (B, 2 * B * B * (B * B - A * A)))


def products_to_results(code: Code, m: Sequence[Reg]) -> list[Reg]:
    """6 products to 4 results: sums with the powers of the points."""
    even, odd = _sums(code, m)
    found = [code.fadd(m[0], code.fadd(*even))]
    for power, (x, y) in ((1, odd), (2, even), (3, odd)):
        found.append(code.fma(y, _c(B**power), code.fmul(x, _c(A**power))))
    return [*found[:3], code.fadd(found[3], m[5])]


def _sums(code: Code, m: Sequence[Reg]) -> tuple[list[Reg], list[Reg]]:
    """What belongs to a point plus, and minus, what belongs to its negative."""
    pairs = ((m[1], m[2]), (m[3], m[4]))
    return [code.fadd(x, y) for x, y in pairs], [code.fsub(x, y) for x, y in pairs]


def results_to_products(code: Code, y: Sequence[Reg]) -> list[Reg]:
    """4 gradients of results to 6 of products."""
    found = [y[0]]
    for point in (A, B):
        even = code.fma(y[2], _c(point * point), y[0])
        odd = code.fma(y[3], _c(point * point), y[1])
        found += _pair(code, even, odd, point)
    return [*found, y[3]]


def products_to_weights(code: Code, m: Sequence[Reg]) -> list[Reg]:
    """6 gradients of transformed weights to 3 of weights."""
    even, odd = _sums(code, m)
    found = []
    for power, parts in ((0, even), (1, odd), (2, even)):
        (p, n), (q, k) = _NORMS
        total = code.fmul(parts[0], _c(p**power / n))
        found.append(code.fma(parts[1], _c(q**power / k), total))
    found[0] = code.fma(m[0], _c(1 / (A * A * B * B)), found[0])
    return [found[0], found[1], code.fadd(found[2], m[5])]


def both_ways(code: Code, grid: Grid, one: Transform) -> Grid:
    """A transform of all columns, then of all rows."""
    columns = [one(code, column) for column in zip(*grid, strict=True)]
    return [one(code, row) for row in zip(*columns, strict=True)]
