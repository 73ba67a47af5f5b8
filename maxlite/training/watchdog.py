"""Ends a run in which nothing moves any more, so that a launcher can start it again.

A collective whose other half never comes, a file system that does not answer, a deadlock: nothing
of this raises an error, and a job can hold its machines for days.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_STDERR = 2  # the file itself: what stands for it in Python need not have one
_GRACE = 60.0  # seconds that it may take to tell


class Watchdog:
    """Watches while it is entered; ends the process with status 1 when `beat` was not called.

    What every thread is doing is then written to stderr and to `path`. Nothing is saved and
    nothing said in status.json: what hangs may hold any lock, and the run still counts as running.

    Args:
      minutes: the longest time between two beats; 0: it never ends anything.
      path: the file for the stacks; replaced. None: they go to stderr alone.
    """

    def __init__(self, minutes: float, path: Path | None):
        self._limit, self._path = minutes * 60, path
        self._period = min(self._limit / 4, 10.0)
        self._last: float | None = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        if self._limit:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def beat(self) -> None:
        """Something has moved."""
        self._last = time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Lets the block take as long as it likes, as a compile may."""
        self._last = None
        try:
            yield
        finally:
            self.beat()

    def _watch(self) -> None:
        while not self._done.wait(self._period):
            # A thread that never lets go of the interpreter stops this one too, but not that timer.
            faulthandler.dump_traceback_later(self._limit + _GRACE, exit=True, file=_STDERR)
            last = self._last
            if last is not None and time.monotonic() - last > self._limit:
                self._end(time.monotonic() - last)

    def _end(self, seconds: float) -> None:
        # In case that stderr or the disk hangs as well.
        faulthandler.dump_traceback_later(_GRACE, exit=True, file=_STDERR)
        faulthandler.dump_traceback(_STDERR)
        where = "above"
        if self._path:
            where += f" and in {self._path}"
            with contextlib.suppress(OSError), self._path.open("w") as file:
                faulthandler.dump_traceback(file)
        print(
            f"maxlite: nothing has moved for {seconds / 60:.1f} minutes (stuck_minutes), so the "
            f"process ends; what it was doing is {where}; start the run again to go on from its "
            "last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(2 * self._period)  # others stand still too, and end with this one: let them tell
        os._exit(1)
