"""Llama (and Mistral) over a stack of layers, and the way between a model and flat dicts of arrays.

Shapes: B batch, S sequence, D width, V vocabulary rows, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.model import rope
from maxlite.model.attention import choose
from maxlite.model.cache import Cache, init_cache
from maxlite.model.layers import Context, DecoderLayer, Embedding, Linear, RMSNorm, Variables
from maxlite.model.layout import constrain
from maxlite.model.parameters import initialize, shapes
from maxlite.model.remat import policy
from maxlite.model.variables import Frozen, value

__all__ = ["Cache", "Frozen", "Llama", "bind", "flat", "init_cache", "initialize", "shapes"]


class Decoder(nnx.Module):
    """Everything below the head; its name in a model is `model`, as in Hugging Face's."""

    def __init__(self, variables: Variables, arch: Architecture, backend: str):
        self.embed_tokens = Embedding(variables, "model.embed_tokens")
        self.layers = DecoderLayer(variables, "model.layers", arch, backend)
        self.norm = RMSNorm(variables, "model.norm", arch.rms_norm_eps)


class Llama(nnx.Module):
    """A causal language model.

    Args:
      arch: its shape.
      variables: names as in `shapes` to `nnx.Param` or `Frozen`; None leaves shapes without values.
        Any float dtype: a weight is cast where it is used.
      dtype: of the computation. Norms, softmax, rotations and logits are float32 whatever it is.
      attention: a backend, see `maxlite.model.attention`.
      remat: "none" keeps for the backward pass what is dear to compute again, "full" only the
        inputs of layers; see `maxlite.model.remat`.
      scan_unroll: layers per turn of the loop over layers; more compile longer and may run faster.

    Raises:
      InputError: an unknown attention, remat or RoPE type, or a shape that cannot be.
    """

    def __init__(
        self,
        arch: Architecture,
        variables: Variables | None = None,
        *,
        dtype: Any = jnp.float32,
        attention: str = "auto",
        remat: str = "none",
        scan_unroll: int = 1,
    ):
        _check(arch, scan_unroll)
        if variables is None:
            variables = {
                name: nnx.Param(jax.ShapeDtypeStruct(shape, jnp.float32))
                for name, shape in shapes(arch).items()
            }
        self.model = Decoder(variables, arch, choose(attention))
        self.lm_head = None if arch.tie_word_embeddings else Linear(variables, "lm_head")
        self.depth = arch.num_hidden_layers
        self.frequencies = tuple(rope.frequencies(arch).tolist())
        self.dtype = jnp.dtype(dtype)
        self.policy = policy(remat)
        self.scan_unroll = scan_unroll

    def __call__(
        self,
        tokens_BS: jax.Array,
        positions_BS: jax.Array | None = None,
        segments_BS: jax.Array | None = None,
        cache: Cache | None = None,
    ) -> Any:
        """The hidden states after the last norm.

        Args:
          tokens_BS: int32 ids, each below V; another gives NaN.
          positions_BS: int32, for the rotations; by default places in the row.
          segments_BS: int32, documents packed in one row see only themselves; by default all are 1.
          cache: what came before in these rows; the tokens are appended to it.

        Returns:
          hidden_BSD in the compute dtype; with a cache, (hidden_BSD, the longer cache).
        """
        length = tokens_BS.shape[1]
        start = jnp.int32(0) if cache is None else cache.length
        if positions_BS is None:
            positions_BS = (start + jnp.arange(length, dtype=jnp.int32))[None]
        segments = None if segments_BS is None else (segments_BS, segments_BS)
        if cache is not None:
            if segments_BS is None:
                segments_BS = jnp.ones_like(tokens_BS, jnp.int32)
            cache = cache.append_segments(segments_BS)
            segments = (segments_BS, cache.segments)
        rotation = rope.angles(np.array(self.frequencies, np.float32), positions_BS)

        x_BSD = self.model.embed_tokens(tokens_BS).astype(self.dtype)
        x_BSD = constrain(x_BSD, "batch", None, None)
        x_BSD, cache = self._layers(x_BSD, Context(rotation, segments, start), cache)
        hidden_BSD = self.model.norm(x_BSD)
        return hidden_BSD if cache is None else (hidden_BSD, cache._replace(length=start + length))

    def _layers(
        self, x_BSD: jax.Array, context: Context, cache: Cache | None
    ) -> tuple[jax.Array, Cache | None]:
        graphdef, stack = nnx.split(self.model.layers)

        def body(carry, turn):
            state, layer = turn
            return nnx.merge(graphdef, state)(carry[0], context, carry[1], layer), None

        # The loop itself keeps the two passes apart; unrolled whole, there is no loop.
        unrolled = self.scan_unroll >= self.depth
        body = jax.checkpoint(body, prevent_cse=unrolled, policy=self.policy)
        turns = (stack, jnp.arange(self.depth))
        carry, _ = jax.lax.scan(body, (x_BSD, cache), turns, unroll=self.scan_unroll)
        return carry

    def logits(self, hidden_BSD: jax.Array) -> jax.Array:
        """Scores of every vocabulary row, float32 [B, S, V]."""
        head = self.model.embed_tokens if self.lm_head is None else self.lm_head
        # Its rows are spread like the logits, or the backward pass would gather those.
        table_VD = constrain(value(head.weight).astype(hidden_BSD.dtype), "vocab", None)
        logits_BSV = jnp.einsum(
            "bsd,vd->bsv", hidden_BSD, table_VD, preferred_element_type=jnp.float32
        )
        return constrain(logits_BSV, "batch", None, "vocab")


