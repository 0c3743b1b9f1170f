"""Random programs: what a user might write with a few tensors, some of them kept from call to call.

``Random programs`` are drawn while they run eagerly, so that every step fits the shapes and the
numbers stay of moderate size. Steps with a kink, such as ``relu``, get values that are moved by
noise: two ways to compute the same zero then do not fall on different sides of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

import ganglion as gg
from ganglion import autograd
from ganglion.tensor import Tensor

SHAPES = (
    (3, 5), (4, 17), (2, 3, 4), (33,), (1, 6), (2, 64, 48), (7, 1, 9), (100, 130), (20000,), (),
    (5, 0), (2, 3, 4, 5), (16, 16), (1, 1), (64, 3, 8),
)  # fmt: skip
LARGEST = 300  # magnitude of a value; larger ones are brought back by tanh
MOST = 200_000  # elements

Made = Callable[[list[Tensor]], Tensor]


@dataclass
class Step:
    """One line of a program: a value made from earlier ones, by number."""

    name: str
    run: Callable[..., Any]
    operands: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'v{i}' for i in self.operands)})"


@dataclass
class Drawn:
    """A program: inputs, states, steps, and which values it returns."""

    inputs: list[np.ndarray]
    states: list[np.ndarray]
    steps: list[Step] = field(default_factory=list)
    results: list[int] = field(default_factory=list)
    differentiated: list[int] = field(default_factory=list)
    second: bool = False

    def __str__(self) -> str:
        given = [f"{a.dtype}{list(a.shape)}" for a in (*self.inputs, *self.states)]
        first = len(given)
        lines = [f"v{first + k} = {step}" for k, step in enumerate(self.steps)]
        ends = [f"return {self.results}", f"gradients of {self.differentiated}, {self.second=}"]
        return "\n".join([f"given {given}, the last {len(self.states)} kept", *lines, *ends])

    def function(self, kept: Sequence[Tensor]) -> Callable[..., list[Tensor]]:
        """The program over states that are captured."""

        def run(*inputs: Tensor) -> list[Tensor]:
            leaves = [x.detach().requires_grad_(x.dtype.is_floating_point) for x in inputs]
            values = [*leaves, *kept]
            for step in self.steps:
                values.append(step.run(*(values[i] for i in step.operands)))
            found = [values[i].detach().clone() for i in self.results]
            return [*found, *self.gradients(values, [x for x in leaves if x.requires_grad])]

        return run

    def gradients(self, values: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
        """Of a weighted sum of some values, and of a sum over those gradients."""
        chosen = [values[i] for i in self.differentiated if values[i].requires_grad]
        if not chosen or not leaves:
            return []
        loss = weighted(chosen)
        first = autograd.grad(loss, leaves, create_graph=self.second, allow_unused=True)
        found = [g for g in first if g is not None]
        live = [g for g in found if g.requires_grad]
        if not self.second or not live:
            return [g.detach() for g in found]
        again = autograd.grad(weighted(live), leaves, allow_unused=True)
        return [g.detach() for g in (*found, *again) if g is not None]


def weighted(values: Sequence[Tensor]) -> Tensor:
    """A sum with different weights for different places."""
    total = gg.zeros((), dtype=gg.float64)
    for x in values:
        weights = gg.cos(gg.arange(x.numel(), dtype=gg.float64)).reshape(x.shape)
        total = total + (x.double() * weights).sum()
    return total


# --- drawing --------------------------------------------------------------------------------------


class Drawing:
    """Draws a program from a source of randomness."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.values: list[Tensor] = []
        self.program = Drawn([], [])

    def pick(self, among: Sequence[Any]) -> Any:
        return among[self.random.randrange(len(among))]

    def program_of(self, steps: int) -> Drawn:
        """A program of so many steps."""
        seed = self.random.randrange(1 << 30)
        self.noise = np.random.default_rng(seed)
        shape = self.pick(SHAPES)
        dtype = self.pick((gg.float64, gg.float64, gg.float32))
        for _ in range(self.random.randrange(1, 4)):
            self.program.inputs.append(self.leaf(shape, dtype))
            shape = self.pick((shape, shape, *SHAPES))
        self.program.inputs.append(self.integers(shape))
        for _ in range(self.random.randrange(3)):
            self.program.states.append(self.leaf(self.pick((shape, *SHAPES)), dtype))
        self.values = [gg.tensor(a) for a in (*self.program.inputs, *self.program.states)]
        while len(self.program.steps) < steps:
            self.step()
        return self.finished()

    def leaf(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.asarray(self.noise.normal(size=shape)).astype(dtype.numpy)

    def integers(self, shape: tuple[int, ...]) -> np.ndarray:
        name = self.pick(("int64", "int64", "int32", "uint8", "int8", "bool"))
        high = 2 if name == "bool" else 100
        return np.asarray(self.noise.integers(0, high, shape)).astype(name)

    def finished(self) -> Drawn:
        program, first = self.program, len(self.program.inputs) + len(self.program.states)
        made = range(first, len(self.values))
        program.results = sorted(set(self.random.choices(made, k=self.random.randrange(1, 5))))
        if self.random.random() < 0.6:
            program.differentiated = sorted(set(self.random.choices(made, k=2)))
            program.second = self.random.random() < 0.4
        return program

    def step(self) -> None:
        """One more step, if the one that is drawn fits."""
        start = self.random.randrange(len(self.values))
        if self.random.random() < 0.6:  # rather go on with what was made last
            start = len(self.values) - 1 - min(start, 2) % len(self.values)
        x = self.values[start]
        kinds = STEPS if x.dtype.is_floating_point else WHOLE
        made = self.pick(kinds)(self, x)
        if made is None:
            return
        name, run, others = made
        self.add(Step(name, run, (start, *others)))

    def add(self, step: Step) -> None:
        found = step.run(*(self.values[i].clone() if step.name in WRITES else self.values[i]
                           for i in step.operands))  # fmt: skip
        if found.numel() > MOST:
            return
        self.program.steps.append(step)
        self.values.append(found)
        if step.name in WRITES:
            return
        wide = np.abs(found.double().numpy())
        if found.dtype.is_floating_point and wide.size and not wide.max() <= LARGEST:
            self.add(Step("tanh", gg.tanh, (len(self.values) - 1,)))

    def among(self, fits: Callable[[Tensor], bool]) -> int | None:
        """The number of a value that fits."""
        found = [i for i, x in enumerate(self.values) if fits(x)]
        return self.pick(found) if found else None

    def dim(self, x: Tensor) -> int:
        return self.random.randrange(-x.ndim, x.ndim)


Found = tuple[str, Callable[..., Any], tuple[int, ...]] | None


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


UNARY = {
    "tanh": gg.tanh,
    "sin": gg.sin,
    "sigmoid": gg.sigmoid,
    "exp": lambda x: gg.exp(gg.tanh(x)),
    "log": lambda x: gg.log(x * x + 0.5),
    "sqrt": lambda x: gg.sqrt(x * x + 0.5),
    "neg": lambda x: -x,
    "square": lambda x: x * x,
    "gelu": gg.nn.functional.gelu,
    "relu": lambda x: gg.relu(jittered(x)),
    "abs": lambda x: gg.abs(jittered(x)),
    "clamp": lambda x: gg.clamp(jittered(x), -0.5, 0.8),
    "scaled": lambda x: x * 0.37 - 1.25,
    "dropped": lambda x: gg.nn.functional.dropout(x, 0.3),
}
BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y * y + 0.5),
    "maximum": lambda x, y: gg.maximum(jittered(x), y),
    "addcmul": lambda x, y: gg.addcmul(x, y, y, value=0.3),
    "lerp": lambda x, y: gg.lerp(x, y.to(x.dtype), 0.25),
}


