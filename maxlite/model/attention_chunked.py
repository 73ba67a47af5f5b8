"""Attention whose memory grows with a row and not with its square, on any device.

A block of queries meets a block of keys at a time, and only where some query may see some key.
Their scores live no longer than that: what is kept of a row is the result and, for each query, the
logarithm of its softmax's denominator, from which the backward pass computes the weights again
(FlashAttention, arXiv 2205.14135, section 3.1).

Where a row lies on several devices, queries stay where they are and keys are gathered, as in
`attention_dense` and, for Llama 3, in arXiv 2407.21783, section 3.3.2.

Shapes as in `attention`, G = H / K queries that share a key-value head, and N blocks of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxlite.model.layout import constrain, platform, shards
from maxlite.model.remat import kept

BLOCK = 128  # queries and keys at a time: the fastest of 128, 256 and 512 on a CPU
ELSEWHERE = 512  # a turn of the loop costs more there than what a larger block computes in vain
FLOOR = float(np.finfo(np.float32).min)  # finite: a query that sees nothing is uniform, not NaN

Segments = tuple[jax.Array, jax.Array] | None


def attention(
    q_BSHE: jax.Array,
    k_BTKE: jax.Array,
    v_BTKE: jax.Array,
    *,
    segments: Segments,
    offset: int | jax.Array,
    window: int,
) -> jax.Array:
    """See `maxlite.model.attention.attention`; without a cache, so with S = T and no offset.

    Products are in the dtype of the inputs and sums, scores and softmax float32.
    """
    return _attention(q_BSHE, k_BTKE, v_BTKE, segments, window)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments, w: int) -> jax.Array:
    return forward(q, k, v, segments, w)[0]


def _kept_forward(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: Segments, window: int
) -> tuple[jax.Array, Any]:
    # Both are marked: with one alone, the backward pass would run the forward one again.
    o, lse = map(kept, forward(q, k, v, segments, window))
    return o, (q, k, v, segments, o, lse)


def _pull(window: int, held: Any, do_BSHE: jax.Array) -> tuple[Any, ...]:
    q, k, v, segments, o, lse = held
    return *backward(q, k, v, o, lse, do_BSHE, segments, window), None


_attention.defvjp(_kept_forward, _pull)


def forward(
    q_BSHE: jax.Array, k_BTKE: jax.Array, v_BTKE: jax.Array, segments: Segments, window: int
) -> tuple[jax.Array, jax.Array]:
    """The result, and what `backward` needs beside it.

    Returns:
      o_BSHE, in the dtype of the values; lse_BSH, float32: of each query, the logarithm of the sum
      of the exponentials of its scores.
    """
    return _spread(partial(_forward, window=window), (q_BSHE,), (k_BTKE, v_BTKE), segments)


def backward(
    q_BSHE: jax.Array,
    k_BTKE: jax.Array,
    v_BTKE: jax.Array,
    o_BSHE: jax.Array,
    lse_BSH: jax.Array,
    do_BSHE: jax.Array,
    segments: Segments,
    window: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradients of queries, keys and values, given that of the result; each like its array."""
    of_queries = (q_BSHE, o_BSHE, lse_BSH, do_BSHE)
    return _spread(
        partial(_backward, window=window), of_queries, (k_BTKE, v_BTKE), segments, summed=True
    )


def _spread(
    function: Callable[..., Any],
    of_queries: tuple[jax.Array, ...],
    of_keys: tuple[jax.Array, ...],
    segments: Segments,
    summed: bool = False,
) -> Any:
    """A function of queries and keys, for each device's part of the queries where a row is split.

    Args:
      function: (of_queries, of_keys, segments, place of the first query or None for 0).
      summed: its first result alone is of queries; the others, of keys, are sums over the parts.
    """
    rows, length = of_queries[0].shape[:2]
    devices = shards("sequence")
    if devices == 1 or length % devices:
        return function(of_queries, of_keys, segments, None)

    def parted(x: jax.Array) -> jax.Array:
        return x.reshape(rows, devices, -1, *x.shape[2:])

    of_keys = tuple(constrain(x, "batch", None, "heads", None) for x in of_keys)
    if segments is not None:
        segments = parted(segments[0]), constrain(segments[1], "batch", None)
    first_d = length // devices * jnp.arange(devices)
    axes = (1, None, None if segments is None else (1, None), 0)
    results = jax.vmap(function, axes, out_axes=1)(
        tuple(map(parted, of_queries)), of_keys, segments, first_d
    )
    if summed:
        first, *others = results
        together = [x.astype(jnp.float32).sum(1).astype(x.dtype) for x in others]
        return first.reshape(of_queries[0].shape), *together
    return tuple(x.reshape(rows, length, *x.shape[3:]) for x in results)


