"""Every sample of the op table compiled: values, gradients and gradients of gradients as eager.

Calls are traced a dozen to a program, since most of the time goes into making one. Without
``--full`` each call is walked in float64 and one more dtype, and the long backward passes of
recurrent layers and attention seldom to second order.
"""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import ganglion as gg
import ganglion.ops
from ganglion.compiler import native, trace
from ganglion.compiler.templates import TEMPLATES
from ganglion.errors import TraceError
from ganglion.ops.record import OPS
from tests.compiler.judge import Joined, disagreements, op_names
from tests.ops import samples

DOCS = Path(__file__).parents[2] / "docs" / "compile.md"
LONG = ("attention", "conv", "recurrent")  # families whose second order takes long to compile
TOGETHER = 12  # calls in a program

for found in pkgutil.iter_modules(ganglion.ops.__path__):
    importlib.import_module(f"ganglion.ops.{found.name}")
FAMILIES = {
    found.name: importlib.import_module(f"{samples.__name__}.{found.name}").SAMPLES
    for found in pkgutil.iter_modules(samples.__path__)
}


@pytest.fixture(autouse=True)
def _compiled_anew(monkeypatch):
    """Nothing is read back from disk."""
    monkeypatch.setenv("GANGLION_CACHE_MB", "0")


def few(family, number, sample):
    """The dtypes and orders in which a sample is always walked."""
    order = 2 if sample.smooth and (family not in LONG or number % 12 == 0) else 1
    calls = [(sample, "float64", order)] if "float64" in sample.dtypes else []
    others = [d for d in sample.dtypes if d != "float64"]
    if others:
        dtype = others[number % len(others)]
        calls.append((sample, dtype, int(dtype == "float32")))
    return calls


def every(family, number, sample):
    """All of them."""
    orders = {"float64": 2 if sample.smooth else 1}
    return [(sample, dtype, orders.get(dtype, 1)) for dtype in sample.dtypes]


def programs(walked):
    """Calls in groups, family by family."""
    made = []
    for family, members in FAMILIES.items():
        calls = [c for number, sample in enumerate(members) for c in walked(family, number, sample)]
        made += [
            pytest.param(calls[start : start + TOGETHER], id=f"{family}-{start}")
            for start in range(0, len(calls), TOGETHER)
        ]
    return made


GROUPS = programs(few)
MET = {}  # group of calls, by id -> the ops that it was seen to consist of


def ops_of(calls):
    """The ops that some calls consist of."""
    if id(calls) not in MET:
        joined = Joined(calls)
        joined.program()
        MET[id(calls)] = joined.ops
    return MET[id(calls)]


def assert_native(found):
    """Only ops whose records say so run on the host."""
    unexpected = {name for name in found.hosts if OPS[name].runs != "host"}
    assert not unexpected, f"run by NumPy though their records say native: {unexpected}"


def assert_calls_are_equal(calls):
    joined = Joined(calls)
    try:
        problems = joined.problems(assert_native)
        MET[id(calls)] = joined.ops
    except Exception:
        for call in calls:  # which of them?
            assert not Joined([call]).problems(assert_native), str(call[0])
        raise
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("calls", GROUPS)
def test_compiled_calls_equal_interpreted_ones(calls):
    assert_calls_are_equal(calls)


@pytest.mark.full
@pytest.mark.parametrize("calls", programs(every))
def test_compiled_calls_equal_interpreted_ones_in_every_dtype(calls):
    assert_calls_are_equal(calls)


# --- what only optimizers and changing numbers call -----------------------------------------------

RULES = [
    ("SGD", {"weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "dampening": 0.1, "maximize": True}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adam", {"weight_decay": 0.1}),
    ("Adam", {"amsgrad": True, "maximize": True}),
    ("AdamW", {}),
    ("RMSprop", {}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    ("Adagrad", {"lr_decay": 0.1}),
]


def learning(kind, options, dtype):
    """A traced step of an optimizer after two eager ones, on two parameters."""
    gg.manual_seed(0)
    kept = [gg.randn(*shape, dtype=getattr(gg, dtype)) for shape in ((5, 33), (7,))]
    rule = getattr(gg.optim, kind)([x.requires_grad_() for x in kept], lr=0.1, **options)

    def step():
        rule.zero_grad()
        sum((x.sin() * x).sum() for x in kept).backward()
        rule.step()

    step()
    step()
    return trace.trace(step)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "options"), RULES)
