"""Duplicates that are equal once folded: whole documents, and lines that many documents share."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from maxlite.corpus.folded import fold, portions
from maxlite.corpus.step import Corpuswide, Result

_PART_ROWS = 1 << 24  # of signatures that a part of a match looks at, in at most 1.3 GB


def digests(texts: Sequence[str], normalize: bool) -> np.ndarray:
    """The hash of each text (BLAKE2b, 128 bits): equal where what is compared of texts is.

    Args:
      texts: N of them.
      normalize: whether they are folded first.

    Returns:
      uint64 [N, 2].
    """
    pieces: Iterable[bytes] = (
        chain.from_iterable(map(_pieces, portions(texts)))
        if normalize
        else (text.encode("utf-8", "surrogatepass") for text in texts)
    )
    joined = b"".join(hashlib.blake2b(piece, digest_size=16).digest() for piece in pieces)
    return np.frombuffer(joined, "<u8").reshape(-1, 2)


def _pieces(texts: Sequence[str], whole: bool = True) -> list[bytes]:
    """The bytes of each text as folded, four a character."""
    codes, ends = fold(texts, whole)
    data = codes.tobytes()
    return [data[4 * start : 4 * end] for start, end in pairwise((0, *ends.tolist()))]


def _range(hashes: np.ndarray, part: int, parts: int) -> np.ndarray:
    """Which hashes, uint64 [N], lie in one of `parts` equal ranges; bool [N]."""
    return (hashes >> 32) * parts >> 32 == part


class Duplicates(Corpuswide):
    """A step that drops documents which another one stands for; verdicts: bool [documents]."""

    def verdicts(self, dropped: np.ndarray, signatures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What is said of all documents, bool [documents], by shard."""
        ends = np.cumsum([len(shard) for shard in signatures])
        return np.split(dropped, ends[:-1])

    def judge(self, texts: Sequence[str], verdict: np.ndarray, start: int) -> list[Result]:
        dropped = verdict[start : start + len(texts)].tolist()
        reason = self.name.removesuffix("s")
        return [(text, reason if drop else "") for text, drop in zip(texts, dropped, strict=True)]


@dataclass
class ExactDuplicates(Duplicates):
    """Drops a document that says what an earlier one says; the first stays.

    Attributes:
      normalize: compare as `folded.fold` leaves texts: without case, white space and punctuation,
        but with digits. Otherwise every byte counts.
    """

    normalize: bool = True

    def match_parts(self, rows: int) -> int:
        return 1 + rows // _PART_ROWS

    def sign(self, texts: Sequence[str]) -> np.ndarray:
        """uint64 [documents, 2]."""
        return digests(texts, self.normalize)

    def match(self, part: int, parts: int, signatures: Sequence[np.ndarray]) -> np.ndarray:
        """The numbers of those that have an equal before them; int64 [duplicates]."""
        hashes, numbers, start = [np.zeros((0, 2), np.uint64)], [np.zeros(0, np.int64)], 0
        for shard in signatures:
            mine = np.flatnonzero(_range(shard[:, 0], part, parts))
            hashes.append(shard[mine])
            numbers.append(start + mine)
            start += len(shard)
        high, low = np.concatenate(hashes).T
        order = np.lexsort((low, high))  # stable: equal ones stay in the order of documents
        again = (np.diff(high[order]) == 0) & (np.diff(low[order]) == 0)
        return np.concatenate(numbers)[order[1:][again]]

    def resolve(
        self, signatures: Sequence[np.ndarray], matches: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        dropped = np.zeros(sum(map(len, signatures)), bool)
        for numbers in matches:
            dropped[numbers] = True
        return self.verdicts(dropped, signatures)


@dataclass
class RepeatedLines(Corpuswide):
    """Removes lines that many documents share, such as menus and notices, from all of them.

    From the first one too: a menu is no more its text than anybody else's, and the result does not
    depend on which document comes first. So this belongs behind the steps that drop duplicates: of
    a text that is there often enough, nothing would be left. Documents of one line are not touched.

    Attributes:
      min_documents: that a line must be in, compared as folded. Llama 3 removed what was in more
        than 6 of 30 million (arXiv 2407.21783, section 3.1.1) and saw good text go with it.
      min_chars: that a line must have, white space and punctuation apart: "네", "}" and "very good"
        are in many documents and belong to each.
    """

    min_documents: int = 10
    min_chars: int = 10

    def check(self) -> None:
        self.within("min_documents", 2, float("inf"))
        self.within("min_chars", 1, float("inf"))

    def match_parts(self, rows: int) -> int:
        return 1 + rows // _PART_ROWS

    def sign(self, texts: Sequence[str]) -> np.ndarray:
        """The hashes of each document's different lines; uint64 [lines]."""
        lines, hashes = self._lines(texts)
        documents = np.repeat(np.arange(len(lines)), list(map(len, lines)))
        order = np.lexsort((hashes, documents))
        hashes, documents = hashes[order], documents[order]
        again = (np.diff(hashes) == 0) & (np.diff(documents) == 0)
        return hashes[(hashes > 0) & np.concatenate([[True], ~again])[: len(hashes)]]

    def match(self, part: int, parts: int, signatures: Sequence[np.ndarray]) -> np.ndarray:
        """Those that occur often enough; uint64 [repeated]."""
        mine = [shard[_range(shard, part, parts)] for shard in signatures]
        hashes, documents = np.unique(np.concatenate(mine), return_counts=True)
        return hashes[documents >= self.min_documents]

    def resolve(
        self, signatures: Sequence[np.ndarray], matches: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The hashes of all lines to remove, uint64 [lines], ascending; the same for each shard."""
        return [np.sort(np.concatenate(matches))] * len(signatures)

    def judge(self, texts: Sequence[str], verdict: np.ndarray, start: int) -> list[Result]:
        lines, hashes = self._lines(texts)
        found = np.searchsorted(verdict, hashes, "right") > np.searchsorted(verdict, hashes)
        repeated = iter(found.tolist())
        results = []
        for text, some in zip(texts, lines, strict=True):
            kept = [line for line in some if not next(repeated)]
            if len(kept) == len(some):
                results.append((text, ""))
            else:
                text = "\n".join(kept).strip("\r\n")
                results.append((text, "" if text.strip() else "only repeated lines"))
        return results

    def _lines(self, texts: Sequence[str]) -> tuple[list[list[str]], np.ndarray]:
        """The lines of documents that have several, and their hashes, or 0 for those too short."""
        lines = [text.split("\n") if "\n" in text else [] for text in texts]
        found = []
        for some in portions(list(chain.from_iterable(lines))):
            for piece in _pieces(some, whole=False):
                long = len(piece) >= 4 * self.min_chars
                found.append(hashlib.blake2b(piece, digest_size=8).digest() if long else bytes(8))
        return lines, np.frombuffer(b"".join(found), "<u8")
