"""Text files as a stream of documents.

What a document is: a line of a .txt file (or the whole file), the text field of a line of a .jsonl
file, the text column of a row of a .parquet file. A document of nothing but white space is left
out; apart from line ends in .txt files and a byte order mark at a file's start, no character of the
text is changed.
"""

import glob
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from maxlite import storage
from maxlite.config import Source
from maxlite.data.streams import PACKED, open_bytes, readable
from maxlite.errors import InputError
from maxlite.storage import Place, Url, expand_url, is_url

_KINDS = {
    ".txt": "txt",
    ".txt.gz": "txt",
    ".txt.zst": "txt",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".jsonl.zst": "jsonl",
    ".parquet": "parquet",
}
SUFFIXES = tuple(_KINDS)
_CHATS = {f".{kind}{packed}": kind for kind in ("json", "jsonl", "csv") for packed in ("", *PACKED)}
_CHATS[".parquet"] = "parquet"
CHAT_SUFFIXES = tuple(_CHATS)
_CHAT_HINT = "; or are these conversations? Then their Source needs a template"
META = "meta.json"  # is in a folder of tokens (`maxlite.data.tokens`), which is no folder of text
_BOM = b"\xef\xbb\xbf"


def expand(source: Source) -> list[Place]:
    """The files a source names, sorted by path; addresses (gs://bucket/*.txt) through fsspec.

    Raises:
      InputError: the glob matches no file, or a file of a kind that can't be read.
    """
    files: Sequence[Place]
    folders: Sequence[Place]
    if is_url(source.glob):
        files, place = sorted(set(expand_url(source.glob))), Url(source.glob)
        folders = [place] if not files and place.is_dir() else []
    else:
        pattern = os.path.expanduser(source.glob)
        found = sorted({Path(name) for name in glob.glob(pattern, recursive=True)})
        if Path(pattern).exists():  # a name that holds glob characters itself
            found = [Path(pattern)]
        files = [path for path in found if path.is_file()]
        folders = [path for path in found if path.is_dir()]
    if not files:
        hint = "; it names a folder, add /*.txt or the like" if folders else ""
        if any((folder / META).is_file() for folder in folders):
            hint = (
                "; it names a folder of tokens: name the text, or, where tokens are taken too, one "
                "such folder without * or ?"
            )
        raise InputError(f"no file matches {source.glob!r}{hint}")
    for file in files:
        kind(file, bool(source.template))
    return list(files)


def kind(path: Place, chat: bool = False) -> str:
    """How a file is read: "txt", "jsonl" or "parquet"; of conversations also "json" or "csv".

    Raises:
      InputError: its suffix is none of the known ones.
    """
    known = _CHATS if chat else _KINDS
    for suffix, name in known.items():
        if path.name.lower().endswith(suffix):
            return name
    what = "conversations" if chat else "text"
    hint = "" if chat or not path.name.lower().endswith(CHAT_SUFFIXES) else _CHAT_HINT
    raise InputError(
        f"{path} is of a kind that can't be read as {what}; it must end in {', '.join(known)}{hint}"
    )


def documents(
    path: Place,
    field: str = "text",
    txt: str = "line",
    advance: Callable[[int], None] | None = None,
    skipped: Callable[[int], None] | None = None,
    start: int = 0,
    stop: int = 0,
) -> Iterator[str]:
    """Yields the documents of one file, in its order.

    Args:
      path: the file; its suffix says how it is read.
      field: the text field of .jsonl and .parquet files.
      txt: whether a document of a .txt file is a "line" or the whole "file".
      advance: called now and then with the number of the file's bytes read since the last call.
      skipped: documents that are not valid UTF-8 are left out, and this is called with 1 for each;
        without it they are refused.
      start, stop: only the lines that begin in this range of bytes (.txt and .jsonl), or this range
        of row groups (.parquet); 0 and 0 for the whole file, as compressed ones must be read.

    Raises:
      InputError: the file can't be read; the sentence names the line or row.
    """
    advance = advance or (lambda size: None)
    reader = kind(path)
    with readable(path):
        if reader == "parquet":
            yield from _parquet(path, field, advance, skipped, start, stop)
        elif reader == "txt" and txt == "file":
            with open_bytes(path, advance) as file:
                yield from _whole(path, file, skipped)
        else:
            with Lines(path, advance, skipped, start, stop) as lines:
                yield from _jsonl(lines, field, skipped) if reader == "jsonl" else _text(lines)


