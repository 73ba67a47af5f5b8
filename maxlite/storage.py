"""Places: paths of this machine, and addresses such as gs://bucket/ko/part-1.txt.zst, by fsspec.

A `Url` has as much of a `pathlib.Path` as those who use files need, so most of them don't care
which of the two they have. An object store differs where it matters: an object appears whole or
not at all, folders are only the names of what is in them, and nothing is renamed. Which addresses
can be reached depends on the packages that are installed: fsspec has none of s3fs, gcsfs and the
like itself.
"""

import glob
import hashlib
import os
import posixpath
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from maxlite.errors import InputError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Stat:
    """What is known of a file without reading it.

    Attributes:
      st_size: its bytes.
    """

    st_size: int


@dataclass(frozen=True)
class Url:
    """A place that fsspec reaches. Whatever goes wrong there is an `InputError` that names it.

    Attributes:
      address: protocol and path, "s3://bucket/folder/name".
    """

    address: str

    def __str__(self) -> str:
        return self.address

    def __lt__(self, other: "Url") -> bool:  # by folders, as paths are sorted
        return self.address.split("/") < other.address.split("/")

    def __truediv__(self, name: str) -> "Url":
        return Url(f"{self.address.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """As of a `Path`."""
        return self.address.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """As of a `Path`."""
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> "Url":
        """As of a `Path`."""
        return Url(self.address.rstrip("/").rpartition("/")[0])

    def absolute(self) -> "Url":
        """Itself."""
        return self

    def resolve(self) -> "Url":
        """Itself."""
        return self

    def is_file(self) -> bool:
        """Whether there is a file, by a look that no cache answers."""
        with _reached(self.address, anew=True) as (system, path):
            return system.isfile(path)

    def is_dir(self) -> bool:
        """Whether there is a folder, likewise."""
        with _reached(self.address, anew=True) as (system, path):
            return system.isdir(path)

    def exists(self) -> bool:
        """Whether there is either, likewise."""
        with _reached(self.address, anew=True) as (system, path):
            return system.exists(path)

    def iterdir(self) -> Iterator["Url"]:
        """What is in a folder; nothing where there is none."""
        with _reached(self.address, anew=True) as (system, path):
            names = system.ls(path, detail=False) if system.isdir(path) else []
        here = (name.rstrip("/").rpartition("/")[2] for name in names)
        yield from (self / name for name in here if name != self.name)

    def glob(self, pattern: str) -> Iterator["Url"]:
        """What a pattern below the folder finds, in no order."""
        with _reached(self.address, anew=True) as (system, path):
            found = system.glob(f"{glob.escape(path)}/{pattern}")
        yield from (self / name.removeprefix(f"{path}/") for name in found)

    def files(self) -> Iterator["Url"]:
        """All files below a folder."""
        with _reached(self.address, anew=True) as (system, path):
            found = system.find(path)
        yield from (self / name.removeprefix(f"{path}/") for name in found)

    def stat(self) -> Stat:
        """What is known of a file: its size."""
        with _reached(self.address) as (system, path):
            return Stat(int(system.info(path)["size"]))

    def stamp(self) -> str:
        """Says of a file's content what can be known without reading it, such as an ETag."""
        with _reached(self.address) as (system, path):
            system.invalidate_cache(path)
            return system.ukey(path)

    def sizes(self) -> dict[str, int | None]:
        """The files of a folder by name, and their bytes where the protocol says them."""
        with _reached(self.address) as (system, path):
            listed = system.ls(path, detail=True)
            files = [about for about in listed if about["type"] == "file"]
            return {about["name"].rpartition("/")[2]: about.get("size") for about in files}

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Opens a file of bytes."""
        with _reached(self.address) as (system, path):
            return system.open(path, mode)

    def read_text(self) -> str:
        """A whole file, as UTF-8."""
        return self.read_bytes().decode("utf-8")

    def read_bytes(self) -> bytes:
        """A whole file."""
        with _reached(self.address) as (system, path):
            return system.cat_file(path)

    def read_ranges(self, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
        """The bytes in each range, asked for side by side where the protocol can do that."""
        with _reached(self.address) as (system, path):
            paths = [path] * len(starts)
            return system.cat_ranges(paths, list(starts), list(stops), on_error="raise")

    def write_bytes(self, data: bytes, new: bool = False) -> None:
        """Makes the file, which others see whole or not at all.

        Args:
          data: its content.
          new: it must not be there yet, which the store itself sees to where it can.

        Raises:
          FileExistsError: it is there, and must not.
        """
        with _reached(self.address, "written") as (system, path):
            system.pipe_file(path, data, mode="create" if new else "overwrite")

    def put(self, file: Path) -> None:
        """Copies a file of this machine to here."""
        with _reached(self.address, "written") as (system, path):
            system.put_file(str(file), path)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder is there as soon as something is in it."""

    def rename(self, target: "Url") -> None:
        """Gives a file or a folder another name, by copies within the store."""
        with _reached(self.address, "written") as (system, path):
            system.mv(path, system._strip_protocol(target.address), recursive=True)

    def unlink(self) -> None:
        """Removes a file."""
        with _reached(self.address, "written") as (system, path):
            system.rm_file(path)

    def remove_tree(self) -> None:
        """Removes a folder and all that is in it."""
        with _reached(self.address, "written", anew=True) as (system, path):
            if system.exists(path):
                system.rm(path, recursive=True)

    def check_bucket(self) -> None:
        """Looks whether the place that an address begins with is there and lets us in.

        Raises:
          InputError: it does not, or this machine is not allowed to see what is there.
        """
        bucket = "/".join(self.address.split("/")[:3])
        with _reached(bucket, "opened") as (system, path):
            system.info(path)


Place = Path | Url


def cache_folder() -> Path:
    """Where tokens and compiled programs are kept: $MAXLITE_CACHE, or ~/.cache/maxlite.

    Raises:
      InputError: it is an address.
    """
    name = os.environ.get("MAXLITE_CACHE") or "~/.cache/maxlite"
    if is_url(name):
        raise InputError(
            f"MAXLITE_CACHE={name} is an address, but the cache is on this machine: set it to a "
            "folder, and name tokens that are elsewhere, as tools.tokenize_corpus makes them, as a "
            "source"
        )
    return Path(name).expanduser()


def place(name: "str | os.PathLike[str] | Url") -> Place:
    """A path (with ~ for the home folder), or a `Url` if it begins with a protocol."""
    if isinstance(name, Url):
        return name
    return Url(str(name).rstrip("/")) if is_url(str(name)) else Path(name).expanduser()


def within(folder: Place, name: str) -> Place:
    """A place that was noted beside others: an absolute one as it is, else one in a folder."""
    return place(name) if is_url(name) or Path(name).is_absolute() else folder / name


def relative(file: Place, folder: Place) -> str:
    """The name of a file within a folder, with slashes."""
    return PurePosixPath(str(file)).relative_to(str(folder)).as_posix()


def is_url(name: str) -> bool:
    """Whether a name begins with a protocol, such as gs://."""
    return bool(_ADDRESS.match(name))


def read_ranges(file: Place, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
    """The bytes of a file in each range."""
    if isinstance(file, Url):
        return file.read_ranges(starts, stops)
    found = []
    with file.open("rb") as opened:
        for start, stop in zip(starts, stops, strict=True):
            opened.seek(start)
            found.append(opened.read(stop - start))
    return found


def sha256(file: Place) -> str:
    """The SHA-256 of a file's content, hexadecimal."""
    with file.open("rb") as opened, reading(file) if isinstance(file, Url) else nullcontext():
        return hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]


def found(folder: Place, pattern: str) -> list[Place]:
    """What in a folder matches a glob, in order."""
    return sorted(folder.glob(pattern))


def files(folder: Place) -> list[Place]:
    """All files below a folder, in order."""
    if isinstance(folder, Url):
        return sorted(folder.files())
    return sorted(path for path in folder.rglob("*") if path.is_file())


def remove_tree(folder: Place) -> None:
    """Removes a folder and all that is in it.

    Raises:
      OSError: something in it cannot be removed.
    """
    if isinstance(folder, Url):
        folder.remove_tree()
    else:
        shutil.rmtree(folder)


def expand_url(pattern: str) -> list[Url]:
    """The files at addresses that match a glob, in no order; a plain address is just itself.

    Raises:
      InputError: the place cannot be reached.
    """
    with _reached(pattern) as (system, path):
        if not re.search(r"[*?[]", path) or system.isfile(path):
            return [Url(pattern)] if system.isfile(path) else []
        found = system.glob(path, detail=True)
        files = [name for name, about in found.items() if about["type"] == "file"]
        return [Url(system.unstrip_protocol(name)) for name in files]


@contextmanager
def reading(address: object, done: str = "read") -> Iterator[None]:
    """Turns whatever a file system's library raises into one sentence about an address.

    Args:
      address: what is read.
      done: "written" where that is what is done with it; that it exists is for the caller to tell.

    Raises:
      InputError: in the block something went wrong with the address.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        lacking = "file" if done == "read" else "bucket"
        raise InputError(f"{address} cannot be {done}: there is no such {lacking}") from None
    except Exception as error:  # each library has its own, for the network and what is behind it
        if isinstance(error, FileExistsError) and done == "written":
            raise
        said = getattr(error, "strerror", None) or str(error).partition("\n")[0] or repr(error)
        raise InputError(f"{address} cannot be {done}: {said}") from None


@contextmanager
def _reached(address: str, done: str = "read", anew: bool = False) -> Iterator[tuple[Any, str]]:
    """The file system of an address, and its path there; see `reading`.

    Args:
      address: of a file or folder.
      done: what is done with it, "read" or "written".
      anew: ask the store, not what was listed before: other programs write there, too.
    """
    import fsspec
    from fsspec.registry import known_implementations

    if "::" in address:
        raise InputError(
            f"{address} chains addresses with '::'; name one that can be read as it is"
        )
    with reading(address, done):
        try:
            system, path = fsspec.core.url_to_fs(address)
        except ImportError as error:
            known = known_implementations.get(address.partition("://")[0], {})
            package = known.get("class", "fsspec").partition(".")[0]
            if package == "fsspec":
                raise
            raise InputError(
                f"{address} can only be {done} with the package {package}, which is not installed "
                f"({error}): pip install {package}"
            ) from None
        if anew:
            system.invalidate_cache()
        yield system, path
