"""Many threads in one native function, and everything that may happen around them."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import ganglion as gg
from ganglion.compiler import pool, team
from ganglion.compiler.llvm import compile_text, emit_assembly, symbols
from ganglion.compiler.target import TARGETS
from tests.compiler.pool_functions import LIBRARY, LINE, check_exchange, run, zeros

ROOT = Path(__file__).parents[2]


def python(code, *, first="", timeout=60, **environment):
    """Run a program in a process of its own; what it printed."""
    code = first + "from tests.compiler.pool_functions import *\n" + code
    command = [sys.executable, "-c", code]
    environment = os.environ | environment
    done = subprocess.run(
        command, cwd=ROOT, env=environment, timeout=timeout, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def _polling(monkeypatch):
    """A pool that sleeps as on systems without a futex."""
    other = pool.Pool(futex=False)
    monkeypatch.setattr(pool, "_pool", other)
    yield
    other.close()


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hold_gil", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_every_thread_calls_the_function_once(threads, hold_gil):
    array = zeros(threads)
    for _ in range(5):
        run("who", array, threads=threads, hold_gil=hold_gil)
    assert array[:threads, 0].tolist() == [5] * threads
    assert array[:threads, 1].tolist() == [threads] * threads
    assert not array[threads].any()


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 5, 7, 8])
def test_a_barrier_waits_for_all(threads):
    assert check_exchange(threads, rounds=50)


def test_teams_of_any_size_follow_one_another():
    for threads in [2, 7, 3, 1, 2, 5, 2, 4, 7, 1, 3]:
        for _ in range(3):
            assert check_exchange(threads, rounds=5, hold_gil=threads % 2 == 0)


def test_a_run_ends_when_the_last_thread_has():
    array = zeros(3)
    array[0, 0] = 3_000_000
    run("late", array, threads=3)
    assert array[1:3, 0].tolist() == [3_000_000] * 2


def test_the_setting_of_all_threads_counts_here_too():
    before = gg.get_num_threads()
    try:
        for threads in (3, 1, 2):
            gg.set_num_threads(threads)
            array = zeros(3)
            run("who", array, threads=None)
            assert array[0, 1] == threads
    finally:
        gg.set_num_threads(before)


def test_denormals_are_zero_in_all_threads_and_only_within():
    tiny = np.float32(np.finfo(np.float32).tiny)
    for threads in (1, 3):
        array = np.full((4, LINE), -1, np.int64)
        array.view(np.float32)[0, 0] = tiny
        run("denormal", array, threads=threads)
        assert array[1 : 1 + threads, 0].tolist() == [0] * threads
    assert tiny * np.float32(0.5) > 0


@pytest.mark.usefixtures("_polling")
def test_without_a_futex_threads_look_again():
    assert check_exchange(3, rounds=20)
    time.sleep(0.01)  # the workers sleep
    assert check_exchange(2, rounds=20)


def test_a_system_short_of_threads_gives_fewer(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    few = pool.Pool()
    assert few.grow(2) == 2
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert few.grow(5) == 2
    array = zeros(5)
    few.run(LIBRARY.address("who"), array.ctypes.data, 5, hold_gil=False)
    assert array[:, 1].tolist() == [2, 2, 0, 0, 0, 0]
    few.close()


def test_an_interrupted_start_leaves_one_worker_in_a_place():
    one = pool.Pool()
    assert one._start(1)
    assert one._start(1)  # as if the first had been interrupted before it was counted
    one.size = 2
    for _ in range(50):
        array = zeros(2)
        one.run(LIBRARY.address("who"), array.ctypes.data, 2, hold_gil=False)
        assert array[:2, 0].tolist() == [1, 1]
    one.close()
    assert not any(worker.is_alive() for worker in one.workers)


# --- sleeping -------------------------------------------------------------------------------------


def test_workers_without_work_use_no_time():
    run("who", zeros(3), threads=3)
    time.sleep(0.02)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.03


def test_parked_workers_stop_looking_until_the_next_run():
    run("who", zeros(2), threads=1)
    started = pool._started()
    started.control.cores, cores = 2, started.control.cores
    try:
        assert check_exchange(2)
        assert started.control.idle == started.control.idle_limit > 0
        pool.park()
        assert started.control.idle == 0
        assert check_exchange(2)
        assert started.control.idle == started.control.idle_limit
    finally:
        started.control.cores = cores


def test_threads_that_share_cores_do_not_spin():
    run("who", zeros(2), threads=1)
    started = pool._started()
    started.control.cores, cores = 2, started.control.cores
    try:
        check_exchange(3)
        assert started.control.idle == started.boxes[0].patience == started.boxes[2].patience == 0
        run("who", zeros(2), threads=2)
        assert started.boxes[0].patience == started.control.patience_limit > 0
    finally:
        started.control.cores = cores


def test_overflowing_numbers_are_just_numbers():
    few = pool.Pool()
    few.grow(3)
    for box in few.boxes[1:3]:
        assert box.ticket[0] == box.done[0] == 0
    close_to_the_end = pool.Pool()
    for box in close_to_the_end.boxes[:3]:
        box.ticket[0] = box.done[0] = 2**31 - 5
        box.barriers = 2**31 - 20
        for heard in box.heard:
            heard[0] = 2**31 - 20
    close_to_the_end.control.team = 3
    array = zeros(3)
    array[0, 0] = 30
    for _ in range(10):
        arguments = (LIBRARY.address("exchange"), array.ctypes.data, 3)
        close_to_the_end.run(*arguments, hold_gil=False)
        assert array[1:, 1].tolist() == [3 * 30 * 31 // 2] * 3
    assert close_to_the_end.boxes[1].ticket[0] < 0
    close_to_the_end.close()
    few.close()


# --- steps ----------------------------------------------------------------------------------------


def test_a_step_runs_on_as_many_threads_as_its_pace_says():
    before = gg.get_num_threads()
    gg.set_num_threads(4)
    try:
        step = pool.Step(LIBRARY.address("who"), hold_gil=True)
        for level, threads in ((0, 4), (1, 2), (2, 1)):
            array = zeros(4)
            step.pace.level = level
            step(array.ctypes.data)
            assert array[0, 1] == threads
    finally:
        gg.set_num_threads(before)


def test_a_step_measures_itself():
    step = pool.Step(LIBRARY.address("late"), hold_gil=False)
    array = zeros(8)
    array[0, 0] = 500_000
    before = gg.get_num_threads()
    gg.set_num_threads(2)
    try:
        step.pace.record.until = 2**62
        start = time.perf_counter()
        for _ in range(10):
            step(array.ctypes.data)
        spent = time.perf_counter() - start
        assert step.pace.record.runs == 10
        assert 0.5 * spent < step.pace.record.ticks / step.pace.second < 1.1 * spent
        step.pace.record.until = 1
        step(array.ctypes.data)
        assert step.pace.record.runs == 0  # a decision was due
    finally:
        gg.set_num_threads(before)


# --- several Python threads -----------------------------------------------------------------------


def hammer(threads, seconds, *, team_of=2):
    """Let Python threads run exchanges all at once; how many were right and wrong."""
    counts = {True: 0, False: 0}
    lock = threading.Lock()
    end = time.monotonic() + seconds

    def work(number):
        while time.monotonic() < end:
            right = bool(check_exchange(team_of, rounds=20, hold_gil=number % 2 == 0))
            with lock:
                counts[right] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    return counts


def test_eight_python_threads_run_at_once():
    counts = hammer(8, 0.5)
    assert counts[False] == 0
    assert counts[True] > 20


def test_who_comes_while_a_team_works_runs_alone():
    array = zeros(2)
    pool._started().control.claimed = 1
    try:
        run("who", array, threads=2)
        assert array[:, :2].tolist() == [[1, 1], [0, 0], [0, 0]]
    finally:
        pool._started().control.claimed = 0
    run("who", array, threads=2)
    assert array[1, 1] == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_what_comes_while_runs_are_held_waits(threads):
    array = zeros(2)
    waiting = threading.Thread(target=run, args=("who", array), kwargs={"threads": threads})
    run("who", zeros(2), threads=2)
    assert pool._started().hold()
    try:
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
        assert not array.any()
    finally:
        pool._started().release()
    waiting.join(10)
    assert array[0, :2].tolist() == [1, threads]


def test_what_runs_too_long_cannot_be_held():
    array = zeros(2)
    array[0, 0] = 300_000_000
    running = threading.Thread(target=run, args=("late", array), kwargs={"threads": 2})
    running.start()
    while not array[1, 0]:
        time.sleep(0.001)
    assert not pool._started().hold(0.01)
    running.join()
    assert check_exchange(2)


# --- forks, signals, exits ------------------------------------------------------------------------


def test_a_forked_child_has_threads_of_its_own():
    code = """
