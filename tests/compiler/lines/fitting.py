"""Values made to fit: moved off kinks, brought to a shape, a range or a dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion as gg
from ganglion.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.compiler.programs import Drawing

    Found = tuple[str, Callable[..., Any], tuple[int, ...]] | None
    Kind = Callable[[Drawing, Tensor], Found]

MOST = 200_000  # elements of a value


def jittered(x: Tensor) -> Tensor:
    """Moved a little, differently at each place."""
    numbers = gg.arange(x.numel(), dtype=gg.float64)
    return x + (gg.sin(numbers * 12.9898 + 0.7) * 0.37).reshape(x.shape).to(x.dtype)


def broadcasts(x: Tensor, y: Tensor) -> bool:
    """Whether two shapes go together."""
    try:
        size = int(np.prod(np.broadcast_shapes(tuple(x.shape), tuple(y.shape))))
    except ValueError:
        return False
    return size <= MOST


def filled(x: Tensor) -> bool:
    """Whether there is a dimension and an element."""
    return bool(x.ndim and x.numel())


def shaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The elements of a floating value over and over, within 1, and hardly two alike."""
    count = int(np.prod(shape))
    found = x.reshape(-1)[:count]
    if found.numel() < count:
        found = found if found.numel() else gg.zeros(1, dtype=x.dtype)
        found = found.repeat(-(-count // found.numel()))[:count]
    places = gg.arange(count, dtype=gg.float64) * 2.399963
    return gg.sin(found + places.to(x.dtype)).reshape(shape)


def whole(x: Tensor, below: int) -> Tensor:
    """Any value as numbers from 0 on below a number."""
    numbers = gg.tanh(x.float()) * 1000 if x.dtype.is_floating_point else x
    return numbers.long() % below
