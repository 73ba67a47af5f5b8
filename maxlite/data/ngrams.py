"""Runs of words in texts, as hashes that arrays can hold.

A word is what a reader takes for one, whatever its case, its punctuation and the tokenizer: letters
and digits in compatibility form (NFKC) without case. Scripts that put no spaces between words (Han,
kana, Thai, Lao, Khmer, Burmese) have each character for one.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import regex

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(
    rf"[{_UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{_UNSPACED}]]+", regex.VERSION1
)
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2**64
_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))


@dataclass(frozen=True)
class Words:
    """The words of texts, end to end.

    Attributes:
      hashes: of each word, uint64 [W]; Python's own, which another process has others for.
      ends: where each text ends, int64 [D].
    """

    hashes: np.ndarray
    ends: np.ndarray

    @cached_property
    def sizes(self) -> np.ndarray:
        """Words of each text, int64 [D]."""
        return np.diff(self.ends, prepend=0)

    @cached_property
    def text(self) -> np.ndarray:
        """Which text each word is in, int64 [W]."""
        return np.repeat(np.arange(len(self.ends)), self.sizes)

    def runs(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """All runs of n words inside one text.

        Returns:
          Where they start, int64 [R], and their hashes, uint64 [R]: the same for the same words in
          the same order, and else the same by an accident of 1 in 2**64.
        """
        count = len(self.hashes)
        if count < n:
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        # A run is a polynomial in _BASE; those of all prefixes give each run's by one subtraction.
        sums = np.zeros(count + 1, np.uint64)
        np.cumsum(self.hashes * _powers(_BASE, count), out=sums[1:])
        hashes = (sums[n:] - sums[:-n]) * _powers(_INVERSE, count - n + 1)
        starts = np.flatnonzero(self.text[n - 1 :] == self.text[: count - n + 1])
        return starts, hashes[starts]


def words(texts: Sequence[str]) -> Words:
    """The words of texts."""
    found: list[str] = []
    ends = np.zeros(len(texts), np.int64)
    for i, text in enumerate(texts):
        found += _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
        ends[i] = len(found)
    hashes = np.fromiter(map(hash, found), np.int64, len(found))
    return Words(hashes.view(np.uint64), ends)


def _powers(base: np.uint64, count: int) -> np.ndarray:
    """base ** 0 … base ** (count - 1) modulo 2**64; uint64 [count]."""
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)


class Wanted:
    """Hashes that are looked for in what goes by, each until it is found.

    Args:
      hashes: uint64, any number, perhaps the same several times.
    """

    def __init__(self, hashes: np.ndarray):
        self._hashes = np.unique(hashes)
        self._where = np.full(len(self._hashes), -1, np.int16)
        # Most of what goes by is ruled out by its first bits alone.
        self._shift = np.uint64(64 - min(27, max(16, len(self._hashes).bit_length() + 5)))
        self._first = np.zeros(1 << (64 - int(self._shift)), bool)
        self._first[self._hashes >> self._shift] = True

    def see(self, hashes: np.ndarray, where: int) -> None:
        """Notes that these, uint64 [N], are there; `where` is 0 to 2**15 - 1."""
        some = hashes[self._first[hashes >> self._shift]]
        place = np.minimum(np.searchsorted(self._hashes, some), len(self._hashes) - 1)
        place = place[self._hashes[place] == some]
        self._where[place[self._where[place] < 0]] = where

    def where(self, hashes: np.ndarray) -> np.ndarray:
        """Where each of these [N], which are looked for, was found first: int16 [N], or -1."""
        return self._where[np.searchsorted(self._hashes, hashes)]
