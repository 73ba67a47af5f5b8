"""Files and folders that appear under their names only when they are whole.

Both are written under another name beside, brought to the disk, and renamed. What a failure or a
signal stops is taken back at once; what a killed process left is removed by the next that writes
the same. A folder at an address is made on this machine; `maxlite.uploads` says how.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maxlite import uploads
from maxlite.errors import InputError
from maxlite.storage import Place, Url

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def new_file(path: Path, end: str = ".tmp") -> Iterator[Path]:
    """A temporary name beside `path`; the file made there takes its place if the block succeeds.

    Args:
      path: the file to make.
      end: of the temporary name. Processes that may make the same file at once need one each.

    Raises:
      OSError: the file cannot be written, or has not been made.
    """
    temporary = path.with_name(f"{path.name}{end}")
    try:
        yield temporary
        _sync(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Place, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; what is there is replaced.

    Raises:
      OSError: it cannot be written.
    """
    write_bytes(path, text.encode())


def json_text(value: Any) -> str:
    """A value as the text of a JSON file that people read, too."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_bytes(path: Place, data: bytes) -> None:
    """Writes a file, whole or not at all; what is there is replaced.

    Raises:
      OSError: it cannot be written.
    """
    if isinstance(path, Url):
        path.write_bytes(data)
        return
    with new_file(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def new_folder(
    out: str | os.PathLike[str] | Url, replace: bool = False, last: str = ""
) -> Iterator[Path]:
    """A temporary folder beside `out` that becomes `out` if the block succeeds.

    Args:
      out: the folder to make; parents that lack are made too, and a link stays one.
      replace: a folder that is there is exchanged for the new one and removed. Whether it may be is
        for the caller to ask before; without, only an empty one gives way. None at an address is.
      last: the file without which readers take the folder for nothing, for `maxlite.uploads`.

    Raises:
      InputError: `out` cannot be made, or its disk is full.
    """
    if isinstance(out, Url):
        with uploads.new_folder(out, last) as folder:
            yield folder
        return
    target = Path(os.path.realpath(out))
    _remove_leftovers(target)
    temporary = target.with_name(f"{target.name}.tmp-{secrets.token_hex(4)}")
    parents = [p for p in target.parents if not p.exists()]
    try:
        temporary.mkdir(parents=True)
        with _locked(temporary):
            yield temporary
            put_in_place(temporary, target, replace)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            for parent in parents:
                parent.rmdir()
        if isinstance(error, OSError) and error.errno in FULL:
            raise InputError(
                f"there is no room to write {out} (the disk or a quota is full): nothing of it"
                " was kept, free some space and run again"
            ) from error
        if isinstance(error, OSError):
            raise InputError(f"{out} could not be written: {error}") from error
        raise


def new_path(flag: str, given: str, overwrite: bool = False, suffix: str = "") -> Path:
    """The file that a program's flag says to write, after what can be refused about it.

    Args:
      flag: its name, for messages.
      given: its value.
      overwrite: whether a file may be there.
      suffix: that it must have, such as ".html"; "" for any.

    Raises:
      InputError: another suffix, a folder that is not there, or something that is.
    """
    path = Path(given).expanduser()
    if suffix and path.suffix != suffix:
        raise InputError(f"--{flag}={given} must be a {suffix} file")
    if not path.parent.is_dir():
        raise InputError(f"--{flag}={given} lies in a folder that does not exist")
    if path.is_dir():
        raise InputError(f"--{flag}={given} is a folder; name a file")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; choose another --{flag}, or give --overwrite")
    return path


def fill(folder: Path, files: Mapping[str, Path | bytes]) -> None:
    """Puts files into a folder.

    Args:
      folder: a folder that is there.
      files: content, or a file to copy, by name; a name may lie in a subfolder.

    Raises:
      OSError: one cannot be read or written.
    """
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        if isinstance(source, bytes):
            target.write_bytes(source)
        else:
            shutil.copyfile(source, target)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Marks a folder as being written; false if another process does so, or none can tell."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = True
    except OSError:
        mine = False
    try:
        yield mine
    finally:
        os.close(handle)


def _remove_leftovers(target: Path) -> None:
    """Removes the folders of processes that were killed while they wrote or replaced `target`.

    What they had moved aside to replace it stays while there is no `target`.
    """
    replaced = "(-old)?" if target.exists() else ""
    name = re.compile(re.escape(target.name) + r"\.tmp-[0-9a-f]{8}" + replaced)
    for folder in target.parent.glob("*.tmp-*"):
        if name.fullmatch(folder.name) and folder.is_dir():
            with _locked(folder) as abandoned:
                if abandoned:
                    shutil.rmtree(folder, ignore_errors=True)


def put_in_place(temporary: Path, target: Path, replace: bool = False) -> None:
    """Brings a folder to the disk and gives it the name of another beside it.

    What stops this between two steps leaves the old folder or the new one; a process that is killed
    leaves the new one under its temporary name, and can be followed by another that calls this.

    Args:
      temporary: the folder as it is now.
      target: its name; an empty folder there gives way.
      replace: so does any other, and is removed.

    Raises:
      OSError: it cannot be done; `temporary` is still there.
    """
    for file in [*temporary.rglob("*"), temporary]:
        _sync(file)
    _rename(temporary, target, replace)
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Waits until the disk has what was written, so that no power cut leaves half of it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename(temporary: Path, target: Path, replace: bool) -> None:
    old = target.with_name(f"{temporary.name}-old")
    try:
        if replace and target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(target, old)
        os.rename(temporary, target)
    except BaseException:  # a signal may come between the two, too
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
