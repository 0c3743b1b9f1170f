import gc
import subprocess
import sys
import threading
import time
import traceback

import pytest

from ganglion.data.prefetch import Prefetcher
from ganglion.errors import DataError

NAME = "ganglion-prefetch"


def workers():
    return [thread for thread in threading.enumerate() if thread.name == NAME]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    assert workers() == []
    yield
    if workers():
        gc.collect()
    assert workers() == []


def failing(after):
    yield from range(after)
    raise ZeroDivisionError("in the data set")


def wait_until(true):
    limit = time.monotonic() + 5
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.001)


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_items_come_in_order_and_end(depth):
    items = Prefetcher(iter(range(20)), depth)
    assert list(items) == list(range(20))
    assert next(items, "over") == "over"


def test_an_empty_source_ends_at_once():
    assert list(Prefetcher(iter([]), 2)) == []


def test_it_runs_ahead_by_its_depth_and_no_further():
    made = []
    items = Prefetcher((made.append(i) or i for i in range(100)), 3)
    wait_until(lambda: len(made) == 3)
    assert next(items) == 0
    wait_until(lambda: len(made) == 4)
    time.sleep(0.02)
    assert len(made) == 4
    items.close()


def test_an_error_arrives_in_its_place_with_its_traceback():
    items = Prefetcher(failing(3), 10)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="in the data set") as caught:
        next(items)
    frames = [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert "failing" in frames
    assert list(items) == []


def test_closing_ends_the_thread():
    items = Prefetcher(iter(range(100)), 2)
    next(items)
    items.close()
    assert workers() == []
    assert list(items) == []


def test_dropping_it_ends_the_thread():
    items = Prefetcher(iter(range(100)), 2)
    next(items)
    del items
    gc.collect()
    assert workers() == []


def test_it_may_be_collected_in_its_own_thread():
    """A cycle that the collector finds while the worker runs must not join the worker."""
    holder = {}

    def source():
        yield 0
        holder.clear()
        gc.collect()
        yield 1

    class Cycle:
        pass

    cycle = Cycle()
    cycle.me, cycle.items = cycle, Prefetcher(source(), 1)
    holder["cycle"] = cycle
    next(cycle.items)
    del cycle
    wait_until(lambda: not workers())


def test_begin_runs_in_the_thread_first():
    seen = []
    begin = lambda: seen.append(threading.current_thread().name)  # noqa: E731
    assert list(Prefetcher((len(seen) for _ in range(2)), 1, begin=begin)) == [1, 1]
    assert seen == [NAME]


def test_an_error_in_begin_arrives():
    def begin():
        raise KeyError("no")

    with pytest.raises(KeyError):
        next(Prefetcher(iter([1]), 1, begin=begin))


def test_a_slow_source_runs_into_the_timeout():
    release = threading.Event()
    items = Prefetcher((release.wait() for _ in range(1)), 1, timeout=0.01)
    with pytest.raises(DataError, match=r"within the 0.01 s"):
        next(items)
    release.set()
    items.close()


def test_python_exits_while_an_iterator_is_alive():
    script = (
        "from ganglion.data.prefetch import Prefetcher\n"
        "items = Prefetcher(iter(range(10**9)), 2)\n"
        "print(next(items), flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
