"""A model on the host from wherever it comes, for whoever only re-arranges it; without jax."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorstore as ts

from maxlite import storage
from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import config_json, json_values, metadata, names
from maxlite.hf.folder import CONFIG, LazyModel, carried, open_folder, present, resolve
from maxlite.hf.lazy import FileTensor, LazyArray
from maxlite.parameters import shapes
from maxlite.state import base, manifest, origin
from maxlite.state.base import Base
from maxlite.state.init import apply
from maxlite.state.run import RunFolder, is_run
from maxlite.storage import Place, Url
from maxlite.transforms import Transform, transform


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
    path = storage.place(model)
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
    arch.lora = metadata.lora(note, str(run.model / metadata.NAME))
    arch.base_rows = metadata.base_rows(note, arch.vocab_size, str(run.model / metadata.NAME))
    files = {
        storage.relative(p, run.model): carried(p)
        for p in storage.files(run.model)
        if p.name not in (CONFIG, "tensors.json")
    }
    tensors: Mapping[str, LazyArray] = {}
    if step >= 0 and run.base:
        opened = stores(run.checkpoints / str(step) / "params", run.trained, arch)
        own = {name: Stored(store) for name, store in opened.items()}
        tensors = base.overlaid(began_with(run), base.trained(own, part)).tensors
    elif step >= 0:
        opened = stores(run.checkpoints / str(step) / "params", shapes(arch), arch)
        tensors = base.trained({name: Stored(store) for name, store in opened.items()}, part)
    tensors = {name: tensors[name] for name in names.expected(arch) if tensors}
    exported = run.tensor_dtypes()
    kinds = {names.split(name)[0]: dtype for name, dtype in exported.items()} | exported
    source = run.description.get("source", {}) if run.description.get("kind") == "import" else {}
    return LazyModel(run.model, config, arch, tensors, note, files, (), kinds, source=source)


def began_with(run: RunFolder) -> LazyModel:
    """The model that a run began with, whose frozen weights are still its own.

    Raises:
      InputError: what the run rests on is gone or has changed.
    """
    found = run.base
    assert found
    path = present(storage.within(run.path, found.origin))
    base.check(found, path)
    model = open_folder(path) if found.step < 0 else run_model(RunFolder(path), found.step)
    for step in found.steps:
        if "init" in step:
            model = apply(model, [transform(described) for described in step["init"]])
        else:
            model = base.overlaid(model, base.kept(run.path / step["weights"]))
    before = metadata.read(run.model)
    for key, what in (
        *(("vocabulary", "tokenizer"), ("lora", "adapter"), ("adapters", "adapter")),
        ("inherited", "target or other scores"),
    ):
        note, was = model.metadata.get(key), before.get(key)
        if note != was:
            raise InputError(
                f"the run in {run.path} began with another {what} than its 'init' names now"
                f" ({was} and {note}): put back what was there, or begin another run"
            )
    return model


def changed(run: RunFolder) -> list[str]:
    """The leaves, or tensors of earlier stages, that differ from a run's base; [] where all may."""
    if not run.base:
        return []
    earlier = (base.kept(run.path / folder) for folder in run.base.weights)
    return [*run.trained, *(name for weights in earlier for name in weights)]


def base_of(model: str, step: int, init: Sequence[Transform]) -> Base:
    """What a new run that begins with `init` of a model rests on.

    Args:
      model: a folder, a run or a hub id.
      step: of a run, verified.
      init: changes to it.
    """
    path = storage.place(model)
    if not is_run(path):
        return base.of_folder(resolve(model)).then(init)
    run = RunFolder(path)
    if not run.base:
        return base.of_run(path, run.checkpoints, step).then(init)
    earlier = {name: base.kept(path / name) for name in run.base.weights}
    arch = run_model(run).architecture
    opened = stores(run.checkpoints / str(step) / "params", run.trained, arch)
    weights = base.trained({name: Stored(store) for name, store in opened.items()}, part)
    absolute = str(storage.within(run.path, run.base.origin).resolve())
    found = dataclasses.replace(run.base, origin=absolute, earlier=earlier)
    return found.inheriting(weights).then(init)


def part(array: Stored, row: int | None) -> LazyArray:
    """A stored array, or a row of it; see `base.trained`."""
    return array if row is None else Stored(array.store[row])


def kvstore(folder: Place) -> dict[str, Any]:
    """How tensorstore opens an item of a checkpoint."""
    if isinstance(folder, Url):
        bucket, _, path = folder.address.removeprefix("gs://").partition("/")
        return {"driver": "ocdbt", "base": {"driver": "gcs", "bucket": bucket, "path": f"{path}/"}}
    files = {"driver": "file", "path": f"{folder.absolute()}/"}  # a URL could not name every folder
    return {"driver": "ocdbt", "base": files}


def stores(
    folder: Place, wanted: Iterable[str], arch: Architecture | None = None
) -> dict[str, ts.TensorStore]:
    """Opens arrays of a checkpoint's item.

    Args:
      folder: of the item.
      wanted: their names in it.
      arch: the model's shape, if tables are to be read.
    """
    every = kvstore(folder)
    # A table is read a few rows at a time, each time as a whole, so one table is kept in memory.
    table = 4 * arch.vocab_size * arch.hidden_size if arch else 0
    kept = ts.Context({"cache_pool": {"total_bytes_limit": table + (1 << 20)}})
    opening = {
        name: ts.open(
            {"driver": "zarr", "kvstore": {**every, "path": name}, "recheck_cached_data": False},
            read=True,
            context=None if name.startswith(names.LAYERS) else kept,
        )
        for name in wanted
    }
    return {name: future.result() for name, future in opening.items()}
