"""Rows for new entries of a vocabulary, by rule, and what can be said of the rows of a table.

Nothing of the size of a table is held: old rows are streamed, new ones are computed where they are
asked for, in float32, and any of them can be computed without the others. V old rows, N new ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from maxlite.errors import InputError
from maxlite.hf.lazy import Computed, Concatenated, LazyArray, float32, row_blocks

RULES = {
    "mean": "mean of the old pieces (RedWhale, arXiv 2408.11294)",
    "first": "the first old piece (EEVE's output rows, arXiv 2402.14714)",
    "global_mean": "mean of all old rows (Hewitt 2021)",
    "normal": "N(0, 0.02) (Chinese-LLaMA as released, arXiv 2304.08177)",
    "gaussian": "N(mean, 1e-9 covariance) of the old rows (transformers' mean_resizing)",
}
STD = 0.02
EPSILON = 1e-9  # of the covariance
SMALL = 1 << 21  # bytes of float32 rows that stay in a processor's cache
DRAWN = 1 << 22  # bytes of float32 rows for which a random number each is drawn at once
GROUP = 64  # new rows for which they are


class Spans(NamedTuple):
    """For each new row the old ones it is made of: `ids[starts[i]:stops[i]]`; [P], [N], [N]."""

    ids: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


@dataclass(frozen=True)
class NewRows(Computed):
    """Rows [N, D] that a rule makes; `counts` says how many are made how."""

    counts: Mapping[str, int]


def new_rows(
    old: LazyArray,
    rule: str,
    spans: Spans,
    *,
    match_norms: bool = False,
    seed: tuple[int, ...] = (0,),
    name: str = "the table",
) -> NewRows:
    """Rows for new entries, in the dtype of the old ones.

    A row without old pieces gets the mean of all old rows where the rule asks for pieces.

    Args:
      old: [V, D], the rows that are statistics of; no padding among them.
      rule: a key of `RULES`.
      spans: the old pieces of each new row; for `first` those of its beginning.
      match_norms: scale each row to the median norm of the old ones (rows of zeros stay).
      seed: of the random rules; another one for each table.
      name: of the table, for messages.
    """
    count = len(spans.starts)
    counts = {rule: count}
    if rule in ("mean", "first"):
        made = int((spans.stops > spans.starts).sum())
        counts = {rule: made} | ({"global_mean": count - made} if made < count else {})
    compute = _Rule(old, rule, spans, match_norms, seed, name)
    return NewRows((count, *old.shape[1:]), old.dtype, compute, counts)


@dataclass(frozen=True, eq=False)
class _Rule:
    old: LazyArray
    rule: str
    spans: Spans
    match_norms: bool
    seed: tuple[int, ...]
    name: str

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """The rows from `start` to `stop`, float32."""
        with np.errstate(over="ignore", invalid="ignore"):
            values = self._values(start, stop)
            squares = np.einsum("ij,ij->i", values, values)
        if not np.isfinite(squares).all() or (self.match_norms and not np.isfinite(self._median)):
            raise InputError(
                f"new rows of {self.name} would not be finite: the rows they are made of hold NaN "
                "or infinity, so repair the model first"
            )
        if self.match_norms:
            factors = np.where(squares > 0, self._median / np.sqrt(np.maximum(squares, 1e-38)), 0)
            values *= factors[:, None].astype(np.float32)
        return values

    def _values(self, start: int, stop: int) -> np.ndarray:
        if self.rule == "gaussian":
            return self._gaussian(start, stop)
        values = np.empty((stop - start, self.old.shape[1]), np.float32)
        for a, b in row_blocks(values.shape, SMALL):
            values[a:b] = self._block(start + a, start + b)
        return values

    def _block(self, start: int, stop: int) -> np.ndarray:
        if self.rule == "normal":
            return self._normal(start, stop)
        if self.rule == "global_mean":
            return np.broadcast_to(self._mean, (stop - start, len(self._mean)))
        return self._averages(start, stop)

    def _averages(self, start: int, stop: int) -> np.ndarray:
        first = self.spans.starts[start:stop]
        counts = self.spans.stops[start:stop] - first
        sums = np.zeros((stop - start, self.old.shape[1]), np.float32)
        for place in range(int(counts.max(initial=0))):
            has = np.flatnonzero(counts > place)
            sums[has] += float32(gather(self.old, self.spans.ids[first[has] + place]))
        sums /= np.maximum(counts, 1).astype(np.float32)[:, None]
        if not counts.all():
            sums[counts == 0] = self._mean
        return sums

    def _normal(self, start: int, stop: int) -> np.ndarray:
        shape = (GROUP, self.old.shape[1])
        drawn = [self._draw(shape, group) for group in _groups(start, stop)]
        offset = start // GROUP * GROUP
        return np.concatenate(drawn)[start - offset : stop - offset] * np.float32(STD)

    def _gaussian(self, start: int, stop: int) -> np.ndarray:
        """mean + sqrt(eps / V) z @ (old - mean) with z ~ N(0, 1): no covariance [D, D] needed."""
        groups = _groups(start, stop)
        sums = np.zeros((len(groups), GROUP, self.old.shape[1]), np.float32)
        for block, (a, b) in enumerate(row_blocks(self.old.shape, DRAWN)):
            centred = float32(self.old.read(slice(a, b))) - self._mean
            for i, group in enumerate(groups):
                sums[i] += self._draw((GROUP, b - a), group, block) @ centred
        sums *= np.float32(np.sqrt(EPSILON / self.old.shape[0]))
        sums += self._mean
        offset = start // GROUP * GROUP
        return sums.reshape(-1, self.old.shape[1])[start - offset : stop - offset]

    def _draw(self, shape: tuple[int, int], *where: int) -> np.ndarray:
        random = np.random.default_rng([*self.seed, *where])
        return random.standard_normal(shape, np.float32)

    @cached_property
    def _mean(self) -> np.ndarray:
        """The mean of the old rows, float32 [D]."""
        sums = np.zeros(self.old.shape[1], np.float64)
        for a, b in row_blocks(self.old.shape, SMALL):
            sums += float32(self.old.read(slice(a, b))).sum(axis=0, dtype=np.float64)
        return (sums / self.old.shape[0]).astype(np.float32)

    @cached_property
    def _median(self) -> np.float32:
        """The median norm of the old rows."""
        return np.median(measure(self.old)[0])


def _groups(start: int, stop: int) -> range:
    return range(start // GROUP, -(-stop // GROUP))


def gather(table: LazyArray, ids: np.ndarray) -> np.ndarray:
    """The rows `ids` [R] of a table, in that order."""
    if isinstance(table, Concatenated):
        rows = np.empty((len(ids), *table.shape[1:]), table.dtype)
        end = 0
        for part in table.parts:
            begin, end = end, end + part.shape[0]
            here = np.flatnonzero((ids >= begin) & (ids < end))
            if len(here):
                rows[here] = gather(part, ids[here] - begin)
        return rows
    if isinstance(table, Computed):
        found, places = np.unique(ids, return_inverse=True)
        return np.concatenate([table.read(slice(i, i + 1)) for i in found.tolist()])[places]
    return table.read(ids)


def measure(table: LazyArray) -> tuple[np.ndarray, np.ndarray]:
    """The norm of each row, float32 [V], and a hash of its bytes, uint64 [V]."""
    squares = np.zeros(table.shape[0], np.float32)
    keys = np.zeros(table.shape[0], np.uint64)
    words = -(-table.shape[1] * table.dtype.itemsize // 8)
    odd = np.random.default_rng(0).integers(1 << 63, size=words, dtype=np.uint64) * 2 + 1
    for a, b in row_blocks(table.shape, SMALL):
        rows = np.ascontiguousarray(table.read(slice(a, b)))
        values = float32(rows)
        np.einsum("ij,ij->i", values, values, out=squares[a:b])
        bytes_ = rows.view(np.uint8)
        bytes_ = np.pad(bytes_, ((0, 0), (0, 8 * words - bytes_.shape[1])))
        mixed = bytes_.view(np.uint64)
        keys[a:b] = (mixed ^ (mixed >> np.uint64(29))) @ odd
    return np.sqrt(squares), keys


def repeated(keys: np.ndarray, start: int, stop: int) -> int:
    """How many of the rows from `start` to `stop` are the same as an earlier one, by `keys` [V]."""
    _, first = np.unique(keys[:stop], return_index=True)
    return stop - start - int((first >= start).sum())