def unary(draw: Drawing, x: Tensor) -> Found:
    name = draw.pick(list(UNARY))
    return name, UNARY[name], ()


def binary(draw: Drawing, x: Tensor) -> Found:
    other = draw.among(lambda y: broadcasts(x, y) and y.dtype is not gg.bool)
    name = draw.pick(list(BINARY))
    return None if other is None else (name, BINARY[name], (other,))


def reduced(draw: Drawing, x: Tensor) -> Found:
    if not x.ndim or not x.numel():
        return None
    dims = tuple(sorted({draw.dim(x) % x.ndim for _ in range(draw.random.randrange(1, 3))}))
    keep = draw.random.random() < 0.5
    name = draw.pick(
        ("sum", "mean", "amax", "amin", "var", "logsumexp", "norm", "prod", "sum of all")
    )
    rules = {
        "sum": lambda x: x.sum(dims, keepdim=keep),
        "mean": lambda x: x.mean(dims, keepdim=keep),
        "amax": lambda x: gg.amax(jittered(x), dims, keepdim=keep),
        "amin": lambda x: gg.amin(jittered(x), dims, keepdim=keep),
        "var": lambda x: x.var(dims, keepdim=keep, correction=0),
        "logsumexp": lambda x: gg.logsumexp(x, dims, keepdim=keep),
        "norm": lambda x: gg.sqrt((x * x).sum(dims, keepdim=keep) + 0.1),
        "prod": lambda x: (gg.tanh(x) * 0.3 + 1).prod(dims[0], keepdim=keep),
        "sum of all": lambda x: x.sum(),
    }
    return f"{name} over {dims} {keep}", rules[name], ()


