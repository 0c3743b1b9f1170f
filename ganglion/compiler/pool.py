"""The threads that run compiled steps: all enter one native function together.

    pool.run(function, argument, hold_gil=True)

calls ``void function(ptr argument, i64 thread, i64 threads, ptr control)`` on every thread, with
``thread`` from 0, the caller, to ``threads - 1``, and returns when all have returned. Within, all
threads wait for one another as `BARRIER` shows. Denormals count as zero meanwhile.

Workers are threads that Python starts and that stay in native code until the end, so they need no
GIL. Whoever waits spins at first, since a step is often shorter than falling asleep, and then
sleeps. One team is at work at a time: another Python thread that comes meanwhile runs its function
alone, with the same results, since results do not depend on the number of threads.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from ctypes import c_int32, c_int64, c_void_p
from functools import cache
from typing import Any, Final

from ganglion.blas import get_num_threads
from ganglion.compiler import team
from ganglion.compiler.cache import objects
from ganglion.compiler.llvm import Library, load
from ganglion.compiler.memory import allocate
from ganglion.compiler.pace import Pace
from ganglion.compiler.target import host
from ganglion.config import usable_cores

BARRIER: Final = """
  %barrier = load ptr, ptr %control, !invariant.load !{}
  call void %barrier(ptr %control, i64 %thread, i64 %threads)
"""

IDLE_SECONDS: Final = 200e-6  # workers look for the next run that long: waking takes 20-300 us
PATIENCE_SECONDS: Final = 50e-6  # a thread looks for others that long before it sleeps
EXIT_SECONDS: Final = 2.0  # a run that takes longer keeps its workers when Python exits

# What a processor raises by itself must reach the thread that caused it.
_FAULTS = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGABRT"}


class Pool:
    """A team of threads, of which the first is whoever calls `run`."""

    def __init__(self, *, futex: bool = sys.platform == "linux") -> None:
        self.library = _native(futex)
        block = allocate(team.SIZE)
        self.address = int(block.ctypes.data)
        self.control = team.Control.from_buffer(block.data)
        self.boxes = (team.Box * team.MOST).from_buffer(block.data, ctypes.sizeof(team.Control))
        self.workers: list[threading.Thread] = []
        self.size = 1  # threads that a run can have
        self.open = True

        dispatch = (c_int32, *[c_void_p] * 5)  # ctypes converts these fastest, numbers too
        self.released = self._function("dispatch_gated", *dispatch)
        self.holding = ctypes.PYFUNCTYPE(*dispatch)(self.library.address("dispatch"))
        self._post = self._function("post", None, c_void_p, c_int32, c_void_p)
        self._worker = self._function("worker", None, c_void_p, c_int64)
        self._pauses = self._function("pauses", c_int64, c_int64)
        self._prepare("syscall" if futex else "usleep")

    def _function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        return ctypes.CFUNCTYPE(result, *arguments)(self.library.address(name))

    def _prepare(self, primitive: str) -> None:
        control = self.control
        control.barrier = self.library.address("barrier")
        control.primitive = ctypes.cast(getattr(ctypes.CDLL(None), primitive), c_void_p).value
        control.cores = usable_cores()
        looks, self.ticks_per_second = self._speed()
        control.idle = control.idle_limit = int(IDLE_SECONDS * looks)
        control.patience_limit = int(PATIENCE_SECONDS * looks)

    def _speed(self) -> tuple[float, float]:
        """How often a thread looks and pauses in a second, and the ticks of the native clock."""
        times = []
        for _ in range(3):
            start = time.perf_counter()
            ticks = self._pauses(1000)
            times.append((time.perf_counter() - start, ticks))
        seconds, ticks = min(times)
        return 1000 / seconds, ticks / seconds

    def run(
        self, function: int, argument: int, threads: int, hold_gil: bool, record: int = 0
    ) -> int:
        """Call a native function on this many threads, or on as many as can be had.

        Returns 1 if the `Record` at this address is full now.
        """
        if threads > self.size:
            threads = self.grow(threads)
        call = self.holding if hold_gil else self.released
        return call(self.address, function, argument, threads, record)  # type: ignore[no-any-return]

    def grow(self, threads: int) -> int:
        """Start workers until a run can have this many threads; returns how many it can have."""
        with _lock:
            while self.open and self.size < min(threads, team.MOST) and self._start(self.size):
                self.size += 1
        return min(threads, self.size)

    def _start(self, place: int) -> bool:
        """Start a worker; of two for one place, left by an interruption, the later one ends."""
        worker = threading.Thread(
            target=self._work, args=(place,), name=f"ganglion-{place}", daemon=True
        )
        try:
            worker.start()
        except RuntimeError:  # the system, or a Python that exits, allows no more threads
            return False
        self.workers.append(worker)
        while worker.is_alive() and not self.boxes[place].taken:
            time.sleep(0)  # it needs the GIL until it is in native code
        return bool(self.boxes[place].taken)

    def _work(self, place: int) -> None:
        _leave_signals_to_others()
        self._worker(self.address, place)

    def park(self) -> None:
        """Let workers that still look for the next run sleep at once."""
        self.control.idle = 0

    def hold(self, seconds: float = float("inf")) -> bool:
        """Wait until nothing runs, and let nothing start; False if that takes too long.

        A run that holds the GIL is over when this code runs.
        """
        self._gate(-1)
        end = time.monotonic() + seconds
        try:
            while self.control.running:
                if time.monotonic() > end:
                    self.release()
                    return False
                time.sleep(1e-4)
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Let runs start again."""
        self._gate(0)

    def _gate(self, number: int) -> None:
        self._post(self.address + team.Control.gate.offset, number, self.address)

    def close(self, seconds: float = EXIT_SECONDS) -> None:
        """End the workers; what runs later, such as another exit handler, runs alone."""
        self.open = False
        if not self.hold(seconds):
            return
        threads, self.size = self.size, 1
        for box in self.boxes[1:threads]:
            box.function = None
            self._post(ctypes.addressof(box), box.ticket[0] + 1, self.address)
        for worker in self.workers:
            worker.join()
        self.release()


