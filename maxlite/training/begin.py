"""Where the first step begins: with a checkpoint, with a model, or with a stage's state too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from maxlite.console import human, say
from maxlite.model import nf4
from maxlite.state import checkpoint
from maxlite.state import mesh as mesh_lib
from maxlite.state.moments import KINDS, Moments
from maxlite.state.place import place
from maxlite.training import optim
from maxlite.training import step as step_lib
from maxlite.training.job import Job
from maxlite.training.lowering import abstract_state


def begin(
    job: Job, optimizer: optax.GradientTransformation
) -> tuple[step_lib.State, dict[str, jax.Array], int]:
    """Everything that a run's next step needs, on its devices.

    Args:
      job: the run.
      optimizer: made for it.

    Returns:
      The state, the frozen leaves by name (stacked, in `job.dtypes()`), and the steps done.

    Raises:
      InputError: weights that cannot be read or are not finite.
    """
    wanted = abstract_state(job.claims, job.shardings, optimizer, job.mesh)
    if job.run and job.resumed >= 0:
        folder = job.run.checkpoints
        loaded = checkpoint.restore(folder, job.resumed, "params", wanted.params)
        others = {"opt": wanted.opt, "counters": wanted.counters}
        rest = checkpoint.restore(folder, job.resumed, "rest", others)
        state = step_lib.State(loaded, rest["opt"], rest["counters"])
        say(f"resumed from step {job.resumed}", jax.process_index() == 0)
        return state, _frozen(job), job.resumed
    places = {name: job.shardings[name] for name in wanted.params}
    loaded = job.source.load(places, job.dtypes())
    kept = _frozen(job)
    of_opt = jax.tree.map(lambda x: x.sharding, wanted.opt)
    state = step_lib.init_state(loaded, optimizer, of_opt, mesh_lib.replicated(job.mesh))
    if job.moments:
        state = state._replace(opt=_carried(job, job.moments, state.opt))
    return state, kept, 0


def _frozen(job: Job) -> dict[str, Any]:
    """The frozen leaves; of those to be quantised, one at a time is there whole."""
    dtypes, plain, found = job.dtypes(), {}, dict[str, Any]()
    stored = job.source.stored_dtypes(job.claims.rules)
    for name in job.claims.frozen:
        sharding = job.shardings[name]
        if dtypes[name] != nf4.CODES:
            plain[name] = sharding
            continue
        (whole,) = job.source.load({name: sharding}, {name: stored[name]}).values()
        found[name] = nf4.quantize(whole)
    return found | (job.source.load(plain, dtypes) if plain else {})


def _carried(job: Job, moments: Moments, opt: Any) -> Any:
    """The optimizer state with the moments of the stage before, for what trained there."""
    begun, host = job.claims.begun, job.source.host
    assert host
    shapes = {name: job.claims.shapes[name] for name in begun}
    shardings: Mapping[str, Any] = {name: job.shardings[name] for name in begun}
    dtypes = dict.fromkeys(begun, np.float32)
    mu, nu = (
        place(moments.tensors(kind, host), shapes, shardings, dtypes, str(moments.folder))
        for kind in KINDS
    )
    count = human(sum(math.prod(shape) for shape in shapes.values()))
    told = f"optimizer state of {count} parameters goes on from {moments.run.path}"
    say(told, jax.process_index() == 0)
    return optim.carried(opt, begun, mu, nu)
