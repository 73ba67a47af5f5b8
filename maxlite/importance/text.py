"""The text that units are measured on: rows of tokens as training reads them, drawn by a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from maxlite.config import Data, Source
from maxlite.data import packing
from maxlite.data.cache import tokenize
from maxlite.data.order import permute
from maxlite.data.packing import Row
from maxlite.data.view import View
from maxlite.errors import InputError
from maxlite.state import mesh as mesh_lib
from maxlite.tokenizer import Tokenizer


@dataclass(frozen=True)
class Text:
    """Rows of packed documents, all of them full.

    Attributes:
      rows: the arrays of `maxlite.data.packing`, each [N, S].
      said: what they were drawn from and how, in one line; the same only for the same rows.
    """

    rows: Row
    said: str

    def __len__(self) -> int:
        return len(self.rows["tokens"])

    def batch(self, numbers: Sequence[int] | np.ndarray, mesh: Mesh) -> dict[str, jax.Array]:
        """Some of the rows on their devices, [B, S]; B is a multiple of what they divide over.

        Those that make it one have no segment and no weight.
        """
        sharding = mesh_lib.batch_sharding(mesh)
        padding = -len(numbers) % mesh.size
        taken = {key: values[numbers] for key, values in self.rows.items()}
        padded = {
            key: np.concatenate([values, np.zeros((padding, values.shape[1]), values.dtype)])
            for key, values in taken.items()
        }
        placed = jax.device_put({key: values[None] for key, values in padded.items()}, sharding)
        return {key: values[0] for key, values in placed.items()}

    def batches(self, size: int, mesh: Mesh, what: str) -> Iterator[dict[str, jax.Array]]:
        """All rows, `size` at a time as by `batch`, with a bar of that name if it takes a while."""
        with tqdm(total=len(self), desc=what, unit=" sequences", delay=2, leave=False) as bar:
            for start in range(0, len(self), size):
                numbers = np.arange(start, min(start + size, len(self)))
                yield self.batch(numbers, mesh)
                bar.update(len(numbers))


def read(
    globs: Sequence[str],
    tokenizer: Tokenizer,
    *,
    sequences: int,
    seq_len: int,
    seed: int = 0,
    field: str = "text",
    txt: str = "line",
) -> Text:
    """Draws rows, none of them twice, from the full rows of all files together.

    Args:
      globs: of files.
      tokenizer: the model's.
      sequences: how many rows.
      seq_len: tokens a row.
      seed: of the draw.
      field: the text field of .jsonl and .parquet files.
      txt: whether a document of a .txt file is a "line" or the whole "file".

    Raises:
      InputError: text that cannot be read, or has fewer tokens than are asked for.
    """
    if not globs:
        raise InputError("there is no text to measure on: name files with --text")
    views = [
        View(
            tokenize(Source(glob=one, field=field), tokenizer, Data(txt=txt)),
            tokenizer.bos,
            tokenizer.eos,
        )
        for one in globs
    ]
    full = np.array([max(0, view.length - 1) // seq_len for view in views])
    total = int(full.sum())
    if total < sequences:
        tokens = sum(view.length for view in views)
        raise InputError(
            f"{sequences} sequences of {seq_len} tokens are asked for, but {', '.join(globs)} has"
            f" only {tokens:,} tokens, {total} such sequences: give more text, or lower --sequences"
            " or --seq_len"
        )
    drawn = permute(np.arange(sequences), total, f"importance/{seed}".encode())
    ends = np.cumsum(full)
    of = np.searchsorted(ends, drawn, "right")
    rows = [
        packing.training_row(views[k], int(n - (ends[k] - full[k])), seq_len)
        for k, n in zip(of, drawn, strict=True)
    ]
    content = hashlib.sha256("".join(view.content for view in views).encode()).hexdigest()[:16]
    said = f"{','.join(globs)} ({content}), {sequences} sequences of {seq_len}, seed {seed}"
    return Text({key: np.stack([row[key] for row in rows]) for key in packing.KEYS}, said)
