"""Lines that move elements: views of all kinds, and copies that turn, join and repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ganglion as gg
from ganglion.nn import functional as F
from tests.compiler.lines.fitting import MOST, filled

if TYPE_CHECKING:
    from ganglion.tensor import Tensor
    from tests.compiler.lines.fitting import Drawing, Found

ALONG = {
    "flip": lambda x, d: gg.flip(x, (d,)),
    "roll": lambda x, d: gg.roll(x, 2, d),
    "chunk": lambda x, d: gg.chunk(x, 3, d),
    "split": lambda x, d: gg.split(x, [1, x.shape[d] - 1], d),
    "unsqueeze": lambda x, d: x.unsqueeze(d),
    "squeeze": lambda x, d: x.squeeze(d),
    "first": lambda x, d: x.select(d, 0),
    "last": lambda x, d: x.select(d, -1),
    "repeat": lambda x, d: gg.cat([x, x.flip(d)], d),
    "repeat_interleave": lambda x, d: x.repeat_interleave(2, d),
    "unfold": lambda x, d: x.unfold(d, 1 + x.shape[d] // 2, 1 + x.shape[d] // 3),
    "movedim": lambda x, d: x.movedim(d, 0),
    "flat": lambda x, d: x.flatten(),
    "rot90": lambda x, d: gg.rot90(x, 1, (d, d % x.ndim - 1)) if x.ndim > 1 else x.flip(0),
    "expanded": lambda x, d: x.narrow(d, 0, 1).expand(x.shape),
}
SQUARE = {
    "tril": lambda x: gg.tril(x, 1),
    "triu": gg.triu,
    "diagonal": lambda x: gg.diagonal(x, 1, -2, -1),
    "diag_embed": lambda x: gg.diag_embed(x[..., 0]),
    "transpose": lambda x: x.transpose(-1, -2),
    "turned": lambda x: x.mT.contiguous().mT,
}


def permuted(draw: Drawing, x: Tensor) -> Found:
    order = list(range(x.ndim))
    for i in range(x.ndim):
        j = draw.random.randrange(x.ndim)
        order[i], order[j] = order[j], order[i]
    return f"permute {order}", lambda x: x.permute(order), ()


def reshaped(draw: Drawing, x: Tensor) -> Found:
    shape, rest = [], x.numel()
    if not rest:
        return None
    for factor in (2, 3, 5, 4):
        if rest % factor == 0 and draw.often(0.5):
            shape.append(factor)
            rest //= factor
    shape.insert(draw.random.randrange(len(shape) + 1), rest)
    return f"reshape {shape}", lambda x: x.reshape(shape), ()


def expanded(draw: Drawing, x: Tensor) -> Found:
    at, size = draw.random.randrange(x.ndim + 1), draw.pick((2, 3, 17))
    if x.numel() * size > MOST:
        return None
    shape = [*x.shape[:at], size, *x.shape[at:]]
    return f"expand {shape}", lambda x: x.unsqueeze(at).expand(shape), ()


def key(draw: Drawing, x: Tensor) -> tuple[slice | int, ...]:
    """Numbers and slices."""
    found: list[slice | int] = []
    for size in x.shape:
        how = draw.random.randrange(4) if size else 0
        low, step = draw.random.randrange(max(size, 1)), draw.pick((1, 1, 2, 3))
        found.append((slice(None), slice(low, None), slice(None, None, step), low)[how])
    return tuple(found)


def sliced(draw: Drawing, x: Tensor) -> Found:
    place = key(draw, x)
    return f"slice {place}", lambda x: x[place], ()


def joined(draw: Drawing, x: Tensor) -> Found:
    if not x.ndim or x.numel() * 2 > MOST:
        return None
    dim, name = draw.dim(x), draw.pick(("cat", "stack"))
    other = draw.among(lambda y: y.shape == x.shape and y.dtype is x.dtype)
    return f"{name} {dim}", lambda x, y: getattr(gg, name)([x, y], dim), (other or 0,)


def along(draw: Drawing, x: Tensor) -> Found:
    if not filled(x):
        return None
    dim, name = draw.dim(x), draw.pick(list(ALONG))
    return f"{name} along {dim}", lambda x: ALONG[name](x, dim), ()


def square(draw: Drawing, x: Tensor) -> Found:
    if x.ndim < 2 or not x.numel():
        return None
    name = draw.pick(list(SQUARE))
    return name, SQUARE[name], ()


def padded(draw: Drawing, x: Tensor) -> Found:
    if not filled(x) or x.numel() * 9 > MOST:
        return None
    mode = draw.pick(("constant", "constant", "reflect", "replicate", "circular"))
    widths = [draw.random.randrange(-1 if mode == "constant" else 0, 3) for _ in range(2)]
    if mode == "constant":
        if min(x.shape) == 1:
            widths = [max(w, 0) for w in widths]
        widths *= draw.random.randrange(1, x.ndim + 1)
        return f"pad {widths}", lambda x: F.pad(x, widths, value=0.5), ()
    widths = [min(w, x.shape[-1] - 1) for w in widths]
    if x.ndim not in (2, 3):
        return None
    return f"pad {widths} {mode}", lambda x: F.pad(x, widths, mode=mode), ()
