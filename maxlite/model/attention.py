"""Attention behind one small interface; each backend is one file.

A row may hold several packed documents. What a query sees is a matter of places in the row, not of
positions (which restart in every document): keys of its own segment, at its own place or before it,
and with a window of W only the W latest of those places.

Shapes: B batch, S queries, T keys, H heads, K key-value heads (H / K heads share each), E head
size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from maxlite.errors import InputError
from maxlite.model import attention_chunked, attention_cudnn, attention_dense, attention_splash
from maxlite.model.layout import platform

BACKENDS: dict[str, Callable[..., jax.Array]] = {
    "dense": attention_dense.attention,
    "chunked": attention_chunked.attention,
    "splash": attention_splash.attention,
    "cudnn": attention_cudnn.attention,
}
LONG = 1024  # tokens; what is dense up to here stays so, to the last bit


def check(name: str, head: int = 128, dtype: Any = jnp.bfloat16) -> str:
    """A setting, if there is what it names on the mesh in force (without one, on this machine).

    Args:
      name: a setting.
      head: size of a head, and
      dtype: of the computation, for backends that do not know all.

    Raises:
      InputError: no such backend, or not here, or not for these.
    """
    if name != "auto" and name not in BACKENDS:
        known = ", ".join(["auto", *BACKENDS])
        raise InputError(f"attention '{name}' does not exist; choose one of {known}")
    if name == "splash" and platform() != "tpu":
        raise InputError(
            f"attention 'splash' runs on TPUs alone, and this is a {platform()}; choose auto"
        )
    if name == "cudnn" and (why := attention_cudnn.obstacle(head, dtype)):
        raise InputError(f"attention 'cudnn' cannot be used: {why}; choose auto")
    return name


def choose(name: str, seq_len: int, head: int = 128, dtype: Any = jnp.bfloat16) -> str:
    """The backend that a setting means; "auto" takes the best one for the mesh in force.

    Args:
      name: a setting that `check` has passed.
      seq_len: tokens in a row; splash would fill up rows that are shorter than one of its blocks.
      head: size of a head.
      dtype: of the computation.
    """
    if name != "auto":
        return name
    if platform() == "tpu" and seq_len >= attention_splash.BLOCK:
        return "splash"
    if platform() == "gpu" and not attention_cudnn.obstacle(head, dtype):
        return "cudnn"
    return "chunked" if seq_len > LONG and platform() != "tpu" else "dense"


def described(name: str, seq_len: int, head: int, dtype: Any) -> str:
    """What `choose` takes, for people, and on a GPU why it is not cuDNN."""
    chosen = choose(name, seq_len, head, dtype)
    if name == "auto" and chosen != "cudnn" and platform() == "gpu":
        return f"attention: {chosen}; not cudnn, because {attention_cudnn.obstacle(head, dtype)}"
    return f"attention: {chosen}"


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
        document. A segment is one run of a row. Padding is a segment like any other: what comes out
        for it is finite and unused.
      offset: place of the first query among the keys; above 0 only with a cache, which the dense
        backend alone knows.
      window: number of latest places a query sees, itself included; 0 for all.
      backend: a name in `BACKENDS`, or "auto".

    Returns:
      o_BSHE, in the dtype of the values.

    Raises:
      InputError: no such backend, or not here.
    """
    _, length, _, head = q_BSHE.shape
    name = choose(check(backend, head, q_BSHE.dtype), length, head, q_BSHE.dtype)
    function = BACKENDS[name]
    return function(q_BSHE, k_BTKE, v_BTKE, segments=segments, offset=offset, window=window)
