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
from maxlite.model import attention_dense, attention_splash
from maxlite.model.layout import platform

BACKENDS: dict[str, Callable[..., jax.Array]] = {
    "dense": attention_dense.attention,
    "splash": attention_splash.attention,
}


def check(name: str) -> str:
    """A setting, if there is what it names on the mesh in force (without one, on this machine).

    Raises:
      InputError: no such backend, or not here.
    """
    if name != "auto" and name not in BACKENDS:
        known = ", ".join(["auto", *BACKENDS])
        raise InputError(f"attention '{name}' does not exist; choose one of {known}")
    if name == "splash" and platform() != "tpu":
        raise InputError(
            f"attention 'splash' runs on TPUs alone, and this is a {platform()}; choose auto"
        )
    return name


def choose(name: str, seq_len: int) -> str:
    """The backend that a setting means; "auto" takes the best one for the mesh in force.

    Args:
      name: a setting that `check` has passed.
      seq_len: tokens in a row; splash would fill up rows that are shorter than one of its blocks.
    """
    if name != "auto":
        return name
    return "splash" if platform() == "tpu" and seq_len >= attention_splash.BLOCK else "dense"


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
      offset: place of the first query among the keys; above 0 only with a cache, which the dense
        backend alone knows.
      window: number of latest places a query sees, itself included; 0 for all.
      backend: a name in `BACKENDS`, or "auto".

    Returns:
      o_BSHE, in the dtype of the values.

    Raises:
      InputError: no such backend, or not here.
    """
    function = BACKENDS[choose(check(backend), q_BSHE.shape[1])]
    return function(q_BSHE, k_BTKE, v_BTKE, segments=segments, offset=offset, window=window)
