"""What forward passes alone tell: Block Influence, activations, and the loss without a layer.

Shapes: B batch, S sequence, D width, L layers, G key-value groups, F FFN channels, E head size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxlite.importance import gates as gates_lib
from maxlite.importance.text import Text
from maxlite.importance.walk import walk, watch
from maxlite.model.layers import Context, DecoderLayer
from maxlite.model.loss import summed_loss
from maxlite.state.ready import Ready

Scores = dict[str, np.ndarray]
Batch = Mapping[str, jax.Array]


def block_influence(ready: Ready, text: Text, size: int) -> Scores:
    """Layers by how much they turn the residual stream (ShortGPT, arXiv 2403.03853, section 3.1).

    1 - cos(x, y) of a layer's input x and output y, the mean over all tokens.

    Args:
      ready: the model.
      text: what it reads.
      size: rows at a time.
    """

    def sums(params: Any, batch: Batch) -> tuple[Any, jax.Array]:
        real_BS = (batch["segments"] > 0).astype(jnp.float32)

        def look(layer: DecoderLayer, x_BSD: jax.Array, context: Context) -> tuple[jax.Array, Any]:
            y_BSD, _ = layer(x_BSD, context, None, jnp.int32(0))
            x, y = x_BSD.astype(jnp.float32), y_BSD.astype(jnp.float32)
            norms_BS = jnp.linalg.norm(x, axis=-1) * jnp.linalg.norm(y, axis=-1)
            cosine_BS = jnp.sum(x * y, axis=-1) / jnp.maximum(norms_BS, 1e-30)
            return y_BSD, jnp.sum(real_BS * (1 - cosine_BS))

        _, influence_L = walk(ready.bind(params, {}), batch, look)
        return {"layers": influence_L}, jnp.sum(real_BS)

    return _mean(ready, text, size, sums)


def activation(ready: Ready, text: Text, size: int) -> Scores:
    """Units by the size of what they give (Minitron, arXiv 2407.14679, section 2.2).

    Of its aggregations the plain mean over all tokens, of every batch and place alike:

      channels  |silu(gate) * up|, what goes into the down projection
      groups    the L2 norm of what the heads of a group give, what goes into the output projection
      residual  |x / rms(x) * weight| behind a norm, the mean over all norms, the last one included

    Args:
      ready: the model.
      text: what it reads.
      size: rows at a time.
    """
    groups, norms = ready.architecture.num_key_value_heads, 2 * ready.architecture.num_hidden_layers
    inner = ("self_attn.o_proj", "mlp.down_proj")
    normed = ("self_attn.q_proj", "mlp.gate_proj")

    def sums(params: Any, batch: Batch) -> tuple[Any, jax.Array]:
        real_BS1 = (batch["segments"] > 0).astype(jnp.float32)[..., None]

        def total(x_BSI: jax.Array) -> jax.Array:
            return jnp.sum(real_BS1 * jnp.abs(x_BSI.astype(jnp.float32)), axis=(0, 1))

        def look(layer: DecoderLayer, x_BSD: jax.Array, context: Context) -> tuple[jax.Array, Any]:
            seen = watch(layer, *inner, *normed)
            y_BSD, _ = layer(x_BSD, context, None, jnp.int32(0))
            heads_BSO, channels_BSF = (seen[name] for name in inner)
            heads_BSGO = heads_BSO.reshape(*heads_BSO.shape[:2], groups, -1).astype(jnp.float32)
            return y_BSD, {
                "groups": total(jnp.linalg.norm(heads_BSGO, axis=-1)),
                "channels": total(channels_BSF),
                "residual": sum(total(seen[name]) for name in normed),
            }

        hidden_BSD, found = walk(ready.bind(params, {}), batch, look)
        residual_D = (found["residual"].sum(0) + total(hidden_BSD)) / (norms + 1)
        return {**found, "residual": residual_D}, jnp.sum(real_BS1)

    return _mean(ready, text, size, sums)


def leave_one_out(ready: Ready, text: Text, size: int) -> Scores:
    """Layers by what their absence costs: the loss without a layer, minus the loss.

    It is training's, in nats a token. A layer that does harm has less than 0.

    Args:
      ready: the model.
      text: what it reads.
      size: rows at a time.
    """
    arch = ready.architecture

    @jax.jit
    def sums(params: Any, keep_L: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
        masked = gates_lib.masked(arch, params, {"layers": keep_L}, dtype=ready.dtype)
        return summed_loss(masked, batch)

    depth = arch.num_hidden_layers
    keep = np.vstack([np.ones(depth), 1 - np.eye(depth)]).astype(np.float32)
    nll = np.zeros(depth + 1)
    weight = 0.0
    with ready.on_mesh():
        for batch in text.batches(size, ready.mesh, "leaving out layers"):
            found = [sums(ready.params, keep_L, batch) for keep_L in keep]
            nll += np.array([float(one) for one, _ in found])
            weight += float(found[0][1])
    return {"layers": ((nll[1:] - nll[0]) / weight).astype(np.float32)}


def _mean(
    ready: Ready,
    text: Text,
    size: int,
    sums: Callable[[Any, Batch], tuple[Any, jax.Array]],
) -> Scores:
    """Sums over batches, divided by the sum of their weights."""
    run = jax.jit(sums)
    found: dict[str, Any] = {}
    weight = 0.0
    with ready.on_mesh():
        for batch in text.batches(size, ready.mesh, "measuring"):
            more, more_weight = run(ready.params, batch)
            for kind, array in more.items():
                found[kind] = found.get(kind, 0.0) + np.asarray(array, np.float64)
            weight += float(more_weight)
    return {kind: (array / weight).astype(np.float32) for kind, array in found.items()}
