"""The parameters of a model by name: their shapes, and random values for them.

Names are Hugging Face's, except that the layers' index is gone: `model.layers.mlp.up_proj.weight`
is one array with the layers on axis 0.
"""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxlite.config import Architecture
from maxlite.model.leaves import EMBEDDING, HEAD, LAYERS


def shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """Stacked names to shapes, in the order in which a forward pass meets them."""
    D, F = arch.hidden_size, arch.intermediate_size
    HE = arch.num_attention_heads * arch.head_dim
    KE = arch.num_key_value_heads * arch.head_dim
    table: dict[str, tuple[int, ...]] = {EMBEDDING: (arch.vocab_size, D)}

    def layers(name: str, *shape: int, bias: bool = False) -> None:
        table[f"{LAYERS}{name}.weight"] = (arch.num_hidden_layers, *shape)
        if bias:
            table[f"{LAYERS}{name}.bias"] = (arch.num_hidden_layers, shape[0])
        adapters = arch.lora.shapes(name, shape[0], shape[-1])
        for own, sizes in adapters.items():
            table[f"{LAYERS}{name}.{own}"] = (arch.num_hidden_layers, *sizes)

    layers("input_layernorm", D)
    layers("self_attn.q_proj", HE, D, bias=arch.attention_bias)
    layers("self_attn.k_proj", KE, D, bias=arch.attention_bias)
    layers("self_attn.v_proj", KE, D, bias=arch.attention_bias)
    layers("self_attn.o_proj", D, HE, bias=arch.attention_bias)
    layers("post_attention_layernorm", D)
    layers("mlp.gate_proj", F, D, bias=arch.mlp_bias)
    layers("mlp.up_proj", F, D, bias=arch.mlp_bias)
    layers("mlp.down_proj", D, F, bias=arch.mlp_bias)
    table["model.norm.weight"] = (D,)
    if not arch.tie_word_embeddings:
        table[HEAD] = (arch.vocab_size, D)
    return table


def initialize(
    arch: Architecture, name: str, shape: tuple[int, ...], key: jax.Array, dtype: Any
) -> jax.Array:
    """Random values of one parameter, as Hugging Face initialises Llama.

    Matrices are normal with `initializer_range`, norms one, biases zero. The values depend on the
    key and the name alone: not on the order of calls, nor on how the result is sharded.

    Args:
      arch: the model's shape.
      name: a stacked name.
      shape: as in `shapes`.
      key: `jax.random.key` of the seed, one for the whole model.
      dtype: of the result; the values are drawn in float32.
    """
    if name.endswith(".bias"):
        return jnp.zeros(shape, dtype)
    if name.endswith("norm.weight"):
        return jnp.ones(shape, dtype)
    key = jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))
    return (arch.initializer_range * jax.random.normal(key, shape, jnp.float32)).astype(dtype)
