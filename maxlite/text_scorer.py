"""Bits per byte of single texts, many at a time: what a cleaning asks a model for.

They are the figures of `maxlite.score` for each document alone. Here a document shares a row with
no other, so what it scores depends on nothing but itself; rows of like lengths go together, so that
little is computed for padding, and each of a few lengths is compiled once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np

from maxlite.data.packing import Row, evaluation_rows
from maxlite.model.loss import row_losses
from maxlite.state import mesh as mesh_lib
from maxlite.state.ready import Ready, ready_model

_SHORTEST, _WINDOW = 32, 2048


class TextScorer:
    """Scores texts with one model.

    Args:
      ready: the model.
      window: tokens a row has at most; 0: as in `tools.evaluate`, the model's context up to 2048.
      batch_tokens: tokens at a time, for each device; padding counts. 0: what stays in the caches
        of a CPU, or is worth an accelerator's while.
    """

    def __init__(self, ready: Ready, window: int = 0, batch_tokens: int = 0):
        self._ready = ready
        self._tokenizer = ready.tokenizer
        self._window = window or min(ready.architecture.max_position_embeddings, _WINDOW)
        suitable = 2048 if jax.default_backend() == "cpu" else 16384
        self._tokens = max(batch_tokens or suitable, self._window)
        self._sharding = mesh_lib.batch_sharding(ready.mesh)

        def sums(params: dict[str, jax.Array], batch: dict[str, jax.Array]) -> jax.Array:
            one = jax.tree.map(lambda x: x[0], batch)
            return row_losses(ready.bind(params, {}), one)[0]

        self._sums = jax.jit(sums, out_shardings=mesh_lib.replicated(ready.mesh))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Bits per byte of each text; float64 [N], 0 where there is nothing to predict."""
        waiting: dict[int, list[tuple[int, Row]]] = {}
        done: list[tuple[list[int], jax.Array]] = []
        bos = self._tokenizer.bos
        with self._ready.on_mesh():
            for number, ids in enumerate(self._tokenizer.encode(texts)):
                length = self._length(len(ids) - (bos is None))
                rows = waiting.setdefault(length, [])
                rows += ((number, row) for row in evaluation_rows([ids], length, 0, bos))
                size = self._rows(length)
                while len(rows) >= size:
                    done.append(self._run(rows[:size], length))
                    del rows[:size]
            done += [self._run(rows, length) for length, rows in waiting.items() if rows]
            nll = np.zeros(len(texts))
            for numbers, sums in done:
                np.add.at(nll, numbers, np.asarray(sums, np.float64)[: len(numbers)])
        sizes = np.array([max(1, len(text.encode())) for text in texts], np.float64)
        return nll / math.log(2) / sizes

    def _length(self, inputs: int) -> int:
        """Of the rows a document with so many inputs has."""
        fits = _SHORTEST << max(0, math.ceil(math.log2(max(inputs, 1) / _SHORTEST)))
        return min(fits, self._window)

    def _rows(self, length: int) -> int:
        return self._tokens // length * self._ready.mesh.size

    def _run(self, rows: list[tuple[int, Row]], length: int) -> tuple[list[int], jax.Array]:
        """The documents of some rows, and the nats of each row once they are computed."""
        batch = {
            key: np.zeros((1, self._rows(length), length), value.dtype)
            for key, value in rows[0][1].items()
        }
        for place, (_, row) in enumerate(rows):
            for key, value in row.items():
                batch[key][0, place] = value
        return [number for number, _ in rows], self._sums(
            self._ready.params, jax.device_put(batch, self._sharding)
        )


def load_scorer(model: str) -> TextScorer:
    """Opens a folder or run to score texts with, on all of this process's devices.

    Raises:
      InputError: as `maxlite.state.ready.ready_model`.
    """
    return TextScorer(ready_model(model))
