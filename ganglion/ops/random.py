"""Random tensors: each draw is a function of a generator's state, which it moves on by one.

A generator's state is a tensor ``[seed, offset]``. A draw reads it and then ``ADVANCE`` writes
``offset + 1``, both as ops, so that a trace captures the state like any other tensor and a
compiled step draws what eager execution would. ``ganglion.rng`` gives the bits.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion import rng
from ganglion.dispatch import write
from ganglion.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from ganglion.ops import draws
from ganglion.ops.arithmetic import add, div, mul, neg
from ganglion.ops.create import chosen, made, sizes
from ganglion.ops.movement import cast, expand
from ganglion.ops.record import Op, in_place, into
from ganglion.ops.unary import exp, floor, log1p, tan
from ganglion.shapes import Meta, Shape, broadcast_shapes, show

if TYPE_CHECKING:
    from ganglion.random import Generator
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- records --------------------------------------------------------------------------------------


def _key(state: Array) -> tuple[int, int]:
    seed, offset = state.tolist()
    return seed, offset


def _drawn(dtype: dt.dtype) -> np.dtype[Any]:
    """The type in which floats are drawn, before they are rounded to a narrower one."""
    return np.dtype(np.float64 if dtype is dt.float64 else np.float32)


def _scaled(
    draw: Callable[..., Array], state: Array, shape: Shape, dtype: dt.dtype, by: float, plus: float
) -> Array:
    """``draw * by + plus``, rounded after each step."""
    kind = _drawn(dtype)
    values = draw(*_key(state), math.prod(shape), kind)
    if by != 1:
        values *= kind.type(by)
    if plus != 0:
        values += kind.type(plus)
    return values.reshape(shape).astype(dtype.numpy, copy=False)


def _uniform(state: Array, shape: Shape, dtype: dt.dtype, low: float, high: float) -> Array:
    return _scaled(rng.uniform, state, shape, dtype, high - low, low)


def _normal(state: Array, shape: Shape, dtype: dt.dtype, mean: float, std: float) -> Array:
    return _scaled(rng.normal, state, shape, dtype, std, mean)


def _mask(state: Array, shape: Shape, dtype: dt.dtype, p: float, scale: float) -> Array:
    mask = rng.bernoulli_mask(*_key(state), p, math.prod(shape)).reshape(shape)
    if dtype is dt.bool_:
        return mask
    values = np.multiply(mask, _drawn(dtype).type(scale)) if dtype.is_floating_point else mask
    return values.astype(dtype.numpy, copy=False)


def _coins(state: Array, p: Array) -> Array:
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ArgumentError("Expected p_in >= 0 && p_in <= 1 to be true: probabilities")
    draws = rng.uniform(*_key(state), p.size, p.dtype).reshape(p.shape)
    return (draws < p).astype(p.dtype)


def _integers(state: Array, shape: Shape, dtype: dt.dtype, low: int, high: int) -> Array:
    values = rng.integers(*_key(state), low, high, math.prod(shape))
    return values.reshape(shape).astype(dtype.numpy, copy=False)


def _permutation(state: Array, n: int, dtype: dt.dtype) -> Array:
    return rng.permutation(n, *_key(state)).astype(dtype.numpy, copy=False)


def _choices(state: Array, weights: Array, count: int, replacement: bool) -> Array:
    rows = weights.reshape(-1, weights.shape[-1]).astype(np.float64)
    if not bool((np.isfinite(rows) & (rows >= 0)).all()):
        raise ArgumentError("probability tensor contains either `inf`, `nan` or element < 0")
    possible = (rows > 0).sum(axis=1)
    if (possible < (1 if replacement else count)).any():
        raise ArgumentError(
            f"invalid multinomial distribution: cannot draw {count} different categories from "
            f"{possible.min()} with positive weight"
        )
    pick = _with_replacement if replacement else _without_replacement
    return pick(_key(state), rows, count).reshape(*weights.shape[:-1], count)


def _with_replacement(key: tuple[int, int], rows: Array, count: int) -> Array:
    """The inverse of the cumulative distribution, never at a weight of zero."""
    totals = rows.cumsum(axis=1)
    draws = rng.uniform(*key, len(rows) * count, np.float64).reshape(-1, count) * totals[:, -1:]
    found = [np.searchsorted(t, d, side="right") for t, d in zip(totals, draws, strict=True)]
    last = rows.shape[1] - 1 - (rows[:, ::-1] > 0).argmax(axis=1)
    capped: Array = np.minimum(np.stack(found), last[:, None])
    return capped


def _without_replacement(key: tuple[int, int], rows: Array, count: int) -> Array:
    """The first to arrive of exponential waiting times (Efraimidis and Spirakis 2006)."""
    waits = -np.log1p(-rng.uniform(*key, rows.size, np.float64)).reshape(rows.shape)
    arrivals = np.where(rows > 0, waits / np.where(rows > 0, rows, 1), np.inf)
    order: Array = np.argsort(arrivals, axis=1, kind="stable")
    return order[:, :count]


def _advance(state: Array) -> Array:
    state[1] += 1
    return state


def _infer_shaped(state: Meta, shape: Shape, dtype: dt.dtype, **params: Any) -> Meta:
    return Meta(shape, dtype)


def _random(name: str, kernel: Any, element: Any, infer: Any = _infer_shaped) -> Op:
    return Op(name, "random", kernel, infer, random=True, element=element)


RANDOM_UNIFORM = _random("random_uniform", _uniform, draws.uniform)
RANDOM_NORMAL = _random("random_normal", _normal, draws.normal)
RANDOM_MASK = _random("random_mask", _mask, draws.mask)  # ``scale`` with probability ``p``, else 0
RANDOM_INTEGERS = _random("random_integers", _integers, draws.integers)
RANDOM_COINS = _random("random_coins", _coins, draws.coins, lambda state, p: p)
RANDOM_PERMUTATION = Op(
    "random_permutation",
    "random",
    _permutation,
    lambda state, n, dtype: Meta((n,), dtype),
    random=True,
    runs="host",
)
RANDOM_CHOICES = Op(
    "random_choices",
    "random",
    _choices,
    lambda state, weights, count, replacement: Meta((*weights.shape[:-1], count), dt.int64),
    random=True,
    runs="host",
)
ADVANCE = Op(
    "advance", "random", _advance, lambda state: state, donates=(0,), element=draws.advanced
)


exp_ = in_place(exp)


# --- drawing --------------------------------------------------------------------------------------


class Default:
    """The generator of calls that name none; set by ``ganglion.random``, which can make one."""

    generator: Generator


_drawing = threading.Lock()  # two threads must not draw at one offset


def draw(op: Op, generator: Generator | None, *inputs: Tensor, **params: Any) -> Tensor:
    """One random op on a generator's state, which moves on."""
    state = (Default.generator if generator is None else generator).state
    with _drawing:
        drawn = op(state, *inputs, **params)
        ADVANCE(state)
    return drawn  # type: ignore[no-any-return]


