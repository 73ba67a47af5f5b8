"""Keeps a second process from training in the same run folder.

On a disk the system's own lock does, which ends with its process. In an object store it is an
object that is made only where there is none, and that its owner renews: one that has not been for a
while belongs to a process that was killed, and is taken over.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any

from maxlite.console import say
from maxlite.errors import InputError
from maxlite.storage import Place, Url
from maxlite.uploads import owner

RENEWED = 20.0  # seconds between two renewals
DEAD = 3 * RENEWED  # seconds without one after which nobody holds it


def hold(folder: Place) -> FileLock | ObjectLock:
    """Locks a run folder.

    Raises:
      InputError: another process holds it.
    """
    if isinstance(folder, Url):
        return ObjectLock(folder)
    return FileLock(folder)


class FileLock:
    """The lock of a folder on this machine."""

    def __init__(self, folder: Path):
        self._file = (folder / "lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise InputError(f"another process is training in {folder}; wait or stop it") from e

    def check(self) -> None:
        """Nothing: the system takes it from nobody."""

    def release(self) -> None:
        """Lets others take it."""
        self._file.close()


class ObjectLock:
    """The lock of a folder in an object store."""

    def __init__(self, folder: Url):
        self._folder, self._object = folder, folder / "lock"
        self._mine = {**owner(), "token": secrets.token_hex(8)}
        self._taken_by: dict[str, Any] | None = None
        self._done = threading.Event()
        self._take()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Refuses to go on where another process has taken over, thinking that this one is dead.

        Raises:
          InputError: with who it is.
        """
        if self._taken_by:
            raise InputError(
                f"{_named(self._taken_by)} has taken over the run in {self._folder}, of which this"
                f" process had let nobody hear for {DEAD:.0f} s; it stops, and writes nothing more"
            )

    def release(self) -> None:
        """Stops renewing it, and removes what says that it is taken, if that is still ours."""
        self._done.set()
        self._thread.join()
        with contextlib.suppress(InputError):
            if self._read().get("token") == self._mine["token"]:
                self._object.unlink()

    def _take(self) -> None:
        while True:
            try:
                found = self._read()
                if found:
                    self._wait_for_its_end(found)
                    self._object.unlink()
                return self._write(new=True)
            except FileExistsError:  # somebody was faster
                continue

    def _wait_for_its_end(self, found: dict[str, Any]) -> None:
        """Returns when a lock was not renewed for so long that its owner must be dead.

        It is this process's clock that counts; those of two machines need not agree.
        """
        if found.get("host") == socket.gethostname() and not _alive(found.get("process")):
            return
        say(f"{self._folder} is locked by {_named(found)}; waiting {DEAD:.0f} s for a sign of life")
        until = time.monotonic() + DEAD
        while time.monotonic() < until:
            time.sleep(RENEWED / 10)
            now = self._read()
            if not now:
                return
            if now != found:
                raise InputError(
                    f"another process is training in {self._folder} ({_named(now)}); wait or stop"
                    " it"
                )

    def _renew(self) -> None:
        beats = 0
        while not self._done.wait(RENEWED):
            with contextlib.suppress(InputError):  # the network may be back the next time
                found = self._read()
                if found and found.get("token") != self._mine["token"]:
                    self._taken_by = found
                    return
                beats += 1
                self._mine["renewed"] = beats
                self._write()

    def _read(self) -> dict[str, Any]:
        if not self._object.is_file():
            return {}
        with contextlib.suppress(ValueError):
            return dict(json.loads(self._object.read_bytes()))
        return {"token": ""}

    def _write(self, new: bool = False) -> None:
        self._object.write_bytes(json.dumps(self._mine).encode(), new)


def _named(found: dict[str, Any]) -> str:
    return f"process {found.get('process')} on {found.get('host')}, since {found.get('time')}"


def _alive(process: Any) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, TypeError, ValueError):
        pass
    return True
