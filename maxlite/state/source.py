"""Where a model comes from: a Hugging Face folder, a run, a hub id, or nothing (random weights)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from maxlite import storage
from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import config_json, json_values, metadata, names
from maxlite.hf.folder import LazyModel
from maxlite.hf.lazy import LazyArray
from maxlite.model import llama
from maxlite.model.leaves import Leaf, leaf
from maxlite.parameters import shapes
from maxlite.state import checkpoint, manifest
from maxlite.state.base import Base
from maxlite.state.host import base_of, began_with, open_lazy, run_model
from maxlite.state.init import apply
from maxlite.state.place import place
from maxlite.state.run import RunFolder, is_run
from maxlite.tokenizer import Tokenizer
from maxlite.transforms import Transform


@dataclass
class ModelSource:
    """A model before it is on devices.

    Attributes:
      where: its folder, for messages; "random weights" if there is none.
      architecture: its shape.
      config: its config.json.
      dtypes: dtype name of each tensor, under Hugging Face's names (one a layer), for its export.
      files: the files that travel with the model, name to path or content, config.json among them.
      metadata: maxlite.json, or empty.
      step: the step of the run that the weights are from; -1 where they are not from a run.
      notes: lines worth showing once.
      tensors: its weights on the host.
      host: all of it there; None for random weights.
      base: says what a run that freezes a part of it rests on.
    """

    where: str
    architecture: Architecture
    config: dict[str, Any]
    dtypes: dict[str, str]
    files: dict[str, bytes | Path] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    step: int = -1
    notes: tuple[str, ...] = ()
    tensors: Mapping[str, LazyArray] = field(default_factory=dict)
    host: LazyModel | None = None
    base: Callable[[], Base] | None = None
    _seed: int | None = None

    @property
    def config_bytes(self) -> bytes:
        """config.json as the model came with it."""
        file = self.files.get("config.json") or json_values.dump(self.config)
        return file if isinstance(file, bytes) else file.read_bytes()

    @property
    def told(self) -> Mapping[str, str]:
        """What is known of the folder that it comes from; see `hf.hub.source`."""
        return self.host.source if self.host else {}

    @property
    def carried(self) -> dict[str, bytes | Path]:
        """What travels with the weights: config.json and `files`."""
        return {**self.files, "config.json": self.config_bytes}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Stacked parameter names to shapes."""
        return shapes(self.architecture)

    def load(
        self, shardings: Mapping[str, NamedSharding], dtypes: Mapping[str, Any]
    ) -> dict[str, jax.Array]:
        """The leaves that `shardings` names on their devices, born sharded.

        Args:
          shardings: leaf names to shardings.
          dtypes: leaf names to dtypes.

        Returns:
          Leaf names to arrays, stacked.

        Raises:
          InputError: damaged weights, or NaN or infinity in them.
        """
        if self._seed is not None:
            return self._random(shardings, dtypes)
        if not self.tensors:
            raise ValueError(f"{self.where} was opened without its weights")
        shapes = {name: leaf(name).shape(self.shapes[leaf(name).parameter]) for name in shardings}
        return place(self.tensors, shapes, shardings, dtypes, self.where)

    def _random(
        self, shardings: Mapping[str, NamedSharding], dtypes: Mapping[str, Any]
    ) -> dict[str, jax.Array]:
        key = jax.random.key(self._seed or 0)

        def made(name: str, key: jax.Array) -> jax.Array:
            own = leaf(name)
            shape = self.shapes[own.parameter]
            x = llama.initialize(self.architecture, own.parameter, shape, key, dtypes[name])
            return x if own.rows is None else x[np.array(own.rows)]

        return {
            name: jax.jit(functools.partial(made, name), out_shardings=at)(key)
            for name, at in shardings.items()
        }

    def stored_dtypes(self, leaves: Iterable[str] = ()) -> dict[str, Any]:
        """The dtype each leaf is stored in; the widest where its layers or rows differ.

        Args:
          leaves: their names; by default every parameter is one.
        """
        return {name: self._stored(leaf(name)) for name in leaves or self.shapes}

    def _stored(self, own: Leaf) -> Any:
        if own.parameter.startswith(names.LAYERS):
            layers = own.taken(self.shapes[own.parameter])
            kinds = [self._dtype(names.unstacked(own.parameter, layer)) for layer in layers]
            return functools.reduce(jnp.promote_types, kinds)
        if own.rows is not None and self.tensors:
            return self.tensors[own.parameter].rows(own.rows[0], own.rows[-1] + 1).dtype
        return self._dtype(own.parameter)

    def _dtype(self, name: str) -> Any:
        return jnp.dtype(self.tensors[name].dtype if self.tensors else self.dtypes[name])


