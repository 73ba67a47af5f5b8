"""Llama (and Mistral) over a stack of layers, and the way between a model and flat dicts of arrays.

Shapes: B batch, S sequence, D width, V vocabulary rows, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.model import rope
from maxlite.model.attention import check
from maxlite.model.cache import Cache, init_cache
from maxlite.model.head import Head
from maxlite.model.initial import initialize
from maxlite.model.layers import Context, DecoderLayer, RMSNorm, Table, Variables
from maxlite.model.layout import constrain
from maxlite.model.leaves import Layout, Loop, Places, layout, leaf
from maxlite.model.remat import policy
from maxlite.model.variables import Frozen, stored
from maxlite.parameters import EMBEDDING, HEAD, LAYERS, shapes

__all__ = ["Cache", "Frozen", "Llama", "bind", "init_cache", "initialize", "shapes"]


def table(name: str, variables: Variables, arch: Architecture, plan: Layout) -> Table:
    """A vocabulary table by the name of its parameter."""
    module = name.removesuffix(".weight")
    parts = [variables[n] for n in plan.tables[name]]
    adapter = [variables[n] for n in sorted(plan.tables) if n.startswith(f"{module}.lora_")]
    return Table(parts, adapter, module, arch.lora)


class Decoder(nnx.Module):
    """Everything below the head; its name in a model is `model`, as in Hugging Face's."""

    def __init__(self, variables: Variables, arch: Architecture, plan: Layout):
        self.embed_tokens = table(EMBEDDING, variables, arch, plan)
        self.layers = nnx.Dict({n: v for n, v in variables.items() if n.startswith(LAYERS)})
        self.norm = RMSNorm(variables, "model.norm", arch.rms_norm_eps)


class Llama(nnx.Module):
    """A causal language model.

    Args:
      arch: its shape.
      variables: names of leaves (see `maxlite.model.leaves`) to `nnx.Param` or `Frozen`; None
        leaves shapes without values. Any float dtype: a weight is cast where it is used.
      dtype: of the computation. Norms, softmax, rotations and logits are float32 whatever it is.
      attention: a backend, see `maxlite.model.attention`; with a cache it is always dense.
      remat: what is kept for the backward pass, from "none", all that is dear to compute again, to
        "full", the inputs of layers alone; see `maxlite.model.remat`.
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
        self.arch, self.backend = arch, check(attention, arch.head_dim, dtype)
        self.plan = layout(tuple(variables), tuple(shapes(arch).items()))
        self.model = Decoder(variables, arch, self.plan)
        tied = arch.tie_word_embeddings
        self.lm_head = None if tied else table(HEAD, variables, arch, self.plan)
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
        key: jax.Array | None = None,
    ) -> Any:
        """The hidden states after the last norm.

        Args:
          tokens_BS: int32 ids, each below V; another gives NaN.
          positions_BS: int32, for the rotations; by default places in the row.
          segments_BS: int32, documents packed in one row see only themselves; by default all are 1.
          cache: what came before in these rows; the tokens are appended to it.
          key: for what adapters with a dropout leave out, in training; None: nothing.

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

        x_BSD = self.model.embed_tokens.rows(tokens_BS, self.dtype)
        x_BSD = constrain(x_BSD, "batch", "sequence", None)
        x_BSD, cache = self._layers(x_BSD, Context(rotation, segments, start, key), cache)
        hidden_BSD = self.model.norm(x_BSD)
        return hidden_BSD if cache is None else (hidden_BSD, cache._replace(length=start + length))

    def _layers(
        self, x_BSD: jax.Array, context: Context, cache: Cache | None
    ) -> tuple[jax.Array, Cache | None]:
        for loop, places in zip(self.plan.stack, self.plan.places, strict=True):
            x_BSD, cache = self._loop(loop, places, x_BSD, context, cache)
        return x_BSD, cache

    def _loop(
        self, loop: Loop, places: Places, x_BSD: jax.Array, context: Context, cache: Cache | None
    ) -> tuple[jax.Array, Cache | None]:
        """One loop: in each turn as many layers as the loop's pattern has."""
        kinds = {own: self.model.layers[own] for parts in places.values() for own, _ in parts}

        def turns_of(x: jax.Array) -> jax.Array:
            return x.reshape(loop.repeats, -1, *x.shape[1:])

        stack = {own: jax.tree.map(turns_of, stored(variable)) for own, variable in kinds.items()}
        unrolled = self.scan_unroll >= loop.period * loop.repeats

        def layer_at(place: int) -> Callable[..., Any]:
            own = {name: parts[place] for name, parts in places.items()}

            def apply(turn, x_BSD, cache, number):
                # Picked in here, or what is picked would be kept for the backward pass.
                variables = {
                    name: type(kinds[at])(jax.tree.map(lambda x, i=i: x[i], turn[at]))
                    for name, (at, i) in own.items()
                }
                decoder = DecoderLayer(variables, LAYERS[:-1], self.arch, self.backend)
                layer = loop.first + number * loop.period + place
                key = None if context.key is None else jax.random.fold_in(context.key, layer)
                return decoder(x_BSD, context._replace(key=key), cache, layer)

            # The loop itself keeps the two passes apart; unrolled whole, there is no loop.
            return jax.checkpoint(apply, prevent_cse=unrolled, policy=self.policy)

        pattern = [layer_at(place) for place in range(loop.period)]

        def body(carry, turn):
            arrays, number = turn
            for apply in pattern:
                carry = apply(arrays, *carry, number)
            return carry, None

        turns = (stack, jnp.arange(loop.repeats))
        unroll = max(1, self.scan_unroll // loop.period)
        carry, _ = jax.lax.scan(body, (x_BSD, cache), turns, unroll=unroll)
        return carry

    def head(self, hidden_BSD: jax.Array, key: jax.Array | None = None) -> Head:
        """What the scores of the vocabulary rows are the products of."""
        return (self.lm_head or self.model.embed_tokens).head(hidden_BSD, key)

    def logits(self, hidden_BSD: jax.Array) -> jax.Array:
        """Scores of every vocabulary row, float32 [B, S, V]."""
        parts = self.head(hidden_BSD).placed().scores("batch", "sequence")
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


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
      params: names of leaves to arrays that train.
      frozen: names of leaves to arrays that do not.
      settings: keyword arguments of `Llama`.

    Raises:
      ValueError: the leaves are not exactly those of the model, each in one of the two.
      InputError: see `Llama`.
    """
    if both := sorted(params.keys() & frozen.keys()):
        raise ValueError(f"parameters both trained and frozen: {both}")
    whole = shapes(arch)
    for name, array in {**params, **frozen}.items():
        own = leaf(name)
        expected = own.shape(whole[own.parameter]) if own.parameter in whole else None
        if array.shape != expected:
            raise ValueError(f"{name} is {array.shape}, expected {expected}")
    variables: dict[str, nnx.Variable] = {name: nnx.Param(x) for name, x in params.items()}
    variables |= {name: Frozen(x) for name, x in frozen.items()}
    return Llama(arch, variables, **settings)