def _floating(dtype: dt.dtype, name: str) -> dt.dtype:
    if not dtype.is_floating_point:
        raise DTypeError(f"{name} draws floats, but the dtype is {dtype.name}; use randint")
    return dtype


def _not_negative(value: float, name: str) -> float:
    if value < 0:
        raise ArgumentError(f"normal expects std >= 0.0, but found {name} {value}")
    return float(value)


def mask(
    shape: Shape,
    p: float,
    *,
    scale: float = 1.0,
    dtype: dt.dtype = dt.bool_,
    generator: Generator | None = None,
) -> Tensor:
    """``scale`` with probability ``p``, else 0; what dropout multiplies by, in one op."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"a probability lies between 0 and 1, got {p}")
    return draw(
        RANDOM_MASK, generator, shape=tuple(shape), dtype=dtype, p=float(p), scale=float(scale)
    )


def dropout_mask(shape: Shape, p: float, dtype: dt.dtype) -> Tensor:
    """0 with probability ``p``, else ``1 / (1 - p)``."""
    scale = 1.0 / (1.0 - p) if p < 1 else 0.0
    return mask(shape, 1.0 - p, scale=scale, dtype=dtype)


def rand(
    *sizes_: Any,
    size: Any = None,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform floats in [0, 1)."""
    d = _floating(chosen(dtype, device, out.dtype if out is not None else None), "rand")
    shape = sizes(sizes_, size)
    value = draw(RANDOM_UNIFORM, generator, shape=shape, dtype=d, low=0.0, high=1.0)
    return made(value, requires_grad, out)


