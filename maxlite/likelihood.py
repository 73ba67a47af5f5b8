"""How likely a model finds what follows a context, for many pairs at a time.

A pair is token ids of a context and of a continuation. Pairs that differ in nothing but their last
token, such as the letters of a multiple choice, are read once. Rows of like lengths go together and
each of a few lengths is compiled once.

Letters: B rows, S tokens, C pieces of T tokens each, D width, V vocabulary rows, K last tokens.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from maxlite.errors import InputError
from maxlite.model.llama import Llama
from maxlite.model.loss import CHUNK
from maxlite.state import mesh as mesh_lib
from maxlite.state.ready import Ready

_SHORTEST = 32  # tokens of a row
_ENDS = 8  # different last tokens that a row has room for
_WAITING = 3  # batches on the devices at a time: enough to keep them busy

Pair = tuple[Sequence[int], Sequence[int]]
Params = dict[str, jax.Array]


class Likelihood(NamedTuple):
    """Of a continuation.

    Attributes:
      nats: the sum of its tokens' log-probabilities.
      greedy: whether each of them is the most likely one where it stands.
    """

    nats: float
    greedy: bool


@dataclass
class _Row:
    """Tokens that are read once, and the pairs that they are read for."""

    ids: tuple[int, ...]
    ends: list[int] = field(default_factory=list)  # different last tokens
    asked: list[tuple[int, int, int]] = field(default_factory=list)  # pair, its tokens, which end


class Likelihoods:
    """Likelihoods under one model.

    Args:
      ready: the model; its devices share the rows.
      batch_tokens: tokens at a time, for each device; padding counts. 0: what stays in the caches
        of a CPU, or is worth an accelerator's while.
    """

    def __init__(self, ready: Ready, batch_tokens: int = 0):
        self._ready = ready
        self.context = ready.architecture.max_position_embeddings
        suitable = 2048 if jax.default_backend() == "cpu" else 16384
        self._tokens = max(batch_tokens or suitable, self.context)
        self._sharding = mesh_lib.batch_sharding(ready.mesh)

        def read(params: Params, batch: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
            one = jax.tree.map(lambda x: x[0], batch)
            return _read(ready.bind(params, {}), ready.mesh.size, **one)

        self._read = jax.jit(read, out_shardings=mesh_lib.replicated(ready.mesh))

    def __call__(self, pairs: Sequence[Pair], what: str = "likelihoods") -> list[Likelihood]:
        """The likelihood of each continuation, in the order of the pairs.

        What is longer than the model's context loses tokens at its start.

        Args:
          pairs: each context has a token, and so has each continuation.
          what: for the progress bar, which is shown where it takes longer than two seconds.

        Raises:
          InputError: a continuation has more tokens than the context.
        """
        found = [Likelihood(math.nan, False)] * len(pairs)
        waiting: deque[tuple[list[_Row], tuple[jax.Array, ...]]] = deque()
        rows = self._rows(pairs)
        bar = tqdm(total=len(pairs), desc=what, unit=" pairs", delay=2, leave=False)
        with bar, self._ready.on_mesh():
            for some, length in self._batches(rows):
                waiting.append((some, self._run(some, length)))
                while len(waiting) > _WAITING:
                    bar.update(_settle(*waiting.popleft(), found))
            for some, results in waiting:
                bar.update(_settle(some, results, found))
        return found

    def _rows(self, pairs: Sequence[Pair]) -> Iterable[_Row]:
        """Every different input once, or more often if it has very many ends."""
        rows: dict[tuple[int, ...], _Row] = {}
        full = []
        for number, (context, continuation) in enumerate(pairs):
            size = len(continuation)
            if not len(context) or not size:
                raise ValueError("a context or a continuation has no token")
            if size > self.context:
                raise InputError(
                    f"a continuation of {size} tokens is longer than the context of {self.context} "
                    f"that {self._ready.where} has"
                )
            *ids, end = [*context, *continuation][-self.context - 1 :]
            row = rows.setdefault(tuple(ids), _Row(tuple(ids)))
            if end not in row.ends:
                if len(row.ends) == _ENDS:
                    full.append(row)
                    row = rows[row.ids] = _Row(row.ids)
                row.ends.append(end)
            row.asked.append((number, size, row.ends.index(end)))
        return [*full, *rows.values()]

    def _batches(self, rows: Iterable[_Row]) -> Iterator[tuple[list[_Row], int]]:
        """Rows of like lengths, as many as go together, and the length."""
        by_length: dict[int, list[_Row]] = {}
        for row in rows:
            doubled = _SHORTEST << max(0, math.ceil(math.log2(len(row.ids) / _SHORTEST)))
            by_length.setdefault(min(doubled, self.context), []).append(row)
        for length in sorted(by_length, reverse=True):  # what takes most memory, first
            some, size = by_length[length], self._size(length)
            yield from ((some[i : i + size], length) for i in range(0, len(some), size))

    def _size(self, length: int) -> int:
        return self._tokens // length * self._ready.mesh.size

    def _run(self, rows: list[_Row], length: int) -> tuple[jax.Array, ...]:
        shape = self._size(length), length
        tokens, segments = np.zeros((2, 1, *shape), np.int32)
        ends = np.zeros((1, shape[0], _ENDS), np.int32)
        last = np.zeros((1, shape[0], 1), np.int32)
        for i, row in enumerate(rows):
            tokens[0, i, : len(row.ids)] = row.ids
            segments[0, i, : len(row.ids)] = 1
            ends[0, i, : len(row.ends)] = row.ends
            last[0, i] = len(row.ids) - 1
        batch = {"tokens": tokens, "segments": segments, "ends": ends, "last": last}
        return self._read(self._ready.params, jax.device_put(batch, self._sharding))


def _read(
    model: Llama,
    devices: int,
    tokens: jax.Array,
    segments: jax.Array,
    ends: jax.Array,
    last: jax.Array,
) -> tuple[jax.Array, ...]:
    """Log-probabilities, and what is the most likely.

    Args:
      model: bound to parameters.
      devices: that the rows are spread over.
      tokens: of the rows, int32 [B, S].
      segments: 1, and 0 where a row is filled up, int32 [B, S].
      ends: tokens that may follow each row, int32 [B, K].
      last: the place of each row's last token, int32 [B, 1].

    Returns:
      Of each token that follows another its log-probability, float32 [B, S], and whether it is the
      most likely one, bool [B, S]; of the ends both, [B, K].
    """
    B, S = tokens.shape
    positions_BS = jnp.broadcast_to(jnp.arange(S, dtype=jnp.int32), (B, S))
    hidden_BSD = model(tokens, positions_BS, segments)
    targets_BS = jnp.roll(tokens, -1, axis=1)

    def piece(given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden_BTD, targets_BT = given
        several = targets_BT[..., None]
        return jax.tree.map(lambda x: x[..., 0], _judged(model.logits(hidden_BTD), several))

    C = _pieces(S, 4 * model.arch.vocab_size * B // devices)
    cut = (x.reshape(B, C, S // C, *x.shape[2:]).swapaxes(0, 1) for x in (hidden_BSD, targets_BS))
    nats_CBT, best_CBT = jax.lax.map(piece, tuple(cut))
    ends_BD = jnp.take_along_axis(hidden_BSD, last[..., None], axis=1)
    of_ends = _judged(model.logits(ends_BD), ends[:, None])
    join = (x.swapaxes(0, 1).reshape(B, S) for x in (nats_CBT, best_CBT))
    return (*join, *(x[:, 0] for x in of_ends))


def _judged(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of targets [..., K] their log-probabilities and whether they are best; logits [..., V]."""
    chosen = jnp.take_along_axis(logits, targets, axis=-1)
    total = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    return chosen - total, jnp.argmax(logits, axis=-1, keepdims=True) == targets


def _pieces(tokens: int, size: int) -> int:
    """Into how many equal pieces a row is cut, so that scores take `CHUNK` bytes.

    Args:
      tokens: of a row.
      size: bytes that the scores of one place take, on a device.
    """
    most = max(1, CHUNK // size)
    return next(n for n in range(1, tokens + 1) if tokens % n == 0 and tokens // n <= most)


def _settle(rows: list[_Row], results: tuple[jax.Array, ...], found: list[Likelihood]) -> int:
    """Waits for a batch and notes what was asked of it; returns how many pairs that were."""
    nats, best, end_nats, end_best = map(np.asarray, results)
    for i, row in enumerate(rows):
        for number, size, end in row.asked:
            inner = slice(len(row.ids) - size, len(row.ids) - 1)
            total = nats[i, inner].sum(dtype=np.float64) + end_nats[i, end]
            found[number] = Likelihood(
                float(total), bool(best[i, inner].all() and end_best[i, end])
            )
    return sum(len(row.asked) for row in rows)
