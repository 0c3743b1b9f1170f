"""Ctrl-C at a chosen place of a call, and what must be as it was before.

Python looks for signals when a function is entered, when one that was called has returned, and
when a loop turns back. `places` lists where a call does so; `interrupted` raises KeyboardInterrupt
at one of them, which is what a signal would do that arrives just then.

    python -m tests.compiler.interruption call 7

interrupts first compiled calls, which import the compiler, at every seventh of these places.
"""

import contextlib
import dis
import gc
import importlib
import os
import pickle
import random
import sys
import threading
import traceback
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import ganglion as gg
from ganglion.dispatch import mode
from tests.compiler.workloads import Training, digest

PACKAGE = str(Path(gg.__file__).parent)
OURS = (PACKAGE, "/contextlib.py", "/threading.py")


class Where(NamedTuple):
    """Where Python looks for signals."""

    file: str
    function: str
    line: int
    offset: int
    event: str

    def __str__(self):
        return f"{self.file}:{self.line} {self.function}() {self.event}"


class _Watch:
    """Meets every such place of a thread in turn; raises at one of them, if it is given."""

    def __init__(self, wanted=None):
        self.met, self.wanted = Counter(), wanted

    def entered(self, frame, *_):
        self.meet(frame, "call")
        if any(part in frame.f_code.co_filename for part in OURS):
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return self.within
        return None

    def within(self, frame, event, _):
        if event == "opcode" and frame.f_lasti in _looks(frame.f_code):
            self.meet(frame, event)
        return self.within

    def meet(self, frame, event):
        code = frame.f_code
        place = Where(code.co_filename, code.co_name, frame.f_lineno, frame.f_lasti, event)
        self.met[place] += 1
        if self.wanted == (place, self.met[place]):
            sys.settrace(None)
            raise KeyboardInterrupt

    def through(self, work):
        before = sys.gettrace()
        sys.settrace(self.entered)
        try:
            work()
        finally:
            sys.settrace(before)


@cache
def _looks(code):
    """Offsets before which Python looks for signals, as far as the same handlers are in force."""
    table = dis._parse_exception_table(code)
    found, last = set(), None
    for now in dis.get_instructions(code):
        called = last is not None and last.opname.startswith("CALL")
        if now.opname == "JUMP_BACKWARD" or (
            called and _handler(table, last) == _handler(table, now)
        ):
            found.add(now.offset)
        last = now
    return frozenset(found)


def _handler(table, instruction):
    inside = (entry for entry in table if entry.start <= instruction.offset < entry.end)
    return next((entry.target for entry in inside), None)


def places(work):
    """Each place where Python looks for signals in ``work()``, when first and when last met."""
    watch = _Watch()
    watch.through(work)
    return [(place, turn) for place, count in watch.met.items() for turn in sorted({1, count})]


def interrupted(work, place):
    """Do some work that Ctrl-C ends at a place, if it comes there and is not in a finalizer."""
    with contextlib.suppress(KeyboardInterrupt):
        _Watch(place).through(work)


# --- what must be as before -----------------------------------------------------------------------


def surroundings(training):
    """What a call must leave as it found it, by name."""
    found = {name: getattr(mode, name) for name in ("listener", "tracer", "grad", "inference")}
    found |= {
        "garbage collector": gc.isenabled(),
        "profiler": sys.getprofile(),
        "random": random.getstate(),
        "numpy.random": repr(np.random.get_state()),  # noqa: NPY002
        "numpy errors": np.geterr(),
    }
    found |= {f"self.{k}": v for k, v in vars(training).items() if type(v) in (int, float)}
    for i, group in enumerate(training.optimizer.param_groups):
        found |= {f"group {i} {k}": (type(v), v) for k, v in group.items() if k != "params"}
    for name, p in training.model.named_parameters():
        found[name] = (p._leaf, p._edge, p._view, p._hooks, type(p._data))
    return found


