"""Batches onto devices: each process supplies the rows that its own devices hold.

Letters: A accumulation steps, B rows of a micro-batch, S tokens. Global row r = a * B + b.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding


def rows_needed(sharding: NamedSharding, shape: tuple[int, int, int]) -> np.ndarray:
    """The global rows of an [A, B, S] batch that this process's devices hold, ascending."""
    rows: set[int] = set()
    for index in sharding.addressable_devices_indices_map(shape).values():
        assert index is not None
        a, b, _ = index
        for i in range(*a.indices(shape[0])):
            rows.update(i * shape[1] + j for j in range(*b.indices(shape[1])))
    return np.array(sorted(rows), np.int64)


def to_devices(
    local: Mapping[str, np.ndarray],
    rows: np.ndarray,
    sharding: NamedSharding,
    shape: tuple[int, int, int],
) -> dict[str, jax.Array]:
    """Global arrays [A, B, S] from this process's rows.

    Args:
      local: arrays [len(rows), S].
      rows: their global row numbers, ascending, as `rows_needed` gave them.
      sharding: of the batch.
      shape: (A, B, S).
    """

    def part(values: np.ndarray, index: Any) -> np.ndarray:
        a = np.arange(*index[0].indices(shape[0]))
        b = np.arange(*index[1].indices(shape[1]))
        at = np.searchsorted(rows, a[:, None] * shape[1] + b[None, :])
        return values[at][:, :, index[2]]

    return {
        key: jax.make_array_from_callback(shape, sharding, partial(part, values))
        for key, values in local.items()
    }
