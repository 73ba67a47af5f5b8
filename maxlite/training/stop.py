"""SIGTERM and SIGINT: a polite end at any moment.

Between `interruptible()` blocks a signal is only noted, and the loop looks at `requested` once a
step. Inside them (a compile, an evaluation, an export: long, and nothing half-changed in them) it
raises `Stop` at once.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType


class Stop(BaseException):
    """Raised out of an interruptible block; not an error."""


class StopSignals:
    """Catches SIGTERM and SIGINT while it is entered; a second SIGINT interrupts as usual.

    Attributes:
      requested: a signal has come.
      raised: it has ended a block; if XLA was compiling there, a thread of it still is.
    """

    def __init__(self, may_raise: bool = True):
        self.requested = self.raised = False
        self._may_raise = may_raise
        self._raise_now = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        if self._raise_now:
            self._raise_now = False
            self.raised = True
            raise Stop

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Lets a signal end this block at once by raising `Stop`."""
        if not self._may_raise:  # several processes must agree; they only look between steps
            yield
            return
        self._raise_now = True  # first: a signal between the two lines must not be missed
        try:
            if self.requested:
                raise Stop
            yield
        finally:
            self._raise_now = False
