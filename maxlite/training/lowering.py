"""The train step before it is compiled: what training runs, and what a plan asks a compiler about.

Both lower the same function over the same shapes, dtypes and places. Training takes them from its
arrays, a plan works them out for devices that need not be there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from maxlite import parameters
from maxlite.config import Architecture, Config
from maxlite.model import llama, nf4
from maxlite.model.leaves import leaf
from maxlite.state import mesh as mesh_lib
from maxlite.state.claims import Claims
from maxlite.training import optim
from maxlite.training import step as step_lib

INTEGERS = ("tokens", "targets", "segments", "positions")


def binding(config: Config, arch: Architecture, dtype: Any) -> step_lib.Bind:
    """(params, frozen) -> the model, with the settings of a run."""
    return partial(
        llama.bind,
        arch,
        dtype=dtype,
        attention=config.attention,
        remat=config.remat,
    )


def dropout_seed(config: Config, arch: Architecture) -> int | None:
    """None where nothing is ever left out."""
    return config.seed if arch.lora.dropout else None


def make_optimizer(config: Config, claims: Claims) -> optax.GradientTransformation:
    """The optimizer of a run, each leaf by its rule."""
    by_rule = {name: claims.rule(name) for name in claims.trained}
    return optim.make_optimizer(config, by_rule, claims.begun)


def halved(config: Config, claims: Claims) -> frozenset[str]:
    """The leaves of a run whose gradients are bfloat16."""
    held = config.optimizer.bfloat16
    names = claims.trained
    return frozenset(n for n in names if parameters.halved(leaf(n).parameter, "gradients", held))


def abstract(x: Any) -> jax.ShapeDtypeStruct:
    """The shape, dtype and place of an array."""
    return placed(x, x.sharding)


def placed(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    """The shape and dtype of `x`, at another place."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def abstract_state(
    claims: Claims,
    shardings: Mapping[str, NamedSharding],
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
) -> step_lib.State:
    """The state of a run, float32, without its arrays.

    Args:
      claims: what trains.
      shardings: of every leaf.
      optimizer: made for it.
      mesh: what the shardings are of.
    """
    shapes = claims.shapes
    params: dict[str, Any] = {
        name: jax.ShapeDtypeStruct(shapes[name], np.float32, sharding=shardings[name])
        for name in claims.trained
    }
    replicated = mesh_lib.replicated(mesh)
    opt = jax.eval_shape(optimizer.init, params)
    places = optim.state_shardings(opt, shardings, replicated)
    counters: Any = jax.tree.map(
        lambda x: placed(x, replicated), jax.eval_shape(step_lib.new_counters)
    )
    return step_lib.State(params, jax.tree.map(placed, opt, places), counters)


def abstract_frozen(
    claims: Claims, shardings: Mapping[str, NamedSharding], dtypes: Mapping[str, Any]
) -> dict[str, Any]:
    """The frozen leaves of a run, without their arrays; those in four bits as codes and scales."""
    found = {}
    for name in claims.frozen:
        codes = dtypes[name] == nf4.CODES
        dtype = np.float32 if codes else dtypes[name]
        whole = jax.ShapeDtypeStruct(claims.shapes[name], dtype, sharding=shardings[name])
        found[name] = nf4.abstract(whole) if codes else whole
    return found


def lowered(
    bind: step_lib.Bind,
    optimizer: optax.GradientTransformation,
    seed: int | None,
    z_loss: float,
    halved: Collection[str],
    mesh: Mesh,
    batch_shape: tuple[int, int, int],
    state: Any,
    frozen: Any,
) -> jax.stages.Lowered:
    """The step of a run, to be compiled for the devices of its mesh, which must be set.

    Args:
      bind, optimizer, seed, z_loss, halved: as in `maxlite.training.step.make_step`.
      mesh: of everything below.
      batch_shape: [A, B, S]: accumulation steps, rows of a micro-batch, tokens.
      state, frozen: trees of `jax.ShapeDtypeStruct` with their places.
    """
    spread = mesh_lib.batch_sharding(mesh)
    kinds = {**dict.fromkeys(INTEGERS, np.int32), "weights": np.float32}
    batch = {
        key: jax.ShapeDtypeStruct(batch_shape, dtype, sharding=spread)
        for key, dtype in kinds.items()
    }
    each = NamedSharding(mesh, P(mesh.axis_names))
    flag = jax.ShapeDtypeStruct((mesh.size,), np.int32, sharding=each)
    step = jax.jit(
        step_lib.make_step(bind, optimizer, seed, z_loss, halved),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda x: x.sharding, state), mesh_lib.replicated(mesh)),
    )
    return step.lower(state, frozen, batch, flag)
