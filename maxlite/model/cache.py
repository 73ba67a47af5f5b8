"""Keys and values of the tokens seen so far, for generation.

Shapes: L layers, B batch, T places, S new tokens, K key-value heads, E head size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import dynamic_index_in_dim, dynamic_update_slice

from maxlite.config import Architecture
from maxlite.model.layout import constrain


class Cache(NamedTuple):
    """A pytree of arrays; `length` places are filled, the same number in every row.

    Rows of different lengths are filled up on the left with tokens of segment 0; what follows then
    needs its own segments and positions.
    """

    keys: jax.Array  # [L, B, T, K, E], rotated
    values: jax.Array  # [L, B, T, K, E]
    segments: jax.Array  # int32 [B, T]
    length: jax.Array  # int32 scalar

    def append_segments(self, segments_BS: jax.Array) -> Cache:
        """The new tokens' segments written from `length` on; `length` stays."""
        filled = dynamic_update_slice(self.segments, segments_BS, (0, self.length))
        return self._replace(segments=filled)

    def append(self, layer: jax.Array, k_BSKE: jax.Array, v_BSKE: jax.Array) -> Cache:
        """One layer's new keys and values written from `length` on; `length` stays."""
        at = (layer, 0, self.length, 0, 0)
        keys = dynamic_update_slice(self.keys, k_BSKE[None].astype(self.keys.dtype), at)
        values = dynamic_update_slice(self.values, v_BSKE[None].astype(self.values.dtype), at)
        return self._replace(keys=keys, values=values)

    def layer(self, layer: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys and values of one layer, each [B, T, K, E]."""
        return (
            dynamic_index_in_dim(self.keys, layer, keepdims=False),
            dynamic_index_in_dim(self.values, layer, keepdims=False),
        )


def init_cache(arch: Architecture, batch: int, length: int, dtype: Any) -> Cache:
    """An empty cache.

    Args:
      arch: the model's shape.
      batch: rows.
      length: places, prompt and generated tokens together. Writing past it is the caller's error:
        a traced length cannot be checked, and the last places would be overwritten.
      dtype: of keys and values; the model's compute dtype.
    """
    shape = (arch.num_hidden_layers, batch, length, arch.num_key_value_heads, arch.head_dim)
    keys, values = (
        constrain(jnp.zeros(shape, dtype), None, "batch", None, "heads", None) for _ in range(2)
    )
    return Cache(keys, values, jnp.zeros((batch, length), jnp.int32), jnp.zeros((), jnp.int32))
