"""What a step stores, and what is computed again where it is read."""

import ganglion as gg
import ganglion.nn.functional as F
from ganglion.compiler.lower import Call, Part, lower
from ganglion.compiler.simplify import expand
from ganglion.compiler.trace import trace


def named(value):
    """The op of a value; an apostrophe marks what is stored on the way to it."""
    return f"{value.of.node.op_name}'" if isinstance(value, Part) else value.node.op_name


def work(function, *tensors):
    """One word for everything stored: the op whose value it is."""
    lowered = lower(expand(trace(function, *tensors).graph))
    return [w.node.op_name if isinstance(w, Call) else named(w.value) for w in lowered.work]


def test_a_chain_of_elements_is_one_statement():
    assert work(lambda x: (x * 2 + 1).relu().neg(), gg.randn(4, 5)) == ["neg"]


def test_cheap_values_are_computed_where_they_are_read():
    assert work(lambda x: ((x + 1) * 2, (x + 1) * 3), gg.randn(100)) == ["mul", "mul"]


def test_dear_values_with_two_readers_are_stored():
    def function(x):
        y = x.exp()
        return y * 2, y * 3

    assert work(function, gg.randn(100)) == ["exp", "mul", "mul"]


def test_dear_values_that_many_elements_read_are_stored():
    assert work(lambda x, y: x.exp() * y, gg.randn(4), gg.randn(100, 4)) == ["exp", "mul"]


def test_views_take_no_memory():
    def function(x):
        return x.mT.flip(0)[1:].unsqueeze(1).expand(4, 3, 6) * 2

    assert work(function, gg.randn(6, 5)) == ["mul"]


def test_sums_are_stored():
    assert work(lambda x: (x - x.mean(0)).square().sum(0), gg.randn(4, 5)) == ["sum", "sum"]


def test_products_are_calls_and_views_of_operands_are_free():
    assert work(lambda x, w: F.relu(F.linear(x, w)), gg.randn(4, 5), gg.randn(3, 5)) == [
        "matmul",
        "relu",
    ]