def row_wise(draw: Drawing, x: Tensor) -> Found:
    if not x.ndim or not x.numel():
        return None
    dim = draw.dim(x)
    rules = {
        "softmax": lambda x: gg.softmax(x, dim),
        "log_softmax": lambda x: gg.log_softmax(x, dim),
        "cumsum": lambda x: gg.cumsum(x, dim),
        "flip": lambda x: gg.flip(x, (dim,)),
        "roll": lambda x: gg.roll(x, 2, dim),
        "normalized": lambda x: (
            (x - x.mean(dim, True)) / gg.sqrt(x.var(dim, keepdim=True, correction=0) + 1)
        ),
    }
    name = draw.pick(list(rules))
    return f"{name} along {dim}", rules[name], ()


def layer_normed(draw: Drawing, x: Tensor) -> Found:
    if not x.ndim or not x.numel():
        return None
    return "layer_norm", lambda x: gg.nn.functional.layer_norm(x, tuple(x.shape[-1:])), ()


def permuted(draw: Drawing, x: Tensor) -> Found:
    order = list(range(x.ndim))
    draw.random.shuffle(order)
    return f"permute {order}", lambda x: x.permute(order), ()


def reshaped(draw: Drawing, x: Tensor) -> Found:
    if not x.numel():
        return None
    shape, rest = [], x.numel()
    for factor in (2, 3, 5, 4):
        if rest % factor == 0 and draw.random.random() < 0.5:
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


def sliced(draw: Drawing, x: Tensor) -> Found:
    if not x.ndim:
        return None
    key = []
    for size in x.shape:
        how = draw.random.randrange(4)
        low, step = draw.random.randrange(max(size, 1)), draw.pick((1, 1, 2, 3))
        key.append((slice(None), slice(low, None), slice(None, None, step), low)[how])
        if how == 3 and size == 0:
            key[-1] = slice(None)
    return f"slice {key}", lambda x: x[tuple(key)], ()


def joined(draw: Drawing, x: Tensor) -> Found:
    if not x.ndim or x.numel() * 2 > MOST:
        return None
    dim = draw.dim(x)
    other = draw.among(lambda y: y.shape == x.shape and y.dtype is x.dtype)
    name = draw.pick(("cat", "stack"))
    return f"{name} {dim}", lambda x, y: getattr(gg, name)([x, y], dim), (other,)


def product(draw: Drawing, x: Tensor) -> Found:
    if x.ndim < 2 or x.numel() * max(x.shape[-2:]) > 4_000_000:
        return None
    other = draw.among(lambda y: y.ndim == 2 and y.shape[0] == x.shape[-1] and y.dtype is x.dtype)
    if other is not None and draw.random.random() < 0.6:
        return "matmul", lambda x, y: x @ y * (1 / max(x.shape[-1], 1)), (other,)
    if draw.random.random() < 0.5:
        return "gram", lambda x: x.mT @ x * (1 / max(x.shape[-2], 1)), ()
    return "outer gram", lambda x: x @ x.mT * (1 / max(x.shape[-1], 1)), ()


def convolved(draw: Drawing, x: Tensor) -> Found:
    if x.ndim != 3 or min(x.shape) < 1 or x.numel() > 20_000:
        return None
    kernel = draw.pick([k for k in (1, 3) if k <= x.shape[2] + 2])

    def run(x: Tensor) -> Tensor:
        numbers = gg.arange(4 * x.shape[1] * kernel, dtype=x.dtype)
        weight = gg.cos(numbers).reshape(4, x.shape[1], kernel)
        return gg.nn.functional.conv1d(x, weight, padding=1)

    return f"conv1d {kernel}", run, ()


def chosen(draw: Drawing, x: Tensor) -> Found:
    mask = draw.among(lambda y: not y.dtype.is_floating_point and broadcasts(x, y))
    if mask is None:
        return None
    both = x + draw.values[mask]
    other = draw.among(lambda y: broadcasts(both, y) and y.dtype is x.dtype)
    if other is None:
        return None
    return (
        "where",
        lambda x, m, y: gg.where(m % 2 == 0 if m.dtype is not gg.bool else m, x, y),
        (
            mask,
            other,
        ),
    )


def looked_up(draw: Drawing, x: Tensor) -> Found:
    at = draw.among(lambda y: y.dtype in (gg.int64, gg.int32, gg.uint8) and y.numel() < 2000)
    if at is None or not x.ndim or not x.numel() or x.numel() > 20_000:
        return None
    dim, size = draw.dim(x) % x.ndim, 0
    size = x.shape[dim]
    name = draw.pick(("index_select", "index_add", "index"))
    rules = {
        "index_select": lambda x, i: gg.index_select(x, dim, i.reshape(-1).long() % size),
        "index_add": lambda x, i: gg.index_add(
            x, dim, i.reshape(-1)[:5].long() % size, gg.index_select(gg.sin(x), dim, gg.arange(
                min(5, i.numel())) % size)),
        "index": lambda x, i: x.movedim(dim, 0)[i.long() % size],
    }  # fmt: skip
    elements = self_size(x, size) * self_size_of(draw.values[at])
    return None if elements > MOST else (f"{name} {dim}", rules[name], (at,))


