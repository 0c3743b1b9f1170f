"""Compiled programs against the graph interpreter, within the rounding of their sums."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

import ganglion
import ganglion.dtypes as dt
from ganglion import autograd, eager
from ganglion.compiler import native, trace
from ganglion.compiler.interpret import interpret
from ganglion.compiler.program import Program
from ganglion.errors import TraceError
from ganglion.graph import Graph, Node, Value
from ganglion.ops.record import OPS
from ganglion.tensor import Tensor, wrap
from ganglion.tree import leaves
from tests.ops import checker
from tests.ops.samples import Sample

# The error allowed for one rounding, of values of about one; several of its units.
UNIT = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-6, "float64": 1e-12}


SHAKES = 8

# --- what is allowed ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Past:
    """What a value was computed from: the coarsest rounding, the longest sum, the largest numbers.

    ``size`` is one number, or one for each element where only elements met.
    """

    unit: float = 0.0
    terms: int = 1
    size: Any = 0.0

    def also(self, other: "Past") -> "Past":
        size = np.maximum(self.size, other.size)
        return Past(max(self.unit, other.unit), max(self.terms, other.terms), size)


def pasts(graph: Graph, found: dict[Value, np.ndarray]) -> dict[Node, Past]:
    """The past of every node of a graph, from the values that the interpreter found."""
    known: dict[Node, Past] = {}
    for node in graph.topological():
        op = OPS.get(node.op_name)
        pointwise = op is not None and op.scalar is not None
        made = Past()
        for value in node.operands:
            before = known[value.node]
            size = before.size if pointwise else np.max(before.size, initial=0)
            made = made.also(Past(before.unit, max(before.terms, value.meta.numel), size))
        for value in node.values:
            size = magnitudes(found[value])
            size = size if pointwise else np.max(size, initial=0)
            made = made.also(Past(UNIT.get(value.dtype.name, 0), 1, size))
        known[node] = made
    return known


def magnitudes(array: np.ndarray) -> np.ndarray:
    """How large elements are; 0 for those that are not finite."""
    wide = np.abs(np.asarray(array, np.float64))
    return np.where(np.isfinite(wide), wide, 0)


def difference(
    got: np.ndarray, want: np.ndarray, past: Past, times: float = 1, more: Any = 0.0
) -> str:
    """How two results differ by more than rounding, and ``more``; empty if they do not."""
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"{got.dtype}{got.shape}, not {want.dtype}{want.shape}"
    if dt.of_numpy(want.dtype).name not in UNIT:
        wrong = (got != want) & (np.asarray(more) == 0)
    else:
        got, want = got.astype(np.float64), want.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            allowed = times * past.unit * math.sqrt(past.terms) * (np.abs(want) + past.size) + more
            same = (got == want) | (np.isnan(got) & np.isnan(want)) | np.isinf(more)
            wrong = ~(same | (np.isfinite(want) & (np.abs(got - want) <= allowed)))
    if not np.any(wrong):
        return ""
    at = np.unravel_index(np.flatnonzero(wrong)[0], wrong.shape)
    return f"{np.sum(wrong)} of {wrong.size} differ; at {at} {got[at]!r}, not {want[at]!r}"


# --- both ways ------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """Results of a program both ways: pairs (compiled, interpreted), each with its past."""

    outputs: list[tuple[np.ndarray, np.ndarray, Past]] = field(default_factory=list)
    updates: list[tuple[np.ndarray, np.ndarray, Past]] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def differences(self, times: float = 1) -> list[str]:
        """What differs, with the number of the output or update."""
        named = [(f"output {i}", x) for i, x in enumerate(self.outputs)]
        named += [(f"update {i}", x) for i, x in enumerate(self.updates)]
        pairs = [(name, difference(*x, times)) for name, x in named]
        return [f"{name}: {text}" for name, text in pairs if text]


def outcome(
    program: Program, arguments: Sequence[np.ndarray], build: Callable[..., Any] = native.build
) -> Outcome:
    """Run a program both ways; ``build`` compiles it."""
    graph = program.graph
    states = [x._data.copy() for x in program.states()]
    values = tuple(v for node in graph.topological() for v in node.values)
    every = Graph(graph.inputs, graph.states, values, graph.updates, graph.origins)
    arrays, updates = interpret(every, arguments, states)
    found = dict(zip(values, arrays, strict=True))
    past = pasts(graph, found)
    step = build(program)
    states = [x.copy() for x in states]  # what was found may be views of the old ones
    got = step(arguments, states)
    made = Outcome(hosts=hosts_of(step))
    for value, array in zip(graph.outputs, got, strict=True):
        made.outputs.append((array, found[value], past[value.node]))
    for (slot, value), (_, new) in zip(graph.updates, updates, strict=True):
        made.updates.append((states[slot], new, past[value.node]))
    return made


def shaken(graph: Graph, arguments: Sequence[Any], states: Sequence[Any], seed: int) -> list[Any]:
    """What results and updates become if every operation rounds a little otherwise."""
    rng, plain = np.random.default_rng(seed), eager.run_kernel

    def moved(array: Any) -> Any:
        array = np.asarray(array)
        unit = UNIT.get(dt.of_numpy(array.dtype).name, 0)
        if not unit:
            return array
        return (array * (1 + unit * rng.uniform(-1, 1, array.shape))).astype(array.dtype)

    def run_kernel(op: Any, arrays: Any, params: Any) -> Any:
        out = plain(op, arrays, params)
        if op.view:
            return out
        return tuple(map(moved, out)) if op.outputs > 1 else moved(out)

    with mock.patch.object(eager, "run_kernel", run_kernel), np.errstate(all="ignore"):
        outputs, updates = interpret(graph, arguments, states)
    return [*outputs, *(new for _, new in updates)]


def reach(program: Program, arguments: Sequence[Any], wanted: Sequence[Any]) -> list[Any]:
    """How far elements of results and updates move then; infinitely far, if not to a number."""
    states = [x._data.copy() for x in program.states()]
    found = [np.zeros(x.shape) for x in wanted]
    for seed in range(SHAKES):
        for k, x in enumerate(shaken(program.graph, arguments, states, seed)):
            with np.errstate(invalid="ignore"):
                far = np.abs(x.astype(np.float64) - wanted[k].astype(np.float64))
            lost = np.isnan(far) & ~(np.isnan(x) & np.isnan(wanted[k]))
            found[k] = np.fmax(found[k], np.where(lost, np.inf, far))
    return found


def hosts_of(step: Any) -> set[str]:
    """The ops that NumPy computes."""
    return {x.host.op_name for x in step.schedule.launches if x.host}


def op_names(program: Program) -> set[str]:
    """The ops of a traced program."""
    return {node.op_name for node in program.graph.topological()}


def disagreements(
    program: Program, arguments: Sequence[np.ndarray], build: Callable[..., Any] = native.build
) -> list[str]:
    """What differs between both ways by more than other roundings explain."""
    found = outcome(program, arguments, build)
    if not found.differences():
        return []
    every = [*found.outputs, *found.updates]
    moves = reach(program, arguments, [want for _, want, _ in every])
    pairs = zip(every, moves, strict=True)
    texts = [difference(got, want, past, more=4 * move) for (got, want, past), move in pairs]
    return [f"result {k}: {text}" for k, text in enumerate(texts) if text]


# --- calls of the op table ------------------------------------------------------------------------


def gradients(sample: Sample, tensors: list[Tensor], which: list[int], order: int) -> list[Any]:
    """Results of a call; gradients of random weightings of them; gradients of those."""
    x = checker.wanted(tensors, which)
    given = checker.fresh(tensors, which)
    result = sample.run(ganglion, given)
    outs = [out for out in checker.float_leaves(result) if out.requires_grad]
    found = [*leaves(result), *given]
    if order == 0 or not outs:
        return found
    weights = [wrap(w) for w in checker.noise(outs)]
    if order == 1:
        return [*found, *autograd.grad(outs, x, weights, allow_unused=True)]
    weights = [w.requires_grad_() for w in weights]
    first = autograd.grad(outs, x, weights, create_graph=True, allow_unused=True)
    live = [g for g in first if g is not None and g.requires_grad]
    if not live:
        return [*found, *first]
    again = [wrap(w) for w in checker.noise(live, seed=3)]
    return [*found, *first, *autograd.grad(live, [*x, *weights], again, allow_unused=True)]


@dataclass
class Joined:
    """Calls that are traced into one program; ``refused`` are those that cannot be, and why."""

    calls: list[tuple[Sample, str, int]]
    refused: dict[int, str] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    ops: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.arrays = [sample.arrays(dtype) for sample, dtype, _ in self.calls]

    def function(self, *tensors: Tensor) -> list[Tensor]:
        """All results of all calls."""
        found: list[Tensor] = []
        self.counts, remaining = [], list(tensors)
        for k, (sample, _, order) in enumerate(self.calls):
            own = [remaining.pop(0) for _ in self.arrays[k]]
            which = checker.differentiable(sample, self.arrays[k])
            try:
                made = gradients(sample, own, which, order)
            except TraceError as error:
                self.refused[k], made = str(error), []
            kept = [x.detach() for x in made if isinstance(x, Tensor)]
            self.counts.append(len(kept))
            found += kept
        return found

    @property
    def given(self) -> list[Tensor]:
        """The tensors of all calls."""
        return [a for arrays in self.arrays for a in checker.ours(arrays)]

    def program(self) -> Program:
        """All calls traced."""
        ganglion.manual_seed(0)
        program = trace.trace(self.function, *self.given)
        self.ops = op_names(program)
        return program

    def outcome(self) -> Outcome:
        """The calls both ways."""
        return outcome(self.program(), [np.array(x._data, order="C") for x in self.given])

    def problems(self, judge: Callable[[Outcome], None] = lambda found: None) -> list[str]:
        """What is wrong, by call; ``judge`` may look at the whole."""
        found = self.outcome()
        judge(found)
        wrong, start = found.differences()[len(found.outputs) :], 0
        for (sample, dtype, order), count in zip(self.calls, self.counts, strict=True):
            part = Outcome(found.outputs[start : start + count])
            texts = part.differences(sample.tolerance)
            wrong += [f"{sample} in {dtype}, order {order}: {text}" for text in texts]
            start += count
        return wrong
