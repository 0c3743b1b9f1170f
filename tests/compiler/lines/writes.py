"""Lines that write in place: into states, or into a value's own copy through views of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import ganglion as gg
from tests.compiler.lines.fitting import broadcasts
from tests.compiler.lines.movement import key

if TYPE_CHECKING:
    from ganglion.tensor import Tensor
    from tests.compiler.lines.fitting import Drawing, Found


def fits(x: Tensor, state: Tensor) -> bool:
    """Whether one can be written into the other."""
    if not broadcasts(x, state):
        return False
    return bool(np.broadcast_shapes(tuple(x.shape), tuple(state.shape)) == tuple(state.shape))


def written(draw: Drawing, x: Tensor) -> Found:
    """A state takes part of a value, or all of it; the result is the value after that."""
    at = draw.state()
    if at is None or not fits(x, draw.values[at]) or draw.program.learns:
        return None
    state = draw.values[at]
    how = draw.pick(("add_", "copy_", "mul_", "rows", "decay"))
    if how == "rows" and (not state.ndim or state.shape[0] < 2 or x.ndim >= state.ndim):
        how = "add_"

    def run(x: Tensor, s: Tensor) -> Tensor:
        given = x.detach().to(s.dtype)
        with gg.no_grad():
            if how == "rows":
                s[1:] = given
            elif how == "decay":
                s.mul_(0.9).add_(given, alpha=0.1)
            elif how == "mul_":
                s.mul_(gg.tanh(given))
            else:
                getattr(s, how)(given)
        return x * 1

    return f"state.{how}", run, (at,)


def changed(draw: Drawing, x: Tensor) -> Found:
    """A copy that is written through a view; copy and view are both results."""
    place, how = key(draw, x), draw.random.randrange(4)

    def run(x: Tensor) -> list[Tensor]:
        y = x * 1
        view = y[place]
        if how == 0:
            view.mul_(3)
        elif how == 1:
            view.add_(gg.cos(view) if view.dtype.is_floating_point else view)
        elif how == 2:
            y[place] = 0.25
        else:
            y.sub_(3)
        return [y, view]

    return f"changed {how} at {place}", run, ()


def exchanged(draw: Drawing, x: Tensor) -> Found:
    """Parts of a copy overwrite others, which were read before."""
    if not x.ndim or x.shape[0] < 2:
        return None

    def run(x: Tensor) -> Tensor:
        y = x * 1
        y[0], y[-1] = y[-1] * 1, y[0] * 1
        y[1:] = y[:-1] * 0.5
        return y

    return "exchanged", run, ()
