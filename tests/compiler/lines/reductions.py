"""Lines that combine elements, or go along them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ganglion as gg
from tests.compiler.lines.fitting import filled, jittered, shaped

if TYPE_CHECKING:
    from collections.abc import Callable

    from ganglion.tensor import Tensor
    from tests.compiler.lines.fitting import Drawing, Found

Rules = dict[str, "Callable[[Tensor, Any, bool], Any]"]
# of a value, one dimension or several, and whether to keep them
OVER: Rules = {
    "sum": lambda x, d, k: x.sum(d, keepdim=k),
    "mean": lambda x, d, k: x.mean(d, keepdim=k),
    "amax": lambda x, d, k: gg.amax(jittered(x), d, keepdim=k),
    "amin": lambda x, d, k: gg.amin(jittered(x), d, keepdim=k),
    "var": lambda x, d, k: x.var(d, keepdim=k, correction=0),
    "std": lambda x, d, k: gg.std(jittered(x), d, keepdim=k, correction=0) ** 2,
    "logsumexp": lambda x, d, k: gg.logsumexp(x, d, keepdim=k),
    "norm": lambda x, d, k: gg.sqrt((x * x).sum(d, keepdim=k) + 0.1),
    "any": lambda x, d, k: (jittered(x) > 1).any(d, keepdim=k),
    "all": lambda x, d, k: (jittered(x) > -1).all(d, keepdim=k),
    "sum of all": lambda x, d, k: x.sum(),
    "mean of squares": lambda x, d, k: (x * x).mean(),
    "nansum": lambda x, d, k: gg.nansum(x, d, keepdim=k),
    "var_mean": lambda x, d, k: gg.var_mean(x, d, keepdim=k, correction=0),
    "count_nonzero": lambda x, d, k: gg.count_nonzero(jittered(x) > 0, d),
}
# of a value, one dimension, and whether to keep it
ALONG: Rules = {
    "softmax": lambda x, d, k: gg.softmax(x, d),
    "log_softmax": lambda x, d, k: gg.log_softmax(x, d),
    "cumsum": lambda x, d, k: gg.cumsum(x, d),
    "cumprod": lambda x, d, k: gg.cumprod(gg.tanh(x) * 0.3 + 1, d),
    "logcumsumexp": lambda x, d, k: gg.logcumsumexp(x, d),
    "cummax": lambda x, d, k: gg.cummax(apart(x), d),
    "cummin": lambda x, d, k: gg.cummin(apart(x), d),
    "normalized": lambda x, d, k: (
        (x - x.mean(d, True)) / gg.sqrt(x.var(d, keepdim=True, correction=0) + 1)
    ),
    "prod": lambda x, d, k: (gg.tanh(x) * 0.3 + 1).prod(d, keepdim=k),
    "max": lambda x, d, k: gg.max(apart(x), d, keepdim=k),
    "min": lambda x, d, k: gg.min(apart(x), d, keepdim=k),
    "argmax": lambda x, d, k: gg.argmax(apart(x), d, keepdim=k),
    "argmin": lambda x, d, k: gg.argmin(apart(x), d, keepdim=k),
    "median": lambda x, d, k: gg.median(apart(x), d, keepdim=k),
    "kthvalue": lambda x, d, k: gg.kthvalue(apart(x), 1 + x.shape[d] // 2, d, keepdim=k),
    "sort": lambda x, d, k: gg.sort(apart(x), d, descending=k),
    "argsort": lambda x, d, k: gg.argsort(apart(x), d),
    "topk": lambda x, d, k: gg.topk(apart(x), min(3, x.shape[d]), d, largest=k),
    "diff": lambda x, d, k: gg.diff(x, dim=d),
    "scaled": lambda x, d, k: x / gg.amax(apart(x), d, keepdim=True).exp(),
}


def apart(x: Tensor) -> Tensor:
    """Hardly two elements alike."""
    return shaped(x, tuple(x.shape))


def reduced(draw: Drawing, x: Tensor) -> Found:
    if not filled(x):
        return None
    count = draw.random.randrange(1, 4)
    dims = tuple(sorted({draw.dim(x) % x.ndim for _ in range(count)}))
    keep, name = draw.often(0.5), draw.pick(list(OVER))
    return f"{name} over {dims} {keep}", lambda x: OVER[name](x, dims, keep), ()


def row_wise(draw: Drawing, x: Tensor) -> Found:
    if not filled(x):
        return None
    dim, keep, name = draw.dim(x), draw.often(0.5), draw.pick(list(ALONG))
    return f"{name} along {dim} {keep}", lambda x: ALONG[name](x, dim, keep), ()
