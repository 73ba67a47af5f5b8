"""Where activations live on the mesh. Hints to the partitioner: they never change a value."""

from __future__ import annotations

import math

import jax
from jax.sharding import PartitionSpec

# Logical axis of an activation -> mesh axes it is spread over. None, and what does not divide
# evenly, is held whole.
RULES: dict[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "heads": ("tensor",),
    "ffn": ("tensor",),
    "vocab": ("tensor",),
}


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins an activation to its place on the mesh in force; nothing without `jax.set_mesh`.

    Args:
      x: any activation.
      axes: a logical axis, or None, for each dimension.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    spec = []
    for axis, size in zip(axes, x.shape, strict=True):
        over = tuple(name for name in RULES[axis] if name in mesh.shape) if axis else ()
        spec.append(over if over and size % math.prod(mesh.shape[a] for a in over) == 0 else None)
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))
