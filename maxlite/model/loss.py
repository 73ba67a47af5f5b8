"""The loss: summed negative log-likelihood, divided by nothing, so that it adds up over batches.

Scores of the vocabulary are by far the largest thing in a step, so they are never all there: tokens
go through in chunks, and a chunk's gradients are computed while its scores are at hand (as in Liger
Kernel, arXiv 2410.10989, section 3.2). Nothing is computed twice, and what is kept for the backward
pass is as large as the hidden states and the tables that train. Each device cuts the tokens that it
has; nothing is exchanged but, after the last chunk, the sums of the tables' gradients.

Shapes: B batch, S sequence, V vocabulary rows, K numbers of an input; C chunks of T tokens each on
P x Q devices, P along the rows of the batch and Q along the sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from maxlite.model.head import Head
from maxlite.model.layout import constrain, shards
from maxlite.model.llama import Llama

CHUNK = 2**27  # bytes of scores on a device; see `chunk_tokens`
TILE = 128  # tokens of a chunk are a multiple of it, or matrix units would idle
ENOUGH = 1024  # tokens of a chunk; see `chunk_tokens`
SPREAD = ("batch", "sequence")

Gradients = Any  # a tree like `Head`, None where none is wanted


class Sums(NamedTuple):
    """Over the tokens of a batch, each times its weight; float32 scalars.

    Attributes:
      nll: negative log-likelihood, in nats.
      weight: the weights.
      penalty: the z-loss, in nats.
    """

    nll: jax.Array
    weight: jax.Array
    penalty: jax.Array


def chunk_tokens(rows: int) -> int:
    """Tokens of a chunk on each device.

    Their scores take `CHUNK` bytes, or more where these were few tokens: a table's gradient is read
    and written in float32 once a chunk, 8 bytes a number beside 6 FLOPs a token. From `ENOUGH`
    tokens on, that takes accelerators less than half the time of the products.

    Args:
      rows: of the vocabulary, on this device.
    """
    return max(CHUNK // (4 * rows) // TILE * TILE, ENOUGH)


def summed_loss(
    model: Llama, batch: Mapping[str, jax.Array], key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The weighted sum of a batch's negative log-likelihoods, and the sum of its weights.

    Args:
      model: bound to parameters.
      batch: tokens, targets, segments and positions, int32 [B, S], and weights, float32 [B, S],
        zero where the target is padding or the first token of another document. No gradient flows
        into the weights.
      key: for what adapters with a dropout leave out, in training.

    Returns:
      Two float32 scalars, in nats and in tokens.
    """
    nll, sums = training_loss(model, batch, key)
    return nll, sums.weight


def training_loss(
    model: Llama,
    batch: Mapping[str, jax.Array],
    key: jax.Array | None = None,
    z_loss: float = 0.0,
) -> tuple[jax.Array, Sums]:
    """What training makes small: `summed_loss`, and the z-loss.

    That is the square of log Z, the log-sum-exp of a token's scores, which it draws to 0 (PaLM,
    arXiv 2204.02311, section 5, with a weight of 1e-4; MaxText's `z_loss_multiplier`).

    Args:
      model, batch, key: as in `summed_loss`.
      z_loss: its weight.

    Returns:
      The sum of both, differentiable, and what it is made of, which is not.
    """
    head = _head(model, batch, key)
    return _training_loss(z_loss, head, batch["targets"], batch["weights"])


