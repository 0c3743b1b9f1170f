"""Whole training steps and all ops as code for every target, with nothing left to a library."""

import numpy as np
import pytest

import ganglion as gg
import ganglion.dtypes as dt
from ganglion.compiler import llvm, templates
from ganglion.compiler.plan import plan
from ganglion.compiler.simplify import expand
from ganglion.compiler.source import Source
from ganglion.compiler.target import TARGETS, runnable
from ganglion.compiler.team import PROCESSORS
from ganglion.compiler.trace import trace
from ganglion.errors import TraceError
from ganglion.ops import scalar
from ganglion.tree import leaves
from tests.compiler.workloads import WORKLOADS, Training
from tests.ops import checker
from tests.ops.native import compiled
from tests.ops.test_table import FAMILIES

SMALL = [f"{name}-small" for name in WORKLOADS]
OTHERS = ("avx2", "sse2", "neon")


@pytest.fixture(params=OTHERS)
def target(request, monkeypatch):
    """What kernels are written for."""
    found = TARGETS[request.param]
    monkeypatch.setattr(templates, "host", lambda: found)
    return found


def missing(texts, target):
    """The names that code calls and does not define."""
    known = [symbol for text in texts for symbol in llvm.symbols(llvm.compile_text(text, target))]
    return {name for name, _ in known} - {name for name, here in known if here}


def text_of(graph, target):
    return list(Source(plan(expand(graph)), target).texts())


def graph_of(name):
    (made,) = Training(name).run(2).step.specialisations
    return made.program.graph


@pytest.mark.parametrize("name", SMALL)
def test_training_steps_need_no_library(name, target):
    assert missing(text_of(graph_of(name), target), target) == set()


@pytest.mark.full
@pytest.mark.parametrize("name", WORKLOADS)
def test_whole_training_steps_need_no_library(name, target):
    assert missing(text_of(graph_of(name), target), target) == set()


def test_steps_with_stamps_need_no_library(target):
    texts = list(Source(plan(expand(graph_of("mlp64"))), target, stamps=True).texts())
    clock = PROCESSORS[target.architecture]["clock"]
    assert clock in texts[0]
    assert missing(texts, target) == set()


def calls(sample, dtype):
    """The graph of a call and its gradients; None if it depends on values."""
    arrays = sample.arrays(dtype)
    which = checker.differentiable(sample, arrays) if sample.smooth else []

    def step(*tensors):
        inputs = checker.wanted(list(tensors), which)
        outs = checker.flowing(sample, list(tensors), which)
        total = sum(out.sum() for out in outs)
        slopes = gg.autograd.grad(total, inputs, allow_unused=True) if outs else ()
        given = sample.run(gg, checker.fresh(list(tensors), which))
        return [x for x in [*leaves(given), *slopes] if isinstance(x, gg.Tensor)]

    try:
        return trace(step, *checker.ours(arrays)).graph
    except TraceError:
        return None


@pytest.mark.full
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.split(".")[-1])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_no_op_needs_a_library(family, dtype, target):
    graphs = [calls(s, dtype) for s in family.SAMPLES if dtype in s.dtypes]
    found = {name for g in graphs if g is not None for name in missing(text_of(g, target), target)}
    assert found == set()


# --- what the least target does by hand -----------------------------------------------------------


@pytest.fixture
def least(monkeypatch):
    """Code for the least of the targets that run here."""
    if "sse2" not in {target.name for target in runnable()}:
        pytest.skip("not an x86-64 processor")
    monkeypatch.setenv("GANGLION_TARGET", "sse2")


EDGES = [0.0, 0.3, 0.5, 0.7, 1.0, 1.5, 2.5, 2**22 + 0.5, 2**23 - 0.5, 2**23, 2**31, np.inf, np.nan]


def same_bits(x, y):
    nan = np.isnan(x) & np.isnan(y)
    np.testing.assert_array_equal(np.where(nan, 0, x), np.where(nan, 0, y))
    np.testing.assert_array_equal(np.signbit(x) & ~nan, np.signbit(y) & ~nan)


@pytest.mark.parametrize("how", ["floor", "ceil", "trunc", "rint"])
@pytest.mark.parametrize("dtype", [dt.float32, dt.float64], ids=str)
def test_rounding_without_the_instruction(how, dtype, least):
    x = np.array([*EDGES, *np.negative(EDGES), *np.linspace(-9, 9, 999)], dtype.numpy)
    same_bits(compiled(getattr(scalar, how), [dtype])(x), getattr(np, how)(x))


def test_float16_without_the_instructions(least):
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    wide = every.astype(np.float32)
    found = compiled(lambda x: scalar.cast(x, dt.float32), [dt.float16])(every)
    same_bits(found, wide)
    finite = wide[np.isfinite(wide)]
    between = finite + np.abs(finite) * np.float32(2**-11)  # ties, and near ties
    x = np.concatenate([wide, between, np.nextafter(between, np.float32(0))])
    x = np.concatenate([x, np.array([65519, 65520, 1e9, 3e-8, 1e-8], np.float32)])
    with np.errstate(over="ignore"):
        want = x.astype(np.float16)
    same_bits(compiled(lambda x: scalar.cast(x, dt.float16), [dt.float32])(x), want)


@pytest.mark.parametrize("name", ["mlp64", "gpt-small"])
def test_training_without_fused_multiplication_follows(name, least):
    eager = Training(name, compiled=False).run(10)
    np.testing.assert_allclose(Training(name).run(10).losses, eager.losses, rtol=1e-5)
