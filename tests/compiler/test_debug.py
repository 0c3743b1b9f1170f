from dataclasses import replace

import hypothesis
import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from ganglion.compiler import debug
from ganglion.compiler.debug import Guarded, build, verify
from ganglion.compiler.interpret import Interpreted
from ganglion.compiler.native import build as build_native
from ganglion.compiler.schedule import set_places
from ganglion.compiler.text import const
from ganglion.compiler.trace import trace
from ganglion.errors import AutogradError, GraphError
from tests.compiler.judge import disagreements
from tests.compiler.programs import programs
from tests.compiler.steps import function, mlp, on_host, scheduled, states

X = np.linspace(-1, 1, 40, dtype=np.float32).reshape(5, 8)


def sums(x):
    """Two kernels in two phases: a temporary between them."""
    return (x.exp() @ x.transpose(0, 1)).softmax(1) @ x


def wrong(schedule, number, after):
    """The schedule with one kernel that does something more at the end."""
    launch = schedule.launches[number]
    kernel = launch.kernel

    def emit(code, pointers, scratch, low, high):
        kernel.emit(code, pointers, scratch, low, high)
        after(code, pointers, scratch, low, high)

    launch.kernel = replace(kernel, emit=emit, key=("wrong", kernel.key), scratch=64)
    schedule.scratch = max(schedule.scratch, 64)
    return schedule


def broken(after, number=0, call=sums):
    """The error of a step with such a kernel."""
    program, arrays, _ = function(call, X)
    step = Guarded(wrong(scheduled(program), number, after))
    with pytest.raises(GraphError) as caught:
        step(arrays, [])
    return str(caught.value)


def position(schedule, number, buffer):
    return schedule.launches[number].buffers.index(buffer)


# --- right steps ----------------------------------------------------------------------------------


def test_a_guarded_step_has_the_bits_of_a_native_one():
    program, arrays, first = mlp(batch=5, width=33)
    second = [x.copy() for x in first]
    guarded, native = build(program), build_native(program)
    for _ in range(3):
        np.testing.assert_array_equal(guarded(arrays, first), native(arrays, second))
    for x, y in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, y)


def test_calls_of_the_host_run_in_watched_memory():
    program, arrays, _ = function(on_host, X, np.array([-1.0, 0.0, 1.0], np.float32))
    assert any(launch.host for launch in scheduled(program).launches)
    np.testing.assert_array_equal(build(program)(arrays, []), Interpreted(program)(arrays))


def test_random_numbers_are_those_of_a_native_step():
    gg.manual_seed(3)
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 3))
    program = trace(lambda x: model(x).detach(), gg.tensor(X))
    found = [make(program)([X], states(program)) for make in (build, build_native)]
    np.testing.assert_array_equal(found[0][0], found[1][0])


def test_the_flag_puts_compiled_functions_into_watched_memory(monkeypatch):
    monkeypatch.setenv("GANGLION_DEBUG_MEMORY", "1")
    step = gg.compile(sums)
    np.testing.assert_allclose(step(gg.tensor(X)), sums(gg.tensor(X)), rtol=1e-5)
    assert type(step.specialisations[0].executable) is Guarded


@hypothesis.given(programs)
def test_random_programs_in_watched_memory_equal_the_interpreter(program):
    try:
        traced = program.traced()
    except AutogradError:  # a state was written that a gradient needs
        return
    assert not disagreements(traced, program.inputs, build), program


# --- kernels that go astray -----------------------------------------------------------------------


def test_a_kernel_that_writes_an_element_too_far_is_named():
    def after(code, pointers, scratch, low, high):
        code.store(const(1.0, "float"), code.at_index(pointers[-1], 40, "float"))

    message = broken(after)
    assert "kernel 0 'loop exp' (phase 0, test_debug.py:" in message
    assert "writes past the end of t" in message


def test_a_kernel_that_writes_before_its_buffer_is_named():
    def after(code, pointers, scratch, low, high):
        code.store(const(1.0, "float"), code.at_index(pointers[-1], -1, "float"))

    assert "writes before the start of t" in broken(after)


def test_a_kernel_that_writes_to_what_it_reads_is_named():
    def after(code, pointers, scratch, low, high):
        code.store(const(7.0, "float"), pointers[0])

    assert "writes input0" in broken(after)


def test_a_kernel_that_reads_past_the_end_is_named():
    def after(code, pointers, scratch, low, high):
        far = code.load(code.at_index(pointers[0], 40, "float"), "float")
        code.store(far, pointers[-1])

    message = broken(after)
    assert "kernel 0" in message
    assert "reads memory next to input0" in message


