"""The loss: summed negative log-likelihood, divided by nothing, so that it adds up over batches.

Shapes: B batch, S sequence, V vocabulary rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from maxlite.model.llama import Llama


def token_nll(scores: Sequence[jax.Array], targets_BS: jax.Array) -> jax.Array:
    """Negative log-likelihood of each target in nats, float32 [B, S].

    Args:
      scores: float32 [B, S, Vi], the vocabulary's in parts; one log-sum-exp goes over all.
      targets_BS: int32, each below V.
    """
    total_BS = jax.nn.logsumexp(scores[0], axis=-1)
    chosen_BS = _chosen(scores[0], targets_BS)
    start = scores[0].shape[-1]
    for part in scores[1:]:
        total_BS = jnp.logaddexp(total_BS, jax.nn.logsumexp(part, axis=-1))
        here_BS = targets_BS >= start
        local_BS = jnp.where(here_BS, targets_BS - start, 0)
        chosen_BS = jnp.where(here_BS, _chosen(part, local_BS), chosen_BS)
        start += part.shape[-1]
    return total_BS - chosen_BS


def _chosen(scores_BSV: jax.Array, targets_BS: jax.Array) -> jax.Array:
    return jnp.take_along_axis(scores_BSV, targets_BS[..., None], axis=-1)[..., 0]


def summed_loss(
    model: Llama, batch: Mapping[str, jax.Array], key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The weighted sum of a batch's negative log-likelihoods, and the sum of its weights.

    Args:
      model: bound to parameters.
      batch: tokens, targets, segments and positions, int32 [B, S], and weights, float32 [B, S],
        zero where the target is padding or the first token of another document.
      key: for what adapters with a dropout leave out, in training.

    Returns:
      Two float32 scalars, in nats and in tokens.
    """
    hidden_BSD = model(batch["tokens"], batch["positions"], batch["segments"], key=key)
    nll_BS = token_nll(model.scores(hidden_BSD, key), batch["targets"])
    return jnp.sum(batch["weights"] * nll_BS), jnp.sum(batch["weights"])
