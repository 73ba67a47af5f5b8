"""The reference attention: plain products and a softmax, on any device.

Queries are taken in blocks, each against no more keys than it can see, which halves the work of a
causal row. Where a row lies on several devices, queries stay where they are: a block is an equal
part of every device's own, against all keys, which alone are gathered.

Shapes as in `attention`, and G = H / K queries that share a key-value head.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from maxlite.model.layout import constrain, shards
from maxlite.model.remat import kept

BLOCK = 128  # queries at a time, the fastest of 64 to 512 on a CPU
MOST_BLOCKS = 8  # in longer rows the blocks grow, or compiling takes ever longer


def attention(
    q_BSHE: jax.Array,
    k_BTKE: jax.Array,
    v_BTKE: jax.Array,
    *,
    segments: tuple[jax.Array, jax.Array] | None,
    offset: int | jax.Array,
    window: int,
) -> jax.Array:
    """See `maxlite.model.attention.attention`. Scores and softmax are float32."""
    S, T = q_BSHE.shape[1], k_BTKE.shape[1]
    if S != T:  # a cache: where the queries are is known only at run time
        return kept(_block(q_BSHE, k_BTKE, v_BTKE, segments, offset, window))
    devices = shards("sequence")
    if devices > 1 and S % devices == 0:
        return kept(_spread(q_BSHE, k_BTKE, v_BTKE, segments, window, devices))
    size = max(BLOCK, -(-S // MOST_BLOCKS))
    blocks = []
    for start in range(0, S, size):
        stop = min(start + size, S)
        first = max(0, start + 1 - window) if window else 0
        ours, seen = slice(start, stop), slice(first, stop)
        of_block = None if segments is None else (segments[0][:, ours], segments[1][:, seen])
        k, v = k_BTKE[:, seen], v_BTKE[:, seen]
        blocks.append(_block(q_BSHE[:, ours], k, v, of_block, start - first, window))
    return kept(jnp.concatenate(blocks, axis=1))


def _spread(
    q_BSHE: jax.Array,
    k_BTKE: jax.Array,
    v_BTKE: jax.Array,
    segments: tuple[jax.Array, jax.Array] | None,
    window: int,
    devices: int,
) -> jax.Array:
    """The same where each of several devices has N tokens of a row, one after the other."""
    N = q_BSHE.shape[1] // devices

    def own(x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], devices, N, *x.shape[2:])

    q_BdNHE = own(q_BSHE)
    k_BTKE, v_BTKE = (constrain(x, "batch", None, "heads", None) for x in (k_BTKE, v_BTKE))
    if segments is not None:
        segments = own(segments[0]), constrain(segments[1], "batch", None)
    along = None if segments is None else (1, None)
    block = jax.vmap(partial(_block, window=window), (1, None, None, along, 0), out_axes=1)
    first_d = N * jnp.arange(devices)
    size = max(BLOCK, -(-N // MOST_BLOCKS))
    blocks = []
    for start in range(0, N, size):
        ours = slice(start, start + size)
        of_block = None if segments is None else (segments[0][:, :, ours], segments[1])
        blocks.append(block(q_BdNHE[:, :, ours], k_BTKE, v_BTKE, of_block, start + first_d))
    return jnp.concatenate(blocks, axis=2).reshape(q_BSHE.shape)


def _block(
    q_BSHE: jax.Array,
    k_BTKE: jax.Array,
    v_BTKE: jax.Array,
    segments: tuple[jax.Array, jax.Array] | None,
    offset: int | jax.Array,
    window: int,
) -> jax.Array:
    B, S, H, E = q_BSHE.shape
    T, K = k_BTKE.shape[1:3]
    q_BSKGE = q_BSHE.reshape(B, S, K, H // K, E)
    scores_BKGST = jnp.einsum(
        "bskge,btke->bkgst", q_BSKGE, k_BTKE, preferred_element_type=jnp.float32
    )
    seen_BST = _visible(S, T, segments, offset, window)
    # A finite floor: a row that sees nothing comes out uniform, not NaN.
    floor = jnp.finfo(jnp.float32).min
    scores_BKGST = jnp.where(seen_BST[:, None, None], scores_BKGST * E**-0.5, floor)
    weights_BKGST = jax.nn.softmax(scores_BKGST, axis=-1).astype(v_BTKE.dtype)
    o_BSKGE = jnp.einsum("bkgst,btke->bskge", weights_BKGST, v_BTKE)
    return o_BSKGE.reshape(B, S, H, E)


def _visible(
    queries: int,
    keys: int,
    segments: tuple[jax.Array, jax.Array] | None,
    offset: int | jax.Array,
    window: int,
) -> jax.Array:
    """Which keys each query sees: bool [B or 1, S, T]."""
    distance_ST = offset + jnp.arange(queries)[:, None] - jnp.arange(keys)[None, :]
    seen_BST = (distance_ST >= 0)[None]
    if window:
        seen_BST &= distance_ST < window
    if segments is not None:
        of_queries_BS, of_keys_BT = segments
        seen_BST &= of_queries_BS[:, :, None] == of_keys_BT[:, None, :]
    return seen_BST
