"""Batches for training, read ahead by grain's threads.

Grain sees a data set whose element number s is this process's part of the batch of step s, so going
on at any step needs nothing but its number, and no state of any reader is ever saved.
"""

from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np

from maxlite.data import packing
from maxlite.data.corpus import Corpus
from maxlite.data.packing import Row


class Steps:
    """Steps by number, for random access.

    Args:
      corpus: the order and its views.
      steps: how many there are.
      rows: rows of the global batch that this process supplies.
    """

    def __init__(self, corpus: Corpus, steps: int, rows: np.ndarray | Sequence[int]):
        self._corpus, self._steps, self._rows = corpus, steps, np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Row:
        return _rows(self._corpus, step * self._corpus.order.batch_size + self._rows)


class Groups:
    """Groups of sequences by number, for random access.

    Args:
      corpus: the order and its views.
      count: how many groups there are.
      numbers: of a group, those of its sequences; int64 [N].
    """

    def __init__(self, corpus: Corpus, count: int, numbers: Callable[[int], np.ndarray]):
        self._corpus, self._count, self._numbers = corpus, count, numbers

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, group: int) -> Row:
        return _rows(self._corpus, self._numbers(group))


def _rows(corpus: Corpus, numbers: np.ndarray) -> Row:
    """Sequences by their numbers; each array [N, S]."""
    source, _, window = corpus.order.places(numbers)
    rows = [
        packing.training_row(corpus.views[k], w, corpus.order.seq_len)
        for k, w in zip(source.tolist(), window.tolist(), strict=True)
    ]
    return {key: np.stack([row[key] for row in rows]) for key in packing.KEYS}


def batches(
    corpus: Corpus,
    start_step: int,
    steps: int,
    rows: np.ndarray | Sequence[int],
    threads: int = 4,
    prefetch: int = 8,
) -> Iterator[Row]:
    """Yields this process's part of the batch of each step from `start_step` to `steps` - 1.

    Args:
      corpus: the order and its views.
      start_step: the first step, from 0.
      steps: of the whole run.
      rows: rows of the global batch that this process supplies, in the order wanted. Batches laid
        out as [A, B, S] have the rows a * B + b.
      threads: that read.
      prefetch: batches that are held ready.

    Yields:
      The arrays of `packing`, each [len(rows), S].
    """
    yield from ahead(Steps(corpus, steps, rows), start_step, threads, prefetch)


def ahead(
    elements: Steps | Groups, start: int = 0, threads: int = 4, prefetch: int = 8
) -> Iterator[Row]:
    """Yields the elements from `start` on, read ahead; the rest is as in `batches`."""
    if start >= len(elements):
        return
    data = grain.MapDataset.source(elements)[start : len(elements)]
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(threads, prefetch))
    yield from data.to_iter_dataset(options)
