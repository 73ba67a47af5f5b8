"""An order made of chosen sequences of another: a later round of training.

Sequence m of the round is sequence kept[p(m mod M)] of the order that it was chosen from, with M of
them kept and p a keyed permutation, another one in each pass. As before nothing is listed but the
choice, and a step's batch depends on nothing but its number.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from maxlite.data.order import Order, permute
from maxlite.data.view import digest

_BLOCK = 1 << 20  # sequences looked at at a time


def kept_numbers(kept: np.ndarray, seed: int, numbers: np.ndarray) -> np.ndarray:
    """Numbers, in the base order, of sequences of a round.

    Args:
      kept: which sequences of the base order are read; int64 [M], ascending.
      seed: of the round.
      numbers: of its sequences; int64 [N].

    Returns:
      int64 [N].
    """
    return kept[_places(len(kept), digest(kept), seed, numbers)]


def _places(size: int, content: str, seed: int, numbers: np.ndarray) -> np.ndarray:
    """Where in `kept` the sequences of a round are."""
    passes, place = np.divmod(np.asarray(numbers, np.int64), size)
    found = np.empty_like(place)
    for each in np.unique(passes).tolist():
        chosen = passes == each
        found[chosen] = permute(place[chosen], size, f"{seed}/{content}/{each}".encode())
    return found


class KeptOrder(Order):
    """Chosen sequences of another order.

    Its weights are how many sequences of each source are kept, and its sources are read through
    where all that is kept of them is.

    Args:
      base: the order that they were chosen from.
      kept: their numbers there; int64 [M], ascending.
      seed: of the order that they get.
      batch_size: sequences a step.
    """

    def __init__(self, base: Order, kept: np.ndarray, seed: int, batch_size: int):
        super().__init__(base.sources, seed, base.seq_len, batch_size)
        self.base, self.kept = base, kept
        self._content = digest(kept)
        self._source = np.zeros(len(kept), np.uint16)  # of each that is kept
        if len(base.sources) > 1:
            for block in _blocks(len(kept)):
                self._source[block] = base.mixture.draws(kept[block])[0]
        self._sums = np.bincount(self._source, minlength=len(base.sources))
        self.phases = [(0, tuple(map(float, self._sums)))]

    def places(self, numbers: np.ndarray) -> tuple[np.ndarray, ...]:
        """As in `Order`, int64 [N]; the epoch says how often all that is kept was read before."""
        numbers = np.asarray(numbers, np.int64)
        at = _places(len(self.kept), self._content, self.seed, numbers)
        source, _, window = self.base.places(self.kept[at])
        return source, numbers // len(self.kept), window

    def counts(self, sequences: int) -> list[int]:
        passes, rest = divmod(sequences, len(self.kept))
        found = passes * self._sums
        if len(self.sources) == 1:
            return [sequences]
        for block in _blocks(rest):
            numbers = np.arange(block.start, block.stop) + passes * len(self.kept)
            at = _places(len(self.kept), self._content, self.seed, numbers)
            found = found + np.bincount(self._source[at], minlength=len(self.sources))
        return found.tolist()

    def epochs(self, sequences: int) -> list[float]:
        counts = self.counts(sequences)
        return [c / max(1, rows) for c, rows in zip(counts, self._rows, strict=True)]

    def once(self) -> int:
        return len(self.kept) // self.batch_size

    @cached_property
    def _rows(self) -> list[int]:
        """How many different windows of each source are kept."""
        rows = self._sums.tolist()
        for k, times in enumerate(self.base.epochs(int(self.kept[-1]) + 1)):
            if times > 1:  # some may be kept twice
                numbers = self.kept[self._source == k]
                parts = [self.base.places(numbers[block])[2] for block in _blocks(len(numbers))]
                rows[k] = len(np.unique(np.concatenate([*parts, np.zeros(0, np.int64)])))
        return rows

    def describe(self) -> dict[str, Any]:
        kept = {"content": self._content, "sequences": len(self.kept), "seed": self.base.seed}
        if len(self.base.phases) > 1:
            kept["batch_size"] = self.base.batch_size
        return {**super().describe(), "kept": kept}


def _blocks(size: int) -> Iterator[slice]:
    for start in range(0, size, _BLOCK):
        yield slice(start, min(start + _BLOCK, size))
