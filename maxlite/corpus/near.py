"""Near duplicates: documents most of whose character n-grams an earlier one has, too."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from maxlite.corpus.exact import Duplicates
from maxlite.corpus.folded import fold, portions
from maxlite.corpus.minhash import alike, band_keys, banding, fingerprints, shingles, sketch
from maxlite.errors import InputError

_PART_KEYS = 1 << 22  # that are worth a part of their own
_BLOCK = 1 << 16  # signatures that are in memory at a time, 16 MB
_CHUNK = 1 << 12  # pairs compared at a time: they stay in a core's cache
_LIMIT = 3_000_000_000  # documents: a pair of their numbers is one int64
_STRIDE = 1 << 20  # pairs turned into Python's numbers at a time


@dataclass
class NearDuplicates(Duplicates):
    """Drops a document that is nearly an earlier one that stays.

    No chains: for whatever is dropped, something stays that is as similar as the threshold. That is
    as far as signatures tell, which know a similarity to 0.03 with 256 permutations (one standard
    deviation, at most). Documents are compared as `folded.fold` leaves them.

    A document that shares a band with very many is compared with the first of them and the nearest
    before it. So of thousands made from one template some stay that have their like elsewhere; more
    `neighbours` find more of them, in as much more time.

    The state is a byte a permutation and document. Matching takes 26 bytes a document in each part,
    and 16 a pair found; the order of documents is all that matters.

    Attributes:
      threshold: Jaccard similarity of the sets of n-grams from which on two documents are the same.
        Of thirty pairs of short Korean reviews at 0.8 all said the same; at 0.6 a fifth did not.
      ngram: characters of an n-gram; a document that is shorter is the same as its equals only.
        Unrelated English documents of 5 kB are alike to 0.07 in fives, but to 0.34 in threes.
      permutations: of the signature, a byte each; a multiple of 8.
      neighbours: how many documents before it, among those that share a band, one is compared with.
    """

    threshold: float = 0.8
    ngram: int = 5
    permutations: int = 256
    neighbours: int = 32

    def check(self) -> None:
        # Below a half, bands are so short that documents meet which have nothing in common.
        self.within("threshold", 0.5, 1)
        self.within("ngram", 1, 100)
        self.within("permutations", 16, 4096)
        self.within("neighbours", 1, float("inf"))
        if self.permutations % 8:
            raise self.refuse("permutations", "it must be a multiple of 8")

    def match_parts(self, rows: int) -> int:
        bands, _ = banding(self.threshold, self.permutations)
        return min(bands, 1 + rows * bands // _PART_KEYS)

    def sign(self, texts: Sequence[str]) -> np.ndarray:
        """uint8 [documents, permutations]."""
        found = [np.zeros((0, self.permutations), np.uint8)]
        for some in portions(texts):
            found.append(sketch(*shingles(*fold(some), self.ngram), self.permutations))
        return np.concatenate(found)

    def match(self, part: int, parts: int, signatures: Sequence[np.ndarray]) -> np.ndarray:
        """The pairs of documents that are alike, by number: int64 [pairs, 2], the later first.

        One paired with itself has the whole signature of one before it and so is dropped in any
        case: whatever that one is like, it is like.

        Raises:
          InputError: the documents are too many to be numbered in pairs.
        """
        bands, rows = banding(self.threshold, self.permutations)
        total = sum(map(len, signatures))
        if total > _LIMIT:
            raise InputError(
                f"near duplicates are found among at most {_LIMIT:,} documents, and these are "
                f"{total:,}; clean the corpus in several pieces"
            )
        found = np.zeros(0, np.int64)
        for band in range(part, bands, parts):
            keys = np.concatenate([band_keys(shard, band, rows) for shard in signatures])
            pairs = [found]
            for numbers, groups in _meeting(keys):
                later, earlier = numbers[self._pairs(_take(signatures, numbers), groups)].T
                pairs.append(later * total + earlier)
            found = _distinct(pairs)
        return np.stack(np.divmod(found, max(total, 1)), axis=1)

    def _pairs(self, signatures: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """The same for some documents that follow each other in groups; int64 [pairs, 2]."""
        twins = _twins(signatures, groups)
        others = np.flatnonzero(~twins)
        found = [np.stack([np.flatnonzero(twins)] * 2, axis=1)]
        for pairs in _candidates(groups[others], self.neighbours):
            for start in range(0, len(pairs), _CHUNK):
                some = others[pairs[start : start + _CHUNK]]
                later, earlier = signatures[some.T]
                found.append(some[alike(later, earlier, self.threshold)])
        return np.concatenate(found)

    def resolve(
        self, signatures: Sequence[np.ndarray], matches: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        total = sum(map(len, signatures))
        pairs = np.zeros(0, np.int64)
        for some in matches:
            pairs = _distinct([pairs, some[:, 0] * total + some[:, 1]])
        dropped = bytearray(total)
        for start in range(0, len(pairs), _STRIDE):
            later, earlier = np.divmod(pairs[start : start + _STRIDE], total)
            for one, other in zip(later.tolist(), earlier.tolist(), strict=True):
                # The pairs of the other came first: what becomes of it is settled.
                if not dropped[other]:
                    dropped[one] = True
        return self.verdicts(np.frombuffer(dropped, bool), signatures)


def _meeting(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Documents whose key others have, too: their numbers, and numbers of their groups.

    They come in blocks of whole groups, each group in the order of documents.
    """
    order = np.argsort(keys)
    keys = keys[order]
    equal = np.concatenate([[False], keys[1:] == keys[:-1], [False]])
    meets = equal[1:] | equal[:-1]
    numbers, groups = order[meets], np.cumsum(~equal[:-1][meets])
    del order, keys, equal, meets
    numbers = numbers[np.lexsort((numbers, groups))]  # groups ascend as they did
    starts = np.flatnonzero(np.diff(groups, prepend=0))
    blocks = np.searchsorted(starts, np.arange(0, len(groups), _BLOCK))
    cuts = np.unique([*starts[blocks[blocks < len(starts)]], len(groups)])
    for start, stop in pairwise(cuts.tolist()):
        yield numbers[start:stop], groups[start:stop]


