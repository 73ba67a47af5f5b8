"""A model that has learned a little, and dead units to put into it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors.numpy import load_file, save_file

from maxlite.importance import text as text_lib
from maxlite.model import llama
from maxlite.model.loss import summed_loss
from maxlite.state import mesh as mesh_lib
from maxlite.state.ready import Ready
from maxlite.state.source import open_model

SEQ_LEN = 32
DEAD = {
    "layers": [1],
    "groups": [(0, 1), (2, 0)],
    "channels": [(i, c) for i in (0, 2) for c in (0, 7 + i, 40)],
    "residual": [2, 30],
}


def one_device(folder: Path) -> Ready:
    """A folder's model on the first device alone, where tiny ones are quickest."""
    source = open_model(str(folder))
    mesh = mesh_lib.make_mesh("fsdp=1", jax.devices()[:1])
    params = source.load(mesh_lib.shardings(mesh, source.shapes), source.stored_dtypes())
    return Ready(source, mesh, params, jnp.dtype("float32"))


def text_of(ready: Ready, folder: Path, sequences: int = 8, seed: int = 0) -> text_lib.Text:
    """Rows of the tiny English text."""
    return text_lib.read(
        [str(folder / "en.txt")], ready.tokenizer, sequences=sequences, seq_len=SEQ_LEN, seed=seed
    )


def train(folder: Path, text: Path, steps: int) -> None:
    """Trains all weights of a folder in place, so that its units have something to do."""
    ready = one_device(folder)
    rows = text_of(ready, text, sequences=128)
    optimizer = optax.adam(3e-3)

    def loss(params, batch):
        nll, weight = summed_loss(llama.bind(ready.architecture, params, {}), batch)
        return nll / weight

    @jax.jit
    def step(params, opt, batch):
        updates, opt = optimizer.update(jax.grad(loss)(params, batch), opt)
        return optax.apply_updates(params, updates), opt

    with ready.on_mesh():
        params, opt = ready.params, optimizer.init(ready.params)
        for i in range(steps):
            batch = rows.batch(np.arange(16) + i % 8 * 16, ready.mesh)
            params, opt = step(params, opt, batch)
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        parts = name.split(".")
        stacked = ".".join(p for p in parts if not p.isdigit())
        array = np.asarray(params[stacked])
        tensors[name] = array[int(parts[2])] if stacked != name else array
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def kill(folder: Path, *, layers=(), groups=(), channels=(), residual=()) -> None:
    """Zeroes weights of units on both sides, so that training them changes nothing.

    Args:
      folder: of a tiny model with 2 groups of 2 heads of size 8, changed in place.
      layers: numbers; their norms and other weights too.
      groups, channels: (layer, number).
      residual: numbers.
    """
    tensors = {k: v.copy() for k, v in load_file(folder / "model.safetensors").items()}
    for i in layers:
        for name in tensors:
            if name.startswith(f"model.layers.{i}."):
                tensors[name][:] = 0
    for i, g in groups:
        tensors[f"model.layers.{i}.self_attn.o_proj.weight"][:, 16 * g : 16 * g + 16] = 0
        tensors[f"model.layers.{i}.self_attn.v_proj.weight"][8 * g : 8 * g + 8] = 0
    for i, c in channels:
        tensors[f"model.layers.{i}.mlp.down_proj.weight"][:, c] = 0
        for name in ("gate_proj", "up_proj"):
            tensors[f"model.layers.{i}.mlp.{name}.weight"][c] = 0
    for d in residual:
        for name, array in tensors.items():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                array[d] = 0
            elif array.ndim == 1 or "_proj" not in name:
                array[..., d] = 0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
