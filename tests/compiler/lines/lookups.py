"""Lines that read or write where numbers say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ganglion as gg
from ganglion.nn import functional as F
from tests.compiler.lines.fitting import MOST, filled, jittered, shaped, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from ganglion.tensor import Tensor
    from tests.compiler.lines.fitting import Drawing, Found


def rows(x: Tensor, i: Tensor) -> Tensor:
    """As many places as ``i`` has, at most five."""
    return whole(i.reshape(-1)[:5], 1_000_000)


def like(x: Tensor, i: Tensor, dim: int) -> Tensor:
    """A place along a dimension for every element."""
    found = i.reshape(-1)
    count = x.numel()
    return whole(found.repeat(-(-count // found.numel()))[:count], x.shape[dim]).reshape(x.shape)


def put(x: Tensor, i: Tensor, d: int, add: bool) -> Tensor:
    """Written by subscripts, to places that differ."""
    y = x.movedim(d, 0).clone()
    at = whole(i.reshape(-1)[:1], x.shape[d])
    if add:
        y[at] += 0.5
    else:
        y[at] = gg.sin(x.movedim(d, 0)[:1])
    return y


# of a value, numbers, and a dimension
RULES: dict[str, Callable[[Tensor, Tensor, int], Any]] = {
    "index_select": lambda x, i, d: gg.index_select(x, d, rows(x, i) % x.shape[d]),
    "index_add": lambda x, i, d: gg.index_add(
        x, d, rows(x, i) % x.shape[d],
        gg.index_select(gg.sin(x), d, gg.arange(min(5, i.numel())) % x.shape[d])),
    "index": lambda x, i, d: x.movedim(d, 0)[whole(i, x.shape[d])],
    "gather": lambda x, i, d: gg.gather(x, d, like(x, i, d)),
    "scatter_add": lambda x, i, d: gg.scatter_add(x, d, like(x, i, d), gg.sin(x)),
    "scatter_reduce": lambda x, i, d: gg.scatter_reduce(
        x, d, like(x, i, d), shaped(x, tuple(x.shape)), "amax"),
    "take_along_dim": lambda x, i, d: gg.take_along_dim(x, gg.argsort(like(x, i, d), d), d),
    "index_fill": lambda x, i, d: gg.index_fill(x, d, rows(x, i) % x.shape[d], 0.5),
    "put": lambda x, i, d: put(x, i, d, False),
    "added": lambda x, i, d: put(x, i, d, True),
    "one_hot": lambda x, i, d: F.one_hot(rows(x, i) % 7, 7).to(x.dtype) * x.sum(),
    "searchsorted": lambda x, i, d: gg.searchsorted(
        gg.tensor([-1.0, 0.0, 0.5], dtype=x.dtype), jittered(x)),
    "take": lambda x, i, d: gg.take(x, whole(i, x.numel())),
    "index_copy": lambda x, i, d: gg.index_copy(
        x, d, whole(i.reshape(-1)[:1], x.shape[d]), gg.sin(x.narrow(d, 0, 1))),
}  # fmt: skip


def looked_up(draw: Drawing, x: Tensor) -> Found:
    wholes = (gg.int64, gg.int32, gg.uint8)
    at = draw.among(lambda y: y.dtype in wholes and 0 < y.numel() < 2000)
    if at is None or not filled(x) or x.numel() > 20_000:
        return None
    dim, name = draw.dim(x) % x.ndim, draw.pick(list(RULES))
    rest = x.numel() // x.shape[dim] * draw.values[at].numel()
    return None if rest > MOST else (f"{name} {dim}", lambda x, i: RULES[name](x, i, dim), (at,))


def embedded(draw: Drawing, x: Tensor) -> Found:
    at = draw.among(lambda y: y.dtype in (gg.int64, gg.int32) and 0 < y.numel() < 500)
    if at is None or x.ndim != 2 or not x.numel() or x.shape[1] > 100:
        return None
    padding = 0 if draw.often(0.3) else None
    return (
        f"embedding {padding}",
        lambda x, i: F.embedding(whole(i, x.shape[0]), x, padding_idx=padding),
        (at,),
    )
