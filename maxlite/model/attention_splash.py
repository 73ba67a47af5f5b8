"""Attention on TPUs by jax's splash kernels: what no query of a block sees is never computed.

One kernel does all queries that share a key-value head, so keys and values are not repeated. Rows
are filled up to whole blocks; a causal query sees nothing of that. Where a row lies on several
devices, each has the kernel's grid for its own queries, and all keys.

Shapes as in `attention`, and G = H / K queries that share a key-value head.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import NamedSharding

from maxlite.model.layout import partition, shards
from maxlite.model.remat import ATTENTION

BLOCK = 128  # queries and keys: what the kernels' blocks are multiples of
LARGEST = 512  # scores at a time at most, each way: as float32 they fit the fast memory severally
# From so many tokens on blocks are of twice that, and keys are fetched half as often: there the
# diagonal's blocks add no more than a sixteenth in vain, against a quarter in 4,096 tokens.
LONG = 32 * LARGEST


def attention(
    q_BSHE: jax.Array,
    k_BTKE: jax.Array,
    v_BTKE: jax.Array,
    *,
    segments: tuple[jax.Array, jax.Array] | None,
    offset: int | jax.Array,
    window: int,
    interpret: bool = False,
) -> jax.Array:
    """See `maxlite.model.attention.attention`; without a cache, so with S = T and no offset.

    Products are in the dtype of the inputs and sums, scores and softmax float32.

    Args:
      interpret: run the kernels step by step on any device: very slow, for tests.
    """
    B, S, H, E = q_BSHE.shape
    K = k_BTKE.shape[2]
    if segments is None:
        segments = (jnp.ones((B, S), jnp.int32),) * 2
    devices = shards("sequence")
    fill = -S % (BLOCK * devices)

    def filled(x: jax.Array) -> jax.Array:
        return jnp.pad(x, [(0, 0), (0, fill), *[(0, 0)] * (x.ndim - 2)])

    scaled_BSHE = (q_BSHE.astype(jnp.float32) * E**-0.5).astype(q_BSHE.dtype)
    q_BKGSE = filled(scaled_BSHE).reshape(B, -1, K, H // K, E).transpose(0, 2, 3, 1, 4)
    k_BKTE, v_BKTE = (filled(x).swapaxes(1, 2) for x in (k_BTKE, v_BTKE))
    kernel = _kernel(S + fill, H // K, window, devices, interpret)
    of_queries_BS, of_keys_BT = map(filled, segments)
    o_BKGSE = _on_mesh(kernel, q_BKGSE, k_BKTE, v_BKTE, of_queries_BS, of_keys_BT)
    return o_BKGSE.transpose(0, 3, 1, 2, 4).reshape(B, S + fill, H, E)[:, :S]


def _kernel(
    length: int, group: int, window: int, devices: int, interpret: bool
) -> splash.SplashAttentionKernel:
    """For one key-value head and its queries [G, S, E]."""
    shape = (length, length)
    mask = masks.LocalMask(shape, (window - 1, 0), 0) if window else masks.CausalMask(shape)
    queries, keys = _block(length // devices), _block(length)
    at_once = min(keys, LARGEST)
    sizes = splash.BlockSizes(
        block_q=queries, block_q_dkv=queries, block_q_dq=queries,
        block_kv=keys, block_kv_dkv=keys, block_kv_dq=keys,
        block_kv_compute=at_once, block_kv_dkv_compute=at_once,
    )  # fmt: skip
    return splash.make_splash_mqa(
        masks.MultiHeadMask([mask] * group),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=devices,
        residual_checkpoint_name=ATTENTION,
        interpret=interpret,
    )


def _block(length: int) -> int:
    """Tokens in a block of so many."""
    if length >= LONG and length % (2 * LARGEST) == 0:
        return 2 * LARGEST
    return max(size for size in range(BLOCK, LARGEST + 1, BLOCK) if length % size == 0)


def _on_mesh(
    kernel: splash.SplashAttentionKernel,
    q_BKGSE: jax.Array,
    k_BKTE: jax.Array,
    v_BKTE: jax.Array,
    of_queries_BS: jax.Array,
    of_keys_BT: jax.Array,
) -> jax.Array:
    """The kernel for every row and key-value head, on each device for those that lie there."""

    def run(kernel: Any, q: jax.Array, k: jax.Array, v: jax.Array, *ids: jax.Array) -> jax.Array:
        return jax.vmap(jax.vmap(kernel, (0, 0, 0, None)))(q, k, v, splash.SegmentIds(*ids))

    arrays = (kernel, q_BKGSE, k_BKTE, v_BKTE, of_queries_BS, of_keys_BT)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return run(*arrays)
    queries = partition(q_BKGSE.shape, "batch", "heads", None, "sequence", None)
    keys = partition(k_BKTE.shape, "batch", "heads", None, None)
    rows = of_queries_BS.shape
    ids = partition(rows, "batch", "sequence"), partition(rows, "batch", None)
    grid = kernel.manual_sharding_spec(NamedSharding(mesh, partition(rows, None, "sequence")))
    specs = (grid, queries, keys, keys, *ids)
    return jax.shard_map(run, in_specs=specs, out_specs=queries, check_vma=False)(*arrays)