def randn(
    *sizes_: Any,
    size: Any = None,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Standard normal floats."""
    d = _floating(chosen(dtype, device, out.dtype if out is not None else None), "randn")
    shape = sizes(sizes_, size)
    value = draw(RANDOM_NORMAL, generator, shape=shape, dtype=d, mean=0.0, std=1.0)
    return made(value, requires_grad, out)


def randint(
    *args: Any,
    low: int | None = None,
    high: int | None = None,
    size: Any = None,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``randint(high, size)`` or ``randint(low, high, size)``: integers in [low, high)."""
    low, high, size = _randint_arguments(list(args), low, high, size)
    d = chosen(dtype, device, out.dtype if out is not None else dt.int64)
    value = _integers_between(low, high, sizes((size,)), d, generator)
    return made(value, requires_grad, out)


def _randint_arguments(
    args: list[Any], low: int | None, high: int | None, size: Any
) -> tuple[int, int, Any]:
    if size is None and args:
        size = args.pop()
    if high is None and args:
        high = args.pop()
    if low is None and args:
        low = args.pop()
    if args or high is None or size is None:
        raise ArgumentTypeError("randint takes (high, size) or (low, high, size)")
    return low or 0, high, size


def _integers_between(
    low: int, high: int, shape: Shape, dtype: dt.dtype, generator: Generator | None
) -> Tensor:
    if low >= high:
        raise ArgumentError(f"random_ expects 'from' to be less than 'to', but got {low} >= {high}")
    if dtype.category == dt.INTEGRAL:
        limits = dt.iinfo(dtype)
        if low < limits.min or high - 1 > limits.max:
            raise ArgumentError(f"integers in [{low}, {high}) do not fit {dtype.name}")
    return draw(RANDOM_INTEGERS, generator, shape=shape, dtype=dtype, low=int(low), high=int(high))


def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers 0 to n - 1 in random order."""
    d = chosen(dtype, device, out.dtype if out is not None else dt.int64)
    if n < 0:
        raise ArgumentError(f"n must be non-negative, got {n}")
    value = draw(RANDOM_PERMUTATION, generator, n=int(n), dtype=d)
    return made(value, requires_grad, out)


def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal floats; mean and std are numbers (with ``size``) or tensors that broadcast."""
    numbers = isinstance(mean, (int, float)) and isinstance(std, (int, float))
    if numbers:
        shape, d = sizes((size,) if size is not None else ()), chosen(dtype, device)
        std = _not_negative(std, "std")
        value = draw(RANDOM_NORMAL, generator, shape=shape, dtype=d, mean=float(mean), std=std)
        return made(value, requires_grad, out)
    tensors = [x for x in (mean, std) if not isinstance(x, (int, float))]
    shape = broadcast_shapes(*(x._data.shape for x in tensors))
    d = reduce(dt.promote_types, (x.dtype for x in tensors))
    drawn = draw(RANDOM_NORMAL, generator, shape=shape, dtype=d, mean=0.0, std=1.0)
    return into(out, add(mul(drawn, std), mean))


def bernoulli(
    input: Tensor,
    p: float | None = None,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Ones with the probabilities in ``input``, or all with probability ``p``; else zeros."""
    if p is not None:
        shape, d = input._data.shape, input.dtype
        return into(out, mask(shape, p, dtype=d, generator=generator))
    if not input.dtype.is_floating_point:
        raise DTypeError(f"bernoulli expects probabilities as floats, got {input.dtype.name}")
    return into(out, draw(RANDOM_COINS, generator, input))


def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Indices drawn by weight: (n,) gives (num_samples,), and (m, n) that for each row."""
    if input.ndim not in (1, 2) or not input.dtype.is_floating_point:
        raise ShapeError(
            "multinomial expects one or two dimensions of floating weights, got "
            f"{input.dtype.name} {show(input._data.shape)}"
        )
    categories = input._data.shape[-1]
    if num_samples < 1:
        raise ArgumentError("cannot sample n_sample <= 0 samples")
    if num_samples > categories and not replacement:
        raise ArgumentError(
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement: "
            f"{num_samples} of {categories}"
        )
    found = draw(
        RANDOM_CHOICES, generator, input, count=int(num_samples), replacement=bool(replacement)
    )
    return into(out, found)


# --- shaped like another tensor -------------------------------------------------------------------


def rand_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform floats in ``input``'s shape and dtype."""
    d = chosen(dtype, device, input.dtype)
    return rand(input._data.shape, dtype=d, requires_grad=requires_grad)


def randn_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Standard normal floats in ``input``'s shape and dtype."""
    d = chosen(dtype, device, input.dtype)
    return randn(input._data.shape, dtype=d, requires_grad=requires_grad)


def randint_like(
    input: Tensor,
    *bounds: int,
    low: int | None = None,
    high: int | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``randint_like(x, high)`` or ``(x, low, high)``: integers in ``input``'s shape and dtype."""
    d = chosen(dtype, device, input.dtype)
    size = input._data.shape
    return randint(*bounds, low=low, high=high, size=size, dtype=d, requires_grad=requires_grad)


# --- tensors filled in place ----------------------------------------------------------------------


def uniform_(
    input: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with uniform floats in [from, to)."""
    if from_ > to:
        raise ArgumentError(
            f"uniform_ expects to return a [from, to) range, but found from={from_} > to={to}"
        )
    d = _floating(input.dtype, "uniform_")
    shape, low, high = input._data.shape, float(from_), float(to)
    return write(input, draw(RANDOM_UNIFORM, generator, shape=shape, dtype=d, low=low, high=high))


def normal_(
    input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal floats."""
    d, std = _floating(input.dtype, "normal_"), _not_negative(std, "std")
    shape, mean = input._data.shape, float(mean)
    return write(input, draw(RANDOM_NORMAL, generator, shape=shape, dtype=d, mean=mean, std=std))


def random_(
    input: Tensor,
    from_: int | None = None,
    to: int | None = None,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with integers: ``random_(to)``, ``random_(from, to)``, or all the dtype can count."""
    d = input.dtype
    if to is None:
        from_, to = (0, from_) if from_ is not None else (0, _most(d) + 1)
    value = _integers_between(from_ or 0, to, input._data.shape, d, generator)
    return write(input, value)


def _most(dtype: dt.dtype) -> int:
    """The largest integer up to which the dtype has all of them."""
    if dtype.category == dt.FLOATING:
        return int(2 / dt.finfo(dtype).eps)
    return dt.iinfo(dtype).max if dtype.category == dt.INTEGRAL else 1


def bernoulli_(
    input: Tensor, p: float | Tensor = 0.5, *, generator: Generator | None = None
) -> Tensor:
    """Fill with ones of probability ``p``, a number or a tensor that broadcasts, else zeros."""
    shape = input._data.shape
    if isinstance(p, (int, float)):
        return write(input, mask(shape, p, dtype=input.dtype, generator=generator))
    coins = draw(RANDOM_COINS, generator, expand(p, shape))
    return write(input, cast(coins, input.dtype))


def _uniform_like(input: Tensor, name: str, generator: Generator | None) -> Tensor:
    d = _floating(input.dtype, name)
    return draw(RANDOM_UNIFORM, generator, shape=input._data.shape, dtype=d, low=0.0, high=1.0)


def exponential_(
    input: Tensor, lambd: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with waiting times of rate ``lambd``."""
    if lambd <= 0:
        raise ArgumentError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    u = _uniform_like(input, "exponential_", generator)
    return write(input, div(log1p(neg(u)), -lambd))


def log_normal_(
    input: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with exponentials of normal floats with this mean and std."""
    return exp_(normal_(input, mean, std, generator=generator))


def cauchy_(
    input: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with ``median + sigma * tan(pi * (u - 1/2))``."""
    if sigma <= 0:
        raise ArgumentError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    u = _uniform_like(input, "cauchy_", generator)
    return write(input, add(mul(tan(mul(add(u, -0.5), math.pi)), sigma), median))


def geometric_(input: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials up to the first success of probability ``p``."""
    if not 0 < p < 1:
        raise ArgumentError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    d = input.dtype if input.dtype.is_floating_point else dt.float64
    u = draw(RANDOM_UNIFORM, generator, shape=input._data.shape, dtype=d, low=0.0, high=1.0)
    trials = add(floor(div(log1p(neg(u)), math.log1p(-p))), 1)
    return write(input, cast(trials, input.dtype))
