"""How many characters of some kinds each of many texts has."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import regex

from maxlite.errors import InputError

_AT_ONCE = 1 << 20  # characters whose kinds are in memory together


def counted(texts: Sequence[str], kinds: tuple[str, ...]) -> np.ndarray:
    """Counts characters by kind, those of many texts in one go.

    Args:
      texts: N texts.
      kinds: K sets of characters as `regex` writes them, `[\\p{L}\\p{M}]`; what belongs to several
        counts for the last of them.

    Returns:
      int64 [N, K].

    Raises:
      InputError: `regex` can't read a kind.
    """
    table = _table(kinds)
    counts = np.zeros((len(texts), len(kinds)), np.int64)
    start = size = 0
    for end, text in enumerate(texts, 1):
        size += len(text)
        if size >= _AT_ONCE or end == len(texts):
            counts[start:end] = _counted(texts[start:end], table, len(kinds))
            start, size = end, 0
    return counts


def _counted(texts: Sequence[str], table: np.ndarray, kinds: int) -> np.ndarray:
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    found = table[codes]
    bounds = np.cumsum([0, *map(len, texts)])
    counts = np.empty((len(texts), kinds), np.int64)
    before = np.zeros(len(codes) + 1, np.int64)
    for kind in range(kinds):
        np.cumsum(found == kind + 1, out=before[1:])
        counts[:, kind] = np.diff(before[bounds])
    return counts


@lru_cache
def _table(kinds: tuple[str, ...]) -> np.ndarray:
    """uint8 [0x110000]: for each character the number of its kind, from 1; 0 if it is of none."""
    every = "".join(map(chr, range(0x110000)))
    table = np.zeros(len(every), np.uint8)
    for number, kind in enumerate(kinds, 1):
        try:
            runs = regex.finditer(f"(?V1){kind}+", every)
        except regex.error as error:
            raise InputError(f"{kind} is no set of characters: {error}") from None
        for run in runs:
            table[run.start() : run.end()] = number
    return table
