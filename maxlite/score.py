"""How well a model predicts documents: the one place that computes loss and bits per byte.

Bits per byte (The Pile, arXiv 2101.00027, section 3.1) = the summed negative log-likelihood of
whole documents, in bits, over the UTF-8 bytes of their raw text. BOS is read but not scored, EOS is
in neither. Long documents are read in windows that advance by half their length, so every token but
the first window's sees at least half a window.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from maxlite.data.packing import evaluation_rows
from maxlite.data.view import View
from maxlite.model.loss import summed_loss
from maxlite.state import batch as batch_lib
from maxlite.state import mesh as mesh_lib

Params = dict[str, jax.Array]


@dataclass(frozen=True)
class Score:
    """Sums over documents: nats, and what they are divided by."""

    nll: float
    scored: int  # tokens
    tokens: int  # scored or not; BOS and EOS not counted; of conversations those learnt
    bytes: int
    chars: int
    documents: int

    @property
    def loss(self) -> float:
        """Nats a token."""
        return self.nll / max(self.scored, 1)

    @property
    def bits_per_byte(self) -> float:
        """Bits of summed loss for each UTF-8 byte of raw text."""
        return self.nll / math.log(2) / max(self.bytes, 1)

    @property
    def tokens_per_char(self) -> float:
        """Tokens for each character of raw text."""
        return self.tokens / max(self.chars, 1)

    def __add__(self, other: Score) -> Score:
        a, b = vars(self), vars(other)
        return Score(**{key: a[key] + b[key] for key in a})

    def figures(self) -> dict[str, float]:
        """For JSON."""
        return {
            "bits_per_byte": self.bits_per_byte,
            "loss": self.loss,
            "tokens": self.scored,
            "bytes": self.bytes,
            "tokens_per_char": self.tokens_per_char,
            "documents": self.documents,
        }


class Scorer:
    """Scores documents with one model; compiled once.

    Args:
      bind: (params, frozen) -> model.
      mesh: the devices, set by the caller.
      rows: rows of a batch; a multiple of the devices that batch rows are spread over.
      window: tokens a row, at most the model's context.
      stride: how far the windows of a long document advance; 0 is half a window.
    """

    def __init__(
        self,
        bind: Callable[[Params, Params], Any],
        mesh: Mesh,
        rows: int,
        window: int,
        stride: int = 0,
    ):
        self._shape = (1, rows, window)
        self._stride = stride
        self._sharding = mesh_lib.batch_sharding(mesh)
        self._needed = batch_lib.rows_needed(self._sharding, self._shape)

        def sums(params: Params, frozen: Params, batch: dict[str, jax.Array]) -> jax.Array:
            first = jax.tree.map(lambda x: x[0], batch)
            return jnp.stack(summed_loss(bind(params, frozen), first))

        self._sums = jax.jit(sums, out_shardings=mesh_lib.replicated(mesh))

    def __call__(
        self,
        params: Params,
        frozen: Params,
        view: View,
        name: str = "",
        limit: int = 0,
        between: Callable[[], None] = lambda: None,
    ) -> Score:
        """Scores a view's documents, or `limit` of them (spread evenly) if that is fewer.

        Args:
          params, frozen: the arrays that `bind` takes.
          view: the documents.
          name: for the progress bar, which is shown where it takes longer than two seconds.
          limit: 0 for all documents.
          between: called after each batch; in several processes at the same ones.
        """
        view = view.take(limit)
        shape, stride = self._shape, self._stride
        rows = evaluation_rows(view.documents(), shape[2], stride, view.bos, view.learnt())
        pending: list[jax.Array] = []
        nll, scored = 0.0, 0.0
        speak = jax.process_index() == 0
        bar = tqdm(
            total=view.tokens, desc=name, unit=" tokens", unit_scale=True, delay=2,
            disable=not speak, leave=False,
        )  # fmt: skip
        with bar:
            while several := list(itertools.islice(rows, shape[1])):
                local = {
                    key: np.stack(
                        [several[r][key] if r < len(several) else np.zeros_like(several[0][key])
                         for r in self._needed]
                    )
                    for key in several[0]
                }  # fmt: skip
                batch = batch_lib.to_devices(local, self._needed, self._sharding, shape)
                pending.append(self._sums(params, frozen, batch))
                bar.update(sum(int(row["weights"].sum()) for row in several))
                if len(pending) > 2:  # a short queue keeps the devices busy and memory bounded
                    nll, scored = _add(nll, scored, pending.pop(0))
                between()
            for sums in pending:
                nll, scored = _add(nll, scored, sums)
        # Of a conversation the bytes and characters are those of the responses alone.
        tokens = view.tokens if view.learnt() is None else round(scored)
        return Score(nll, round(scored), tokens, view.bytes, view.chars, len(view))


def _add(nll: float, scored: float, sums: jax.Array) -> tuple[float, float]:
    more = np.asarray(sums, np.float64)
    return nll + float(more[0]), scored + float(more[1])
