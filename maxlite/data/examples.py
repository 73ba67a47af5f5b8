"""Sequences of an order with the documents they are made of, for people to look at."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maxlite.data import packing
from maxlite.data.corpus import Corpus


@dataclass
class Part:
    """The part of a sequence that one document has.

    Attributes:
      document: its number in the source's token cache.
      ids: its tokens here, BOS and EOS among them; int32 [T].
      begun: whether it began in an earlier row of its source.
      goes_on: whether it goes on in the next row of its source.
      learnt: of a conversation which tokens are learnt, bool [T]; None: all are.
    """

    document: int
    ids: np.ndarray
    begun: bool
    goes_on: bool
    learnt: np.ndarray | None = None


@dataclass
class Example:
    """A sequence of an order.

    Attributes:
      step, row: where it is read: the step, and its row of the global batch, from 0.
      source: name of its source.
      epoch: how often all of that source was read before, from 0.
      window: which row of the source it is, from 0.
      parts: its documents, in their order.
    """

    step: int
    row: int
    source: str
    epoch: int
    window: int
    parts: list[Part]


def examples(corpus: Corpus, step: int, count: int) -> Iterator[Example]:
    """Yields so many sequences from the beginning of a step on."""
    order = corpus.order
    for n in range(count):
        at, row = step + n // order.batch_size, n % order.batch_size
        (source,), (epoch,), (window,) = (x.tolist() for x in order.batch(at, np.array([row])))
        parts = list(_parts(corpus, source, window))
        yield Example(at, row, order.sources[source].name, epoch, window, parts)


def _parts(corpus: Corpus, source: int, window: int) -> Iterator[Part]:
    view, seq_len = corpus.views[source], corpus.order.seq_len
    row = packing.training_row(view, window, seq_len)
    start, stop = packing.bounds(view, window, seq_len)
    ids, learnt, size = row["tokens"], None, stop - start - 1
    if view.starts is not None:  # the last target is in no other row
        ids, size = np.append(ids[:1], row["targets"]), size + 1
        learnt = np.append(False, row["weights"] > 0)
    place = np.arange(start, start + size)
    document = np.searchsorted(view.ends, place, "right")
    for i in np.unique(document).tolist():
        begin, end = (int(view.ends[i - 1]) if i else 0), int(view.ends[i])
        yield Part(
            document=i if view.index is None else int(view.index[i]),
            ids=ids[:size][document == i],
            begun=begin < start,
            goes_on=end > start + size,
            learnt=None if learnt is None else learnt[:size][document == i],
        )
