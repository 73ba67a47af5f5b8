"""Counting how often each id of a tokenizer occurs in a corpus of any size."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from maxlite.tokenizer.batching import batches
from maxlite.tokenizer.counts import Counts, FileCounts
from maxlite.tokenizer.tokenizer import Tokenizer
from maxlite.tokenizer.workers import Sized, each, exactly


@dataclass(frozen=True)
class Ids:
    """Documents that are tokenised already.

    Attributes:
      ids: whole numbers [T], of all of them.
      documents: how many.
      characters, bytes: of their text; None if that is not known.
    """

    ids: np.ndarray
    documents: int
    characters: int | None = None
    bytes: int | None = None


class Part(Sized, Protocol):
    """A share of a corpus that one process reads; the figures are told by its name."""

    def read(
        self, advance: Callable[[int], None], skipped: Callable[[int], None]
    ) -> Iterator[str] | Iterator[Ids]:
        """Gives the documents.

        Args:
          advance: called now and then with the bytes read since the last call.
          skipped: called with the number of documents that were left out.
        """


def count(
    tokenizer: Tokenizer,
    parts: Iterable[Part],
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Counts:
    """Counts a corpus; memory grows neither with it nor, much, with the tokenizer.

    The result does not depend on `workers`. Programs that call this need the usual guard
    `if __name__ == "__main__"`, since processes are spawned.

    Args:
      tokenizer: encodes the text, without BOS and EOS.
      parts: of the corpus.
      workers: at most so many processes; 0 for as many as there are cores. 1 also keeps the encoder
        to one thread.
      progress: called with (bytes done, bytes in all).

    Raises:
      InputError: a part can't be read or encoded, or a process has died.
    """
    counts = np.zeros(tokenizer.rows, np.int64)
    files: dict[str, FileCounts] = {}
    with contextlib.closing(each(count_part, tokenizer, parts, workers, progress)) as results:
        for found, figures in results:
            counts += found
            name = figures.name
            files[name] = files.get(name, FileCounts(name)) + figures
    return Counts(tokenizer.fingerprint, counts, tuple(files.values()))


def count_texts(tokenizer: Tokenizer, texts: Iterable[str], name: str = "text") -> Counts:
    """Counts texts that are at hand, in this process."""
    counts, figures = _counted(tokenizer, name, texts)
    return Counts(tokenizer.fingerprint, counts, (figures,))


def count_part(
    tokenizer: Tokenizer, part: Part, advance: Callable[[int], None]
) -> tuple[np.ndarray, FileCounts]:
    """Counts one part: int64 [rows] and the figures. `advance` gets `part.size` in all."""
    skipped = 0

    def skip(documents: int) -> None:
        nonlocal skipped
        skipped += documents

    with exactly(part.size, advance) as moved:
        counts, figures = _counted(tokenizer, part.name, part.read(moved, skip))
    return counts, figures + FileCounts(part.name, skipped=skipped)


def _counted(
    tokenizer: Tokenizer, name: str, documents: Iterable[str] | Iterable[Ids]
) -> tuple[np.ndarray, FileCounts]:
    counts = np.zeros(tokenizer.rows, np.int64)
    figures = FileCounts(name)
    words: int | None
    characters: int | None
    size: int | None
    for batch in _batches(documents):
        if isinstance(batch, Ids):
            ids, words = batch.ids, None
            number, characters, size = batch.documents, batch.characters, batch.bytes
        else:
            ids = np.concatenate(tokenizer.encode(batch))
            words = sum([len(text.split()) for text in batch])
            number, characters = len(batch), sum(map(len, batch))
            size = len("".join(batch).encode())
        counts += np.bincount(ids, minlength=tokenizer.rows)
        figures += FileCounts(name, len(ids), number, words, characters, size)
    return counts, figures


def _batches(documents: Iterable[str] | Iterable[Ids]) -> Iterator[list[str]] | Iterator[Ids]:
    rest = iter(documents)
    head = list(itertools.islice(rest, 1))
    whole = itertools.chain(head, rest)
    if head and isinstance(head[0], Ids):
        return cast(Iterator[Ids], whole)
    return batches(cast(Iterator[str], whole))