def open_model(model: str, step: int = -1, init: Sequence[Transform] = ()) -> ModelSource:
    """Opens a folder, a run (at `step`, -1 for its latest verified) or a hub id.

    Args:
      model: what to open.
      step: of a run.
      init: changes to it, in order.

    Raises:
      InputError: it does not exist, or cannot be used or changed so; the text says why.
    """
    path = storage.place(model)
    if not is_run(path):
        source = _from_lazy(apply(open_lazy(model), init))
    else:
        run = RunFolder(path)
        step = manifest.require_verified(
            run.checkpoints, step, checkpoint.share(), checkpoint.agree
        )
        source = _from_lazy(apply(run_model(run, step), init))
        source.where, source.step = str(path), step
    source.base = functools.partial(base_of, model, step, init)
    return source


def run_files(run: RunFolder) -> ModelSource:
    """The model of a run as its model/ folder describes it, with the frozen weights alone."""
    source = _from_lazy(run_model(run))
    source.where, source.dtypes = str(run.path), run.tensor_dtypes()
    if run.base:
        source.tensors = began_with(run).tensors
    return source


def _from_lazy(model: LazyModel) -> ModelSource:
    files = {"config.json": model.rendered(), **model.files}
    if model.metadata != metadata.read(model.path):
        files[metadata.NAME] = metadata.render(model.metadata)
    return ModelSource(
        where=str(model.path),
        architecture=model.architecture,
        config=json_values.parse(model.rendered(), str(model.path)),
        dtypes=model.dtypes,
        files=files,
        metadata=model.metadata,
        notes=model.notes,
        tensors=model.tensors,
        host=model,
    )


def random_model(arch: Architecture, tokenizer: Tokenizer, seed: int) -> ModelSource:
    """A model of random weights.

    Args:
      arch: its shape; where they are unset, `vocab_size` and the ids of BOS and EOS become the
        tokenizer's.
      tokenizer: the tokenizer it will be trained with.
      seed: of the weights.

    Raises:
      InputError: fields that a model cannot do without are missing, or do not fit each other.
    """

    def token(given: int, own: int | None) -> int:
        return own if given < 0 and own is not None else given

    arch = dataclasses.replace(
        arch,
        vocab_size=arch.vocab_size or tokenizer.rows,
        bos_token_id=token(arch.bos_token_id, tokenizer.bos),
        eos_token_id=token(arch.eos_token_id, tokenizer.eos),
    )
    if arch.lora.rank:
        raise InputError(
            "config key 'architecture.lora' is set, but 'model' is empty: adapters stand beside the"
            " weights of a model, so name one, with init=(AddLora(...),)"
        )
    check_shape(arch, "config key 'model' is empty, and a random model")
    config = config_json.config_for(arch, "float32")
    arch = config_json.architecture(config, "config key 'architecture'")
    return ModelSource(
        where="random weights",
        architecture=arch,
        config=config,
        dtypes=dict.fromkeys(names.expected(arch), "float32"),
        _seed=seed,
    )


def check_shape(arch: Architecture, what: str) -> None:
    """Refuses an `architecture` that is not the whole shape of a model.

    Args:
      arch: as a config gives it.
      what: for messages, what needs it.

    Raises:
      InputError: with the keys that are missing, or do not fit each other.
    """
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    missing = [key for key in needed if getattr(arch, key) < 1]
    if missing:
        raise InputError(
            f"{what} needs {', '.join('architecture.' + key for key in missing)}; set them, or"
            " name a model"
        )
    D, H = arch.hidden_size, arch.num_attention_heads
    if D % H and arch.head_dim == D // H:
        raise InputError(
            f"architecture.hidden_size {D} is not a multiple of architecture.num_attention_heads "
            f"{H}; change one of them, or set architecture.head_dim"
        )
