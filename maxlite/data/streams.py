"""The bytes of a file as they are once unpacked, wherever it is."""

import contextlib
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from maxlite.errors import InputError
from maxlite.storage import Place, reading

PACKED = {".gz": "gzip", ".zst": "zstd"}  # suffixes of files that are compressed, and by what
_READ = 1 << 18
_PACKED_READ = 1 << 16  # all that comes of so much is unpacked at once
_WINDOW = 1 << 31  # zstd's own limit, which --long=31 and --ultra use up


def packing(file: Place) -> str:
    """How a file is compressed: "gzip", "zstd", or "" if it is not."""
    return next((by for end, by in PACKED.items() if file.name.lower().endswith(end)), "")


def open_bytes(file: Place, advance: Callable[[int], None]) -> io.BufferedIOBase:
    """Opens a file for reading, and unpacks it if its name says that it is packed.

    Args:
      file: a path or an address.
      advance: called with the number of the file's bytes read since the last call, below any
        decompression.
    """
    raw = _Counted(file, advance) if isinstance(file, Path) else _CountedUrl(file, advance)
    buffered = io.BufferedReader(raw, _READ)
    match packing(file):
        case "gzip":
            return gzip.open(buffered, "rb")
        case "zstd":
            return io.BufferedReader(_Zstd(buffered), _READ)
    return buffered


@contextlib.contextmanager
def readable(file: Place) -> Iterator[None]:
    """Turns what libraries raise at a file that is missing or damaged into our sentence.

    Raises:
      InputError: with the file's name in it.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{file} is a damaged {packing(file)} file: {error}") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None
    except Exception as error:
        # pyarrow and zstandard are imported only where they are needed.
        library = type(error).__module__.partition(".")[0]
        if library == "zstandard":
            raise InputError(f"{file} is a damaged zstd file: {error}") from None
        if library != "pyarrow":
            raise
        first = str(error).partition("\n")[0]
        raise InputError(f"{file} is not a parquet file that can be read: {first}") from None


class _Counted(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, advance: Callable[[int], None]):
        super().__init__(path, "rb")
        self._advance = advance

    def readinto(self, buffer: Any) -> int:
        size = super().readinto(buffer) or 0
        self._advance(size)
        return size

    def readall(self) -> bytes:
        data = super().readall()
        self._advance(len(data))
        return data


class _CountedUrl(io.RawIOBase):
    """The same for what is at an address; what its library raises becomes our sentence."""

    def __init__(self, url: Any, advance: Callable[[int], None]):
        self._url, self._advance = url, advance
        self._file = url.open()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        with reading(self._url):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        with reading(self._url):
            size = self._file.readinto(buffer) or 0
        self._advance(size)
        return size

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class _Zstd(io.RawIOBase):
    """What the frames of a zstd file hold, one after the other.

    The library's own reader takes a file that was cut short for a whole one.
    """

    def __init__(self, file: io.BufferedIOBase):
        import zstandard

        self._file = file
        self._zstd = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self._frame: Any = None  # the one that has begun
        self._packed, self._ready = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._packed or self._file.read(_PACKED_READ)
            if not packed and self._frame:
                raise EOFError("it ends in the middle")
            if not packed:
                return 0
            self._frame = self._frame or self._zstd.decompressobj()
            self._ready = memoryview(self._frame.decompress(packed))
            self._packed = b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
