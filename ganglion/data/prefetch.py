"""One background thread that runs an iterator ahead of its consumer."""

import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

from ganglion.errors import DataError

T = TypeVar("T")

_JOIN_SECONDS: Final = 5.0  # for an item in the making when the consumer leaves


class _End:
    """Stands behind the last item; carries the error that ended the thread, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Prefetcher(Generic[T]):
    """Iterates over `source` with up to `depth` items made in advance by a thread.

    An exception in the thread is raised here, with its traceback. The thread ends with the
    source, at `close()`, when this object is collected, and when Python exits.

    timeout: seconds to wait for an item before `DataError`; 0 waits for ever.
    """

    # The queues are SimpleQueue because `close` may run inside the collector, in any thread and
    # at any point; its methods are safe there, those of Queue and Semaphore deadlock.

    def __init__(
        self,
        source: Iterator[T],
        depth: int,
        timeout: float = 0,
        begin: Callable[[], object] | None = None,
    ) -> None:
        self._ready: SimpleQueue[T | _End] = SimpleQueue()
        self._slots: SimpleQueue[bool] = SimpleQueue()
        self._timeout = timeout
        for _ in range(depth):
            self._slots.put(True)
        arguments = (source, self._slots, self._ready, begin)
        thread = threading.Thread(
            target=_run, args=arguments, name="ganglion-prefetch", daemon=True
        )
        self.close = weakref.finalize(self, _stop, thread, self._slots)
        thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if not self.close.alive:
            raise StopIteration
        item = self._next_item()
        if not isinstance(item, _End):
            self._slots.put(True)
            return item
        self.close()
        raise item.error or StopIteration

    def _next_item(self) -> T | _End:
        try:
            return self._ready.get(timeout=self._timeout or None)
        except Empty:
            raise DataError(
                f"No batch came within the {self._timeout} s of DataLoader(timeout=...). Raise it, "
                "or find out what the data set waits for with num_workers=0."
            ) from None


def _run(
    source: Iterator[T],
    slots: "SimpleQueue[bool]",
    ready: "SimpleQueue[T | _End]",
    begin: Callable[[], object] | None,
) -> None:
    """Body of the thread: one item for every True in `slots`, until False or the end."""
    error = None
    try:
        if begin is not None:
            begin()
        while slots.get():
            ready.put(next(source))
    except StopIteration:
        pass
    except BaseException as raised:  # noqa: BLE001 - it is raised again in the consumer
        error = raised
    ready.put(_End(error))


def _stop(thread: threading.Thread, slots: "SimpleQueue[bool]") -> None:
    """Take back the free slots, tell the thread to end and wait until it has."""
    try:
        while True:
            slots.get_nowait()
    except Empty:
        slots.put(False)
    if thread is not threading.current_thread() and not sys.is_finalizing():
        thread.join(_JOIN_SECONDS)