import os
assert check_exchange(3)
for _ in range(5):
    child = os.fork()
    assert check_exchange(3)
    if not child:
        os._exit(0 if check_exchange(2) else 1)
    assert os.waitpid(child, 0)[1] == 0
"""
    python(code)


FORK_IN_THE_MIDDLE = """
import os, sys, threading, time
going = True
wrong = []
def work():
    while going:
        if not check_exchange(2, rounds=200): wrong.append(1)
workers = [threading.Thread(target=work) for _ in range(3)]
for worker in workers: worker.start()
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    child = os.fork()
    if not child:
        os._exit(0 if check_exchange(2) else 1)
    assert os.waitpid(child, 0)[1] == 0
going = False
for worker in workers: worker.join()
assert not wrong
print("done")
"""


def test_a_fork_while_other_threads_run_steps():
    assert python(FORK_IN_THE_MIDDLE.replace("SECONDS", "1")) == "done\n"


@pytest.mark.parametrize("threads", [1, 2])
def test_no_fork_cuts_a_run(threads):
    code = """
import os, threading, time
array, going = zeros(2), True
def work():
    while going:
        array[:, 0] = 100
        run("exchange", array, threads=THREADS)
worker = threading.Thread(target=work, daemon=True)
worker.start()
for _ in range(50):
    time.sleep(0.001)
    child = os.fork()
    if not child:
        os._exit(array[1:, 0].tolist() != [100, 100])
    assert os.waitpid(child, 0)[1] == 0
