"""The device mesh and where every array lives on it.

Axes: `data` (replicas), `fsdp` (batch, and the width of every weight), `sequence` (the tokens of a
row), `tensor` (heads, FFN channels, and within a step the rows of the vocabulary). Dimension
letters as in the model: L layers, V vocabulary rows, D width, O heads x head size (or K kv heads x
head size), F FFN channels, R an adapter's rank, B batch rows, S sequence.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.model.leaves import leaf

AXES = ("data", "fsdp", "sequence", "tensor")  # the more they say to each other, the later
BATCH = ("data", "fsdp")  # the axes that batch rows are spread over

# First match wins; a parameter that no rule names is an error.
RULES: tuple[tuple[str, P], ...] = (
    (r"model\.embed_tokens\.weight|lm_head\.weight", P(None, ("fsdp", "tensor"))),  # VD
    (r".*\.(q|k|v)_proj\.weight", P(None, "tensor", "fsdp")),  # LOD
    (r".*\.(gate|up)_proj\.weight", P(None, "tensor", "fsdp")),  # LFD
    (r".*\.o_proj\.weight", P(None, "fsdp", "tensor")),  # LDO
    (r".*\.down_proj\.weight", P(None, "fsdp", "tensor")),  # LDF
    (r".*\.(q|k|v|gate|up)_proj\.bias", P(None, "tensor")),  # LO, LF
    (r".*\.(o|down)_proj\.bias", P(None, None)),  # LD
    (r".*norm\.weight", P()),  # LD, D
    (r"model\.embed_tokens\.lora_\w+\.weight|lm_head\.lora_\w\.weight", P()),  # RV, DR, RD, VR
    # An adapter's long side lies as the same side of its projection does; its rank is whole.
    (r".*\.(o|down)_proj\.lora_A\.weight", P(None, None, "tensor")),  # LRO, LRF
    (r".*\.(q|k|v|gate|up)_proj\.lora_A\.weight", P(None, None, "fsdp")),  # LRD
    (r".*\.(o|down)_proj\.lora_B\.weight", P(None, "fsdp", None)),  # LDR
    (r".*\.(q|k|v|gate|up)_proj\.lora_B\.weight", P(None, "tensor", None)),  # LOR, LFR
    (r".*\.(o|down)_proj\.lora_magnitude_vector\.weight", P(None, None)),  # LD
    (r".*\.(q|k|v|gate|up)_proj\.lora_magnitude_vector\.weight", P(None, "tensor")),  # LO, LF
)


def make_mesh(text: str, over: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh that a string such as "fsdp=-1,tensor=2" describes, over all devices or the given.

    The later an axis comes in `AXES`, the nearer to each other are the devices along it. Slices
    without a fast network between them are replicas: they lie along `data`, outermost.

    Raises:
      InputError: as `axis_sizes`, or a `data` axis that is no multiple of the slices.
    """
    given = list(over or jax.devices())
    sizes = axis_sizes(text, len(given))
    return Mesh(_arranged(sizes, given), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def abstract_mesh(text: str, devices: int) -> AbstractMesh:
    """The same over a number of devices that need not be there.

    Raises:
      InputError: as `axis_sizes`.
    """
    sizes = axis_sizes(text, devices)
    return AbstractMesh(
        tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * len(AXES)
    )


def axis_sizes(text: str, devices: int) -> dict[str, int]:
    """The size of every axis of the mesh that a string describes.

    Raises:
      InputError: an unknown or repeated axis, or sizes that do not multiply to the device count.
    """
    sizes = dict.fromkeys(AXES, 1)
    seen: set[str] = set()
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"(\w+)\s*=\s*(-?\d+)", part)
        if not match or match[1] not in AXES or match[1] in seen:
            raise InputError(
                f"mesh '{text}' has '{part}'; write each axis once, as in 'fsdp=-1,tensor=2', from "
                f"{', '.join(AXES)}"
            )
        seen.add(match[1])
        sizes[match[1]] = int(match[2])
    free = [axis for axis, size in sizes.items() if size == -1]
    known = math.prod(size for size in sizes.values() if size != -1)
    if len(free) == 1 and known > 0 and devices % known == 0:
        sizes[free[0]] = devices // known
    if len(free) > 1 or min(sizes.values()) < 1 or math.prod(sizes.values()) != devices:
        several = ", and one axis at most may be -1" if len(free) > 1 else ""
        nearest = _nearest(sizes, seen, devices)
        raise InputError(f"mesh '{text}' does not fit {devices} devices{several}; '{nearest}' does")
    return sizes


