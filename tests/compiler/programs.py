"""Random programs: what a user might write with a few tensors, some of them kept from call to call.

``Drawing`` draws a program while it runs eagerly, so that every line fits the shapes and the
numbers stay of moderate size. Lines with a kink, such as ``relu``, get values that are moved by
noise: two ways to compute the same zero then do not fall on different sides of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import hypothesis.strategies as st
import numpy as np

import ganglion as gg
from ganglion import autograd
from ganglion.compiler.program import Program
from ganglion.compiler.trace import trace
from ganglion.tensor import Tensor
from tests.compiler.lines import FLOATING, WHOLE

SHAPES = (
    (3, 5), (4, 17), (2, 3, 4), (33,), (1, 6), (2, 64, 48), (7, 1, 9), (100, 130), (20000,), (),
    (5, 0), (2, 3, 4, 5), (16, 16), (1, 1), (64, 3, 8), (0,), (129,), (65, 7), (2, 5, 9, 7), (17,),
    (2, 16, 6, 6), (1,), (8, 129), (0, 4), (3, 33),
)  # fmt: skip
SMALL = tuple(shape for shape in SHAPES if np.prod(shape) < 1000)
LARGEST = 300  # magnitude of a value; larger ones are brought back by tanh
MOST = 200_000  # elements
RULES: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1}, "SGD with all": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01,
                                         "nesterov": True},
    "Adam": {"lr": 0.01, "eps": 0.01}, "AdamW": {"lr": 0.01, "eps": 0.01, "amsgrad": True},
    "RMSprop": {"momentum": 0.5, "eps": 0.01},
}  # fmt: skip


@dataclass
class Line:
    """One line of a program: a value, or several, made from earlier ones by number."""

    text: str
    run: Callable[..., Any]
    operands: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.text}({', '.join(f'v{i}' for i in self.operands)})"


@dataclass
class Drawn:
    """A program: inputs, states, lines, which values it returns and differentiates.

    ``order``: of the gradients it returns, 0 to 2. ``learns``: the rule by which the states
    follow the gradient of what is differentiated.
    """

    inputs: list[np.ndarray] = field(default_factory=list)
    states: list[np.ndarray] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    results: list[int] = field(default_factory=list)
    differentiated: list[int] = field(default_factory=list)
    order: int = 0
    learns: str = ""
    seed: int = 0

    def __str__(self) -> str:
        given = [f"{a.dtype}{list(a.shape)}" for a in (*self.inputs, *self.states)]
        number, lines = len(given), []
        for line, count in zip(self.lines, self.counts, strict=True):
            names = ", ".join(f"v{number + k}" for k in range(count))
            lines.append(f"{names} = {line}")
            number += count
        ends = [f"return {self.results}", f"gradients of {self.differentiated}, {self.order=}"]
        head = f"given {given}, the last {len(self.states)} kept, {self.learns=}"
        return "\n".join([head, *lines, *ends])

    def tensors(self) -> list[Tensor]:
        """New arguments."""
        return [gg.tensor(a) for a in self.inputs]

    def traced(self) -> Program:
        """The program as it would be compiled."""
        gg.manual_seed(self.seed)
        return trace(self.function(), *self.tensors())

    def function(self) -> Callable[..., list[Tensor]]:
        """The program, over states of its own."""
        kept = [gg.tensor(a) for a in self.states]
        return self.over(kept)

    def over(self, kept: list[Tensor]) -> Callable[..., list[Tensor]]:
        """The program over states that are captured."""
        rule = None
        if self.learns:
            kind = getattr(gg.optim, self.learns.split()[0])
            rule = kind([s.requires_grad_() for s in kept], **RULES[self.learns])

        def run(*inputs: Tensor) -> list[Tensor]:
            leaves = [x.detach().requires_grad_(x.dtype.is_floating_point) for x in inputs]
            values = [*leaves, *kept]
            for line in self.lines:
                found = line.run(*(values[i] for i in line.operands))
                values += found if isinstance(found, list | tuple) else [found]
            results = [values[i].detach() for i in self.results]
            if rule is not None:
                self.learn(rule, values)
                return results
            return [*results, *self.gradients(values, [x for x in leaves if x.requires_grad])]

        return run

    def learn(self, rule: Any, values: list[Tensor]) -> None:
        """A step of the optimizer."""
        chosen = [values[i] for i in self.differentiated if values[i].requires_grad]
        if chosen:
            rule.zero_grad()
            weighted(chosen).backward()
            rule.step()

    def gradients(self, values: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
        """Of a weighted sum of some values, and of a sum over those gradients."""
        chosen = [values[i] for i in self.differentiated if values[i].requires_grad]
        if not chosen or not leaves or not self.order:
            return []
        second = self.order == 2
        loss = weighted(chosen)
        first = autograd.grad(loss, leaves, create_graph=second, allow_unused=True)
        found = [g for g in first if g is not None]
        live = [g for g in found if g.requires_grad]
        if second and live:
            found += autograd.grad(weighted(live), leaves, allow_unused=True)
        return [g.detach() for g in found if g is not None]


def weighted(values: Sequence[Tensor]) -> Tensor:
    """A sum with different weights for different places."""
    total = gg.zeros((), dtype=gg.float64)
    for x in values:
        weights = gg.cos(gg.arange(x.numel(), dtype=gg.float64)).reshape(x.shape)
        total = total + (x.double() * weights).sum()
    return total


# --- drawing --------------------------------------------------------------------------------------


class Drawing:
    """Draws a program of so many lines from a source of randomness."""

    def __init__(self, random: Random, lines: int, shapes: Sequence[Any] = SHAPES) -> None:
        self.random, self.shapes = random, shapes
        self.program = Drawn(seed=random.randrange(1 << 30))
        self.noise = np.random.default_rng(self.program.seed)
        self.leaves()
        given = (*self.program.inputs, *self.program.states)
        self.values: list[Tensor] = [gg.tensor(a) for a in given]
        with gg.no_grad():
            for _ in range(3 * lines):
                if len(self.program.lines) < lines:
                    self.line()
        self.ends()

    def pick(self, among: Sequence[Any]) -> Any:
        """One of several."""
        return among[self.random.randrange(len(among))]

    def often(self, share: float) -> bool:
        """Whether something happens that happens so often."""
        return self.random.randrange(100) < 100 * share

    def leaves(self) -> None:
        """Inputs and states; mostly shapes that have met before."""
        program, shape = self.program, self.pick(self.shapes)
        dtype = self.pick((gg.float64, gg.float64, gg.float32))
        for _ in range(self.random.randrange(1, 4)):
            program.inputs.append(self.leaf(shape, dtype))
            shape = self.pick((shape, shape, *self.shapes))
        program.inputs.append(self.integers(shape))
        for _ in range(self.random.randrange(3)):
            program.states.append(self.leaf(self.pick((shape, *self.shapes)), dtype))
        if program.states and self.often(0.3):
            program.learns = self.pick(list(RULES))

    def leaf(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.asarray(self.noise.normal(size=shape)).astype(dtype.numpy)

    def integers(self, shape: tuple[int, ...]) -> np.ndarray:
        name = self.pick(("int64", "int64", "int32", "uint8", "int8", "bool"))
        high = 2 if name == "bool" else 200 if name == "uint8" else 100
        return np.asarray(self.noise.integers(0, high, shape)).astype(name)

    def ends(self) -> None:
        """What the program returns and differentiates."""
        program, first = self.program, len(self.program.inputs) + len(self.program.states)
        made = range(first, len(self.values)) or range(first)
        program.results = sorted({self.pick(made) for _ in range(self.random.randrange(1, 5))})
        if program.learns or self.often(0.6):
            program.differentiated = sorted({self.pick(made) for _ in range(2)})
            program.order = 2 if self.often(0.4) else 1

    def line(self) -> None:
        """One more line, if the one that is drawn fits."""
        start = self.random.randrange(len(self.values))
        if self.often(0.6):  # rather go on with what was made last
            start = len(self.values) - 1 - min(start, 2) % len(self.values)
        x = self.values[start]
        kinds = FLOATING if x.dtype.is_floating_point else WHOLE
        made = self.pick(kinds)(self, x)
        if made is not None:
            text, run, others = made
            self.add(Line(text, run, (start, *others)))

    def add(self, line: Line) -> None:
        """Run a line, and keep it unless its results are too large."""
        found = line.run(*(self.values[i] for i in line.operands))
        results = list(found) if isinstance(found, list | tuple) else [found]
        if sum(x.numel() for x in results) > MOST:
            return
        self.program.lines.append(line)
        self.program.counts.append(len(results))
        self.values += results
        for k, x in enumerate(results):
            wide = np.abs(x.double().numpy())
            if x.dtype.is_floating_point and wide.size and not wide.max() <= LARGEST:
                number = len(self.values) - len(results) + k
                self.add(Line("tamed", tamed, (number,)))

    # --- what lines ask for -------------------------------------------------------------------

    def among(self, fits: Callable[[Tensor], bool]) -> int | None:
        """The number of a value that fits."""
        found = [i for i, x in enumerate(self.values) if fits(x)]
        return self.pick(found) if found else None

    def dim(self, x: Tensor) -> int:
        """A dimension, counted from either end."""
        return self.random.randrange(-x.ndim, x.ndim)

    def state(self) -> int | None:
        """The number of a state."""
        first, count = len(self.program.inputs), len(self.program.states)
        return first + self.random.randrange(count) if count else None


def tamed(x: Tensor) -> Tensor:
    """Neither large nor infinite nor NaN."""
    return gg.tanh(gg.nan_to_num(x, 0.5, 2.0, -2.0))


def drawn(seed: int, lines: int, shapes: Sequence[Any] = SMALL) -> Drawn:
    """The program of a seed; one with fewer lines starts as those with more do."""
    return Drawing(Random(seed), lines, shapes).program


programs = st.builds(drawn, st.integers(0, 1 << 32), st.integers(1, 12))