going = False
worker.join()
"""
    python(code.replace("THREADS", str(threads)))


def test_a_forked_child_exits_like_any_process():
    code = """
import os, time
check_exchange(2)
child = os.fork()
if not child:
    raise SystemExit(7)
start = time.monotonic()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert time.monotonic() - start < 1.5
"""
    python(code)


def test_the_interpreter_exits_with_a_live_pool():
    start = time.monotonic()
    assert python("check_exchange(3); print('done')") == "done\n"
    assert time.monotonic() - start < 10


def test_exit_handlers_that_run_late_run_alone():
    code = """
def late():
    array = zeros(2)
    run("who", array, threads=2)
    print(array[:, 0].tolist())
assert check_exchange(2)
"""
    first = "import atexit; atexit.register(lambda: late())\n"  # the last to run
    assert python(code, first=first) == "[1, 0, 0]\n"


def test_exit_while_a_daemon_thread_runs_steps():
    code = """
import threading, time
def work():
    while True: check_exchange(2, rounds=500)
for _ in range(2): threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
print("done")
"""
    for _ in range(3):
        assert python(code) == "done\n"


def test_ctrl_c_comes_after_the_step():
    code = """
import os, signal, threading, time
array = zeros(2)
array[0, 0] = 200_000_000
def interrupt():
    while not array[1, 0]: time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    run("late", array, threads=2)
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted", array[1, 0])
assert check_exchange(2)
"""
    assert python(code) == "interrupted 200000000\n"


SIGNAL_STORM = """
import signal, time
seen = 0
def count(*_):
    global seen
    seen += 1
