from itertools import pairwise

import numpy as np
import pytest

import ganglion as gg
from ganglion.compiler.debug import build as build_guarded
from ganglion.compiler.native import build
from ganglion.compiler.profile import Phase, Profile, Row, profile
from ganglion.compiler.roofline import Peaks
from ganglion.errors import ArgumentError
from tests.compiler.steps import function, mlp, on_host

PEAKS = Peaks(1e11, ((float("inf"), 1e11),), 2)


@pytest.fixture(scope="module")
def measured():
    program, arrays, states = mlp(batch=64, width=128, hidden=256)
    step = build(program)
    before = [x.copy() for x in states]
    found = profile(step, arrays, states, repeats=5)
    return step, found, before, states


def test_every_kernel_has_a_time_and_shares_of_the_peak(measured):
    step, found, _, _ = measured
    assert [row.name for row in found.rows] == [x.name for x in step.schedule.launches]
    products = [row for row in found.rows if row.name == "product"]
    assert products
    for row in products:
        assert row.seconds > 0
        assert 0 < row.compute < 2
        assert 0 < row.reached <= 1


def test_the_parts_of_a_step_add_up(measured):
    _, found, _, _ = measured
    parts = found.kernels + found.waiting + found.host + found.calling
    assert parts == pytest.approx(found.clocked, rel=0.5)
    assert found.waiting >= 0
    assert found.host == 0


def test_states_stay_as_they_were(measured):
    _, _, before, states = measured
    for x, y in zip(before, states, strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_last_profile_is_on_the_steps_page(measured):
    step, found, _, _ = measured
    assert step.profile is found
    assert "Timeline" in step.html()


def test_the_spans_of_a_thread_follow_each_other(measured):
    _, found, _, _ = measured
    spans = sorted((s for s in found.spans if s.thread == 0), key=lambda s: s.start)
    assert spans
    for a, b in pairwise(spans):
        assert a.start <= a.end <= b.start + 1e-9


def test_calls_of_the_host_are_timed_and_kept_apart():
    x, edges = np.ones((200, 300), np.float32), np.arange(300, dtype=np.float32)
    program, arrays, _ = function(on_host, x, edges)
    found = profile(build(program), arrays, [], repeats=5)
    (row,) = [row for row in found.rows if row.name == "host searchsorted"]
    assert 0 < row.seconds == found.host < found.clocked


def test_only_native_steps_have_a_profile():
    program, arrays, states = mlp()
    with pytest.raises(ArgumentError, match="only native steps have a profile, got Guarded"):
        profile(build_guarded(program), arrays, states)


def test_the_table_shows_rates_shares_and_waiting():
    row = Row(3, 1, "product", 8, (2e-6, 4e-6), 600_000, 60_000, 3e-6, 1.0, 0.1)
    phase = Phase(1, 5e-6, 4e-6)
    text = str(Profile((row,), (phase,), (), 1e-5, 1.2e-5, 2, PEAKS))
    assert "a step takes 10.0 us on 2 threads, 12.0 us with clocks in it" in text
    assert "kernels 3.0 us, waiting 2.0 us, host 0.0 us, calling 7.0 us" in text
    line = next(line for line in text.splitlines() if "product" in line)
    assert line.split() == [
        "1", "3", "product", "8", "4.0", "6.0", "100.0", "100%", "10.0", "10%", "50%",
    ]  # fmt: skip
    assert text.splitlines()[-1].split() == ["1", "5.0", "2.0"]


def test_a_compiled_function_is_profiled_and_keeps_its_state():
    weight = gg.ones(64, 64, requires_grad=True)
    optimizer = gg.optim.SGD([weight], lr=0.5)

    @gg.compile
    def step(x):
        optimizer.zero_grad()
        loss = (x @ weight).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    x = gg.ones(32, 64)
    step(x)
    before = weight.detach().numpy().copy()
    found = step.profile(x, repeats=3)
    np.testing.assert_array_equal(weight.detach().numpy(), before)
    assert any(row.name == "product" for row in found.rows)
    assert "Timeline" in step.html()
    assert "kernels, predicted on" in step.explain()
    assert "kernels, predicted on" not in step.explain(details=False)


def test_what_runs_eagerly_has_no_profile():
    f = gg.compile(lambda x: x * float(x.sum()), fullgraph=False)
    with pytest.raises(ArgumentError, match="runs eagerly with these arguments"):
        f.profile(gg.ones(2))
