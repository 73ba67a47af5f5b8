"""Rotary position embedding, half-rotation form (arXiv 2104.09864), with Hugging Face's scalings:
`linear` is of arXiv 2306.15595, `llama3` of the models of arXiv 2407.21783.

Shapes: B batch, S sequence, H heads, E head size, R = E / 2 rotations.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from maxlite.config import Architecture
from maxlite.errors import InputError


def frequencies(arch: Architecture) -> np.ndarray:
    """Radians per position of each rotation, float32 [R].

    Raises:
      InputError: an unknown `rope_type`.
    """
    exponents = np.arange(0, arch.head_dim, 2, dtype=np.float32) / np.float32(arch.head_dim)
    plain = np.float32(1) / np.float32(arch.rope_theta) ** exponents
    if arch.rope_type == "default":
        return plain
    if arch.rope_type == "linear":
        return plain / np.float32(arch.rope_factor)
    if arch.rope_type == "llama3":
        return _llama3(arch, plain)
    raise InputError(
        f"rope_type '{arch.rope_type}' is not supported; use default, linear or llama3"
    )


def _llama3(arch: Architecture, plain: np.ndarray) -> np.ndarray:
    """Slow rotations divided by the factor, fast ones kept, those between interpolated."""
    low, high = arch.rope_low_freq_factor, arch.rope_high_freq_factor
    trained = arch.original_max_position_embeddings or arch.max_position_embeddings
    turns = trained * plain / (2 * math.pi)  # how often each rotation comes round in training
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (smooth * plain + (1 - smooth) * plain / arch.rope_factor).astype(np.float32)


def angles(frequencies_R: np.ndarray, positions_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of the rotations, float32 [B, S, 1, R]: the same for every head."""
    angle_BSR = positions_BS.astype(jnp.float32)[..., None] * frequencies_R
    return jnp.cos(angle_BSR)[:, :, None], jnp.sin(angle_BSR)[:, :, None]


def rotate(x_BSHE: jax.Array, rotation: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turns queries or keys by `angles`, in float32; dtype and shape stay."""
    cos, sin = rotation
    first, second = jnp.split(x_BSHE.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x_BSHE.dtype)
