"""Files at an address, such as gs://bucket/ko/part-1.txt.zst, through fsspec.

A `Url` has as much of a `pathlib.Path` as those who read files need, so most of them don't care
which of the two they have. Which addresses can be read depends on the packages that are installed:
fsspec has none of s3fs, gcsfs and the like itself.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
        return self.address.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "Url":
        return Url(self.address.rstrip("/").rpartition("/")[0])

    def absolute(self) -> "Url":
        return self

    def is_file(self) -> bool:
        with _reached(self.address) as (system, path):
            return system.isfile(path)

    def is_dir(self) -> bool:
        with _reached(self.address) as (system, path):
            return system.isdir(path)

    def stat(self) -> Stat:
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
        with _reached(self.address) as (system, path):
            return system.open(path, mode)

    def read_bytes(self) -> bytes:
        with _reached(self.address) as (system, path):
            return system.cat_file(path)

    def read_ranges(self, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
        """The bytes in each range, asked for side by side where the protocol can do that."""
        with _reached(self.address) as (system, path):
            paths = [path] * len(starts)
            return system.cat_ranges(paths, list(starts), list(stops), on_error="raise")


File = Path | Url


def place(name: str) -> File:
    """A path (with ~ for the home folder), or a `Url` if it begins with a protocol."""
    return Url(name) if is_url(name) else Path(name).expanduser()


def is_url(name: str) -> bool:
    """Whether a name begins with a protocol, such as gs://."""
    return bool(_ADDRESS.match(name))


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
def reading(address: object) -> Iterator[None]:
    """Turns whatever a file system's library raises into one sentence about an address."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{address} cannot be read: there is no such file") from None
    except Exception as error:  # each library has its own, for the network and what is behind it
        said = getattr(error, "strerror", None) or str(error).partition("\n")[0] or repr(error)
        raise InputError(f"{address} cannot be read: {said}") from None


@contextmanager
def _reached(address: str) -> Iterator[tuple[Any, str]]:
    """The file system of an address, and its path there; see `reading`."""
    import fsspec
    from fsspec.registry import known_implementations

    if "::" in address:
        raise InputError(
            f"{address} chains addresses with '::'; name one that can be read as it is"
        )
    with reading(address):
        try:
            system, path = fsspec.core.url_to_fs(address)
        except ImportError as error:
            known = known_implementations.get(address.partition("://")[0], {})
            package = known.get("class", "fsspec").partition(".")[0]
            if package == "fsspec":
                raise
            raise InputError(
                f"{address} can only be read with the package {package}, which is not installed "
                f"({error}): pip install {package}"
            ) from None
        yield system, path
