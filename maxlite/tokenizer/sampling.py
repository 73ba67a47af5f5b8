"""A part of a corpus that is too large to learn from whole."""

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """Documents chosen from a corpus, in its order.

    Attributes:
      texts: those chosen.
      size: their UTF-8 bytes.
      documents, bytes: of the whole corpus.
    """

    texts: list[str]
    size: int
    documents: int
    bytes: int


def sample(texts: Iterable[str], most: int) -> Sample:
    """Chooses documents, each with the same chance, until they fill a number of bytes.

    One pass; memory grows with `most` alone. Each document has a number by a hash of its place in
    the corpus, and those with the lowest are chosen, so the same corpus always gives the same ones,
    and a smaller sample is a part of a larger one.

    Args:
      texts: the corpus.
      most: bytes of UTF-8 that may be chosen.
    """
    chosen: list[tuple[int, int, str]] = []  # a heap, the highest number first
    size = whole = count = 0
    limit = 1 << 64
    for place, text in enumerate(texts):
        length = len(text.encode())
        whole += length
        count += 1
        number = _number(place)
        if number >= limit:
            continue
        heapq.heappush(chosen, (-number, place, text))
        size += length
        while size > most:
            number, _, left_out = heapq.heappop(chosen)
            limit = -number
            size -= len(left_out.encode())
    chosen.sort(key=lambda entry: entry[1])
    return Sample([text for _, _, text in chosen], size, count, whole)


def _number(place: int) -> int:
    return int.from_bytes(hashlib.blake2b(str(place).encode(), digest_size=8).digest(), "big")