def row_losses(model: Llama, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Both sums of `summed_loss` for each row alone, float32 [B]; not to be differentiated."""
    weights_BS = batch["weights"]
    nll_BS, _, _ = _walk(0.0, _head(model, batch), batch["targets"], weights_BS)
    return jnp.sum(weights_BS * nll_BS, -1), jnp.sum(weights_BS, -1)


def _head(model: Llama, batch: Mapping[str, jax.Array], key: jax.Array | None = None) -> Head:
    hidden_BSD = model(batch["tokens"], batch["positions"], batch["segments"], key=key)
    return model.head(hidden_BSD, key)


# --- the gradient --------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _training_loss(
    z_loss: float, head: Head, targets_BS: jax.Array, weights_BS: jax.Array
) -> tuple[jax.Array, Sums]:
    nll_BS, total_BS, _ = _walk(z_loss, head, targets_BS, weights_BS)
    return _summed(z_loss, nll_BS, total_BS, weights_BS)


def _summed(
    z_loss: float, nll_BS: jax.Array, total_BS: jax.Array, weights_BS: jax.Array
) -> tuple[jax.Array, Sums]:
    nll, weight = jnp.sum(weights_BS * nll_BS), jnp.sum(weights_BS)
    if not z_loss:
        return nll, Sums(nll, weight, jnp.zeros(()))
    penalty = z_loss * jnp.sum(weights_BS * total_BS**2)
    return nll + penalty, Sums(nll, weight, penalty)


def _forward(z_loss: float, *arguments: Any) -> tuple[tuple[jax.Array, Sums], Gradients]:
    head, targets_BS, weights_BS = jax.tree.map(lambda x: x.value, arguments)
    # Known from what is differentiated: frozen rows have no gradient, and there is none of the
    # hidden states where nothing below trains.
    wanted = jax.tree.map(lambda x: x.perturbed, arguments[0])
    nll_BS, total_BS, gradients = _walk(z_loss, head, targets_BS, weights_BS, wanted)
    return _summed(z_loss, nll_BS, total_BS, weights_BS), gradients


def _backward(_: float, gradients: Gradients, outer: tuple[jax.Array, Any]) -> Any:
    return jax.tree.map(lambda x: (outer[0] * x).astype(x.dtype), gradients), None, None


_training_loss.defvjp(_forward, _backward, symbolic_zeros=True)


# --- chunks --------------------------------------------------------------------------------------


def _walk(
    z_loss: float,
    head: Head,
    targets_BS: jax.Array,
    weights_BS: jax.Array,
    wanted: Any = None,
) -> tuple[jax.Array, jax.Array, Gradients]:
    """Goes through the tokens.

    Args:
      z_loss: its weight in the gradient.
      head: over the tokens.
      targets_BS: each below V.
      weights_BS: of the tokens.
      wanted: a tree like the head, whether each array's gradient is; None: none is.

    Returns:
      The negative log-likelihood and the log-sum-exp of each token, float32 [B, S], and the
      gradients of their weighted sum.
    """
    if wanted is None:
        wanted = jax.tree.map(lambda _: False, head)
    cuts = _Cuts(targets_BS.shape, head)
    ready = head.placed()

    def turn(held_PQVK: Any, chunk: Any) -> tuple[Any, Any]:
        inputs, targets, weights = chunk
        here = Head(inputs, ready.tables)
        slopes, found = _chunk(z_loss, here, targets, weights)
        # Kept apart by device until the last chunk, so that they are exchanged once.
        held_PQVK = tuple(
            tuple(
                None if sum_ is None else cuts.pin(sum_ + _product("pqtv,pqtk->pqvk", d, x), 1)
                for sum_, x in zip(part, inputs, strict=True)
            )
            for part, d in zip(held_PQVK, slopes, strict=True)
        )
        back = tuple(
            _back(slopes, [part[j] for part in ready.tables], x) if wanted.inputs[j] else None
            for j, x in enumerate(inputs)
        )
        return held_PQVK, (*found, back)

    empty = jax.tree.map(
        lambda w_VK, mine: cuts.pin(jnp.zeros((*cuts.devices, *w_VK.shape)), 1) if mine else None,
        head.tables,
        wanted.tables,
    )
    chunks = jax.tree.map(cuts.cut, (head.inputs, targets_BS, weights_BS))
    held_PQVK, found = jax.lax.scan(turn, empty, chunks)
    nll_BS, total_BS, inputs = jax.tree.map(cuts.join, found)
    tables = tuple(
        tuple(
            None if x is None else constrain(x.sum((0, 1)), "vocab", "width").astype(w_VK.dtype)
            for x, w_VK in zip(*parts, strict=True)
        )
        for parts in zip(held_PQVK, head.tables, strict=True)
    )
    return nll_BS, total_BS, Head(inputs, tables)


def _chunk(
    z_loss: float, head: Head, targets: jax.Array, weights: jax.Array
) -> tuple[list[jax.Array], tuple[jax.Array, jax.Array]]:
    """A chunk's gradients of its scores [P, Q, T, Vi], and what `_walk` says of its tokens."""
    scores = head.scores(*SPREAD, None)
    tops = [jnp.max(x, axis=-1, keepdims=True) for x in scores]
    sums = [jnp.sum(jnp.exp(x - top), axis=-1) for x, top in zip(scores, tops, strict=True)]
    parts = [jnp.log(s) + top[..., 0] for s, top in zip(sums, tops, strict=True)]
    total, pull = jax.vjp(_logsumexp, parts)
    (shares,) = pull(weights + 2 * z_loss * weights * total if z_loss else weights)
    chosen = jnp.full((), jnp.nan)  # what a target without a row has
    slopes = []
    for x, top, s, share, start in zip(scores, tops, sums, shares, head.starts, strict=True):
        rows, local = x.shape[-1], targets - start
        inside = (local >= 0) & (local < rows)
        picked = jnp.take_along_axis(x, jnp.clip(local, 0, rows - 1)[..., None], axis=-1)[..., 0]
        chosen = jnp.where(inside, picked, chosen)
        hit = local[..., None] == jnp.arange(rows)
        slope = jnp.exp(x - top) * (share / s)[..., None] - jnp.where(hit, weights[..., None], 0)
        slopes.append(slope.astype(head.inputs[0].dtype))
    return slopes, (total - chosen, total)


def _logsumexp(parts: Sequence[jax.Array]) -> jax.Array:
    total = parts[0]
    for part in parts[1:]:
        total = jnp.logaddexp(total, part)
    return total


def _back(slopes: Sequence[jax.Array], tables: Sequence[jax.Array], x: jax.Array) -> jax.Array:
    """The gradient of an input, in its dtype."""
    several = [_product("pqtv,vk->pqtk", d, w_VK) for d, w_VK in zip(slopes, tables, strict=True)]
    return sum(several[1:], start=several[0]).astype(x.dtype)


def _product(formula: str, one: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.einsum(formula, one, other, preferred_element_type=jnp.float32)


class _Cuts:
    """How the tokens of a batch become chunks [C, P, Q, T] of what each device has.

    Args:
      shape: B and S.
      head: what their scores come from.
    """

    def __init__(self, shape: tuple[int, ...], head: Head):
        over = [shards(axis) for axis in SPREAD]
        self.devices = tuple(n if size % n == 0 else 1 for n, size in zip(over, shape, strict=True))
        self.shape = tuple(size // n for n, size in zip(self.devices, shape, strict=True))
        rows = sum(part[0].shape[0] for part in head.tables)
        most = chunk_tokens(-(-rows // shards("vocab")))
        self.tokens = math.prod(self.shape)
        self.count = -(-self.tokens // most)
        if self.count > 1:
            self.tokens = -(-self.tokens // (self.count * TILE)) * TILE

    def pin(self, x: jax.Array, vocab: int = 0) -> jax.Array:
        """Keeps [P, Q, ...] where its devices are; with 1, the next axis is the vocabulary's."""
        rest = ["vocab"][:vocab] + [None] * (x.ndim - 2 - vocab)
        return constrain(x, *SPREAD, *rest)

    def cut(self, x_BS: jax.Array) -> jax.Array:
        """[B, S, ...] to [C, P, Q, T, ...]; what the last chunk lacks is zero."""
        (p, q), (b, s), rest = self.devices, self.shape, x_BS.shape[2:]
        x = x_BS.reshape(p, b, q, s, *rest).swapaxes(1, 2).reshape(p, q, b * s, *rest)
        short = self.count * self.tokens - b * s
        x = jnp.pad(self.pin(x), [(0, 0), (0, 0), (0, short), *[(0, 0)] * len(rest)])
        x = x.reshape(p, q, self.count, self.tokens, *rest)
        return constrain(jnp.moveaxis(x, 2, 0), None, *SPREAD, *[None] * (len(rest) + 1))

    def join(self, x_CPQT: jax.Array) -> jax.Array:
        """[C, P, Q, T, ...] back to [B, S, ...]."""
        (p, q), (b, s), rest = self.devices, self.shape, x_CPQT.shape[4:]
        x = jnp.moveaxis(x_CPQT, 0, 2).reshape(p, q, -1, *rest)[:, :, : b * s]
        x = self.pin(x).reshape(p, q, b, s, *rest).swapaxes(1, 2)
        return constrain(x.reshape(p * b, q * s, *rest), *SPREAD, *[None] * len(rest))