def content_hash(path: Place) -> str:
    """SHA-256 (hex) of a file's bytes.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return storage.sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


class Lines:
    """The lines of a file, or those that begin in a part of it, as text without their ends.

    Only \\n and \\r\\n end a line.
    """

    def __init__(
        self,
        path: Place,
        advance: Callable[[int], None],
        skipped: Callable[[int], None] | None = None,
        start: int = 0,
        stop: int = 0,
    ):
        """See `documents`."""
        self._path = path
        self._file = open_bytes(path, advance)
        self._skipped = skipped
        self._start, self._stop = start, stop
        self._number = 0

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        position = 0
        if self._start:  # a line that begins before belongs to the part before
            self._file.seek(self._start - 1)
            position = self._start - 1 + len(self._file.readline())
        while not self._stop or position < self._stop:
            line = self._file.readline()
            if not line:
                break
            self._number += 1
            if not position:
                line, position = line.removeprefix(_BOM), len(line)
            else:
                position += len(line)
            if line.endswith(b"\r\n"):
                line = line[:-2]
            elif line.endswith(b"\n"):
                line = line[:-1]
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                if not self._skipped:
                    raise _invalid(self.where(), line, error) from None
                self._skipped(1)
            else:
                yield text

    def where(self) -> str:
        """The file and the number of the line at which we are, for messages."""
        number = self._number
        if self._start:  # only a bad line needs to know how many are before the part
            with self._path.open("rb") as file:
                left = self._start - 1
                while left and (block := file.read(min(left, 1 << 20))):
                    number, left = number + block.count(b"\n"), left - len(block)
            number += 1
        return f"{self._path}, line {number}"


def _invalid(where: str, data: bytes, error: UnicodeDecodeError) -> InputError:
    byte = data[error.start]
    return InputError(
        f"{where}: not valid UTF-8 (byte 0x{byte:02x}); convert the file to UTF-8 first"
    )


def _text(lines: Lines) -> Iterator[str]:
    for text in lines:
        if text and not text.isspace():
            yield text


def _whole(
    path: Place, file: io.BufferedIOBase, skipped: Callable[[int], None] | None
) -> Iterator[str]:
    data = file.read().removeprefix(_BOM)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if not skipped:
            number = 1 + data.count(b"\n", 0, error.start)
            raise _invalid(f"{path}, line {number}", data, error) from None
        skipped(1)
        return
    if text and not text.isspace():
        yield text


def _jsonl(lines: Lines, field: str, skipped: Callable[[int], None] | None) -> Iterator[str]:
    for value in json_field(lines, field):
        yield from _checked(lines.where, field, value, skipped)


def json_field(lines: Lines, field: str) -> Iterator[Any]:
    """One field of the JSON object on each line.

    Raises:
      InputError: a line is no JSON object, or has no such field.
    """
    for record in json_records(lines):
        if field not in record:
            keys = ", ".join(map(repr, list(record)[:8])) or "nothing"
            hint = _CHAT_HINT if {"messages", "conversations", "output"} & record.keys() else ""
            raise InputError(
                f"{lines.where()}: no field {field!r} (it has {keys}); set the source's field{hint}"
            )
        yield record[field]


def json_records(lines: Lines) -> Iterator[dict[Any, Any]]:
    """The JSON object on each line that is not blank.

    Raises:
      InputError: a line is no JSON object.
    """
    for line in lines:
        if not line or line.isspace():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{lines.where()}: not a JSON object on one line ({error})") from None
        if not isinstance(record, dict):
            kind_ = type(record).__name__
            raise InputError(f"{lines.where()}: expected a JSON object, found {kind_}")
        yield record


def parquet_file(path: Place) -> Any:
    """Opens a .parquet file (pyarrow's ParquetFile), wherever it is."""
    import pyarrow.parquet

    if isinstance(path, Url):
        return pyarrow.parquet.ParquetFile(open_bytes(path, lambda size: None))
    return pyarrow.parquet.ParquetFile(path)


def _parquet(
    path: Place,
    field: str,
    advance: Callable[[int], None],
    skipped: Callable[[int], None] | None,
    start: int,
    stop: int,
) -> Iterator[str]:
    with parquet_file(path) as file:
        names = file.schema_arrow.names
        if field not in names:
            has = ", ".join(map(repr, names[:8]))
            raise InputError(f"{path}: no column {field!r} (it has {has}); set the source's field")
        about = file.metadata
        size, rows = path.stat().st_size, max(about.num_rows, 1)
        groups = range(start, stop or about.num_row_groups)
        row = sum(about.row_group(i).num_rows for i in range(start))

        def where() -> str:
            return f"{path}, row {row}"

        for batch in file.iter_batches(batch_size=1024, row_groups=groups, columns=[field]):
            for value in batch.column(0):
                row += 1
                try:
                    text = value.as_py()
                except UnicodeDecodeError:
                    if not skipped:
                        raise InputError(f"{where()}: not valid UTF-8") from None
                    skipped(1)
                else:
                    yield from _checked(where, field, text, skipped)
            advance(size * batch.num_rows // rows)


def _checked(
    where: Callable[[], str], field: str, text: Any, skipped: Callable[[int], None] | None
) -> Iterator[str]:
    if not isinstance(text, str):
        raise InputError(f"{where()}: {field!r} is not text but {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # JSON can write half of a surrogate pair, which is no character
        if not skipped:
            raise InputError(
                f"{where()}: {field!r} holds a lone surrogate, which is not text"
            ) from None
        skipped(1)
        return
    if text and not text.isspace():
        yield text
