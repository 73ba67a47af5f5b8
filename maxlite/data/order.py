"""Which window of which source each sequence of training is: a pure function of its number.

Sequence r of the batch of step s has the number n = s * batch_size + r. Nothing is listed or
stored: a mixture says which source n draws from and how often that source was drawn before, and a
keyed permutation says which window that draw is. A step's batch depends on nothing else, so neither
on the number of processes nor on when the run was stopped.
"""

import bisect
import hashlib
import heapq
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from maxlite.errors import InputError
from maxlite.mixture import Later, phases

VERSION = 1  # of mixture, permutation and packing: a change of any of them is another order
_ROUNDS = 8
LIMIT = 1 << 32  # sequences of a run, so that shares in 2**-32 multiply within 64 bits


def permute(index: np.ndarray, n: int, key: bytes) -> np.ndarray:
    """A keyed permutation of 0 … n - 1, evaluated at `index` without building it.

    A Feistel network over the next power of four, walked until the result is below n again (Black
    and Rogaway, "Ciphers with Arbitrary Finite Domains", section 4).

    Args:
      index: integers of any shape, each at least 0 and below n.
      n: size of the domain, 1 to 2**62.
      key: any bytes; another key is another permutation.

    Returns:
      int64, the shape of `index`.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = np.frombuffer(hashlib.blake2b(key, digest_size=8 * _ROUNDS).digest(), "<u8")
    value = np.array(index, np.uint64)
    flat = value.reshape(-1)
    todo = np.arange(flat.size)
    while todo.size:
        left, right = flat[todo] >> half, flat[todo] & mask
        for k in keys:
            left, right = right, left ^ (_mix(right ^ k) & mask)
        flat[todo] = left << half | right
        todo = todo[flat[todo] >= n]
    return value.astype(np.int64)


def _mix(x: np.ndarray) -> np.ndarray:
    """Spreads each bit over all of a uint64 (multiplications wrap)."""
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    x = (x ^ (x >> np.uint64(29))) * np.uint64(0xA0761D6478BD642F)
    return x ^ (x >> np.uint64(32))


class Mixture:
    """Sources interleaved as evenly as their weights allow, in phases of other weights.

    Within a phase the stream of sequences is split in two again and again until each source has its
    own; a split with share p gives its first side round(n * p) of its first n sequences. So after
    any number of sequences of a phase each source has had its share of them to within one or two.

    Args:
      phases: the first sequence of each, ascending from 0, and the weights in it: of at least 0, in
        any unit, not all 0.
    """

    def __init__(self, phases: Sequence[tuple[int, Sequence[float]]]):
        self._starts = np.array([start for start, _ in phases], np.uint64)
        self._trees = [_tree(weights) for _, weights in phases]
        self._size = len(phases[0][1])
        self._before = np.zeros((len(phases), self._size), np.uint64)  # drawn before each phase
        for i, length in enumerate(np.diff(self._starts)):
            drawn = _counts(self._trees[i], length[None], self._size)[:, 0]
            self._before[i + 1] = self._before[i] + drawn

    def counts(self, n: np.ndarray) -> np.ndarray:
        """How many of the first n sequences each source has; uint64 [K, *n.shape]."""
        shape, n = np.shape(n), np.asarray(n, np.uint64).reshape(-1)
        out = np.empty((self._size, n.size), np.uint64)
        phase = np.searchsorted(self._starts, n, "right") - 1
        for i in set(phase.tolist()):
            at = phase == i
            within = _counts(self._trees[i], n[at] - self._starts[i], self._size)
            out[:, at] = self._before[i][:, None] + within
        return out.reshape(self._size, *shape)

    def draws(self, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The source of each sequence n, and how often it was drawn before; int64, n's shape."""
        n = np.asarray(n, np.uint64)
        before, after = self.counts(np.stack([n, n + np.uint64(1)])).swapaxes(0, 1)
        source = (after > before).argmax(axis=0)
        return source, np.take_along_axis(before, source[None], axis=0)[0].astype(np.int64)


def _tree(weights: Sequence[float]) -> Any:
    """The splits of a phase: the number of a source, or (share of one in 2**-32, one, two)."""
    # The two lightest are joined first: few splits for the heavy ones, and shares up to a half.
    heap: list[tuple[float, int, Any]] = [(w, i, i) for i, w in enumerate(weights) if w]
    heapq.heapify(heap)
    while len(heap) > 1:
        light, i, one = heapq.heappop(heap)
        heavy, j, two = heapq.heappop(heap)
        share = np.uint64(max(1, round(light / (light + heavy) * 2**32)))
        heapq.heappush(heap, (light + heavy, min(i, j), (share, one, two)))
    return heap[0][2]


def _counts(tree: Any, n: np.ndarray, size: int) -> np.ndarray:
    """How many of the first n sequences of a phase each source has; uint64 [size, *n.shape]."""
    out = np.zeros((size, *n.shape), np.uint64)
    todo = [(tree, n)]
    while todo:
        node, n = todo.pop()
        if isinstance(node, int):
            out[node] = n
            continue
        share, one, two = node
        first = (n * share + np.uint64(1 << 31)) >> np.uint64(32)
        todo += [(one, first), (two, n - first)]
    return out


@dataclass
class OrderSource:
    """What an order knows of a source.

    Attributes:
      name: for people.
      content: hash of its documents as tokens, and of how they become sequences.
      weight: share of sequences, and so of tokens, relative to the other sources.
      windows: rows that its documents fill.
      documents, tokens, bytes: their number and size (UTF-8), for people.
      epochs: how often it may be read through; 0 is any number.
      later: steps at which the weight changes, ascending, and the weights from there on.
      inputs: tokens that its rows hold, BOS and EOS counted; 0: as many as they have room for.
    """

    name: str
    content: str
    weight: float
    windows: int
    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    epochs: float = 0.0
    later: Later = ()
    inputs: int = 0


