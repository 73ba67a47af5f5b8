"""A forward pass that looks at what goes in and out of each layer, and of the parts of one.

It runs the model's own modules; only the loop over them is another.

Shapes: B batch, S sequence, D width, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from maxlite.model import rope
from maxlite.model.layers import Context, DecoderLayer, Linear
from maxlite.model.llama import Llama
from maxlite.model.variables import stored
from maxlite.parameters import LAYERS

Look = Callable[[DecoderLayer, jax.Array, Context], tuple[jax.Array, Any]]


def walk(model: Llama, batch: Mapping[str, jax.Array], look: Look) -> tuple[jax.Array, Any]:
    """Runs a model on a batch, layer by layer.

    Args:
      model: bound to parameters, none in several leaves.
      batch: tokens, positions and segments, int32 [B, S].
      look: (layer, x_BSD, context) -> (the layer's output, what was seen): runs the layer.

    Returns:
      The hidden states after the last norm, [B, S, D], and what was seen, layers on axis 0.
    """
    segments = batch["segments"], batch["segments"]
    frequencies = np.array(model.frequencies, np.float32)
    context = Context(rope.angles(frequencies, batch["positions"]), segments, jnp.int32(0))
    stack: dict[str, Any] = {name: stored(leaf) for name, leaf in model.model.layers.items()}

    def body(x_BSD: jax.Array, arrays: dict[str, Any]) -> tuple[jax.Array, Any]:
        variables = {name: nnx.Param(array) for name, array in arrays.items()}
        return look(DecoderLayer(variables, LAYERS[:-1], model.arch, model.backend), x_BSD, context)

    x_BSD = model.model.embed_tokens.rows(batch["tokens"], model.dtype)
    x_BSD, seen = jax.lax.scan(body, x_BSD, stack)
    return model.model.norm(x_BSD), seen


class Watched(nnx.Module):
    """A projection that shows what goes into it."""

    def __init__(self, inner: Linear, show: Callable[[jax.Array], None]):
        self.inner, self.show = inner, show

    def __call__(self, x_BSI: jax.Array, key: jax.Array | None = None) -> jax.Array:
        self.show(x_BSI)
        return self.inner(x_BSI, key)


def watch(layer: DecoderLayer, *projections: str) -> dict[str, jax.Array]:
    """Puts eyes before projections of a layer; what goes in stands here once the layer has run.

    Args:
      layer: made for this one pass.
      projections: such as "mlp.down_proj".

    Returns:
      By projection what goes into it, [B, S, I].
    """
    seen: dict[str, jax.Array] = {}
    for path in projections:
        block, name = path.split(".")
        module = getattr(layer, block)
        setattr(module, name, Watched(getattr(module, name), _shower(seen, path)))
    return seen


def _shower(seen: dict[str, jax.Array], path: str) -> Callable[[jax.Array], None]:
    def show(x_BSI: jax.Array) -> None:
        seen[path] = x_BSI

    return show
