"""Ctrl-C as a request: the first press is noted, the second raises KeyboardInterrupt."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class CtrlC:
    """While entered, ``requested`` tells whether Ctrl-C was pressed.

    Only the main thread can listen, and only where Python handles Ctrl-C; elsewhere ``requested``
    stays False.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self.requested = False
        listens = threading.current_thread() is threading.main_thread()
        if listens and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # not sys.stderr: the signal may have come in the middle of a write to it
        os.write(2, b"\nFinishing this step and saving; Ctrl-C again stops at once.\n")