def _forward(
    of_queries: tuple[jax.Array], of_keys: Any, segments: Segments, first: Any, window: int
) -> tuple[jax.Array, jax.Array]:
    (q_BSHE,) = of_queries
    blocks = _Blocks(q_BSHE, of_keys[0], segments, first, window)
    q_NBKGSE = blocks.queries(q_BSHE)
    k_NBKTE, v_NBKTE = map(blocks.keys, of_keys)

    def turn(held: Any, at: Any) -> tuple[Any, None]:
        o_NBKGSE, top_NBKGS, sum_NBKGS = held
        i, j = at
        scores = blocks.scores(q_NBKGSE[i], k_NBKTE[j], i, j)
        top = jnp.maximum(top_NBKGS[i], scores.max(-1))
        weights = jnp.exp(scores - top[..., None])
        shrunk = jnp.exp(top_NBKGS[i] - top)  # 0 when the first key is seen: what was is forgotten
        sum_ = sum_NBKGS[i] * shrunk + weights.sum(-1)
        o = o_NBKGSE[i] * shrunk[..., None] + _product(
            "bkgst,bkte->bkgse", weights.astype(v_NBKTE.dtype), v_NBKTE[j]
        )
        now = (o_NBKGSE.at[i].set(o), top_NBKGS.at[i].set(top), sum_NBKGS.at[i].set(sum_))
        return now, None

    none = jnp.zeros(q_NBKGSE.shape, jnp.float32)
    start = (none, jnp.full(none.shape[:-1], FLOOR), none[..., 0])
    (o_NBKGSE, top_NBKGS, sum_NBKGS), _ = jax.lax.scan(turn, start, blocks.pairs)
    o_BSHE = blocks.row_of_queries(o_NBKGSE / sum_NBKGS[..., None]).astype(v_NBKTE.dtype)
    lse_BSH1 = blocks.row_of_queries((top_NBKGS + jnp.log(sum_NBKGS))[..., None])
    return o_BSHE, lse_BSH1[..., 0]