def _nearest(sizes: dict[str, int], named: set[str], devices: int) -> str:
    """The mesh over so many devices that differs least from one that does not fit.

    Of the axes that are named, or of `fsdp`; each factor by which a size differs counts the same.
    """
    axes = [axis for axis in AXES if axis in named] or ["fsdp"]
    divisors = [size for size in range(devices, 0, -1) if devices % size == 0]
    fitting = [c for c in itertools.product(divisors, repeat=len(axes)) if math.prod(c) == devices]

    def distance(found: tuple[int, ...]) -> float:
        pairs = zip(found, axes, strict=True)
        factors = (abs(math.log(a / sizes[axis])) for a, axis in pairs if sizes[axis] > 0)
        return round(sum(factors), 6)  # of equals, the first

    best = min(fitting, key=distance)
    return ",".join(f"{axis}={size}" for axis, size in zip(axes, best, strict=True))


def _arranged(sizes: dict[str, int], devices: list[jax.Device]) -> np.ndarray:
    """The devices in the shape of the mesh, near each other where much is said."""
    shape = tuple(sizes.values())
    # A GPU's slice is its host, and sharding goes over hosts; they are in order all the same.
    chips = (device for device in devices if device.platform == "tpu")
    slices = len({getattr(chip, "slice_index", 0) for chip in chips})  # of one, not all say so
    if slices < 2:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    if sizes["data"] % slices:
        raise InputError(
            f"mesh axis data={sizes['data']} is no multiple of the {slices} slices that the "
            f"{len(devices)} devices lie in; make it one, as in 'data={slices},fsdp=-1'"
        )
    inner = (shape[0] // slices, *shape[1:])
    outer = (slices, *[1] * len(inner[1:]))
    return mesh_utils.create_hybrid_device_mesh(
        inner, outer, devices, allow_split_physical_axes=True
    )


def spec(name: str) -> P:
    """The partition of a leaf, by the name of its parameter.

    Raises:
      InputError: no rule covers it.
    """
    for pattern, partition in RULES:
        if re.fullmatch(pattern, leaf(name).parameter):
            return partition
    raise InputError(f"no sharding rule covers the parameter '{name}'")


def shardings(
    mesh: Mesh | AbstractMesh, shapes: dict[str, tuple[int, ...]]
) -> dict[str, NamedSharding]:
    """The sharding of every leaf in `shapes`.

    Raises:
      InputError: a dimension that does not divide evenly over its axis.
    """
    found = {}
    for name, shape in shapes.items():
        partition = []
        for dim, axis in zip(shape, spec(name), strict=False):
            if isinstance(axis, tuple) and dim % math.prod(mesh.shape[a] for a in axis):
                axis = axis[0]  # the others are a gain where they can be had
            if isinstance(axis, str) and dim % mesh.shape[axis]:
                raise InputError(
                    f"'{name}' has a dimension of {dim}, which does not divide over the mesh axis "
                    f"{axis}={mesh.shape[axis]}; choose another mesh"
                )
            partition.append(axis)
        found[name] = NamedSharding(mesh, P(*partition))
    return found


def check_heads(mesh: Mesh | AbstractMesh, arch: Architecture) -> None:
    """Refuses a `tensor` axis that would cut through a KV head.

    Raises:
      InputError: with the largest that works.
    """
    heads, tensor = arch.num_key_value_heads, mesh.shape["tensor"]
    if heads % tensor:
        raise InputError(
            f"mesh axis tensor={tensor} does not divide the model's {heads} key-value heads; "
            f"at most tensor={math.gcd(heads, mesh.size)} works on {mesh.size} devices"
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """For batches [A, B, S]: accumulation steps, rows of a micro-batch, tokens."""
    return NamedSharding(mesh, P(None, BATCH, "sequence"))


def check_batch(mesh: Mesh | AbstractMesh, batch_size: int, accumulate: int, seq_len: int) -> None:
    """Refuses a batch whose micro-batches do not spread evenly over the devices.

    Raises:
      InputError: with what it must be a multiple of.
    """
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % (accumulate * shards):
        raise InputError(
            f"batch_size {batch_size} does not divide into accumulate={accumulate} micro-batches "
            f"over data*fsdp={shards} devices; make it a multiple of {accumulate * shards}"
        )
    if seq_len % mesh.shape["sequence"]:
        raise InputError(
            f"seq_len {seq_len} does not divide over the mesh axis sequence="
            f"{mesh.shape['sequence']}; make it a multiple of {mesh.shape['sequence']}"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, P())


def flags(mesh: Mesh) -> dict[bool, jax.Array]:
    """For a yes or no of this process: int32 [devices], one element on each device."""
    sharding, shape = NamedSharding(mesh, P(AXES)), (mesh.size,)
    values = {answer: np.full(mesh.size, answer, np.int32) for answer in (False, True)}
    return {
        answer: jax.make_array_from_callback(shape, sharding, value.__getitem__)
        for answer, value in values.items()
    }
