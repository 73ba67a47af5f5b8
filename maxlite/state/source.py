"""Where a model comes from: a Hugging Face folder, a run, a hub id, or nothing (random weights)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import config_json, folder, json_values, metadata, names
from maxlite.model import llama
from maxlite.state import checkpoint
from maxlite.state.place import check_finite, place
from maxlite.state.run import RunFolder, is_run
from maxlite.tokenizer import Tokenizer


@dataclass
class ModelSource:
    """A model before it is on devices.

    Attributes:
      where: its folder, for messages; "random weights" if there is none.
      architecture: its shape.
      config: its config.json.
      dtypes: dtype name of each tensor, under Hugging Face's names (one a layer).
      files: the files that travel with the model, name to path (config.json among them).
      metadata: maxlite.json, or empty.
      notes: lines worth showing once.
    """

    where: str
    architecture: Architecture
    config: dict[str, Any]
    dtypes: dict[str, str]
    files: dict[str, Path] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _folder: folder.Folder | None = None
    _run: tuple[RunFolder, int] | None = None
    _seed: int | None = None

    @property
    def step(self) -> int:
        """The step of the run that the weights are from; -1 where they are not from a run."""
        return self._run[1] if self._run else -1

    @property
    def tokenizer_path(self) -> Path:
        """The folder that holds the tokenizer's files."""
        return self._run[0].model if self._run else Path(self.where)

    @property
    def carried(self) -> dict[str, bytes | Path]:
        """What travels with the weights: config.json, as a file or as bytes, and `files`."""
        return {"config.json": config_json.dump(self.config), **self.files}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Stacked parameter names to shapes."""
        return names.stacked(self.architecture)

    def load(
        self, shardings: Mapping[str, NamedSharding], dtypes: Mapping[str, Any]
    ) -> dict[str, jax.Array]:
        """The parameters on their devices, born sharded.

        Args:
          shardings: stacked names to shardings.
          dtypes: stacked names to dtypes.

        Raises:
          InputError: damaged weights, or NaN or infinity in them.
        """
        if self._folder is not None:
            return place(self._folder.tensors, self.shapes, shardings, dtypes, self.where)
        if self._run is not None:
            run, step = self._run
            abstract = {
                name: jax.ShapeDtypeStruct(shape, dtypes[name], sharding=shardings[name])
                for name, shape in self.shapes.items()
            }
            params = checkpoint.restore(run.checkpoints, step, "params", abstract)
            check_finite(params, self.where)
            return params
        return self._random(shardings, dtypes)

    def _random(
        self, shardings: Mapping[str, NamedSharding], dtypes: Mapping[str, Any]
    ) -> dict[str, jax.Array]:
        if self._seed is None:
            raise ValueError(f"{self.where} was opened without its weights")
        key = jax.random.key(self._seed)
        params = {}
        for name, shape in self.shapes.items():
            make = jax.jit(
                lambda key, name=name, shape=shape: llama.initialize(
                    self.architecture, name, shape, key, dtypes[name]
                ),
                out_shardings=shardings[name],
            )
            params[name] = make(key)
        return params

    def stacked_dtypes(self) -> dict[str, Any]:
        """The dtype each stacked parameter is kept in; the widest where layers differ."""
        widest: dict[str, Any] = {}
        for name, dtype in self.dtypes.items():
            stacked, _ = names.split(name)
            have = widest.get(stacked, dtype)
            widest[stacked] = jnp.promote_types(have, dtype)
        if self._run is not None:  # what has trained is kept in float32
            run, step = self._run
            kept = checkpoint.metadata(run.checkpoints, step)["dtypes"]
            widest |= {name: jnp.dtype(dtype) for name, dtype in kept.items()}
        return widest


def open_model(model: str, step: int = -1) -> ModelSource:
    """Opens a folder, a run (at `step`, -1 for its latest verified) or a hub id.

    Raises:
      InputError: it does not exist, or cannot be used; the text says why.
    """
    path = Path(model).expanduser()
    if is_run(path):
        return _from_run(RunFolder(path), step)
    opened = folder.open_folder(folder.resolve(model))
    return ModelSource(
        where=str(opened.path),
        architecture=opened.architecture,
        config=opened.config,
        dtypes=opened.dtypes,
        files={"config.json": opened.path / "config.json", **opened.files},
        metadata=opened.metadata,
        notes=opened.notes,
        _folder=opened,
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
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    missing = [key for key in needed if getattr(arch, key) < 1]
    if missing:
        raise InputError(
            "config key 'model' is empty, and a random model needs "
            f"{', '.join('architecture.' + key for key in missing)}; set them, or name a model"
        )
    D, H = arch.hidden_size, arch.num_attention_heads
    if D % H and arch.head_dim == D // H:
        raise InputError(
            f"architecture.hidden_size {D} is not a multiple of architecture.num_attention_heads "
            f"{H}; change one of them, or set architecture.head_dim"
        )
    config = config_json.config_for(arch, "float32")
    arch = config_json.architecture(config, "config key 'architecture'")
    return ModelSource(
        where="random weights",
        architecture=arch,
        config=config,
        dtypes=dict.fromkeys(names.expected(arch), "float32"),
        _seed=seed,
    )


def _from_run(run: RunFolder, step: int) -> ModelSource:
    step = checkpoint.require_verified(run.checkpoints, step)
    source = run_files(run)
    source._run = (run, step)
    return source


def run_files(run: RunFolder) -> ModelSource:
    """The model of a run as its model/ folder describes it, without weights."""
    file = run.model / "config.json"
    config = json_values.parse(file.read_bytes(), str(file))
    arch = config_json.architecture(config, str(file))
    note = metadata.read(run.model)
    arch.base_rows = metadata.base_rows(note, arch.vocab_size, str(run.model / metadata.NAME))
    files = {
        p.relative_to(run.model).as_posix(): p
        for p in sorted(run.model.rglob("*"))
        if p.is_file() and p.name != "tensors.json"
    }
    return ModelSource(
        where=str(run.path),
        architecture=arch,
        config=config,
        dtypes=run.tensor_dtypes(),
        files=files,
        metadata=note,
    )