def test_compiled_updates_equal_interpreted_ones(kind, options, dtype):
    program = learning(kind, options, dtype)
    assert not disagreements(program, [])


def test_every_op_is_compiled_here():
    """The rest: what depends on values, what delivers gradients, views followed one by one."""
    met = set().union(*(ops_of(group.values[0]) for group in GROUPS))
    for kind, options in RULES:
        met |= op_names(learning(kind, options, "float32"))
    refused = {name for name, op in OPS.items() if op.runs == "eager-only"}
    parted = {name for name, op in OPS.items() if op.part is not None}
    assert set(OPS) - met == refused | parted | {"accumulate"}


# --- nothing falls back silently ------------------------------------------------------------------


def has_form(op):
    """Whether a record, or a template for it, says how it is compiled."""
    rules = (op.scalar, op.element, op.sweep, op.part, op.decompose)
    return op.name in TEMPLATES or any(rule is not None for rule in rules)


def test_every_native_op_has_a_compiled_form():
    missing = [name for name, op in OPS.items() if op.runs == "native" and not has_form(op)]
    assert not missing


def test_every_op_that_numpy_computes_is_named_in_the_documentation():
    text = DOCS.read_text(encoding="utf-8")
    hosts = [name for name, op in OPS.items() if op.runs == "host"]
    assert not [name for name in hosts if f"`{name}`" not in text]


def test_programs_of_native_ops_call_nothing_else():
    def step(x):
        order = gg.argsort(x * 2, dim=1)
        return gg.gather(x.exp(), 1, order).cumsum(0)

    program = trace.trace(step, gg.randn(4, 5))
    launches = native.build(program).schedule.launches
    assert [x.host.op_name for x in launches if x.host] == ["argsort"]


def nonzero(x):
    return gg.nonzero(x)


def masked(x):
    return x[x > 0]


def unique(x):
    return gg.unique(x)


def unique_consecutive(x):
    return gg.unique_consecutive(x)


def bincount(x):
    return gg.bincount(x.long())


def repeats(x):
    return gg.repeat_interleave(x, x.long())


DEPENDENT = (nonzero, masked, unique, unique_consecutive, bincount, repeats)


@pytest.mark.parametrize("call", DEPENDENT)
def test_shapes_that_depend_on_values_are_refused_with_the_line(call):
    line = call.__code__.co_firstlineno + 1
    with pytest.raises(TraceError, match=rf"{re.escape(__file__)}:{line}: .*depends on values"):
        trace.trace(call, gg.ones(3))


def test_every_op_that_depends_on_values_is_refused():
    met = set()
    for call in DEPENDENT:
        with pytest.raises(TraceError) as caught:
            trace.trace(call, gg.ones(3))
        met |= set(re.findall(r"'(\w+)'", str(caught.value)))
    assert met == {name for name, op in OPS.items() if op.runs == "eager-only"}


# --- the judge itself -----------------------------------------------------------------------------


@pytest.fixture
def changed():
    """Replaces an op's rule, and puts it back."""
    before = []

    def change(name, rule):
        op = OPS[name]
        before.append((op, op.scalar))
        right = op.scalar
        object.__setattr__(op, "scalar", lambda *operands: rule(right(*operands)))

    yield change
    for op, rule in before:
        object.__setattr__(op, "scalar", rule)


@pytest.mark.parametrize(
    ("dtype", "rule"),
    [
        ("float64", lambda x: x * (1 + 1e-9)),
        ("float32", lambda x: x * (1 + 1e-4)),
        ("bfloat16", lambda x: x * 1.1),
        ("int32", lambda x: x + 1),
    ],
)
def test_a_wrong_compiled_form_is_found(changed, dtype, rule):
    calls = [(samples.Sample("add", samples.t(3), samples.t(3)), dtype, 0)]
    assert not Joined(calls).problems()
    changed("add", rule)
    assert Joined(calls).problems()