def _backward(
    of_queries: tuple[jax.Array, ...], of_keys: Any, segments: Segments, first: Any, window: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    q_BSHE, o_BSHE, lse_BSH, do_BSHE = of_queries
    k_BTKE, v_BTKE = of_keys
    blocks = _Blocks(q_BSHE, k_BTKE, segments, first, window)
    mean_BSH1 = _product("bshe,bshe->bsh", do_BSHE, o_BSHE)[..., None]
    q_NBKGSE, do_NBKGSE = blocks.queries(q_BSHE), blocks.queries(do_BSHE)
    lse_NBKGS1, mean_NBKGS1 = blocks.queries(lse_BSH[..., None]), blocks.queries(mean_BSH1)
    k_NBKTE, v_NBKTE = blocks.keys(k_BTKE), blocks.keys(v_BTKE)

    def turn(held: Any, at: Any) -> tuple[Any, None]:
        dq_NBKGSE, dk_NBKTE, dv_NBKTE = held
        i, j = at
        q, k, do = q_NBKGSE[i], k_NBKTE[j], do_NBKGSE[i]
        weights = jnp.exp(blocks.scores(q, k, i, j) - lse_NBKGS1[i])
        dweights = _product("bkgse,bkte->bkgst", do, v_NBKTE[j])
        dscores = (weights * (dweights - mean_NBKGS1[i])).astype(q.dtype)
        dv = _product("bkgst,bkgse->bkte", weights.astype(do.dtype), do)
        dk = _product("bkgst,bkgse->bkte", dscores, q)
        dq = _product("bkgst,bkte->bkgse", dscores, k)
        return (dq_NBKGSE.at[i].add(dq), dk_NBKTE.at[j].add(dk), dv_NBKTE.at[j].add(dv)), None

    start = [jnp.zeros(x.shape, jnp.float32) for x in (q_NBKGSE, k_NBKTE, v_NBKTE)]
    (dq_NBKGSE, dk_NBKTE, dv_NBKTE), _ = jax.lax.scan(turn, tuple(start), blocks.pairs)
    dq_BSHE = blocks.row_of_queries(dq_NBKGSE * blocks.scale).astype(q_BSHE.dtype)
    dk_BTKE = blocks.row_of_keys(dk_NBKTE * blocks.scale).astype(k_BTKE.dtype)
    return dq_BSHE, dk_BTKE, blocks.row_of_keys(dv_NBKTE).astype(v_BTKE.dtype)


class _Blocks:
    """How queries and keys are cut, and which blocks of the two meet.

    Rows are filled up to whole blocks; a causal query sees nothing of that.

    Args:
      first: place of the first query among the keys, known only at run time; None for 0.
    """

    def __init__(
        self, q_BSHE: jax.Array, k_BTKE: jax.Array, segments: Segments, first: Any, window: int
    ):
        self.S, (self.T, self.K) = q_BSHE.shape[1], k_BTKE.shape[1:3]
        self.scale = q_BSHE.shape[-1] ** -0.5
        self.first, self.window = 0 if first is None else first, window
        self.size = BLOCK if platform() == "cpu" else ELSEWHERE
        self.segments = None
        if segments is not None:
            self.segments = self._cut(segments[0]), self._cut(segments[1])
        i, j = np.indices([-(-length // self.size) for length in (self.S, self.T)])
        meet = np.ones(i.shape, bool)
        if first is None:
            meet = j <= i
            if window:
                meet &= (j + 1) * self.size > i * self.size - window + 1
        self.pairs = i[meet], j[meet]

    def _cut(self, x: jax.Array) -> jax.Array:
        """[B, S, ...] to [N, B, size, ...]."""
        whole = jnp.pad(x, [(0, 0), (0, -x.shape[1] % self.size), *[(0, 0)] * (x.ndim - 2)])
        return whole.reshape(x.shape[0], -1, self.size, *x.shape[2:]).swapaxes(0, 1)

    def queries(self, x_BSHE: jax.Array) -> jax.Array:
        """To [N, B, K, G, S, E]."""
        x_NBSHE = self._cut(x_BSHE)
        x_NBSKGE = x_NBSHE.reshape(*x_NBSHE.shape[:3], self.K, -1, x_NBSHE.shape[-1])
        return x_NBSKGE.transpose(0, 1, 3, 4, 2, 5)

    def keys(self, x_BTKE: jax.Array) -> jax.Array:
        """To [N, B, K, T, E]."""
        return self._cut(x_BTKE).swapaxes(2, 3)

    def row_of_queries(self, x_NBKGSE: jax.Array) -> jax.Array:
        """Back to [B, S, H, E]."""
        x_BNSKGE = x_NBKGSE.transpose(1, 0, 4, 2, 3, 5)
        B, N, C, K, G, E = x_BNSKGE.shape
        return x_BNSKGE.reshape(B, N * C, K * G, E)[:, : self.S]

    def row_of_keys(self, x_NBKTE: jax.Array) -> jax.Array:
        """Back to [B, T, K, E]."""
        x_BNTKE = x_NBKTE.transpose(1, 0, 3, 2, 4)
        B, N, C, K, E = x_BNTKE.shape
        return x_BNTKE.reshape(B, N * C, K, E)[:, : self.T]

    def scores(self, q_BKGSE: jax.Array, k_BKTE: jax.Array, i: Any, j: Any) -> jax.Array:
        """Of block i of the queries and block j of the keys, float32 [B, K, G, S, T]."""
        places = jnp.arange(self.size)
        distance_ST = self.first + (i - j) * self.size + places[:, None] - places[None, :]
        seen_BST = (distance_ST >= 0)[None]
        if self.window:
            seen_BST &= distance_ST < self.window
        if self.segments is not None:
            of_queries, of_keys = self.segments
            seen_BST &= of_queries[i][:, :, None] == of_keys[j][:, None, :]
        scores_BKGST = _product("bkgse,bkte->bkgst", q_BKGSE, k_BKTE) * self.scale
        return jnp.where(seen_BST[:, None, None], scores_BKGST, FLOOR)


def _product(terms: str, *arrays: jax.Array) -> jax.Array:
    return jnp.einsum(terms, *arrays, preferred_element_type=jnp.float32)
