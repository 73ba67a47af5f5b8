"""The documents that a selection chooses from: token caches, read a part at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np


class Ids(Protocol):
    """Token ids that can be read by ranges."""

    def __getitem__(self, at: slice, /) -> np.ndarray: ...


class Chunk(NamedTuple):
    """The new tokens of some neighbouring candidates.

    Attributes:
      first, stop: which candidates.
      size: their tokens, new or not.
      documents: the candidate each new token is in, counted from `first`; int64 [M].
      tokens: which new token it is, from 0; int64 [M].
    """

    first: int
    stop: int
    size: int
    documents: np.ndarray
    tokens: np.ndarray


@dataclass(frozen=True)
class Candidates:
    """Documents of one source to choose from, as its token cache has them.

    Attributes:
      tokens: ids of all its documents end to end.
      offsets: where each begins in `tokens`, and the end; [N + 1].
      hashes: of each document's text; uint64 [N].
      index: which of them may be chosen, int64 [C], ascending; None: all.
    """

    tokens: Ids
    offsets: np.ndarray
    hashes: np.ndarray
    index: np.ndarray | None = None

    @property
    def documents(self) -> np.ndarray:
        """The numbers of those that may be chosen; int64 [C]."""
        return np.arange(len(self.hashes)) if self.index is None else self.index

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each of them; int64 [C]."""
        return np.diff(self.offsets.astype(np.int64))[self.documents]

    def chunks(self, base_rows: int, size: int) -> Iterator[Chunk]:
        """Reads all of them, about `size` tokens at a time, and no document in two parts."""
        documents = self.documents
        begins, ends = (self.offsets[documents + i].astype(np.int64) for i in (0, 1))
        first = 0
        while first < len(documents):
            last = max(first + 1, int(np.searchsorted(ends, begins[first] + size, "right")))
            ids = np.asarray(self.tokens[int(begins[first]) : int(ends[last - 1])])
            new = np.flatnonzero(ids >= base_rows)
            place = begins[first] + new
            inside = np.searchsorted(ends[first:last], place, "right")
            mine = place >= begins[first:last][inside]  # not of a document that is left out
            tokens = ids[new[mine]].astype(np.int64) - base_rows
            size_read = int((ends - begins)[first:last].sum())
            yield Chunk(first, last, size_read, inside[mine], tokens)
            first = last
