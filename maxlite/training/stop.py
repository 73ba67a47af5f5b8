"""SIGTERM and SIGINT: a polite end at any moment, and at the same one in every process.

Between `interruptible()` blocks a signal is only noted, and the loop looks at `poll()` once a step.
Inside them (a compile, an evaluation, an export: long, and nothing half-changed in them) it raises
`Stop` at once.

Several processes must stop at the same place, or one waits for another in a collective for ever. So
there the signal is left to jax's preemption service, which has one process tell all others and lets
them agree on a call: the one after the last that any of them has made. Every process therefore
makes the same calls of `poll` and `check` in the same order, wherever it can stop: at each step, at
each batch of an evaluation, at each tensor of an export. A compile is left when it is done.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import Iterator
from types import FrameType

from jax.experimental import multihost_utils


class Stop(BaseException):
    """Raised out of an interruptible block; not an error."""


class StopSignals:
    """Catches SIGTERM and SIGINT while it is entered; a second SIGINT interrupts as usual.

    Args:
      several: `jax.distributed` joins this process to others, and has its own handler of SIGTERM.

    Attributes:
      requested: a signal has come; in several processes: and they have agreed to stop.
      raised: it has ended a block; if XLA was compiling there, a thread of it still is.
    """

    def __init__(self, several: bool = False):
        self.requested = self.raised = False
        self._several = several
        self._calls = itertools.count()
        self._interrupted = False
        self._raise_now = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        ours = [signal.SIGINT] if self._several else [signal.SIGTERM, signal.SIGINT]
        for number in ours:
            self._previous[number] = signal.signal(number, self._handle)
        self.poll()  # a notice that comes before all processes' first call is lost
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._interrupted = True
        if self._several:
            signal.raise_signal(signal.SIGTERM)
            return
        self.requested = True
        if self._raise_now:
            self._raise_now = False
            self.raised = True
            raise Stop

    def poll(self) -> bool:
        """Whether to stop here; the same in every process."""
        if self._several and not self.requested:
            self.requested = multihost_utils.reached_preemption_sync_point(next(self._calls))
        return self.requested

    def check(self) -> None:
        """Raises `Stop` if it is to stop here; in every process."""
        if self.poll():
            raise Stop

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Lets a signal end this block by raising `Stop`: at once, or in several at a `check`."""
        self._raise_now = not self._several  # first: a signal after the check must not be missed
        try:
            self.check()
            yield
        finally:
            self._raise_now = False
