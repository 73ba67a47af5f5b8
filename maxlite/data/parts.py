"""A corpus in parts that processes read side by side: text, or ids that a tokenizer has made.

They are `maxlite.tokenizer.counting.Part`s. Every document is in exactly one of them.
"""

import contextlib
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maxlite.data import sources
from maxlite.data.streams import packing
from maxlite.data.tokens import open_cache
from maxlite.errors import InputError
from maxlite.storage import Place, Url, expand_url, is_url
from maxlite.tokenizer import Tokenizer
from maxlite.tokenizer.counting import Ids

_LINES = (".bin", ".jsonl", ".jsonl.gz", ".jsonl.zst")
SIZE = 1 << 22
_IDS, _DOCUMENTS = 1 << 20, 4096  # at most so many at a time
_CACHE_IDS = 1 << 24  # in a part of a token cache


@dataclass(frozen=True)
class TextPart:
    """A part of a text file.

    Attributes:
      path, field, txt, start, stop: as for `sources.documents`.
      size: its bytes in the file; those of row groups are estimated.
      skip_invalid: leave out documents that are not valid UTF-8.
    """

    path: Place
    size: int
    field: str = "text"
    txt: str = "line"
    start: int = 0
    stop: int = 0
    skip_invalid: bool = False

    @property
    def name(self) -> str:
        """The path, as text."""
        return str(self.path)

    def read(self, advance: Callable[[int], None], skipped: Callable[[int], None]) -> Iterator[str]:
        skip = skipped if self.skip_invalid else None
        yield from sources.documents(
            self.path, self.field, self.txt, advance, skip, self.start, self.stop
        )


@dataclass(frozen=True)
class IdLinesPart:
    """A part of a file of JSON lines that hold documents as lists of ids under one key.

    Attributes:
      path, start, stop: the lines that begin in this range of bytes; 0 and 0 for the whole file.
      size: its bytes.
      rows: ids must be below.
      field: the key.
    """

    path: Place
    size: int
    rows: int
    start: int = 0
    stop: int = 0
    field: str = "tokens"

    @property
    def name(self) -> str:
        """The path, as text."""
        return str(self.path)

    def read(self, advance: Callable[[int], None], skipped: Callable[[int], None]) -> Iterator[Ids]:
        held: list[np.ndarray] = []
        size = 0
        with (
            sources.readable(self.path),
            sources.Lines(self.path, advance, start=self.start, stop=self.stop) as lines,
        ):
            for value in sources.json_field(lines, self.field):
                held.append(self._ids(value, lines))
                size += len(held[-1])
                if size >= _IDS or len(held) >= _DOCUMENTS:
                    yield Ids(np.concatenate(held), len(held))
                    held, size = [], 0
        if held:
            yield Ids(np.concatenate(held), len(held))

    def _ids(self, value: object, lines: sources.Lines) -> np.ndarray:
        if value == []:
            return np.zeros(0, np.int64)
        ids = np.array("")
        with contextlib.suppress(ValueError):  # lists of several lengths in it
            ids = np.array(value)
        if not isinstance(value, list) or ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise InputError(f"{lines.where()}: {self.field!r} is not a list of whole numbers")
        if ids.min() < 0 or ids.max() >= self.rows:
            wrong = ids.min() if ids.min() < 0 else ids.max()
            raise InputError(
                f"{lines.where()}: the tokenizer has no id {wrong}, only 0 to {self.rows - 1}; "
                "name the one that made this file"
            )
        return ids.astype(np.int64)


@dataclass(frozen=True)
class CachePart:
    """Some of the ids of a token cache (`maxlite.data.tokens`).

    Attributes:
      path: its folder or address.
      size: bytes of these ids.
      start, stop: where they are among all. Documents count where the first ids are.
    """

    path: Place
    size: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The path, as text."""
        return str(self.path)

    def read(self, advance: Callable[[int], None], skipped: Callable[[int], None]) -> Iterator[Ids]:
        cache = open_cache(self.path)
        about = (len(cache), int(cache.chars.sum()), int(cache.bytes.sum()))
        for start in range(self.start, self.stop, _IDS):
            ids = cache.tokens[start : min(start + _IDS, self.stop)]
            yield Ids(ids, *(about if start == 0 else (0, 0, 0)))
            advance(ids.nbytes)


def text_parts(
    files: Iterable[Place],
    field: str = "text",
    txt: str = "line",
    skip_invalid: bool = False,
    size: int = SIZE,
) -> list[TextPart]:
    """Divides text files into parts of about `size` bytes.

    A compressed file, and one that is a document itself, stays whole.

    Raises:
      InputError: a file can't be read.
    """
    return [
        TextPart(path, share, field, txt, start, stop, skip_invalid)
        for path in files
        for start, stop, share in _ranges(path, sources.kind(path), txt, size)
    ]


def id_parts(pattern: str, tokenizer: Tokenizer, size: int = SIZE) -> list[IdLinesPart | CachePart]:
    """Finds what was tokenised before, and divides files of lines into parts of `size` bytes.

    Args:
      pattern: a glob for folders of token caches, and for .jsonl or .bin files with a list of ids
        under "tokens" on each line.
      tokenizer: what made the ids.
      size: of a part.

    Raises:
      InputError: nothing is there, or it is of another kind or made with another tokenizer.
    """
    parts: list[IdLinesPart | CachePart] = []
    for path in _found(pattern):
        if not path.name.lower().endswith(_LINES) and (path.is_dir() or isinstance(path, Url)):
            cache = open_cache(path)
            cache.check(tokenizer)
            for start in range(0, len(cache.tokens), _CACHE_IDS):
                stop = min(start + _CACHE_IDS, len(cache.tokens))
                bytes_ = (stop - start) * cache.tokens.dtype.itemsize
                parts.append(CachePart(path, bytes_, start, stop))
        elif path.name.lower().endswith(_LINES):
            for start, stop, share in _ranges(path, "jsonl", "line", size):
                parts.append(IdLinesPart(path, share, tokenizer.rows, start, stop))
        else:
            raise InputError(
                f"{path} holds no ids that can be read: name the folder of a token cache, or files "
                f"that end in {', '.join(_LINES)}"
            )
    return parts


def _found(pattern: str) -> Sequence[Place]:
    if is_url(pattern):  # a folder is none that a glob of files finds
        return sorted(expand_url(pattern)) or [Url(pattern)]
    expanded = os.path.expanduser(pattern)
    names = [expanded] if os.path.exists(expanded) else glob.glob(expanded, recursive=True)
    if not names:
        raise InputError(f"nothing matches {pattern!r}")
    return sorted(map(Path, names))


def _ranges(path: Place, kind: str, txt: str, size: int) -> Iterator[tuple[int, int, int]]:
    """Where the parts of a file start and stop, and their bytes."""
    with sources.readable(path):
        total = path.stat().st_size
        if kind == "parquet":
            yield from _groups(path, total, size)
        elif packing(path) or (kind == "txt" and txt == "file"):
            yield 0, 0, total
        else:
            for start in range(0, total, size):
                yield start, min(start + size, total), min(size, total - start)


def _groups(path: Place, total: int, size: int) -> Iterator[tuple[int, int, int]]:
    with sources.parquet_file(path) as file:
        about = file.metadata
    groups = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
    held = first = 0
    for i, one in enumerate(groups, 1):
        held += one
        share = total * held // max(1, sum(groups))
        if share >= size or i == len(groups):
            yield first, i, share
            held, first = 0, i
