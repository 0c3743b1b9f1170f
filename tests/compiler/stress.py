"""Trouble for compiled training: programs that exit with 0 only if all results were right.

    python -m tests.compiler.stress forks cnn-small 2.0

runs one of them for so many seconds.
"""

import atexit
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

from tests.compiler.workloads import Training, digest

STEPS = 40  # of the training that all results are compared with


class Course:
    """A training's states, step by step, made in peace."""

    def __init__(self, name):
        training = Training(name)
        self.states = [digest(training.run(1).state()) for _ in range(STEPS)]
        self.name = name

    def follow(self, training, start=None):
        """Train on, from wherever it stands, to the end of the course."""
        for batch in self.batches(training, self.place(training) if start is None else start):
            training.step(*batch)
        assert self.place(training) == STEPS

    def place(self, training):
        """How many steps led to the training's state, which must be one of the course."""
        return self.states.index(digest(training.state())) + 1

    def batches(self, training, start):
        """What the steps from here to the end are given."""
        return itertools.islice(itertools.cycle(training.batches), start, STEPS)


def weights(training):
    """What a step changes, whatever else the optimizer keeps."""
    return digest({name: x.numpy() for name, x in training.model.state_dict().items()})


def until(seconds):
    """Count until the time is over."""
    end = time.monotonic() + seconds
    for turn in itertools.count():
        if turn and time.monotonic() > end:
            return
        yield turn


def in_threads(work, count):
    """Run ``work(number)`` in Python threads; raise the first error."""
    errors = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# --- programs -------------------------------------------------------------------------------------


def peace(name, seconds):
    """Nothing happens."""
    course = Course(name)
    for _ in until(seconds):
        course.follow(Training(name).run(1))


def forks(name, seconds):
    """Children are forked while another thread trains; they train on from the same state."""
    course = Course(name)
    training = Training(name).run(1)
    thread = threading.Thread(target=lambda: course.follow(training), daemon=True)
    thread.start()
    for turn in until(seconds):
        if not (child := os.fork()):
            course.follow(training)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, f"child {turn} failed"
        if not thread.is_alive():
            training = Training(name).run(1)
            thread = threading.Thread(target=course.follow, args=(training,), daemon=True)
            thread.start()
    thread.join()
    assert course.place(training) == STEPS


def threads(name, seconds):
    """Eight Python threads train networks of their own at once."""
    course = Course(name)
    trainings = [Training(name) for _ in range(8)]
    in_threads(lambda number: course.follow(trainings[number].run(1)), 8)
    for _ in until(seconds):
        trainings = [Training(name).run(1) for _ in range(8)]
        in_threads(lambda number, all=trainings: course.follow(all[number]), 8)


def sharing(name, seconds):
    """Eight Python threads train the same network, always on the same batch."""
    alone, shared = Training(name), Training(name)
    alone.batches = shared.batches = alone.batches[:1]
    for _ in until(seconds):
        alone.run(STEPS)
        in_threads(lambda _: shared.run(STEPS // 8), 8)
        assert digest(alone.state()) == digest(shared.state())
        assert sorted(map(float, alone.losses)) == sorted(map(float, shared.losses))


class Storm:
    """SIGINT again and again; few are raised as KeyboardInterrupt.

    A trace that fails puts attributes back that were set meanwhile: the handler sets none.
    """

    SENDER = (
        "import os, sys, time\nwhile os.getppid() == int(sys.argv[1]):\n"
        "    time.sleep(5e-4)\n    os.kill(os.getppid(), 2)"
    )

    def __init__(self):
        self.countdown, self.raised = iter(()), []
        signal.signal(signal.SIGINT, self._arrive)
        self.sender = subprocess.Popen([sys.executable, "-c", self.SENDER, str(os.getpid())])

    def _arrive(self, *_):
        if next(self.countdown, None) == 1:
            self.raised.append(True)
            raise KeyboardInterrupt

    def end(self):
        """Let the sun shine."""
        self.sender.kill()
        self.sender.wait()

    def through(self, work, wait=1):
        """Do some work, in which the signal of this number is raised, if so many arrive."""
        try:
            self.countdown = iter(range(wait, 0, -1))
            work()
            self.countdown = iter(())
        except KeyboardInterrupt:
            pass


def interrupts(name, seconds):
    """Ctrl-C in the middle of steps: each is done wholly or not at all."""
    course = Course(name)
    storm = Storm()
    training, place = Training(name).run(1), 1
    for _ in until(seconds):
        if place == STEPS:
            training, place = Training(name).run(1), 1
        (batch,) = itertools.islice(course.batches(training, place), 1)
        storm.through(lambda batch=batch, step=training.step: step(*batch))
        found = course.place(training)
        assert found in (place, place + 1)
        place = found
    storm.end()
    course.follow(training)
    assert len(storm.raised) > seconds


def first_interrupts(name, seconds):
    """Ctrl-C while a step is traced, compiled and loaded: the next call does all that anew."""
    os.environ["GANGLION_CACHE_MB"] = "0"
    course = Course(name)
    storm = Storm()
    for turn in until(seconds):
        training = Training(name)
        before = weights(training)
        storm.through(lambda t=training: t.step(*t.batches[0]), 1 + 7 * turn)
        course.follow(training, start=int(weights(training) != before))
    storm.end()
    assert storm.raised


def exit_while_training(name, seconds):
    """Python ends while daemon threads train, and an exit handler trains once more."""
    course = Course(name)
    trainings = [Training(name).run(1) for _ in range(3)]

    def work(training):
        while True:
            training.run(1)

    for training in trainings[1:]:
        threading.Thread(target=work, args=(training,), daemon=True).start()
    time.sleep(seconds)
    course.follow(trainings[0])
    last = Training(name).run(1)
    atexit.register(lambda: (course.follow(last), print("followed")))  # noqa: T201


def one_core(name, seconds):
    """The process may use one core, whatever number of threads is asked for."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    peace(name, seconds)


PROGRAMS = {
    f.__name__: f
    for f in (peace, forks, threads, sharing, interrupts, first_interrupts, exit_while_training,
              one_core)
}  # fmt: skip

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](sys.argv[2], float(sys.argv[3]))
