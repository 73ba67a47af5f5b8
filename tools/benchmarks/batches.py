"""Batches of random tokens to train on, the same in every process that asks for the same."""

from __future__ import annotations

import numpy as np

Batch = dict[str, np.ndarray]


def random_batch(shape: tuple[int, ...], ids: range, documents: int = 1, seed: int = 0) -> Batch:
    """A batch of rows that are full.

    Args:
      shape: micro-batches, sequences, tokens.
      ids: tokens are drawn from these.
      documents: in each row, of random lengths.
      seed: of the tokens and of the lengths.

    Returns:
      tokens, targets, segments, positions (int32) and weights (float32), each of that shape. The
      last token of a document but the row's last has weight 0: its target is another document's.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(ids.start, ids.stop, (*shape[:-1], shape[-1] + 1), np.int32)
    length, rows = shape[-1], int(np.prod(shape[:-1]))
    segments = np.ones((rows, length), np.int32)
    positions = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    weights = np.ones((rows, length), np.float32)
    for row in range(rows if documents > 1 else 0):
        for start in np.sort(rng.choice(np.arange(1, length), documents - 1, replace=False)):
            segments[row, start:] += 1
            positions[row, start:] = np.arange(length - start)
            weights[row, start - 1] = 0
    return {
        "tokens": drawn[..., :-1],
        "targets": drawn[..., 1:],
        "segments": segments.reshape(shape),
        "positions": positions.reshape(shape),
        "weights": weights.reshape(shape),
    }
