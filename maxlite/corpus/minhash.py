"""MinHash: how alike texts are, told from a few bytes of each.

Texts are alike as their sets of character n-grams are: Jaccard's share of what is in both in what
is in either. Under a random order of all n-grams two sets begin with the same one with just that
probability (Broder, "On the resemblance and containment of documents", 1997), so the share of many
orders in which they do estimates it. Of each first n-gram one byte is kept (Li and König, "b-Bit
Minwise Hashing", arXiv 0910.3349), which is the same by chance once in 256 times.

Texts to compare are found by bands (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets",
section 3.4): a signature is cut into bands of a few rows, and two texts meet if they have all rows
of one band in common.
"""

import functools
import hashlib

import numpy as np

_CHANCE = 1 / 256  # that a byte of two different n-grams is the same
_KEY = 8  # rows that fit a band's key: bytes of a uint64
_RECALL = 0.99


def shingles(codes: np.ndarray, ends: np.ndarray, ngram: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashed character n-grams of texts.

    A text shorter than an n-gram is one, filled up with zeros: it is like its equals only.

    Args:
      codes: code points of all texts end to end, uint32 [C], none of them 0.
      ends: where each text ends there, int64 [N].
      ngram: characters of an n-gram.

    Returns:
      Hashes, uint32 [G], with repetitions; where those of each text start, int64 [N].
    """
    lengths = np.diff(ends, prepend=0)
    padded = np.maximum(lengths, ngram)
    stops = np.cumsum(padded)
    if (lengths < ngram).any():
        wider = np.zeros(padded.sum(), np.uint32)
        wider[np.arange(len(codes)) + np.repeat(stops - padded - (ends - lengths), lengths)] = codes
        codes = wider
    hashes = np.zeros(max(0, len(codes) - ngram + 1), np.uint32)
    for i, factor in enumerate(_numbers("n-gram", ngram) | 1):
        hashes += codes[i : i + len(hashes)] * factor
    crosses = np.zeros(len(codes) + 1, np.int8)  # n-grams that begin in one text and end in another
    crosses[stops - ngram + 1] += 1
    crosses[stops] -= 1
    whole = np.cumsum(crosses, dtype=np.int8)[: len(hashes)] == 0
    return _mix(hashes[whole]), np.cumsum(padded - ngram + 1) - (padded - ngram + 1)


def sketch(hashes: np.ndarray, starts: np.ndarray, permutations: int) -> np.ndarray:
    """The signature of each set of hashes.

    Args:
      hashes: uint32 [G], of all sets end to end; repetitions do not matter.
      starts: where each set starts, int64 [N]; none is empty.
      permutations: orders in which the first one is looked for, P.

    Returns:
      uint8 [N, P].
    """
    factors = _numbers("factors", permutations) | 1
    offsets = _numbers("offsets", permutations)
    first = np.empty((permutations, len(starts)), np.uint32)
    scratch = np.empty_like(hashes)
    for row, factor, offset in zip(first, factors, offsets, strict=True):
        np.multiply(hashes, factor, out=scratch)
        scratch += offset
        np.minimum.reduceat(scratch, starts, out=row)
    return np.ascontiguousarray((_mix(first) >> 24).astype(np.uint8).T)


def meeting(similarity: float, bands: int, rows: int) -> float:
    """The probability that texts of a similarity meet in a band: an S-shaped curve."""
    return 1 - (1 - (similarity + (1 - similarity) * _CHANCE) ** rows) ** bands


def banding(threshold: float, permutations: int) -> tuple[int, int]:
    """How many bands of how many rows: the longest that 99 % at the threshold still meet in.

    The longer a band, the fewer texts meet that are not alike.
    """
    for rows in range(min(_KEY, permutations), 1, -1):
        if meeting(threshold, permutations // rows, rows) >= _RECALL:
            return permutations // rows, rows
    return permutations, 1


def band_keys(signatures: np.ndarray, band: int, rows: int) -> np.ndarray:
    """What signatures hold in a band, equal only where all its rows are; uint64 [N]."""
    keys = np.zeros((len(signatures), _KEY), np.uint8)
    keys[:, :rows] = signatures[:, band * rows : (band + 1) * rows]
    return keys.view("<u8")[:, 0]


def alike(one: np.ndarray, two: np.ndarray, threshold: float) -> np.ndarray:
    """Whether pairs of signatures, both uint8 [N, P], estimate at least a similarity; bool [N]."""
    same = np.bitwise_count(np.packbits(one == two, axis=1)).sum(axis=1, dtype=np.int64)
    return same >= one.shape[1] * (threshold + (1 - threshold) * _CHANCE) - 1e-6


def fingerprints(signatures: np.ndarray) -> np.ndarray:
    """A hash of each whole signature, uint8 [N, P], P a multiple of 8; uint64 [N]."""
    words = signatures.view("<u8")
    mixed = words * (_numbers("fingerprints", 2 * words.shape[1]).view("<u8") | 1)
    return (mixed ^ (mixed >> 29)).sum(axis=1)


@functools.cache
def _numbers(use: str, count: int) -> np.ndarray:
    """Random uint32 that are the same everywhere and for ever, unlike a generator's."""
    return np.frombuffer(hashlib.shake_256(use.encode()).digest(4 * count), "<u4")


def _mix(x: np.ndarray) -> np.ndarray:
    """Spreads each bit over all of a uint32 (the last step of MurmurHash3)."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
