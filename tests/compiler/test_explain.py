import re

import numpy as np
import pytest

import ganglion as gg
from ganglion.compiler.explain import Explanation, explain, size
from ganglion.compiler.native import build
from ganglion.compiler.roofline import Peaks
from tests.compiler.steps import function, mlp, on_host, scheduled

PEAKS = Peaks(1e11, ((1 << 20, 1e11), (float("inf"), 1e10)), 2)

MLP = """\
  0   0 product                  tasks     1  input0, state0, state1 -> t12
  0   1 loop div                 tasks     1   -> t13
  1   2 product                  tasks     1  t12, state2, input1, state3, t13 -> t14, t15
  2   3 loop div                 tasks     1  input1, state3, t14 -> out0
  2   4 product                  tasks     1  t15, state2, t12 -> t16
  2   5 loop cast                tasks     1  state4 -> t17
  3   6 product                  tasks     1  t16, input0, t17, state0 -> state0
  3   7 loop sub                 tasks     1  t16, t17, state1 -> state1
  3   8 product                  tasks     1  t15, t12, t17, state2 -> state2
  3   9 loop sub                 tasks     1  t15, t17, state3 -> state3
4 phases, arena 704 B, scratch 64 B"""


@pytest.fixture(scope="module")
def schedule():
    return scheduled(mlp()[0])


def rows(text, title):
    """The lines of one part of the text."""
    return text.partition(f"\n{title}")[2].partition("\n\n")[0].splitlines()[1:]


def test_the_schedule_of_a_perceptron(schedule):
    assert schedule.text() == MLP


def test_every_kernel_has_its_phase_cost_and_line(schedule):
    text = explain(schedule, PEAKS)
    product = next(line for line in text.splitlines() if re.match(r" +0 +0  product ", line))
    assert product.split()[3] == "1"
    assert "steps.py:" in product
    kernels = rows(text, "kernels, predicted on 2 threads")
    assert len(kernels) == 1 + 2 * len(schedule.launches) + 1
    assert "predicted from 100 GFLOP/s" in kernels[-1]
    assert "not measured" in kernels[-1]


def test_what_is_finished_in_registers_stands_behind_its_product(schedule):
    facts = Explanation(schedule, PEAKS)
    assert facts.ops(0) == "matmul, then add, relu"
    assert facts.ops(6).startswith("matmul, then ")
    assert facts.ops(6).endswith("sub")


def test_every_node_is_computed_somewhere(schedule):
    facts = Explanation(schedule, PEAKS)
    computed = {node for nodes in facts.nodes for node in nodes}
    left = {node.op_name for node in facts.names if node not in computed}
    assert left <= {"input", "state", "const"}


def test_the_graph_is_shown_with_counts_and_lines(schedule):
    text = explain(schedule, PEAKS)
    assert "graph: " in text
    assert "5 matmul" in text
    assert re.search(r"%\d+: f32\[4,16\] = relu\(%\d+\)  # .*steps.py:\d+", text)


def test_the_arena_map_says_what_lies_where_and_when(schedule):
    found = [line.split() for line in rows(explain(schedule, PEAKS), "arena: ")]
    assert len(found) == 1 + len(Explanation(schedule, PEAKS).arena)
    t12 = next(row for row in found if "t12" in row)
    buffer = next(b for b in schedule.launches[0].writes if b.name == "t12")
    assert t12[:3] == [str(buffer.offset), str(buffer.nbytes), f"{buffer.first}-{buffer.last}"]
    assert t12[-2:] == ["f32[4,16]", "relu"]


def test_barriers_name_the_buffers_they_wait_for(schedule):
    assert list(Explanation(schedule, PEAKS).barriers()) == [
        (1, ["t12", "t13"]),
        (2, ["t14", "t15"]),
        (3, ["t16", "t17", "state3", "state2"]),
    ]


def test_states_are_written_in_place_read_or_copied(schedule):
    how = {s.slot: (s.how, s.launch) for s in Explanation(schedule, PEAKS).states}
    assert how[0] == ("written in place", 6)
    assert how[4] == ("read only", None)

    a, b = gg.ones(3), gg.zeros(3)

    def swap(x):
        kept = a * 2
        a.copy_(b.flip(0))
        b.copy_(kept)
        return x + kept

    swapped = Explanation(scheduled(function(swap, np.ones(3, np.float32))[0]), PEAKS)
    assert any(s.how.startswith("copied") for s in swapped.states)


def test_a_call_of_the_host_is_named_with_its_reason():
    x, edges = np.ones((2, 3), np.float32), np.arange(3, dtype=np.float32)
    text = explain(scheduled(function(on_host, x, edges)[0]), PEAKS)
    assert "1 host call" in text
    assert "host searchsorted: the op is meant to run on the host" in text


def test_a_native_step_explains_itself():
    program, arrays, states = mlp()
    step = build(program)
    step(arrays, states)
    assert "written in place by kernel" in step.explain()
    assert "<svg" in step.html()


def test_sizes_have_units():
    assert [size(n) for n in (12, 3400, 5.25e6, 7e9)] == ["12 B", "3.4 KB", "5.2 MB", "7.0 GB"]