@cache
def _native(futex: bool) -> Library:
    """The pool's code, compiled and loaded once; a forked child uses it too."""
    return load(objects([team.code(host(), futex=futex)], host()))


def _leave_signals_to_others() -> None:
    """Python's handlers run in the main thread: its sleep must end, not a worker's."""
    faults = {getattr(signal, name) for name in _FAULTS if hasattr(signal, name)}
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - faults)


# --- the pool of this process ---------------------------------------------------------------------

_pool: Pool | None = None
_lock = threading.RLock()


def run(
    function: int, argument: int, *, threads: int | None = None, hold_gil: bool = False
) -> None:
    """Call ``void function(ptr argument, i64 thread, i64 threads, ptr control)`` on all threads.

    `function` and `argument` are addresses; `threads` is `get_num_threads()` unless given.
    `hold_gil` is for short functions: to release the GIL and have it back takes milliseconds when
    another Python thread is busy, to hold it stops all other Python threads meanwhile.
    """
    pool = _pool or _started()
    pool.run(function, argument, threads or get_num_threads(), hold_gil)


class Step:
    """A native function that is run again and again, on as many threads as serve it best.

    `function` and `hold_gil` are those of `run`; the owner of the code keeps it meanwhile.
    """

    def __init__(self, function: int, *, hold_gil: bool) -> None:
        self.function, self.hold_gil = function, hold_gil
        self.pace = Pace(_started().ticks_per_second)

    def __call__(self, argument: int) -> None:
        """Run once."""
        pool = _pool or _started()
        pace = self.pace
        most = get_num_threads()
        threads = most >> pace.level or 1
        if pool.run(self.function, argument, threads, self.hold_gil, pace.address):
            pace.decide(most)


def park() -> None:
    """Let workers that still look for the next run sleep at once: others want their cores."""
    if _pool:
        _pool.park()


def _started() -> Pool:
    global _pool
    with _lock:
        if _pool is None:
            _pool = Pool()
        return _pool


@atexit.register
def _close() -> None:
    if _pool:
        _pool.close()


class _Fork:
    """A child has no workers, so it starts a pool of its own; and no fork cuts a run in two."""

    def __init__(self) -> None:
        self.held: Pool | None = None

    def before(self) -> None:
        _lock.acquire()
        if _pool and _pool.open and _pool.hold():
            self.held = _pool

    def in_parent(self) -> None:
        if self.held:
            self.held.release()
        self.held = None
        _lock.release()

    def in_child(self) -> None:
        global _pool, _lock
        _pool, _lock, self.held = None, threading.RLock(), None


_fork = _Fork()
os.register_at_fork(
    before=_fork.before,
    after_in_parent=_fork.in_parent,
    after_in_child=_fork.in_child,
)
