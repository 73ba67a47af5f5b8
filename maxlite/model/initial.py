"""Random values for the parameters of a model."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxlite.config import Architecture


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