def test_a_kernel_whose_tasks_depend_on_their_order_is_named():
    def after(code, pointers, scratch, low, high):
        code.store(code.convert("sitofp", high, "float"), pointers[-1])

    def many(x):
        return (x.reshape(-1, 1) + x.reshape(1, -1)).softmax(1)

    x = np.linspace(0, 1, 200, dtype=np.float32)
    program, arrays, _ = function(many, x)
    schedule = scheduled(program)
    last = len(schedule.launches) - 1
    assert schedule.launches[last].tasks > 1
    with pytest.raises(GraphError, match="otherwise when its tasks run in another order"):
        Guarded(wrong(schedule, last, after))(arrays, [])


def test_a_kernel_that_relies_on_old_scratch_memory_is_named():
    def after(code, pointers, scratch, low, high):
        code.store(code.load(scratch, "float"), pointers[-1])

    assert "from scratch memory that it has not written" in broken(after)


def test_a_kernel_that_reads_a_dead_buffer_is_named(monkeypatch):
    monkeypatch.setattr(debug, "verify", lambda schedule: None)
    program, arrays, _ = function(lambda x: ((x.exp().sum(0) @ x.sin().T).cos() @ x).tanh(), X)
    schedule = scheduled(program)
    last = schedule.launches[-1]
    dead = next(b for b in schedule.launches[0].writes if b.last < last.phase)
    last.buffers = (dead, *last.buffers[1:])
    with pytest.raises(GraphError) as caught:
        Guarded(schedule)(arrays, [])
    message = str(caught.value)
    assert f"kernel {len(schedule.launches) - 1}" in message
    assert f"reads {dead.name}" in message
    assert f"it is dead since phase {dead.last}" in message


def test_a_kernel_that_reads_an_operand_it_does_not_name_is_named():
    program, arrays, _ = function(sums, X)
    schedule = scheduled(program)
    launch = schedule.launches[0]
    launch.kernel = replace(launch.kernel, reads=launch.kernel.reads[1:])
    with pytest.raises(GraphError, match="an operand that it does not name"):
        Guarded(schedule)(arrays, [])


def test_an_output_that_is_partly_unwritten_is_named():
    program, arrays, _ = function(lambda x: x.exp(), X)
    schedule = scheduled(program)
    launch = schedule.launches[0]
    first = launch.kernel

    def emit(code, pointers, scratch, low, high):
        code.store(const(1.0, "float"), pointers[-1])

    launch.kernel = replace(first, emit=emit, key=("wrong", first.key))
    with pytest.raises(GraphError, match="leaves out0 partly unwritten"):
        Guarded(schedule)(arrays, [])


# --- plans that are wrong -------------------------------------------------------------------------


def test_the_plans_of_real_steps_are_right():
    verify(scheduled(mlp()[0]))


def test_two_temporaries_in_one_place_are_found():
    schedule = scheduled(mlp()[0])
    alive = [b for b in schedule.launches[2].buffers if b.kind == "arena" and b.first <= 0]
    later = [b for b in schedule.launches[2].writes if b.kind == "arena"]
    later[0].offset = alive[0].offset
    with pytest.raises(GraphError, match="share memory at the same time"):
        verify(schedule)


def test_a_missing_barrier_is_found():
    schedule = scheduled(mlp()[0])
    for launch in schedule.launches:
        launch.phase = 0
    for b in {b for launch in schedule.launches for b in launch.buffers}:
        b.first = b.last = b.offset = -1
    schedule.arena = set_places(schedule.launches)
    with pytest.raises(GraphError, match=r"meet at t\d+ in phase 0"):
        verify(schedule)


def test_a_reading_of_what_nobody_wrote_is_found():
    schedule = scheduled(function(sums, X)[0])
    del schedule.launches[0]
    with pytest.raises(GraphError, match="before it is written"):
        verify(schedule)


def test_a_result_that_nobody_writes_is_found():
    schedule = scheduled(function(sums, X)[0])
    schedule.launches.pop()
    with pytest.raises(GraphError, match="nothing writes output 0"):
        verify(schedule)


def test_a_buffer_outside_of_the_arena_is_found():
    schedule = scheduled(function(sums, X)[0])
    schedule.arena = 64
    with pytest.raises(GraphError, match="outside of the arena"):
        verify(schedule)