signal.signal(signal.SIGALRM, count)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0003)
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    assert check_exchange(2, rounds=100)
    assert check_exchange(2, rounds=100, hold_gil=True)
    time.sleep(0.0005)
signal.setitimer(signal.ITIMER_REAL, 0)
print(seen > 20)
"""


def test_a_storm_of_signals():
    assert python(SIGNAL_STORM.replace("SECONDS", "1")) == "True\n"


INTERRUPT_STORM = """
import signal, time
inside, interrupts = False, 0
def interrupt(*_):
    global inside, interrupts
    if inside:
        inside, interrupts = False, interrupts + 1
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    try:
        inside = True
        for threads in (2, 3, 4):
            array = zeros(threads)
            run("who", array, threads=threads)
            assert array[:threads, 0].tolist() == [1] * threads
        inside = False
    except KeyboardInterrupt:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
assert all(check_exchange(threads) for threads in (2, 3, 4))
print(interrupts > 50)
"""


def test_a_storm_of_ctrl_c_from_the_first_run_on():
    assert python(INTERRUPT_STORM.replace("SECONDS", "1")) == "True\n"


def test_workers_leave_signals_to_the_main_thread():
    run("who", zeros(2), threads=2)
    worker = next(t for t in threading.enumerate() if t.name == "ganglion-1")
    status = Path(f"/proc/self/task/{worker.native_id}/status").read_text()
    mask = int(status.partition("SigBlk:")[2].split()[0], 16)
    assert mask >> signal.SIGINT - 1 & 1
    assert not mask >> signal.SIGSEGV - 1 & 1


def test_on_one_core_everything_still_works():
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import ganglion
array = zeros(3)
run("who", array, threads=None)
print(array[0, 1], pool._started().control.cores, all(check_exchange(t) for t in (1, 2, 3)))
"""
    cleared = {"GANGLION_NUM_THREADS": "", "OMP_NUM_THREADS": ""}
    assert python(code, **cleared) == "1 1 True\n"


@pytest.mark.full
@pytest.mark.parametrize("neighbours", [1, 2, 4])
def test_busy_neighbours_do_not_stop_a_step(neighbours):
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
    try:
        counts = hammer(1, 3.0)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert counts[False] == 0
    assert counts[True] > 100


@pytest.mark.full
@pytest.mark.parametrize("program", [FORK_IN_THE_MIDDLE, SIGNAL_STORM, INTERRUPT_STORM])
def test_long_storms(program):
    assert python(program.replace("SECONDS", "20"), timeout=120) in {"done\n", "True\n"}


@pytest.mark.full
@pytest.mark.parametrize("team_of", [2, 5])
def test_eight_python_threads_for_long(team_of):
    counts = hammer(8, 10.0, team_of=team_of)
    assert counts[False] == 0
    assert counts[True] > 500


# --- code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("futex", [True, False])
@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_the_pool_needs_no_library_on_any_target(target, futex):
    names = dict(symbols(compile_text(team.code(target, futex=futex), target)))
    exported = "barrier dispatch dispatch_gated pauses post wait worker"
    assert set(names) == set(exported.split())
    assert all(names.values())


def test_the_clock_is_one_that_programs_may_read():
    """ARM's cycle counter, LLVM's choice, is for the kernel alone."""
    neon, avx2 = (emit_assembly(team.code(TARGETS[x]), TARGETS[x]) for x in ("neon", "avx2"))
    assert "CNTVCT_EL0" in neon
    assert "PMCCNTR_EL0" not in neon
    assert "rdtsc" in avx2


def test_what_threads_write_stands_on_lines_of_its_own():
    assert team.Control.claimed.offset % team.LINE == 0
    assert ctypes.sizeof(team.Control) % team.LINE == ctypes.sizeof(team.Box) % team.LINE == 0
    assert team.Box.heard.offset == team.LINE
    assert 2 ** (team.Box.heard.size // 8) >= team.MOST
