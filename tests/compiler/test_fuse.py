"""Which statements share a kernel."""

import pytest

import ganglion as gg
import ganglion.nn.functional as F
from ganglion.compiler.fuse import fuse
from ganglion.compiler.layout import choose_layouts
from ganglion.compiler.lower import Part, lower
from ganglion.compiler.simplify import expand
from ganglion.compiler.trace import trace

X = gg.randn(64, 500)


def named(value):
    """The op of a value; an apostrophe marks what is stored on the way to it."""
    return f"{value.of.node.op_name}'" if isinstance(value, Part) else value.node.op_name


def kernels(function, *tensors):
    """The ops of each group: a template's first, with a star."""
    lowered = lower(expand(trace(function, *tensors).graph))
    groups = fuse(lowered.work, choose_layouts(lowered, set(lowered.graph.outputs)))
    return [
        ([f"{g.call.node.op_name}*"] if g.call else []) + [named(s.value) for s in g.statements]
        for g in groups
    ]  # fmt: skip


def test_elements_of_equal_shape_share_loops():
    assert kernels(lambda x: (x.exp(), x.sin(), x.exp() * x.sin()), X) == [["exp", "sin", "mul"]]


def test_a_product_is_finished_in_registers():
    def function(x, w, b):
        return F.relu(F.linear(x, w, b))

    assert kernels(function, X, gg.randn(30, 500), gg.randn(30)) == [["matmul*", "relu"]]


def test_a_norm_of_rows_is_one_kernel():
    (only,) = kernels(lambda x: F.layer_norm(x, (500,)), X)
    assert only == ["sum", "sum", "rsqrt", "mul"]


def test_softmax_is_one_kernel():
    (only,) = kernels(lambda x: gg.softmax(x, 1), X)
    assert only[0] == "amax"
    assert only[-1] == "div"


def test_sums_of_the_same_rows_share_loops():
    (only,) = kernels(lambda x: (x.sum(1), x.square().sum(1), x.amax(1)), X)
    assert sorted(only) == ["amax", "sum", "sum"]


def test_a_loss_over_classes_goes_through_the_rows_once():
    y = gg.zeros(64, dtype=gg.int64)
    first, *rest = kernels(F.cross_entropy, X, y)
    assert first == ["amax", "sum", "log", "sum"]
    assert len(rest) == 1


def test_long_sums_to_few_results_are_cut_into_parts():
    assert kernels(lambda x: x.sum(0), gg.randn(4096, 8)) == [["sum'"], ["sum"]]
    assert kernels(lambda x: x.sum(1), X) == [["sum"]]


def test_what_needs_a_whole_sum_waits_for_it():
    parts = kernels(lambda x: x / x.exp().sum(), X)
    assert parts[-1] == ["div"]
    assert len(parts) > 1


def test_groups_never_wait_for_each_other():
    def function(x, w):
        y = x @ w
        total = y.sum()
        return y * total, total.exp()

    parts = kernels(function, X, gg.randn(500, 500))
    assert parts[0][0] == "matmul*"
    assert "mul" not in parts[0]


@pytest.mark.parametrize("size", [3, 500])
def test_every_statement_is_in_one_group(size):
    x = gg.randn(size, size, requires_grad=True)

    def step(x):
        y = F.gelu(x @ x).softmax(0)
        (y * y.sum(1)).mean().backward()
        return x.grad

    lowered = lower(expand(trace(step, x).graph))
    groups = fuse(lowered.work, choose_layouts(lowered, set(lowered.graph.outputs)))
    found = [w for g in groups for w in ([g.call] if g.call else []) + g.statements]
    assert sorted(map(id, found)) == sorted(map(id, lowered.work))
