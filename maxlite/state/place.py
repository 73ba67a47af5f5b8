"""Lazy host arrays onto devices, one device array at a time.

Host memory beyond the device arrays stays at one shard (its layers stacked): every shard is read
from the memory-mapped files into one buffer, sent to its device and released before the next.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from maxlite.errors import InputError
from maxlite.hf import names
from maxlite.hf.lazy import LazyArray, row_blocks
from maxlite.model.leaves import leaf


def _shard(
    tensors: Mapping[str, LazyArray],
    name: str,
    shape: tuple[int, ...],
    index: tuple[slice, ...],
    dtype: Any,
) -> np.ndarray:
    """One device's part of a leaf, in a fresh buffer of `dtype`."""
    own = leaf(name)
    size = tuple(len(range(*s.indices(n))) for s, n in zip(index, shape, strict=True))
    buffer = np.empty(size, dtype)
    if own.parameter in tensors:
        source = tensors[own.parameter]
        if own.rows is not None:
            source = source.rows(own.rows[0], own.rows[-1] + 1)
        first = index[0].indices(shape[0])[0]
        # What is computed is computed in whole rows, and is there twice until it is copied.
        for start, stop in row_blocks((size[0], *shape[1:])):
            rows = slice(first + start, first + stop)
            buffer[start:stop] = source.read((rows, *index[1:]))
        return buffer
    layers = own.taken(shape)
    for at, row in enumerate(range(*index[0].indices(shape[0]))):
        buffer[at] = tensors[names.unstacked(own.parameter, layers[row])].read(index[1:])
    return buffer


def place(
    tensors: Mapping[str, LazyArray],
    shapes: Mapping[str, tuple[int, ...]],
    shardings: Mapping[str, NamedSharding],
    dtypes: Mapping[str, Any],
    where: str,
) -> dict[str, jax.Array]:
    """Places leaves; every process reads only what its own devices hold.

    Args:
      tensors: Hugging Face names (one entry a layer) to lazy arrays.
      shapes: leaf names to shapes.
      shardings: leaf names to where they go.
      dtypes: leaf names to the dtype they get; float32 holds bfloat16 without loss.
      where: the folder, for messages.

    Raises:
      InputError: a tensor holds NaN or infinity.
    """
    placed: dict[str, jax.Array] = {}
    for name, shape in shapes.items():
        sharding, parts = shardings[name], []
        holders: dict[str, tuple[Any, list[jax.Device]]] = {}  # replicas share what is read once
        for device, index in sharding.addressable_devices_indices_map(shape).items():
            holders.setdefault(str(index), (index, []))[1].append(device)
        for index, devices in holders.values():
            parts += _put(_shard(tensors, name, shape, index, dtypes[name]), devices)
            gc.collect(0)  # jax lets go of a buffer that it has copied only when it is asked to
        placed[name] = jax.make_array_from_single_device_arrays(shape, sharding, parts)
    check_finite(placed, where)
    return placed


def _put(buffer: np.ndarray, devices: list[jax.Device]) -> list[jax.Array]:
    # A CPU device could take over an aligned buffer, but then could not be donated it in place.
    return jax.block_until_ready([jax.device_put(buffer, to, may_alias=False) for to in devices])


@jax.jit
def _all_finite(x: jax.Array) -> jax.Array:
    """Whether every value is finite, found without an array beside `x`.

    0 * x is NaN exactly where x is not finite, and NaN survives a sum over any devices, which it
    does not in a maximum. XLA would give `isfinite` an array of half the size of `x`.
    """

    def spoiled(part: jax.Array) -> jax.Array:
        return jnp.sum(part * 0, dtype=jnp.float32)

    if x.dtype == jnp.float16 and x.ndim == 3:  # a CPU widens it to compute: a layer at a time
        return jnp.isfinite(jax.lax.map(spoiled, x)).all()
    return jnp.isfinite(spoiled(x))


def check_finite(params: Mapping[str, jax.Array], where: str) -> None:
    """Looks for NaN and infinity on the devices; refuses by Hugging Face name.

    Args:
      params: leaf names to arrays.
      where: the folder, for messages.

    Raises:
      InputError: some value is not finite; the tensors are listed.
    """
    broken = []
    for name, x in params.items():
        if bool(_all_finite(x)):
            continue
        if not name.startswith(names.LAYERS):
            broken.append(name)
            continue
        per_layer = jnp.isfinite(x).all(axis=tuple(range(1, x.ndim)))
        replicated = NamedSharding(x.sharding.mesh, PartitionSpec())  # type: ignore[attr-defined]
        for layer, finite in enumerate(np.asarray(jax.device_put(per_layer, replicated))):
            if not finite:
                own = leaf(name)
                broken.append(names.unstacked(own.parameter, own.taken(x.shape)[layer]))
    if broken:
        raise InputError(
            f"the weights in {where} hold NaN or infinity in {', '.join(broken[:5])}"
            f"{' and others' if len(broken) > 5 else ''}; get an undamaged copy of the model"
        )
