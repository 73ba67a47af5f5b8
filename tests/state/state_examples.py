"""Small checkpoints for the tests of this room, and ways to damage them."""

import os

import jax
import numpy as np
import optax

from maxlite.state import mesh as mesh_lib

SHAPES = {
    "model.embed_tokens.weight": (12, 16),
    "model.layers.mlp.up_proj.weight": (2, 8, 16),
    "model.norm.weight": (16,),
}


def params_at(mesh, step, dtype=np.float32):
    """Values that only that step has, on a mesh."""
    rng = np.random.default_rng(step)
    return {
        name: jax.device_put(rng.standard_normal(shape).astype(dtype), sharding)
        for (name, shape), sharding in zip(
            SHAPES.items(), mesh_lib.shardings(mesh, SHAPES).values(), strict=True
        )
    }


def rest_at(mesh, params, step):
    counters = {"step": jax.device_put(np.int32(step), mesh_lib.replicated(mesh))}
    return {"opt": optax.scale_by_adam().init(params), "counters": counters}


def largest(step_folder):
    files = (p for p in (step_folder / "params").rglob("*") if p.is_file())
    return max(files, key=lambda p: p.stat().st_size)


def truncate(step_folder):
    file = largest(step_folder)
    os.truncate(file, file.stat().st_size - 1)


def flip(step_folder, file=None):
    file = file or largest(step_folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