class Read(NamedTuple):
    """What the first steps of an order read of one source.

    Attributes:
      asked: the share that its weights ask for, as a mean over these steps.
      share: the share of all tokens read that it has. Its last row is seldom full; each row counts
        as the mean of all.
      epochs: how often it is read through.
    """

    asked: float
    share: float
    epochs: float


class Order:
    """The training order.

    Args:
      sources: in the config's order, which matters.
      seed: of the permutations.
      seq_len: tokens a sequence.
      batch_size: sequences a step.

    Raises:
      InputError: a weight that is negative or no number, steps without any weight, a source without
        a window.
    """

    def __init__(self, sources: Sequence[OrderSource], seed: int, seq_len: int, batch_size: int):
        self.sources = tuple(sources)
        self.seed, self.seq_len, self.batch_size = seed, seq_len, batch_size
        if not self.sources:
            raise InputError("there is no training data; name it in data.train")
        for source in self.sources:
            for weight in (source.weight, *(weight for _, weight in source.later)):
                if not 0 <= weight < float("inf"):
                    raise InputError(
                        f"the weight of source {source.name!r} is {weight}; it must be a number "
                        "of at least 0"
                    )
            if source.windows < 1:
                raise InputError(f"source {source.name!r} holds too little text for one sequence")
        self.phases = phases(self.sources)
        self.mixture = Mixture([(step * batch_size, weights) for step, weights in self.phases])

    def batch(self, step: int, rows: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        """Where the sequences of a step come from.

        Args:
          step: from 0.
          rows: which rows of the global batch; None: all.

        Returns:
          source, epoch and window of each row; int64 [len(rows)].
        """
        rows = np.arange(self.batch_size) if rows is None else np.asarray(rows)
        return self.places(step * self.batch_size + rows)

    def places(self, numbers: np.ndarray) -> tuple[np.ndarray, ...]:
        """Where sequences come from by their numbers, int64 [N]; returns what `batch` does."""
        source, draw = self.mixture.draws(numbers)
        sizes = np.array([s.windows for s in self.sources])
        epoch, place = draw // sizes[source], draw % sizes[source]
        window = np.empty_like(place)
        for k, e in set(zip(source.tolist(), epoch.tolist(), strict=True)):
            chosen = (source == k) & (epoch == e)
            key = f"{self.seed}/{self.sources[k].content}/{e}".encode()
            window[chosen] = permute(place[chosen], self.sources[k].windows, key)
        return source, epoch, window

    def counts(self, sequences: int) -> list[int]:
        """How many of the first so many sequences each source has."""
        return [int(count) for count in self.mixture.counts(np.array(sequences))]

    def epochs(self, sequences: int) -> list[float]:
        """How often each source is read through by so many sequences."""
        counts = self.counts(sequences)
        return [c / s.windows for c, s in zip(counts, self.sources, strict=True)]

    def once(self) -> int:
        """The most steps in which no source is read through more than once."""
        bound = sum(source.windows for source in self.sources) // self.batch_size

        def most(step: int) -> float:
            return max(self.epochs((step + 1) * self.batch_size))

        return bisect.bisect_right(range(bound), 1.0, key=most)

    def read(self, steps: int) -> dict[str, Read]:
        """What so many steps (at least 1) read, by the names of the sources."""
        sequences = steps * self.batch_size
        tokens = [
            count * (source.inputs or source.windows * self.seq_len) / source.windows
            for count, source in zip(self.counts(sequences), self.sources, strict=True)
        ]
        asked = np.zeros(len(self.sources))
        ends = [step for step, _ in self.phases[1:]] + [steps]
        for (start, weights), end in zip(self.phases, ends, strict=True):
            asked += max(0, min(end, steps) - start) / steps * np.array(weights) / sum(weights)
        return {
            source.name: Read(float(a), t / sum(tokens), e)
            for source, a, t, e in zip(
                self.sources, asked, tokens, self.epochs(sequences), strict=True
            )
        }

    def check_length(self, sequences: int) -> None:
        """Checks that so many sequences (steps times batch size) read no source more than it may.

        Raises:
          InputError: they do, or they are more than any order has.
        """
        steps = sequences / self.batch_size
        if sequences >= LIMIT:
            raise InputError(f"{steps:g} steps of {self.batch_size} sequences are more than 2**32")
        for source, times in zip(self.sources, self.epochs(sequences), strict=True):
            if source.epochs and times > source.epochs:
                raise InputError(
                    f"source {source.name!r} would be read {times:.3g} times in {steps:g} steps, "
                    f"but its epochs allow {source.epochs:g}, which is enough for "
                    f"{self._enough(source, math.ceil(steps))} steps; lower steps or its weight"
                )

    def _enough(self, source: OrderSource, steps: int) -> int:
        """For how many of so many steps the epochs of a source are enough."""
        k = self.sources.index(source)

        def times(step: int) -> float:
            return self.epochs((step + 1) * self.batch_size)[k]

        return bisect.bisect_right(range(steps), source.epochs, key=times)

    def describe(self) -> dict[str, Any]:
        """Everything the order depends on, and some figures for people."""
        return {
            "version": VERSION,
            "seed": self.seed,
            "seq_len": self.seq_len,
            "batch_size": self.batch_size,
            "sources": [asdict(source) for source in self.sources],
        }

    @cached_property
    def fingerprint(self) -> str:
        """A hash (hex) of what the batches depend on: not of names, paths, or limits on epochs."""
        said = self.describe()
        said["sources"] = [
            (s.content, s.weight, s.windows, *([s.later] if s.later else [])) for s in self.sources
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()
