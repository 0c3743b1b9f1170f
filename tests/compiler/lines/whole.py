"""Lines over integers and truth values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ganglion as gg
from tests.compiler.lines.fitting import broadcasts, filled

if TYPE_CHECKING:
    from collections.abc import Callable

    from ganglion.tensor import Tensor
    from tests.compiler.lines.fitting import Drawing, Found

NAMES = ("int64", "int32", "uint8", "int8", "int16", "bool")
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "xor": lambda x, y: x ^ y,
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "maximum": gg.maximum,
    "minimum": gg.minimum,
    "less": lambda x, y: x < y,
    "equal": lambda x, y: x == y,
    "divided": lambda x, y: x // divisor(y),
    "remainder": lambda x, y: x % 13 + y % 5,
    "fmod": lambda x, y: gg.fmod(x, divisor(y)),
    "true division": lambda x, y: x / divisor(y),
    "shifted": lambda x, y: (x << (y & 3)) >> 1,
}
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "neg": lambda x: -x,
    "invert": lambda x: ~x,
    "abs": gg.abs,
    "sign": gg.sign,
    "clamp": lambda x: gg.clamp(x, 3, 50),
    "square": lambda x: x * x,
    "not": gg.logical_not,
    "plus": lambda x: x + 7,
    "over": lambda x: 100 - x,
    "half": lambda x: x / 2,
    "float": lambda x: x * 0.5,
    "minus one": lambda x: x**2,
}
ALONG: dict[str, Callable[[Tensor, int], Any]] = {
    "sum": lambda x, d: x.sum(d),
    "any": lambda x, d: x.any(d),
    "all": lambda x, d: x.all(d, keepdim=True),
    "amax": gg.amax,
    "amin": lambda x, d: gg.amin(x, d, keepdim=True),
    "argmax": lambda x, d: x.int().argmax(d),
    "argmin": lambda x, d: x.int().argmin(d),
    "cumsum": lambda x, d: x.cumsum(d),
    "prod": lambda x, d: x.prod(d),
    "cummax": lambda x, d: x.int().cummax(d)[1],
    "cummin": lambda x, d: x.cummin(d),
    "max": gg.max,
    "min": gg.min,
    "sort": lambda x, d: gg.sort(x, d, stable=True),
    "flip": lambda x, d: gg.flip(x, (d,)),
    "mean": lambda x, d: x.double().mean(d),
    "count": gg.count_nonzero,
}


def divisor(y: Tensor) -> Tensor:
    """Positive numbers."""
    return y % 7 + 1 if y.dtype is gg.uint8 else y.abs() % 7 + 1


def binary(draw: Drawing, x: Tensor) -> Found:
    other = draw.among(lambda y: not y.dtype.is_floating_point and broadcasts(x, y)
                       and y.dtype is not gg.bool)  # fmt: skip
    if other is None or x.dtype is gg.bool:
        return None
    name = draw.pick(list(BINARY))
    return f"whole {name}", BINARY[name], (other,)


def unary(draw: Drawing, x: Tensor) -> Found:
    name = draw.pick(list(UNARY))
    if x.dtype is gg.bool and name not in ("invert", "not", "plus", "float"):
        return None
    return f"whole {name}", UNARY[name], ()


def along(draw: Drawing, x: Tensor) -> Found:
    if not filled(x):
        return None
    dim, name = draw.dim(x), draw.pick(list(ALONG))
    if x.dtype is gg.bool and name == "cummin":
        return None
    return f"whole {name} {dim}", lambda x: ALONG[name](x, dim), ()


def to_float(draw: Drawing, x: Tensor) -> Found:
    name = draw.pick(("float64", "float32"))
    return f"to {name}", lambda x: gg.sin(x.to(getattr(gg, name)) * 0.01), ()


def to_whole(draw: Drawing, x: Tensor) -> Found:
    name = draw.pick(NAMES)
    return f"to {name}", lambda x: x.to(getattr(gg, name)), ()


def rounded(draw: Drawing, x: Tensor) -> Found:
    """Of a floating value."""
    name = draw.pick(NAMES[:-1])

    def run(x: Tensor) -> Tensor:
        moved = gg.sin(x.detach().double().nan_to_num() + gg.arange(x.numel()).reshape(x.shape))
        return (moved * 60 + 61).to(getattr(gg, name))

    return f"rounded to {name}", run, ()
