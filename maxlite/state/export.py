"""Parameters on devices back into a Hugging Face folder, one tensor of one layer at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from maxlite import storage
from maxlite.config import Architecture
from maxlite.console import bytes_bar
from maxlite.errors import InputError
from maxlite.hf import config_json, names, peft, writer
from maxlite.hf.lazy import LazyArray
from maxlite.model.leaves import Leaf, leaf
from maxlite.state.host import changed
from maxlite.state.run import RunFolder, is_run
from maxlite.state.source import ModelSource
from maxlite.storage import Place
from maxlite.surgery import adapters
from maxlite.transforms import Lora


def write(
    out: Place,
    source: ModelSource,
    params: Mapping[str, jax.Array],
    *,
    dtype: str = "",
    notes: dict[str, Any] | None = None,
    max_shard_size: str | int = writer.MAX_SHARD_SIZE,
    overwrite: bool = False,
    between: Callable[[], None] = lambda: None,
) -> None:
    """Writes a model folder; process 0 writes, every process must call it.

    Adapters are merged into the weights beside them, in float32 before the cast.

    Args:
      out: the folder; must not exist unless `overwrite`.
      source: what the parameters grew from: its config, companion files and dtypes are kept.
      params: leaf names to arrays.
      dtype: of every tensor; empty: the type each had in the source.
      notes: for maxlite.json; None keeps the source's.
      max_shard_size: bytes in one weight file, or a text such as "5GB".
      overwrite: replace a model folder that is there.
      between: called before each tensor, in every process.

    Raises:
      InputError: the folder exists, the disk is full, or a value does not fit `dtype`.
    """
    arch = dataclasses.replace(source.architecture, lora=Lora())
    specs = {
        name: (jnp.dtype(dtype or source.dtypes[name]), shape)
        for name, shape in names.expected(arch).items()
    }
    merged = _merging(reader(params, source.tensors), source.architecture)

    def read(name: str) -> np.ndarray:
        between()
        return merged(name)

    if source.architecture.lora.rank:
        notes = dict(source.metadata if notes is None else notes)
        notes.pop("lora", None)
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


def write_adapter(
    out: Place,
    source: ModelSource,
    params: Mapping[str, jax.Array],
    run: RunFolder,
    dtype: str = "",
) -> str:
    """Writes a PEFT adapter folder: a run's adapters, and the tables that trained beside them.

    Args:
      out: the folder; must not exist.
      source: of the run, which has adapters.
      params: leaf names to arrays.
      run: what it has trained since its base.
      dtype: of every tensor; empty: float32, and tables in the type they had in the source.

    Returns:
      What the adapter belongs to: a folder or hub id; "" if that model is in no folder.

    Raises:
      InputError: an adapter cannot hold what else it has trained.
    """
    arch, whole = source.architecture, reader(params, source.tensors)
    tables, rows = _trained_tables(source, run)
    shapes = names.expected(arch)
    held = {n: shapes[n] for n in shapes if n in tables or ".lora_" in n}
    held |= {n: (len(ids), *shapes[n][1:]) for n, ids in rows.items()}
    specs = {n: (jnp.dtype(dtype or source.dtypes[n]), shape) for n, shape in held.items()}
    config = run.description["config"]
    alone = all(one["transform"] == "AddLora" for one in config["init"])
    base = config["model"] if alone and not is_run(storage.place(config["model"])) else ""

    def read(name: str) -> np.ndarray:
        return whole(name)[rows[name]] if name in rows else whole(name)

    began = run.description.get("source", {})
    commit = began.get("commit", "") if began.get("model") == base else ""
    peft.write_adapter(out, arch.lora, base, specs, read, rows, commit)
    return base


def _trained_tables(source: ModelSource, run: RunFolder) -> tuple[set[str], dict[str, list[int]]]:
    """The tables that a run has trained besides its adapters: those whole, and rows of others."""
    known, tied = names.expected(source.architecture), source.architecture.tie_word_embeddings
    tables = set(source.metadata["lora"].get("tables", ()))
    rows: dict[str, list[int]] = {}
    for own in map(leaf, changed(run) or known):
        name = own.parameter
        if ".lora_" in name:
            continue
        mixed = bool(adapters.beside(name, known))
        if name in peft.TABLES.values() and own.rows is not None and not mixed:
            rows[name] = sorted({*rows.get(name, ()), *own.rows})
        elif name in peft.TABLES.values() and not tied and not mixed:
            tables.add(name)
        else:
            how = " of a tied model" if tied else " and an adapter beside it" if mixed else ""
            raise InputError(
                f"{run.path} has trained {name}{how}, which a PEFT adapter cannot hold: leave out"
                " --adapter, which merges the adapters into a model folder"
            )
    return tables, {name: ids for name, ids in rows.items() if name not in tables}


def reader(
    params: Mapping[str, jax.Array], others: Mapping[str, LazyArray]
) -> Callable[[str], np.ndarray]:
    """A function that brings one tensor by Hugging Face's name to this host.

    Args:
      params: leaf names to arrays on devices.
      others: tensors on the host, for those of which no part is on devices.

    Returns:
      Name to array, in the tensor's own shape; every process must call it.
    """
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
        taken = [part.rows for part in parts.get(parameter, ())]
        if not any(rows is None or layer is None or layer in rows for rows in taken):
            return others[name].read()
        if layer is None:
            tables = [np.asarray(gather(params[own.name])) for own in parts[parameter]]
            return tables[0] if len(tables) == 1 else np.concatenate(tables)
        own = next(p for p in parts[parameter] if p.rows is None or layer in p.rows)
        row = layer if own.rows is None else own.rows.index(layer)
        return np.asarray(pick(params[own.name], np.int32(row)))

    return read


def _merging(read: Callable[[str], np.ndarray], arch: Architecture) -> Callable[[str], np.ndarray]:
    """The same with adapters merged into the weights that they stand beside."""
    known = names.expected(arch)

    def merged(name: str) -> np.ndarray:
        parts = {own: read(full) for own, full in adapters.beside(name, known)}
        return adapters.merge(read(name), parts, arch.lora.scale) if parts else read(name)

    return merged
