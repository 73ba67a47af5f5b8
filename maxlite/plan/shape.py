"""The shape of the model that a stage is about, without its weights."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from maxlite import storage
from maxlite.config import Config
from maxlite.errors import InputError
from maxlite.hf import config_json, lazy, names
from maxlite.hf.folder import LazyModel, open_folder, open_shape, without_weights
from maxlite.model.leaves import leaf
from maxlite.parameters import shapes
from maxlite.state import base
from maxlite.state.host import run_model
from maxlite.state.init import apply, settings_of
from maxlite.state.run import RunFolder, is_run
from maxlite.state.source import ModelSource, check_shape
from maxlite.tokenizer import load_tokenizer
from maxlite.transforms import AddLora

UNKNOWN = "bfloat16"  # what weights of which only the shape is known are taken to be stored in


def source(config: Config) -> ModelSource:
    """The model of a stage as its `init` leaves it; its tensors are not to be read.

    Raises:
      InputError: neither `model` nor `architecture` tells the shape, or `init` does not fit it.
    """
    here = bool(config.model) and storage.place(config.model).exists()
    return _read(config) if here else _assumed(config)


def _read(config: Config) -> ModelSource:
    """The shape of `model`, changed by `init`."""
    path = storage.place(config.model)
    if is_run(path):
        model = _of_run(RunFolder(path))
    else:
        model = open_shape(path) if without_weights(path) else open_folder(path)
    model = apply(model, config.init)
    return ModelSource(
        where=str(path),
        architecture=model.architecture,
        config=model.config,
        dtypes={},
        metadata=model.metadata,
        tensors=model.tensors,
    )


def _of_run(run: RunFolder) -> LazyModel:
    """The model of a run, with zeros for weights: float32 where it or one before trained them."""
    model = run_model(run)
    exported = run.tensor_dtypes()
    whole = not run.base and run.description.get("kind") != "import"
    tensors: dict[str, lazy.LazyArray] = {
        name: lazy.zeros(shape, jnp.dtype("float32" if whole else exported[name]))
        for name, shape in names.expected(model.architecture).items()
    }
    model = dataclasses.replace(model, tensors=tensors)
    if not run.base:
        return model
    for i, step in enumerate(run.base.steps):  # what earlier stages had trained
        if not any("init" in later for later in run.base.steps[i:]):  # which re-arranges
            model = base.overlaid(model, base.kept(run.path / step["weights"]))
    stacked = shapes(model.architecture)
    own = {name: leaf(name).shape(stacked[leaf(name).parameter]) for name in run.trained}
    zeros = {name: lazy.zeros(shape, jnp.dtype("float32")) for name, shape in own.items()}
    weights = base.trained(zeros, lambda array, row: array if row is None else _row(array))
    return base.overlaid(model, weights)


def _row(array: lazy.LazyArray) -> lazy.LazyArray:
    return lazy.zeros(array.shape[1:], array.dtype)


def _assumed(config: Config) -> ModelSource:
    """The shape that `architecture` tells, which is the model's after `init`."""
    named = f"config key 'model' is {config.model!r}, which is not on this machine"
    missing = named if config.model else "config key 'model' is empty"
    given = config.architecture
    check_shape(given, f"{missing}, and a plan without it")
    rows = given.vocab_size
    if not rows and config.data.tokenizer:
        rows = load_tokenizer(config.data.tokenizer).rows
    if not rows:
        raise InputError(
            f"{missing}, and architecture.vocab_size is 0; set it, or data.tokenizer, which tells"
        )
    added = [settings_of(one) for one in config.init if isinstance(one, AddLora)]
    arch = dataclasses.replace(given, vocab_size=rows, lora=[given.lora, *added][-1])
    if arch.base_rows > rows:
        raise InputError(f"architecture.base_rows {arch.base_rows} is more than the {rows} rows")
    written = config_json.config_for(arch, UNKNOWN)
    config_json.architecture(written, "config key 'architecture'")
    where = "config key 'architecture'" + (f" ({config.model} is not here)" if config.model else "")
    where += ", taken as what 'init' makes" if config.init else ""
    return ModelSource(where, arch, written, dict.fromkeys(names.expected(arch), UNKNOWN))
