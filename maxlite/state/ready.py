"""A model on this machine's devices with its tokenizer, for whoever only reads it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from maxlite import xla
from maxlite.config import Architecture
from maxlite.console import say
from maxlite.model import llama
from maxlite.state import mesh as mesh_lib
from maxlite.state.compiled import keep_compiled
from maxlite.state.source import ModelSource, open_model
from maxlite.tokenizer import Tokenizer, check_rows, load_tokenizer


@dataclass
class Ready:
    """A model that can be run: `bind(params, {})` under `on_mesh()`."""

    source: ModelSource
    mesh: Mesh
    params: dict[str, jax.Array]
    dtype: Any

    @property
    def where(self) -> str:
        """The folder, run or hub id, for people."""
        return self.source.where

    @property
    def step(self) -> int:
        """The checkpoint's step; -1 for a Hugging Face folder."""
        return self.source.step

    @property
    def architecture(self) -> Architecture:
        """Its shape."""
        return self.source.architecture

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer beside it.

        Raises:
          InputError: there is none, or one with ids that the tables have no rows for.
        """
        found = load_tokenizer(self.source.files)
        check_rows(found, self.architecture.vocab_size)
        return found

    @property
    def bind(self) -> Any:
        """(params, frozen) -> model."""
        return partial(llama.bind, self.architecture, dtype=self.dtype)

    def on_mesh(self) -> AbstractContextManager[Any]:
        """Sets the mesh that the parameters lie on."""
        return jax.set_mesh(self.mesh)


def default_dtype() -> str:
    """What dtype "auto" means on this machine."""
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def widest_mesh(source: ModelSource) -> Mesh:
    """All devices on `fsdp`, or one device where the model's width does not divide over them."""
    devices = jax.devices()
    arch = source.architecture
    sizes = (arch.hidden_size, arch.num_attention_heads * arch.head_dim, arch.intermediate_size)
    if any(size % len(devices) for size in sizes):
        devices = devices[:1]
    return mesh_lib.make_mesh(f"fsdp={len(devices)}", devices)


def every_device(source: ModelSource) -> Mesh:
    """All devices: as many on `fsdp` as the model's width divides over, the others on `data`."""
    count, arch = jax.device_count(), source.architecture
    sizes = (arch.hidden_size, arch.num_attention_heads * arch.head_dim, arch.intermediate_size)
    fsdp = math.gcd(count, *sizes)
    return mesh_lib.make_mesh(f"data={count // fsdp},fsdp={fsdp}")


def ready_model(
    model: str,
    dtype: str = "auto",
    step: int = -1,
    weights: bool = True,
    spread: Callable[[ModelSource], Mesh] = widest_mesh,
) -> Ready:
    """Opens a folder, run or hub id and places it in the types it is stored in.

    Args:
      model: what `open_model` takes.
      dtype: of the computation; "auto" is float32 on a CPU and bfloat16 elsewhere.
      step: of a run; -1 for the latest verified.
      weights: whether to load them.
      spread: the devices to use.

    Raises:
      InputError: as `open_model` and `ModelSource.load`.
    """
    xla.set_flags()
    keep_compiled()
    source = open_model(model, step)
    for note in source.notes:
        say(f"{source.where}: {note}")
    mesh = spread(source)
    params = {}
    if weights:
        shardings = mesh_lib.shardings(mesh, source.shapes)
        params = source.load(shardings, source.stored_dtypes())
    compute = jnp.dtype(default_dtype() if dtype == "auto" else dtype)
    return Ready(source, mesh, params, compute)
