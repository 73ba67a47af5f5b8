"""How much of a text a run has read in training: overlap by runs of words.

Each run of n words of the judged texts (n = 13 as in GPT-3, arXiv 2005.14165, appendix C) is looked
up in all that the order's steps read, its rows put together and written as text again. A text that
has fewer words counts as one run of all of them, wherever it stands in what was read. Words and not
tokens: what a reader takes for the same is the same in any case, with any punctuation, and under
every tokenizer, so that runs with different vocabularies can be compared.

Exact: every run of words of the judged text is looked up, and every row of the order that was read.
Not exact: runs are told apart by 64 bits; a word that a row which was not read cuts in two is none;
and a run of words that goes on from one document into the next does not count. Memory grows with
the judged text (about 40 bytes a word), not with what was read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from maxlite.data import packing
from maxlite.data.corpus import Corpus
from maxlite.data.ngrams import Wanted, Words, words
from maxlite.data.order import Order
from maxlite.data.sets import Part
from maxlite.data.view import View
from maxlite.errors import InputError
from maxlite.tokenizer import Tokenizer

Figures = dict[str, Any]

MOSTLY = 0.7  # of a document's runs: PaLM (arXiv 2204.02311, section 8) calls it contaminated
_BLOCK = 1 << 20  # sequences looked at at a time
_TOKENS = 1 << 19  # tokens written as text at a time
_EXCERPT = 200  # characters


def rows_read(order: Order, sequences: int) -> list[np.ndarray]:
    """Which rows of each source the first so many sequences are; bool [windows] of each."""
    seen = [np.zeros(source.windows, bool) for source in order.sources]
    for start in range(0, sequences, _BLOCK):
        numbers = np.arange(start, min(start + _BLOCK, sequences))
        source, _, window = order.places(numbers)
        for k, rows in enumerate(seen):
            rows[window[source == k]] = True
        if all(rows.all() for rows in seen):
            break
    return seen


def pieces(view: View, seen: np.ndarray, seq_len: int) -> Iterator[np.ndarray]:
    """The tokens of documents that are in some rows, int32 [T], without BOS and EOS.

    A document of which not all was read comes in as many pieces as there are gaps.

    Args:
      view: the documents.
      seen: which of their rows were read, bool [windows].
      seq_len: tokens a row.
    """
    edges = np.flatnonzero(np.diff(seen, prepend=False, append=False)).reshape(-1, 2)
    before, offsets = int(view.bos is not None), view.cache.offsets
    for first_row, stop_row in edges.tolist():
        start = packing.bounds(view, first_row, seq_len)[0]
        stop = packing.bounds(view, stop_row - 1, seq_len)[1]
        first = int(np.searchsorted(view.ends, start, "right"))
        last = int(np.searchsorted(view.ends, stop - 1, "right"))
        for i in range(first, last + 1):
            begin = int(view.ends[i - 1]) if i else 0
            document = i if view.index is None else int(view.index[i])
            low, high = int(offsets[document]), int(offsets[document + 1])
            from_, to = start - begin - before, stop - begin - before
            ids = view.cache.tokens[low + max(0, from_) : min(high, low + to)]
            if len(ids):
                yield ids.astype(np.int32)


@dataclass
class _Judged:
    """A text that is judged: its words, and of each of its runs where it starts."""

    part: Part
    view: View
    words: Words
    runs: dict[int, tuple[np.ndarray, np.ndarray]]  # by words a run: starts and hashes


def overlap(
    corpus: Corpus,
    tokenizer: Tokenizer,
    sequences: int,
    parts: Sequence[Part],
    ngram: int = 13,
    min_words: int = 5,
    worst: int = 5,
) -> list[Figures]:
    """Compares texts with what the first so many sequences of an order read.

    Args:
      corpus: the order and its views.
      tokenizer: theirs.
      sequences: how many were read.
      parts: the texts.
      ngram: words a run.
      min_words: documents with fewer are not judged.
      worst: how many documents to show of each part.

    Returns:
      Of each part:

      name, set          of the part
      documents, judged  all, and those with words enough
      words, ngrams      of these
      overlap            share of the words that are inside a run that was read
      found              runs that were read
      touched, mostly    documents with any run that was read, and with `MOSTLY` of them
      sources            {name: runs that were found there first}
      worst              document (its number in the part), words, overlap, source, text

    Raises:
      InputError: no document has so many words, or none is held out.
    """
    judged = [_judged(part, tokenizer, ngram, min_words) for part in parts]
    if not any(one.runs for one in judged):
        documents = sum(len(one.view) for one in judged)
        raise InputError(
            f"no document is held out at {parts[0].held_out:g}; name more text, or hold out a "
            "larger share"
            if not documents
            else f"none of the {documents} documents has {min_words} words, and shorter ones are "
            "not judged; name more text, or give a smaller --min_words"
        )
    lengths = sorted({n for one in judged for n in one.runs})
    wanted = {
        n: Wanted(np.concatenate([one.runs[n][1] for one in judged if n in one.runs]))
        for n in lengths
    }
    seen = rows_read(corpus.order, sequences)
    total = sum(
        int(rows.sum()) * view.length // max(1, len(rows))
        for rows, view in zip(seen, corpus.views, strict=True)
    )
    with tqdm(total=total, desc="reading", unit=" tokens", unit_scale=True, delay=2) as bar:
        for k, (rows, view) in enumerate(zip(seen, corpus.views, strict=True)):
            for several, size in _texts(view, rows, corpus.order.seq_len, tokenizer):
                read = words(several)
                for n, one in wanted.items():
                    one.see(read.runs(n)[1], k)
                bar.update(size)
    names = [source.name for source in corpus.order.sources]
    return [_figures(one, wanted, names, tokenizer, worst) for one in judged]


def _texts(
    view: View, seen: np.ndarray, seq_len: int, tokenizer: Tokenizer
) -> Iterator[tuple[list[str], int]]:
    """What was read of a source, some texts at a time, and their tokens."""
    held: list[str] = []
    size = 0
    for ids in pieces(view, seen, seq_len):
        held.append(tokenizer.decode(ids.tolist()))
        size += len(ids)
        if size >= _TOKENS:
            yield held, size
            held, size = [], 0
    if held:
        yield held, size


def _judged(part: Part, tokenizer: Tokenizer, ngram: int, min_words: int) -> _Judged:
    view = part.view(tokenizer)
    found = words([tokenizer.decode(ids.tolist()) for ids in view.documents()])
    runs = {}
    for n in np.unique(np.minimum(found.sizes, ngram)).tolist():
        if n >= min_words:
            starts, hashes = found.runs(n)
            size = found.sizes[found.text[starts]]
            mine = size >= n if n == ngram else size == n
            runs[n] = starts[mine], hashes[mine]
    return _Judged(part, view, found, runs)


def _figures(
    one: _Judged, wanted: dict[int, Wanted], names: Sequence[str], tokenizer: Tokenizer, worst: int
) -> Figures:
    text, count = one.words.text, len(one.view)
    edges = np.zeros(len(text) + 1, np.int64)
    ngrams, hits = np.zeros(count, np.int64), np.zeros(count, np.int64)
    source_of = np.full(count, -1)
    of_source = np.zeros(len(names), np.int64)
    for n, (starts, hashes) in one.runs.items():
        where = wanted[n].where(hashes)
        found = starts[where >= 0]
        np.add.at(edges, found, 1)
        np.add.at(edges, found + n, -1)
        ngrams += np.bincount(text[starts], minlength=count)
        hits += np.bincount(text[found], minlength=count)
        source_of[text[found]] = where[where >= 0]
        of_source += np.bincount(where[where >= 0], minlength=len(names))
    inside = np.bincount(text, np.cumsum(edges)[:-1] > 0, minlength=count)
    judged, sizes = ngrams > 0, one.words.sizes
    share = inside / np.maximum(sizes, 1)
    order = np.lexsort((np.arange(count), -inside, -share))[:worst]
    return {
        "name": one.part.source.name,
        "set": one.part.set,
        "documents": count,
        "judged": int(judged.sum()),
        "words": int(sizes[judged].sum()),
        "overlap": float(inside.sum() / max(1, sizes[judged].sum())),
        "ngrams": int(ngrams.sum()),
        "found": int(hits.sum()),
        "touched": int((hits > 0).sum()),
        "mostly": int((judged & (hits >= MOSTLY * ngrams)).sum()),
        "sources": {name: int(n) for name, n in zip(names, of_source, strict=True) if n},
        "worst": [
            {
                "document": int(i),
                "words": int(sizes[i]),
                "overlap": float(share[i]),
                "source": names[source_of[i]],
                "text": _excerpt(one.view, int(i), tokenizer),
            }
            for i in order.tolist()
            if hits[i]
        ],
    }


def _excerpt(view: View, i: int, tokenizer: Tokenizer) -> str:
    document = i if view.index is None else int(view.index[i])
    low, high = (int(place) for place in view.cache.offsets[document : document + 2])
    ids = view.cache.tokens[low : min(high, low + _EXCERPT)]
    text = tokenizer.decode(ids.tolist())
    if len(ids) == high - low and len(text) <= _EXCERPT:
        return text
    return text[: _EXCERPT - 1].rstrip("\ufffd") + "…"  # half a character may be at the end
