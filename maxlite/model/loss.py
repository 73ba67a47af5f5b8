"""The loss: summed negative log-likelihood, divided by nothing, so that it adds up over batches.

Shapes: B batch, S sequence, V vocabulary rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from maxlite.model.llama import Llama


def token_nll(logits_BSV: jax.Array, targets_BS: jax.Array) -> jax.Array:
    """Negative log-likelihood of each target in nats, float32 [B, S].

    Args:
      logits_BSV: float32.
      targets_BS: int32, each below V.
    """
    chosen_BS1 = jnp.take_along_axis(logits_BSV, targets_BS[..., None], axis=-1)
    return jax.nn.logsumexp(logits_BSV, axis=-1) - chosen_BS1[..., 0]


def summed_loss(model: Llama, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The weighted sum of a batch's negative log-likelihoods, and the sum of its weights.

    Args:
      model: bound to parameters.
      batch: tokens, targets, segments and positions, int32 [B, S], and weights, float32 [B, S],
        zero where the target is padding or the first token of another document.

    Returns:
      Two float32 scalars, in nats and in tokens.
    """
    hidden_BSD = model(batch["tokens"], batch["positions"], batch["segments"])
    nll_BS = token_nll(model.logits(hidden_BSD), batch["targets"])
    return jnp.sum(batch["weights"] * nll_BS), jnp.sum(batch["weights"])
