"""Composites are written out; what has a compiled form stays."""

import pytest

import ganglion as gg
import ganglion.nn.functional as F
from ganglion.compiler.simplify import expand
from ganglion.compiler.trace import trace
from ganglion.graph import parse, verify
from ganglion.ops.record import OPS

SOFTMAX = """
%0: f32[4,8] = input(position=0)
%1: f32[4,8] = softmax(%0, dim=1)
return %1
"""

WRITTEN_OUT = """
%0: f32[4,8] = input(position=0)
%1: f32[4,1] = amax(%0, dims=(1,), keepdim=True)
%2: f32[4,1] = alias(%1)
%3: f32[4,8] = sub(%0, %2)
%4: f32[4,8] = exp(%3)
%5: f32[4,1] = sum(%4, dims=(1,), keepdim=True)
%6: f32[4,8] = div(%4, %5)
return %6
"""


def expanded(text):
    """The expanded graph of a graph's text, verified."""
    graph = parse(text)
    verify(graph)
    found = expand(graph)
    verify(found)
    return found


def test_a_composite_becomes_the_ops_it_consists_of():
    assert expanded(SOFTMAX).text().strip() == WRITTEN_OUT.strip()


def test_what_is_expanded_stays_as_it_is():
    assert expanded(WRITTEN_OUT) == parse(WRITTEN_OUT)


def test_equal_composites_are_written_out_once():
    twice = """
    %0: f32[4,8] = input(position=0)
    %1: f32[4,8] = softmax(%0, dim=1)
    %2: f32[4,8] = log_softmax(%0, dim=1)
    %3: f32[4,8] = softmax(%0, dim=1)
    %4: f32[4,8] = add(%1, %3)
    return %4
    """
    ops = [node.op_name for node in expanded(twice).topological()]
    assert ops.count("exp") == 1


def test_what_nobody_reads_is_dropped():
    graph = trace(lambda x: (x.exp(), x * 3)[0], gg.randn(3)).graph
    assert [node.op_name for node in expand(graph).topological()] == ["input", "exp"]


def test_states_and_their_new_values_are_kept():
    weight = gg.randn(3)

    def step(x):
        weight.copy_(gg.softmax(weight + x, 0))

    graph = expand(trace(step, gg.randn(3)).graph)
    verify(graph)
    ((slot, value),) = graph.updates
    assert (slot, value.node.op_name) == (0, "div")


def test_constants_of_decompositions_keep_dtypes():
    graph = trace(F.gelu, gg.randn(5).double()).graph
    found = expand(graph)
    assert {v.dtype for n in found.topological() for v in n.values if n.op_name != "const"} == {
        gg.float64
    }


@pytest.mark.parametrize("dtype", [gg.float16, gg.bfloat16])
def test_halves_are_computed_in_float32(dtype):
    graph = expand(trace(gg.exp, gg.ones(3).to(dtype)).graph)
    (result,) = graph.outputs
    assert result.dtype is dtype
    widths = [OPS[n.op_name].name for n in graph.topological() if n.op_name == "cast"]
    assert widths in ([], ["cast", "cast"])