def _candidates(groups: np.ndarray, neighbours: int) -> Iterator[np.ndarray]:
    """Pairs of each with those shortly before it in its group and with the first; int64 [K, 2]."""
    starts = np.flatnonzero(np.diff(groups, prepend=0))
    sizes = np.diff(starts, append=len(groups))
    place, first = np.arange(len(groups)), np.repeat(starts, sizes)
    far = place - first > neighbours
    yield np.stack([place[far], first[far]], axis=1)
    for distance in range(1, min(neighbours, sizes.max() - 1) + 1):
        place = place[place - first[place] >= distance]
        yield np.stack([place, place - distance], axis=1)


def _distinct(numbers: Sequence[np.ndarray]) -> np.ndarray:
    """All numbers, ascending, each once; numpy's own hashes, and was 100 times slower on pairs."""
    ascending = np.sort(np.concatenate(numbers))
    return ascending[np.diff(ascending, prepend=-1) > 0]


def _take(signatures: Sequence[np.ndarray], numbers: np.ndarray) -> np.ndarray:
    """The signatures of documents by number, whichever shard they lie in."""
    starts = np.cumsum([0, *map(len, signatures)])
    order = np.argsort(numbers)
    bounds = np.searchsorted(numbers, starts, sorter=order)
    taken = np.empty((len(numbers), signatures[0].shape[1]), np.uint8)
    for shard, start, (low, high) in zip(signatures, starts[:-1], pairwise(bounds), strict=True):
        taken[order[low:high]] = shard[numbers[order[low:high]] - start]
    return taken


def _twins(signatures: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Which documents have the whole signature of one before them in their group; bool [N]."""
    prints = fingerprints(signatures)
    order = np.lexsort((prints, groups))  # stable: equal ones stay in order
    again = (np.diff(prints[order]) == 0) & (np.diff(groups[order]) == 0)
    twins = np.zeros(len(groups), bool)
    twins[order[1:][again]] = True
    return twins
