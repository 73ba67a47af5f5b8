"""A model on the host from wherever it comes, for whoever only re-arranges it; without jax."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from maxlite.hf import config_json, json_values, metadata, names
from maxlite.hf.folder import CONFIG, LazyModel, open_folder, resolve
from maxlite.hf.lazy import FileTensor, LazyArray
from maxlite.state import manifest, origin
from maxlite.state.run import RunFolder, is_run


@dataclass(frozen=True)
class Stored:
    """An array of a checkpoint, or a part of one, as the `LazyArray` that surgery takes."""

    store: ts.TensorStore

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.store.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.store.dtype.numpy_dtype)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def read(self, index: Any = ...) -> np.ndarray:
        return np.asarray(self.store[index].read().result())

    def rows(self, start: int, stop: int) -> Stored:
        return Stored(self.store[start:stop][ts.d[0].translate_to[0]])

    def pieces(self) -> Iterator[FileTensor | np.ndarray]:
        yield self.read()


def open_lazy(model: str, step: int = -1) -> LazyModel:
    """Opens a folder, a run (at `step`, -1 for its latest verified) or a hub id; reads no weights.

    Raises:
      InputError: it does not exist, or cannot be used; the text says why.
    """
    path = Path(model).expanduser()
    if not is_run(path):
        return open_folder(resolve(model))
    run = RunFolder(path)
    return run_model(run, manifest.require_verified(run.checkpoints, step))


def run_model(run: RunFolder, step: int = -1) -> LazyModel:
    """The model of a run at a verified step; -1: without tensors.

    Its tensors have the dtypes that they train in and are written in those of the run's source; its
    metadata tells of the training.
    """
    file = run.model / CONFIG
    config = json_values.parse(file.read_bytes(), str(file))
    arch = config_json.architecture(config, str(file))
    note = metadata.read(run.model)
    note = origin.notes(run, step, note) if step >= 0 else note
    arch.base_rows = metadata.base_rows(note, arch.vocab_size, str(run.model / metadata.NAME))
    files = {
        p.relative_to(run.model).as_posix(): p
        for p in sorted(run.model.rglob("*"))
        if p.is_file() and p.name not in (CONFIG, "tensors.json")
    }
    tensors: dict[str, LazyArray] = {}
    if step >= 0:
        stores = _stores(run.checkpoints / str(step) / "params", names.stacked(arch))
        for name in names.expected(arch):
            stacked, layer = names.split(name)
            tensors[name] = Stored(stores[stacked] if layer is None else stores[stacked][layer])
    exported = run.tensor_dtypes()
    kinds = {names.split(name)[0]: dtype for name, dtype in exported.items()} | exported
    return LazyModel(run.model, config, arch, tensors, note, files, (), kinds)


def _stores(folder: Path, wanted: dict[str, tuple[int, ...]]) -> dict[str, ts.TensorStore]:
    files = {"driver": "file", "path": f"{folder.absolute()}/"}  # a URL could not name every folder
    base = {"driver": "ocdbt", "base": files}
    # A table is read a few rows at a time, each time as a whole, so one table is kept in memory.
    table = 4 * math.prod(wanted[names.EMBEDDING])
    kept = ts.Context({"cache_pool": {"total_bytes_limit": table + (1 << 20)}})
    opening = {
        name: ts.open(
            {"driver": "zarr", "kvstore": {**base, "path": name}, "recheck_cached_data": False},
            read=True,
            context=None if name.startswith(names.LAYERS) else kept,
        )
        for name in wanted
    }
    return {name: future.result() for name, future in opening.items()}
