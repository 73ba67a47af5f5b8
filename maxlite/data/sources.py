"""Text files as a stream of documents.

What a document is: a line of a .txt file (or the whole file), the text field of a line of a .jsonl
file, the text column of a row of a .parquet file. A document of nothing but white space is left
out; apart from line ends in .txt files and a byte order mark at a file's start, no character of the
text is changed.
"""

import glob
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from maxlite.config import Source
from maxlite.errors import InputError

_KINDS = {
    ".txt": "txt",
    ".txt.gz": "txt",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".parquet": "parquet",
}
SUFFIXES = tuple(_KINDS)
_BOM = b"\xef\xbb\xbf"


def expand(source: Source) -> list[Path]:
    """The files a source names, sorted by path.

    Raises:
      InputError: the glob matches no file, or a file of a kind that can't be read.
    """
    pattern = os.path.expanduser(source.glob)
    found = sorted({Path(name) for name in glob.glob(pattern, recursive=True)})
    if Path(pattern).exists():  # a name that holds glob characters itself
        found = [Path(pattern)]
    files = [path for path in found if path.is_file()]
    if not files:
        hint = "; it names a folder, add /*.txt or the like" if found else ""
        raise InputError(f"no file matches {source.glob!r}{hint}")
    for path in files:
        kind(path)
    return files


def kind(path: Path) -> str:
    """How a file is read: "txt", "jsonl" or "parquet".

    Raises:
      InputError: its suffix is none of the known ones.
    """
    for suffix, name in _KINDS.items():
        if path.name.lower().endswith(suffix):
            return name
    ends = ", ".join(SUFFIXES)
    raise InputError(f"{path} is of a kind that can't be read as text; it must end in {ends}")


def documents(
    path: Path,
    field: str = "text",
    txt: str = "line",
    advance: Callable[[int], None] | None = None,
) -> Iterator[str]:
    """Yields the documents of one file, in its order.

    Args:
      path: the file; its suffix says how it is read.
      field: the text field of .jsonl and .parquet files.
      txt: whether a document of a .txt file is a "line" or the whole "file".
      advance: called now and then with the number of the file's bytes read since the last call.

    Raises:
      InputError: the file can't be read; the sentence names the line or row.
    """
    advance = advance or (lambda size: None)
    reader = kind(path)
    try:
        if reader == "parquet":
            yield from _parquet(path, field, advance)
        else:
            with _open(path, advance) as file:
                if reader == "jsonl":
                    yield from _jsonl(path, file, field)
                elif txt == "file":
                    yield from _whole(path, file)
                else:
                    yield from _lines(path, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is a damaged gzip file: {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def content_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


class _Counted(io.FileIO):
    """A file that tells how much of it was read (below any decompression)."""

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


def _open(path: Path, advance: Callable[[int], None]) -> io.BufferedIOBase:
    file = io.BufferedReader(_Counted(path, advance), 1 << 18)
    return gzip.open(file, "rb") if path.name.lower().endswith(".gz") else file


def _raw_lines(file: io.BufferedIOBase) -> Iterator[tuple[int, bytes]]:
    """Numbered lines without their ends; only \\n and \\r\\n end a line."""
    for number, line in enumerate(file, 1):
        if number == 1:
            line = line.removeprefix(_BOM)
        if line.endswith(b"\r\n"):
            line = line[:-2]
        elif line.endswith(b"\n"):
            line = line[:-1]
        yield number, line


def _decode(path: Path, number: int, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        number += data.count(b"\n", 0, error.start)
        raise InputError(
            f"{path}, line {number}: not valid UTF-8 (byte 0x{data[error.start]:02x}); convert the "
            "file to UTF-8 first"
        ) from None


def _lines(path: Path, file: io.BufferedIOBase) -> Iterator[str]:
    for number, line in _raw_lines(file):
        text = _decode(path, number, line)
        if text and not text.isspace():
            yield text


def _whole(path: Path, file: io.BufferedIOBase) -> Iterator[str]:
    text = _decode(path, 1, file.read().removeprefix(_BOM))
    if text and not text.isspace():
        yield text


def _jsonl(path: Path, file: io.BufferedIOBase, field: str) -> Iterator[str]:
    for number, line in _raw_lines(file):
        where = f"{path}, line {number}"
        decoded = _decode(path, number, line)
        if not decoded or decoded.isspace():
            continue
        try:
            record = json.loads(decoded)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not a JSON object on one line ({error})") from None
        if not isinstance(record, dict):
            raise InputError(f"{where}: expected a JSON object, found {type(record).__name__}")
        if field not in record:
            keys = ", ".join(map(repr, list(record)[:8])) or "nothing"
            raise InputError(f"{where}: no field {field!r} (it has {keys}); set the source's field")
        yield from _checked(where, field, record[field])


def _parquet(path: Path, field: str, advance: Callable[[int], None]) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if field not in names:
                has = ", ".join(map(repr, names[:8]))
                raise InputError(
                    f"{path}: no column {field!r} (it has {has}); set the source's field"
                )
            size, rows, row = path.stat().st_size, max(file.metadata.num_rows, 1), 0
            for batch in file.iter_batches(batch_size=1024, columns=[field]):
                for value in batch.column(0):
                    row += 1
                    try:
                        text = value.as_py()
                    except UnicodeDecodeError:
                        raise InputError(f"{path}, row {row}: not valid UTF-8") from None
                    yield from _checked(f"{path}, row {row}", field, text)
                advance(size * batch.num_rows // rows)
    except pyarrow.ArrowException as error:
        first = str(error).partition("\n")[0]
        raise InputError(f"{path} is not a parquet file that can be read: {first}") from None


def _checked(where: str, field: str, text: Any) -> Iterator[str]:
    if not isinstance(text, str):
        raise InputError(f"{where}: {field!r} is not text but {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # JSON can write half of a surrogate pair, which is no character
        raise InputError(f"{where}: {field!r} holds a lone surrogate, which is not text") from None
    if text and not text.isspace():
        yield text
