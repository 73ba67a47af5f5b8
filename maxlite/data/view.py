"""A choice of documents from a cache, as the sequences a model reads."""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from typing import cast

import numpy as np

from maxlite.data.fitting import fitted
from maxlite.data.tokens import TokenCache
from maxlite.errors import InputError


class View:
    """Documents of a cache in their order, each as BOS, its tokens, EOS.

    Of conversations the tokens are all there is, since their template says what is around them.

    Attributes:
      cache: where the tokens are.
      bos, eos: ids, or None to leave them out.
      index: which documents, int64 [N], ascending, or row after row; None: all.
      content: hash (hex) of everything that the sequences depend on.
      starts: where rows of whole conversations start in the stream, and its end, int64 [R + 1];
        None: rows are cut. See `fitting`.
      left_out: conversations too long for any row.
    """

    def __init__(
        self,
        cache: TokenCache,
        bos: int | None,
        eos: int | None,
        index: np.ndarray | None = None,
        part: str = "all",
    ):
        self.cache, self.index = cache, index
        self.left_out, self.starts = 0, cast(np.ndarray | None, None)
        self.bos, self.eos = bos, eos = (bos, eos) if cache.learnt is None else (None, None)
        said = json.dumps([cache.content, bos, eos, part])
        self.content = hashlib.sha256(said.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.cache) if self.index is None else len(self.index)

    @property
    def ascending(self) -> np.ndarray | None:
        """Which documents, int64 [N], ascending; None: all."""
        return None if self.index is None else np.sort(self.index)

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

    def learnt(self) -> Iterator[np.ndarray] | None:
        """Of each document which tokens are learnt, uint8 [T]; None where all are."""
        mask, offsets = self.cache.learnt, self.cache.offsets
        if mask is None:
            return None
        chosen = range(len(self)) if self.index is None else self.index
        return (mask[int(offsets[i]) : int(offsets[i + 1])] for i in chosen)

    def fitting(self, seq_len: int) -> "View":
        """The same in rows of whole conversations, without those that have more tokens.

        Plain text, which may be cut, stays as it is.
        """
        if self.cache.learnt is None:
            return self
        lengths = np.diff(self.ends, prepend=0)
        fits = np.flatnonzero(lengths <= seq_len)
        order, sizes = fitted(lengths[fits], seq_len)
        chosen = fits[order] if self.index is None else self.index[fits[order]]
        view = View(self.cache, None, None, chosen, f"{self.content}/rows of {seq_len}")
        view.left_out = len(self) - len(view)
        view.starts = np.concatenate([[0], view.ends])[np.cumsum([0, *sizes])]
        return view

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
    cache: TokenCache,
    bos: int | None,
    eos: int | None,
    held_out: float,
    chosen: np.ndarray | None = None,
) -> tuple[View, View]:
    """Divides a cache into training and held-out documents by the hash of their text.

    The same text is always on the same side, whatever stands around it.

    Args:
      cache: the documents.
      bos, eos: ids for the views, or None.
      held_out: share of documents to hold out, at least 0 and below 1.
      chosen: the documents to train on, int64 [N]; None: all that are not held out.

    Returns:
      The views for training and for evaluation.

    Raises:
      InputError: what is chosen is not ascending, not in the cache, or held out.
    """
    held = cache.hashes < np.uint64(int(held_out * 2**64))
    sides = np.flatnonzero(~held), np.flatnonzero(held)
    train, part = None if held_out == 0 else sides[0], f"all but {held_out!r}"
    if chosen is not None:
        _check(chosen, held)
        train, part = chosen, f"{part}, {digest(chosen)}"
    return View(cache, bos, eos, train, part), View(cache, bos, eos, sides[1], f"{held_out!r}")


def digest(index: np.ndarray) -> str:
    """A hash (hex) of a choice of documents, int64 [N]."""
    return hashlib.sha256(np.ascontiguousarray(index, "<i8").data).hexdigest()


def _check(chosen: np.ndarray, held: np.ndarray) -> None:
    """Refuses a choice of documents that a training view can't have."""
    if chosen.dtype != np.int64 or chosen.ndim != 1 or (np.diff(chosen) <= 0).any():
        raise InputError("the chosen documents are not ascending int64 numbers")
    if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < len(held):
        raise InputError(
            f"document {chosen[-1] if chosen[0] >= 0 else chosen[0]} is chosen, but they are "
            f"numbered from 0 to {len(held) - 1}"
        )
    if (wrong := held[chosen]).any():
        raise InputError(
            f"document {chosen[wrong.argmax()]} is chosen for training, but held out for evaluation"
        )