def self_size(x: Tensor, size: int) -> int:
    return x.numel() // max(size, 1)


def self_size_of(x: Tensor) -> int:
    return max(x.numel(), 1)


def of_dtype(draw: Drawing, x: Tensor) -> Found:
    name = draw.pick(("float32", "float64", "float64", "float16", "bfloat16"))
    return f"to {name}", lambda x: x.to(getattr(gg, name)), ()


def truth(draw: Drawing, x: Tensor) -> Found:
    return "compared", lambda x: jittered(x) > 0.05, ()


def written(draw: Drawing, x: Tensor) -> Found:
    """A state takes part of a value, or all of it; the result is the value after that."""
    first, count = len(draw.program.inputs), len(draw.program.states)
    if not count:
        return None
    at = first + draw.random.randrange(count)
    state = draw.values[at]
    if not broadcasts(x, state) or np.broadcast_shapes(x.shape, state.shape) != tuple(state.shape):
        return None
    how = draw.pick(("add_", "copy_", "mul_", "rows", "decay"))
    if how == "rows" and (not state.ndim or state.shape[0] < 2 or x.ndim >= state.ndim):
        how = "add_"

    def run(x: Tensor, s: Tensor) -> Tensor:
        with gg.no_grad():
            if how == "rows":
                s[1:] = x.detach().to(s.dtype)
            elif how == "decay":
                s.mul_(0.9).add_(x.detach().to(s.dtype), alpha=0.1)
            elif how == "mul_":
                s.mul_(gg.tanh(x.detach()).to(s.dtype))
            else:
                getattr(s, how)(x.detach().to(s.dtype))
        return x * 1

    return f"state.{how}", run, (at,)


# --- integers -------------------------------------------------------------------------------------

WHOLE_BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "xor": lambda x, y: x ^ y,
    "and": lambda x, y: x & y,
    "maximum": gg.maximum,
    "minimum": gg.minimum,
    "less": lambda x, y: x < y,
    "divided": lambda x, y: x // (y.abs() % 7 + 1) if y.dtype is not gg.uint8 else x // (y % 7 + 1),
    "remainder": lambda x, y: x % 13 + y % 5,
}


def whole_binary(draw: Drawing, x: Tensor) -> Found:
    other = draw.among(lambda y: not y.dtype.is_floating_point and broadcasts(x, y)
                       and y.dtype is not gg.bool)  # fmt: skip
    if other is None or x.dtype is gg.bool:
        return None
    name = draw.pick(list(WHOLE_BINARY))
    return f"whole {name}", WHOLE_BINARY[name], (other,)


def whole_reduced(draw: Drawing, x: Tensor) -> Found:
    if not x.ndim or not x.numel():
        return None
    dim = draw.dim(x)
    rules = {
        "sum": lambda x: x.sum(dim),
        "any": lambda x: x.any(dim),
        "all": lambda x: x.all(dim, keepdim=True),
        "amax": lambda x: gg.amax(x, dim),
        "amin": lambda x: gg.amin(x, dim, keepdim=True),
        "argmax": lambda x: x.int().argmax(dim),
        "cumsum": lambda x: x.cumsum(dim),
        "prod": lambda x: x.prod(dim),
        "cummax": lambda x: x.int().cummax(dim)[1],
    }
    name = draw.pick(list(rules))
    return f"whole {name} {dim}", rules[name], ()


def to_float(draw: Drawing, x: Tensor) -> Found:
    return "to float64", lambda x: gg.sin(x.double() * 0.01), ()


def to_whole(draw: Drawing, x: Tensor) -> Found:
    name = draw.pick(("int64", "int32", "uint8", "int8", "int16", "bool"))
    return f"to {name}", lambda x: x.to(getattr(gg, name)), ()


VIEWS = (permuted, reshaped, expanded, sliced, joined)
STEPS = (
    *(unary,) * 5, *(binary,) * 6, *(reduced,) * 4, row_wise, row_wise, layer_normed,
    *VIEWS, *VIEWS, product, product, convolved, chosen, chosen, looked_up, looked_up, of_dtype,
    truth, *(written,) * 3,
)  # fmt: skip
WHOLE = (*(whole_binary,) * 4, whole_reduced, whole_reduced, *VIEWS, to_float, to_float, to_whole)
WRITES = {f"state.{how}" for how in ("add_", "copy_", "mul_", "rows", "decay")}
