"""Where activations live on the mesh. Hints to the partitioner: they never change a value."""

from __future__ import annotations

import math

import jax
from jax.sharding import PartitionSpec

# Logical axis of an activation -> mesh axes it is spread over. None, and what does not divide
# evenly, is held whole.
RULES: dict[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "replicas": ("data",),
    "sequence": ("sequence",),
    "heads": ("tensor",),
    "ffn": ("tensor",),
    "vocab": ("tensor",),
    "width": ("fsdp",),
}
# Spread even so: vocabularies have any number of rows, and a head that every device computes whole
# costs more than the last device's short share. The partitioner pads it, inside the program alone.
UNEVEN = ("vocab",)


def shards(axis: str) -> int:
    """Over how many devices of the mesh in force a logical axis is spread."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape.get(name, 1) for name in RULES[axis])


def platform() -> str:
    """What the mesh in force is made of; without one, this machine's default."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def partition(shape: tuple[int, ...], *axes: str | None) -> PartitionSpec:
    """Where an activation lies on the mesh in force.

    Args:
      shape: its.
      axes: a logical axis, or None, for each dimension.
    """
    mesh = jax.sharding.get_abstract_mesh()
    spec = []
    for axis, size in zip(axes, shape, strict=True):
        over = tuple(name for name in RULES[axis] if name in mesh.shape) if axis else ()
        fits = axis is not None and (axis in UNEVEN or size % shards(axis) == 0)
        spec.append(over if over and fits else None)
    return PartitionSpec(*spec)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins an activation to its place on the mesh in force; nothing without `jax.set_mesh`.

    Args:
      x: an activation of any shape.
      axes: a logical axis, or None, for each dimension.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition(x.shape, *axes))