def _locks(training):
    yield "the function", training.step._lock
    for name, lock in (("pool", "_lock"), ("llvm", "_forking")):
        if _module(name):
            yield name, getattr(_module(name), lock)


def _module(name):
    return sys.modules.get(f"ganglion.compiler.{name}")


def _is_held(lock):
    found = []

    def take():
        if lock.acquire(timeout=1):
            found.append(lock)
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return not found


def _held(training):
    """What is still taken."""
    yield from (f"{name} is locked" for name, lock in _locks(training) if _is_held(lock))
    pool = _module("pool")
    control = pool and pool._pool and pool._pool.control
    if control and (control.claimed or control.running or control.gate[0]):
        yield "the pool believes that a step runs"


def standing(training):
    """A digest of what a step changes, wherever the optimizer begins."""
    weights = {name: x.numpy() for name, x in training.model.state_dict().items()}
    return digest(weights | {"generator": gg.get_rng_state().numpy()})


def course(make, steps):
    """How a training stands before each step and at its end, in peace."""
    training = make()
    return [standing(training), *(standing(training.run(1)) for _ in range(steps))]


def faults(make, states, done, place):
    """What is wrong after one step of a training was interrupted and the rest done.

    states: its course; done: steps before that one.
    """
    training = make().run(done)
    training.prepare()
    before, traces = surroundings(training), training.traces
    interrupted(lambda: training.run(1), place)
    found = list(_held(training))
    after, now = surroundings(training), standing(training)
    if now not in states[done : done + 2]:
        return [*found, "the step was done in part"]
    done, traced = states.index(now), training.traces > traces  # which sets attributes once
    found += [f"{name}: {old} became {after[name]}" for name, old in before.items()
              if old != after[name] and not (traced and name.startswith("self."))]  # fmt: skip
    training.resume(done)
    try:
        training.run(len(states) - 1 - done)
    except Exception:  # noqa: BLE001 - reported with the others
        return [*found, f"the next call fails: {traceback.format_exc(limit=-3)}"]
    if standing(training) != states[-1] or training.step.eager:
        found.append("the training goes on wrong")
    return found


# --- processes that have not compiled anything ----------------------------------------------------


def in_child(work):
    """What some work gives in a forked child."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.close(reading)
        try:
            result = work()
        except BaseException:  # noqa: BLE001 - a child must not go on
            result = [traceback.format_exc()]
        with os.fdopen(writing, "wb") as file:
            pickle.dump(result, file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        given = file.read()
    status = os.waitpid(child, 0)[1]
    return pickle.loads(given) if given else [f"the process ended with {status}"]


def first_call():
    """Places where the first call of a process looks for signals, and what is to be checked."""
    make = partial(Training, "mlp64")
    states = in_child(lambda: course(make, 3))
    training = make()
    return in_child(lambda: places(lambda: training.run(1))), partial(faults, make, states, 0)


def first_import():
    """The same for the import of the library."""
    return in_child(lambda: places(import_anew)), import_faults


def import_anew():
    """Import the library as if nobody had."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "ganglion"]:
        del sys.modules[name]
    importlib.import_module("ganglion")


def import_faults(place):
    """What is wrong after an import was interrupted and done again."""
    interrupted(import_anew, place)
    again = importlib.import_module("ganglion")
    x = again.ones(3, requires_grad=True)
    again.nn.functional.relu(x).sum().backward()
    return [] if x.grad.tolist() == [1, 1, 1] else [f"wrong gradient: {x.grad}"]


def main():
    """Interrupt what is named at every so many-th place, each time in a process of its own."""
    begin, step = {"call": first_call, "import": first_import}[sys.argv[1]], int(sys.argv[2])
    everywhere, check = begin()
    wrong = 0
    for place in everywhere[::step]:
        found = in_child(lambda place=place: check(place))
        wrong += bool(found)
        for fault in found:
            sys.stderr.write(f"{place[0]}, time {place[1]}: {fault}\n")
    sys.stdout.write(f"{len(everywhere[::step])} of {len(everywhere)} places, {wrong} wrong\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
