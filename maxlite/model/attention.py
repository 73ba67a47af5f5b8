"""Attention behind one small interface; each backend is one file.

A row may hold several packed documents. What a query sees is a matter of places in the row, not of
positions (which restart in every document): keys of its own segment, at its own place or before it,
and with a window of W only the W latest of those places.

Shapes: B batch, S queries, T keys, H heads, K key-value heads (H / K heads share each), E head
size.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

from maxlite.errors import InputError
from maxlite.model import attention_dense

BACKENDS: dict[str, Callable[..., jax.Array]] = {"dense": attention_dense.attention}


def choose(name: str) -> str:
    """The backend that a setting means; "auto" takes the best one for this machine.

    Raises:
      InputError: no such backend.
    """
    if name == "auto":
        return "dense"
    if name not in BACKENDS:
        known = ", ".join(["auto", *BACKENDS])
        raise InputError(f"attention '{name}' does not exist; choose one of {known}")
    return name


def attention(
    q_BSHE: jax.Array,
    k_BTKE: jax.Array,
    v_BTKE: jax.Array,
    *,
    segments: tuple[jax.Array, jax.Array] | None = None,
    offset: int | jax.Array = 0,
    window: int = 0,
    backend: str = "auto",
) -> jax.Array:
    """Causal softmax attention.

    Args:
      q_BSHE, k_BTKE, v_BTKE: rotated queries, rotated keys and values, of one dtype. Scores are
        divided by the square root of E here.
      segments: int32 [B, S] of the queries and [B, T] of the keys; None where each row is one
        document. Padding is a segment like any other: what comes out for it is finite and unused.
      offset: place of the first query among the keys; above 0 only with a cache.
      window: number of latest places a query sees, itself included; 0 for all.
      backend: a name in `BACKENDS`, or "auto".

    Returns:
      o_BSHE, in the dtype of the values.

    Raises:
      InputError: no such backend.
    """
    function = BACKENDS[choose(backend)]
    return function(q_BSHE, k_BTKE, v_BTKE, segments=segments, offset=offset, window=window)
