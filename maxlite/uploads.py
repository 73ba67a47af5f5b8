"""Folders and growing files for addresses, made on this machine and copied there.

In an object store nothing is renamed or appended to. So a folder is made here first, and copied
when it is whole: the file that makes it count goes last, and until then a marker says that it is
unfinished. What a killed process left is removed by the next that writes the same.
"""

import contextlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from maxlite.console import bytes_bar
from maxlite.errors import InputError
from maxlite.storage import Place, Url

MARKER = "maxlite-unfinished.json"


def taken(path: Place) -> bool:
    """Whether a new file or folder cannot have this name; what was left unfinished gives way."""
    if not isinstance(path, Url):
        return path.exists()
    return path.exists() and not (path / MARKER).is_file()


@contextlib.contextmanager
def new_folder(out: Url, last: str) -> Iterator[Path]:
    """A folder of this machine that is copied to an address if the block succeeds.

    It lies in $TMPDIR, which needs room for all of it.

    Args:
      out: where it goes.
      last: the file in it without which readers take it for nothing.

    Raises:
      InputError: something is there, or it cannot be written.
    """
    if taken(out):
        raise InputError(
            f"{out} exists, and a folder at an address cannot be exchanged for another at once:"
            " remove it first, or choose another name"
        )
    with tempfile.TemporaryDirectory(prefix="maxlite-") as made:
        yield Path(made)
        _copy(Path(made), out, last)


def _copy(folder: Path, out: Url, last: str) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files.sort(key=lambda path: path == folder / last)
    done, total = 0, sum(path.stat().st_size for path in files)
    out.remove_tree()  # what a killed process left
    try:
        (out / MARKER).write_bytes(json.dumps(owner()).encode())
        with bytes_bar(f"copying to {out}") as progress:
            for path in files:
                (out / path.relative_to(folder).as_posix()).put(path)
                done += path.stat().st_size
                progress(done, total)
        (out / MARKER).unlink()
    except BaseException:
        with contextlib.suppress(InputError):
            out.remove_tree()
        raise


def owner() -> dict[str, str | int]:
    """This process, for those who find what it has left somewhere."""
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


class Mirror:
    """Files that grow, in a folder that may be at an address.

    Args:
      folder: where they belong; they are written there if it is on this machine.
      names: of files there that are to grow on.

    Attributes:
      path: where they are to be written.
    """

    def __init__(self, folder: Place, *names: str):
        self._folder, self._sizes = folder, dict[str, int]()
        self._copied = time.monotonic()
        if not isinstance(folder, Url):
            self.path = folder
            return
        self._kept = tempfile.TemporaryDirectory(prefix="maxlite-")
        self.path = Path(self._kept.name)
        for name in names:
            if (folder / name).is_file():
                (self.path / name).write_bytes((folder / name).read_bytes())
                self._sizes[name] = (self.path / name).stat().st_size

    def copy(self, every: float = 0) -> None:
        """Copies what has grown to its address.

        Args:
          every: do so only if that many seconds have passed since the last time.

        Raises:
          InputError: it cannot be written there.
        """
        if not isinstance(self._folder, Url) or time.monotonic() - self._copied < every:
            return
        for file in sorted(self.path.rglob("*")):
            name, size = file.relative_to(self.path).as_posix(), file.stat().st_size
            if file.is_file() and self._sizes.get(name) != size:
                (self._folder / name).put(file)
                self._sizes[name] = size
        self._copied = time.monotonic()
