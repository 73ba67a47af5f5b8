"""TensorBoard files, written at once by whoever calls.

tensorboardX's SummaryWriter hands events to a thread through a queue of ten: on a full disk the
thread dies, and whoever adds an eleventh event waits for ever. So this uses the layer below it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path


class Board:
    """One TensorBoard file.

    Args:
      folder: where it goes.
      first: the first step to come; what earlier files say of it and later ones no longer counts.
    """

    def __init__(self, folder: Path, first: int):
        with _without_torch():
            from tensorboardX import event_file_writer, summary
            from tensorboardX.proto import event_pb2
        self._summary, self._event = summary, event_pb2.Event
        folder.mkdir(exist_ok=True)
        self._file = event_file_writer.EventsWriter(str(folder / "events"))
        began = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(first, session_log=began)

    def add(self, step: int, values: Mapping[str, float | str]) -> None:
        """Writes numbers and texts under their names."""
        for name, value in values.items():
            kind = self._summary.text if isinstance(value, str) else self._summary.scalar
            self._write(step, summary=kind(name, value))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, step: int, **content: object) -> None:
        self._file.write_event(self._event(step=step, wall_time=time.time(), **content))


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Hides torch, which tensorboardX imports where it can: 4 seconds and 200 MB for an alias."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torch"]
