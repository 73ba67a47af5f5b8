"""Gates: a factor for each unit of a model, multiplied into the weights that the unit is made of.

The model itself knows nothing of them: it is bound to other weights. At 1 they change nothing. At 0
a unit is gone, as if it had been cut out (the width of the residual stream is a part of its norms,
which `Gated.residual` makes up for). By the chain rule, the gradient of a gate at 1 is the sum of
w * dL/dw over its weights.

Units are those of `maxlite.surgery.scores`. Shapes: L layers, G key-value groups, F FFN channels, D
channels of the residual stream.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from maxlite.config import Architecture
from maxlite.model import llama
from maxlite.parameters import EMBEDDING, HEAD, LAYERS, NORM
from maxlite.surgery.scores import shapes

Gates = Mapping[str, jax.Array]
Params = Mapping[str, jax.Array]

_NORMS = ("input_layernorm", "post_attention_layernorm")
_INTO_HEADS, _INTO_CHANNELS = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
_READING = tuple(f"self_attn.{p}" for p in _INTO_HEADS) + tuple(f"mlp.{p}" for p in _INTO_CHANNELS)
_WRITING = ("self_attn.o_proj", "mlp.down_proj")


class Place(NamedTuple):
    """Where the weights of a kind of unit lie in a parameter."""

    parameter: str
    axis: int  # its rows or columns belong to the units in turn, evenly many to each
    writes: bool = False  # whether they carry what the unit gives to the others


def _places() -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = {"layers": [], "groups": [], "channels": [], "residual": []}
    for kind, block, into, out in (
        ("groups", "self_attn", _INTO_HEADS, "o_proj"),
        ("channels", "mlp", _INTO_CHANNELS, "down_proj"),
    ):
        for module in into:
            name = f"{LAYERS}{block}.{module}"
            found[kind] += [Place(f"{name}.weight", 1), Place(f"{name}.bias", 1)]
        found[kind].append(Place(f"{LAYERS}{block}.{out}.weight", 2, writes=True))
    found["residual"] = [Place(EMBEDDING, 1, writes=True), Place(NORM, 0), Place(HEAD, 1)]
    found["residual"] += [Place(f"{LAYERS}{module}.weight", 1) for module in _NORMS]
    found["residual"] += [Place(f"{LAYERS}{module}.weight", 2) for module in _READING]
    for module in _WRITING:
        both = (f"{LAYERS}{module}.weight", f"{LAYERS}{module}.bias")
        found["residual"] += [Place(name, 1, writes=True) for name in both]
        found["layers"] += [Place(name, 0, writes=True) for name in both]
    for module in _NORMS:
        found["layers"].append(Place(f"{LAYERS}{module}.weight", 0))
    for module in _READING:
        found["layers"] += [Place(f"{LAYERS}{module}.{part}", 0) for part in ("weight", "bias")]
    return found


PLACES = _places()


def ones(arch: Architecture) -> dict[str, jax.Array]:
    """Gates that change nothing: float32, in the `shapes` of scores."""
    return {kind: jnp.ones(shape) for kind, shape in shapes(arch).items()}


def gated(params: Params, gates: Gates, writing: bool = False) -> dict[str, jax.Array]:
    """The parameters with gates multiplied in, each in its dtype.

    Args:
      params: stacked names to arrays, no parameter in several leaves.
      gates: some of the kinds; see `shapes`.
      writing: only into the weights by which a unit gives something to others, once each: the way
        for gates between 0 and 1, and for a gradient at 0, where a product of several gates has
        none. Otherwise into every weight that the unit is made of.
    """
    found = dict(params)
    for kind, gate in gates.items():
        for name, axis, writes in PLACES[kind]:
            if name in found and (writes or not writing):
                found[name] = _scaled(found[name], gate, axis)
    return found


def _scaled(w: jax.Array, gate: jax.Array, axis: int) -> jax.Array:
    """A parameter times its gates; the product, and the sum behind its gradient, in float32."""
    wide = jnp.repeat(gate, w.shape[axis] // gate.shape[-1], axis=-1)
    own = (0, axis) if gate.ndim == 2 else (axis,)  # those of a layer's units have layers first
    shape = [size if at in own else 1 for at, size in enumerate(w.shape)]
    return (w.astype(jnp.float32) * wide.reshape(shape)).astype(w.dtype)


def masked(
    arch: Architecture, params: Params, masks: Gates, residual: int | None = None, **settings: Any
) -> llama.Llama:
    """A model that computes what it will once the units whose gates are 0 are cut out.

    Args:
      arch: its shape.
      params: stacked names to arrays.
      masks: gates of 0 and 1, of some of the kinds.
      residual: how many residual channels stay, where some go: a norm divides by the width, which
        the weights of all norms and their epsilon correct here.
      settings: of `llama.bind`.
    """
    found = gated(params, masks, writing=True)
    if residual is not None:
        share = residual / arch.hidden_size
        norms = (NORM, *(f"{LAYERS}{module}.weight" for module in _NORMS))
        found |= {name: found[name].astype(jnp.float32) * math.sqrt(share) for name in norms}
        arch = dataclasses.replace(arch, rms_norm_eps=arch.rms_norm_eps * share)
    return llama.bind(arch, found, {}, **settings)
