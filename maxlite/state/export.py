"""Parameters on devices back into a Hugging Face folder, one tensor of one layer at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from maxlite.console import bytes_bar
from maxlite.hf import config_json, names, writer
from maxlite.model.leaves import Leaf, leaf
from maxlite.state.source import ModelSource


def write(
    out: Path,
    source: ModelSource,
    params: Mapping[str, jax.Array],
    *,
    dtype: str = "",
    notes: dict[str, Any] | None = None,
    max_shard_size: str | int = writer.MAX_SHARD_SIZE,
    overwrite: bool = False,
) -> None:
    """Writes a model folder; process 0 writes, every process must call it.

    Args:
      out: the folder; must not exist unless `overwrite`.
      source: what the parameters grew from: its config, companion files and dtypes are kept.
      params: leaf names to arrays.
      dtype: of every tensor; empty: the type each had in the source.
      notes: for maxlite.json; None keeps the source's.
      max_shard_size: bytes in one weight file, or a text such as "5GB".
      overwrite: replace a model folder that is there.

    Raises:
      InputError: the folder exists, the disk is full, or a value does not fit `dtype`.
    """
    arch = source.architecture
    specs = {
        name: (jnp.dtype(dtype or source.dtypes[name]), shape)
        for name, shape in names.expected(arch).items()
    }
    read = _reader(params)
    if jax.process_index() != 0:
        for name in specs:
            read(name)
        return
    config_bytes = config_json.render(source.config_bytes, arch, dtype or None)
    files = {name: path for name, path in source.files.items() if name != "config.json"}
    with bytes_bar(f"writing {out}") as progress:
        writer.write_folder(
            out,
            config=config_bytes,
            specs=specs,
            read=read,
            files=files,
            notes=notes,
            max_shard_size=max_shard_size,
            overwrite=overwrite,
            progress=progress,
        )


def _reader(params: Mapping[str, jax.Array]) -> Callable[[str], np.ndarray]:
    """Brings one Hugging Face tensor to this host."""
    mesh = next(iter(params.values())).sharding.mesh  # type: ignore[attr-defined]
    whole = NamedSharding(mesh, PartitionSpec())
    gather = jax.jit(lambda x: x, out_shardings=whole)
    pick = jax.jit(
        lambda x, i: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), out_shardings=whole
    )

    parts: dict[str, list[Leaf]] = {}
    for own in sorted(map(leaf, params), key=lambda own: own.rows[0] if own.rows else 0):
        parts.setdefault(own.parameter, []).append(own)

    def read(name: str) -> np.ndarray:
        parameter, layer = names.split(name)
        if layer is None:
            tables = [np.asarray(gather(params[own.name])) for own in parts[parameter]]
            return tables[0] if len(tables) == 1 else np.concatenate(tables)
        own = next(p for p in parts[parameter] if p.rows is None or layer in p.rows)
        row = layer if own.rows is None else own.rows.index(layer)
        return np.asarray(pick(params[own.name], np.int32(row)))

    return read