def _check(arch: Architecture, scan_unroll: int) -> None:
    if scan_unroll < 1:
        raise InputError(f"scan_unroll must be at least 1, not {scan_unroll}")
    if arch.num_attention_heads % arch.num_key_value_heads:
        raise InputError(
            f"num_attention_heads {arch.num_attention_heads} is not a multiple of "
            f"num_key_value_heads {arch.num_key_value_heads}; correct the model's config"
        )
    if arch.head_dim % 2:
        raise InputError(
            f"head_dim {arch.head_dim} is odd, and rotary positions need pairs; "
            "correct the model's config"
        )


def bind(
    arch: Architecture,
    params: Mapping[str, jax.Array],
    frozen: Mapping[str, jax.Array],
    **settings: Any,
) -> Llama:
    """A model over given arrays, copying none; cheap, and traceable under jit and grad.

    Args:
      arch: its shape.
      params: stacked names to arrays that train.
      frozen: stacked names to arrays that do not.
      settings: keyword arguments of `Llama`.

    Raises:
      ValueError: the names are not exactly those of `shapes(arch)`, each in one of the two.
      InputError: see `Llama`.
    """
    expected = shapes(arch)
    if both := sorted(params.keys() & frozen.keys()):
        raise ValueError(f"parameters both trained and frozen: {both}")
    given = {name: array.shape for name, array in {**params, **frozen}.items()}
    if given != expected:
        wrong = sorted(set(given.items()) ^ set(expected.items()))
        raise ValueError(f"parameters missing, unknown or of another shape: {wrong}")
    variables: dict[str, nnx.Variable] = {name: nnx.Param(x) for name, x in params.items()}
    variables |= {name: Frozen(x) for name, x in frozen.items()}
    return Llama(arch, variables, **settings)


def flat(model: Llama) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """What `bind` was given: the arrays that train and those that are frozen, by name."""
    params, frozen = nnx.state(model, nnx.Param, Frozen)
    return _arrays(params), _arrays(frozen)


def _arrays(state: nnx.State) -> dict[str, jax.Array]:
    return {
        ".".join(str(part) for part in path): variable.get_value()
        for path, variable in nnx.to_flat_state(state)
    }
