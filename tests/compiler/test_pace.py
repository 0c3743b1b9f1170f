"""The number of threads follows the times that runs take; here times are made up."""

import pytest

from ganglion.compiler.pace import Pace

TICKS = 1e9


def run(pace, seconds, times, threads=2):
    """Let runs take ``times[threads]`` until so much time has passed; the share of each count."""
    spent = dict.fromkeys(times, 0.0)
    while sum(spent.values()) < seconds:
        used = max(1, threads >> pace.level)
        spent[used] += times[used]
        pace.record.ticks += int(times[used] * TICKS)
        pace.record.runs += 1
        if pace.record.ticks >= pace.record.until:
            pace.decide(threads)
    return {count: time / sum(spent.values()) for count, time in spent.items()}


@pytest.fixture
def pace():
    return Pace(TICKS)


def test_short_functions_that_threads_slow_down_run_alone(pace):
    share = run(pace, 1.0, {2: 9.5e-6, 1: 7.4e-6})
    assert share[1] > 0.9
    assert pace.home == 1


def test_short_functions_that_threads_speed_up_keep_them(pace):
    share = run(pace, 3.0, {2: 4.9e-6, 1: 7.4e-6})
    assert share[2] > 0.99


def test_long_functions_are_left_alone_while_nothing_disturbs_them(pace):
    assert run(pace, 10.0, {2: 5e-3, 1: 10e-3})[1] == 0


def test_a_busy_neighbour_is_noticed_and_its_end_too(pace):
    assert run(pace, 1.0, {2: 80e-6, 1: 145e-6})[2] > 0.98
    assert run(pace, 10.0, {2: 500e-6, 1: 150e-6})[1] > 0.85
    assert run(pace, 10.0, {2: 80e-6, 1: 145e-6})[2] > 0.85


def test_a_long_function_notices_a_busy_neighbour(pace):
    run(pace, 1.0, {2: 5e-3, 1: 10e-3})
    assert run(pace, 10.0, {2: 20e-3, 1: 11e-3})[1] > 0.7


def test_many_threads_are_halved_step_by_step(pace):
    times = {8: 60e-6, 4: 40e-6, 2: 30e-6, 1: 35e-6}
    assert run(pace, 3.0, times, threads=8)[2] > 0.85


def test_one_thread_has_no_choice(pace):
    assert run(pace, 1.0, {1: 1e-5}, threads=1) == {1: 1.0}


def test_another_number_of_threads_starts_anew(pace):
    run(pace, 1.0, {2: 9.5e-6, 1: 7.4e-6})
    assert pace.level == 1
    run(pace, 0.02, {4: 1e-5, 2: 1e-5, 1: 1e-5}, threads=4)
    assert (pace.level, pace.threads) == (0, 4)


def test_one_outlier_in_a_trial_does_no_harm(pace):
    """A trial that is unlucky fails; a later one succeeds."""
    times = {2: 9.5e-6, 1: 7.4e-6}
    while pace.level == 0:
        run(pace, 1e-6, times)
    pace.record.ticks += int(4e-3 * TICKS)
    run(pace, 1e-5, times)
    assert pace.level == 0
    run(pace, 0.2, times)
    assert pace.home == 1
