import pytest

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Kernel, packed
from ganglion.compiler.roofline import BARRIER, CALL, HOST, Peaks, forecast, peaks, predict
from ganglion.compiler.schedule import Launch
from tests.compiler.steps import mlp, scheduled

PEAKS = Peaks(1e11, ((1000, 1e11), (float("inf"), 1e10)), 2)


def launch(flops, moved, tasks, dtype=dt.float32):
    kernel = Kernel(
        "k", "k", lambda *_: None, (packed(dtype, (4,)),), (0,), (0,), tasks, 0, flops, moved
    )
    return Launch(kernel, (), (), ())


def test_the_slower_of_arithmetic_and_memory_decides():
    assert forecast(launch(10**7, 1000, 1), PEAKS).alone == pytest.approx(1e-4 + CALL)
    assert forecast(launch(10**7, 1000, 1), PEAKS).bound == "flops"
    assert forecast(launch(10, 10**7, 1), PEAKS).alone == pytest.approx(1e-3 + CALL)
    assert forecast(launch(10, 10**7, 1), PEAKS).bound == "bytes"
    assert forecast(launch(10, 10, 1), PEAKS).bound == "call"


def test_what_fits_in_a_cache_flows_at_its_rate():
    assert [PEAKS.flow(n) for n in (1000, 1001)] == [1e11, 1e10]


def test_the_slowest_thread_has_its_share_of_the_tasks():
    assert forecast(launch(10**7, 0, 3), PEAKS).seconds == pytest.approx(2 / 3 * 1e-4 + CALL)


def test_doubles_are_half_as_fast():
    found = [
        forecast(launch(10**7, 0, 1, dtype), PEAKS).alone for dtype in (dt.float32, dt.float64)
    ]
    assert found[1] - CALL == pytest.approx(2 * (found[0] - CALL))


def test_a_step_takes_its_phases_and_barriers():
    schedule = scheduled(mlp()[0])
    alone = Peaks(PEAKS.flops, PEAKS.flows, 1)
    total = sum(forecast(x, alone).seconds for x in schedule.launches)
    assert predict(schedule, alone) == pytest.approx(total + BARRIER * (schedule.phases - 1))
    assert BARRIER < predict(schedule, PEAKS) < predict(schedule, alone)


def test_a_call_of_the_host_takes_its_time():
    found = forecast(Launch(None, (), (), ()), PEAKS)
    assert (found.seconds, found.bound) == (HOST, "host")


def test_the_machines_rates_are_measured_once():
    found = peaks()
    assert found is peaks()
    assert found.flops > 1e8
    assert all(rate > 1e8 for _, rate in found.flows)
    assert [size for size, _ in found.flows] == sorted(size for size, _ in found.flows)
