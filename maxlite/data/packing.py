"""Documents laid end to end and cut into rows of one length.

A row is a dict of arrays [S], S tokens a row:

    tokens     int32    the inputs
    targets    int32    the next token of each input
    segments   int32    1, 2, … by document within the row; 0 is padding
    positions  int32    place within the segment, from 0
    weights    float32  1 where the target counts, else 0

Text is cut wherever a row ends. Conversations are not: a row holds as many whole ones as fit, and
weights are 1 on what is learnt of them alone.

Nothing but the cumulative lengths of documents is computed beforehand: any row is found by binary
search and read in time that grows with S alone.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from maxlite.data.view import View

KEYS: dict[str, type] = dict.fromkeys(("tokens", "targets", "segments", "positions"), np.int32)
KEYS["weights"] = np.float32
Row = dict[str, np.ndarray]
_FILLING = 16  # rows of an evaluation that are open at a time


def windows(view: View, seq_len: int) -> int:
    """How many rows of `seq_len` tokens the documents fill, the last one perhaps in part."""
    if view.starts is not None:
        return len(view.starts) - 1
    return max(0, -(-(view.length - 1) // seq_len))


def bounds(view: View, window: int, seq_len: int) -> tuple[int, int]:
    """Where a row starts in the documents laid end to end, and where its last target's end is."""
    if view.starts is not None:
        return int(view.starts[window]), int(view.starts[window + 1])
    return window * seq_len, min((window + 1) * seq_len + 1, view.length)


def training_row(view: View, window: int, seq_len: int) -> Row:
    """Row number `window` of the documents laid end to end.

    Its inputs are the stream's tokens from window * seq_len on; neighbouring rows share one token,
    which is the last target of one and the first input of the other, so each token of the stream is
    a target once. A target in another document than its input (a BOS) has no weight. A document cut
    by the end of a row goes on in the next as a segment of its own.
    """
    ends, (start, stop) = view.ends, bounds(view, window, seq_len)
    place = np.arange(start, stop)
    first = int(np.searchsorted(ends, start, "right"))
    last = int(np.searchsorted(ends, stop - 1, "right"))
    document = first + np.searchsorted(ends[first : last + 1], place, "right")
    begin = np.where(document > 0, ends[document - 1], 0)
    ids, learnt = _stream(view, document, place - begin, ends[document] - begin)

    row = _empty(seq_len)
    n = len(place) - 1
    same = document[1:] == document[:-1]
    row["tokens"][:n] = ids[:-1]
    row["targets"][:n] = ids[1:]
    row["segments"][:n] = 1 + np.concatenate([[0], np.cumsum(~same[:-1])])
    row["positions"][:n] = (place - np.maximum(begin, start))[:-1]
    row["weights"][:n] = same & learnt[1:]
    return row


def _stream(
    view: View, document: np.ndarray, offset: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ids at places of the stream, and whether they are learnt.

    Args:
      view: the documents.
      document, offset, size: of each place its document, its offset there, the document's size.
    """
    cache_document = document if view.index is None else view.index[document]
    inside = offset - (view.bos is not None)
    at = view.cache.offsets[cache_document].astype(np.int64) + inside
    # BOS and EOS have no place in the cache: they read any token and are written over.
    ids = view.cache.tokens[np.clip(at, 0, len(view.cache.tokens) - 1)].astype(np.int32)
    if view.bos is not None:
        ids[inside < 0] = view.bos
    if view.eos is not None:
        ids[offset == size - 1] = view.eos
    mask = view.cache.learnt
    return ids, np.ones(len(at), bool) if mask is None else mask[at].astype(bool)


def evaluation_rows(
    documents: Iterable[np.ndarray],
    window: int,
    stride: int = 0,
    bos: int | None = None,
    learnt: Iterable[np.ndarray] | None = None,
) -> Iterator[Row]:
    """Rows that score each token of each document once, for bits per byte.

    A document is BOS and its tokens (no EOS), read in windows of at most `window` inputs that
    advance by `stride`. The first scores all its targets, later ones only those not scored before,
    which therefore see at least window - stride earlier tokens. Without a BOS a document's first
    token has nothing before it and isn't scored, while its bytes still count.

    Windows of several documents share a row as segments. A few rows are filled at a time, and each
    window goes into the fullest one that has room for it: one row at a time would leave a fifth to
    a third of the places empty, and the model computes those as well.

    Args:
      documents: token ids of each document, int [T].
      window: tokens a row, S.
      stride: 1 to `window`; 0 is half a window.
      bos: the BOS id, or None.
      learnt: of each document which tokens count, uint8 [T], where not all do.

    Yields:
      Rows as described at the top of this module, [window].

    Raises:
      ValueError: a stride that is none of these.
    """
    stride = stride or max(1, window // 2)
    if not 1 <= stride <= window:
        raise ValueError(f"stride {stride} is not between 1 and the window of {window}")
    filling: list[_Filling] = []
    masks = itertools.repeat(None) if learnt is None else learnt
    for document, mask in zip(documents, masks, strict=learnt is not None):
        ids = np.asarray(document, np.int32)
        counts = np.ones(len(ids), bool) if mask is None else mask.astype(bool)
        if bos is not None:
            ids = np.concatenate([np.array([bos], np.int32), ids])
            counts = np.concatenate([[False], counts])
        scored = 0  # targets of this document that have been scored
        start = 0
        while scored < len(ids) - 1:
            n = min(window, len(ids) - 1 - start)
            roomy = [one for one in filling if one.used + n <= window]
            if not roomy:
                if len(filling) == _FILLING:
                    yield filling.pop(_fullest(filling)).row
                filling.append(_Filling(_empty(window)))
                roomy = filling[-1:]
            one = roomy[_fullest(roomy)]
            row, at = one.row, slice(one.used, one.used + n)
            one.used, one.segments = one.used + n, one.segments + 1
            row["tokens"][at] = ids[start : start + n]
            row["targets"][at] = ids[start + 1 : start + n + 1]
            row["segments"][at] = one.segments
            row["positions"][at] = np.arange(n)
            new = np.arange(start, start + n) >= scored
            row["weights"][at] = new & counts[start + 1 : start + n + 1]
            scored, start = start + n, start + stride
    yield from (one.row for one in filling)


@dataclass
class _Filling:
    """A row that windows are put into."""

    row: Row
    used: int = 0
    segments: int = 0


def _fullest(rows: list[_Filling]) -> int:
    return max(range(len(rows)), key=lambda i: rows[i].used)


def _empty(window: int) -> Row:
    return {key: np.zeros(window, dtype) for key, dtype in KEYS.items()}
