"""A choice of documents from a cache, as the sequences a model reads."""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from maxlite.data.tokens import TokenCache


class View:
    """Documents of a cache in their order, each as BOS, its tokens, EOS.

    Attributes:
      cache: where the tokens are.
      bos, eos: ids, or None to leave them out.
      index: which documents, int64 [N], ascending; None: all.
      content: hash (hex) of everything that the sequences depend on.
    """

    def __init__(
        self,
        cache: TokenCache,
        bos: int | None,
        eos: int | None,
        index: np.ndarray | None = None,
        part: str = "all",
    ):
        self.cache, self.bos, self.eos, self.index = cache, bos, eos, index
        said = json.dumps([cache.content, bos, eos, part])
        self.content = hashlib.sha256(said.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.cache) if self.index is None else len(self.index)

    @cached_property
    def ends(self) -> np.ndarray:
        """Where each document ends in the view's stream, BOS and EOS counted; int64 [N]."""
        if self.index is None:
            lengths = np.diff(self.cache.offsets)
        else:
            lengths = self.cache.offsets[self.index + 1] - self.cache.offsets[self.index]
        extra = (self.bos is not None) + (self.eos is not None)
        return np.cumsum(lengths.astype(np.int64) + extra)

    @property
    def length(self) -> int:
        """Tokens of the whole stream, BOS and EOS counted."""
        return int(self.ends[-1]) if len(self) else 0

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the raw documents."""
        return self._sum(self.cache.bytes)

    @property
    def chars(self) -> int:
        """Characters of the raw documents."""
        return self._sum(self.cache.chars)

    @property
    def tokens(self) -> int:
        """Tokens of the documents, BOS and EOS not counted."""
        return self.length - len(self) * ((self.bos is not None) + (self.eos is not None))

    def documents(self) -> Iterator[np.ndarray]:
        """Yields each document's tokens, int32 [T], without BOS and EOS."""
        offsets = self.cache.offsets
        for i in range(len(self)) if self.index is None else self.index:
            yield self.cache.tokens[int(offsets[i]) : int(offsets[i + 1])].astype(np.int32)

    def take(self, limit: int) -> "View":
        """At most `limit` documents, spread evenly; 0 takes all."""
        if not 0 < limit < len(self):
            return self
        chosen = np.arange(limit) * len(self) // limit
        index = chosen if self.index is None else self.index[chosen]
        return View(self.cache, self.bos, self.eos, index, f"{self.content}/{limit}")

    def _sum(self, column: np.ndarray) -> int:
        return int((column if self.index is None else column[self.index]).sum())


def split(
    cache: TokenCache, bos: int | None, eos: int | None, held_out: float
) -> tuple[View, View]:
    """Divides a cache into training and held-out documents by the hash of their text.

    The same text is always on the same side, whatever stands around it.

    Args:
      cache: the documents.
      bos, eos: ids for the views, or None.
      held_out: share of documents to hold out, at least 0 and below 1.

    Returns:
      The views for training and for evaluation.
    """
    held = cache.hashes < np.uint64(int(held_out * 2**64))
    sides = np.flatnonzero(~held), np.flatnonzero(held)
    train = None if held_out == 0 else sides[0]
    return (
        View(cache, bos, eos, train, f"all but {held_out!r}"),
        View(cache, bos, eos, sides[1], f"{held_out!r}"),
    )
