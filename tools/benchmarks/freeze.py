"""`benchmark freeze`: what a step costs when a part is frozen, beside the full step and a hook.

A hook lets everything train and sets gradients to zero afterwards, as a row mask in other systems
does: the optimizer still holds and moves everything. The ideal is the set's share of the full
step's FLOPs (see `maxlite.model.flops`), for this very shape and `--remat`: what that repeats of a
layer through which a gradient passes counts twice.
"""

from __future__ import annotations

import functools
import math
import statistics
from typing import Any

import jax
import numpy as np
import optax
from tqdm import tqdm

from maxlite.config import Architecture, Config, Optimizer
from maxlite.console import say
from maxlite.model import llama
from maxlite.model.flops import flops_per_token
from maxlite.model.leaves import leaf
from maxlite.model.memory import repeated_per_token
from maxlite.state.claims import Claims, claim
from maxlite.training import optim
from maxlite.training import step as step_lib
from tools.benchmarks.batches import random_batch
from tools.benchmarks.stepping import MIB, compiled_step

SETS = ("everything", "vocabulary", "odd_layers", "new_rows", "new_output_rows", "norms")
BATCH, LENGTH = 4, 256
ARCH = Architecture(
    vocab_size=2000,
    hidden_size=256,
    intermediate_size=704,
    num_hidden_layers=12,
    num_attention_heads=4,
    base_rows=1800,
)


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Measures a step of each set on a shape of which the layers are nine tenths; prints a table.

    Args:
      settings: `runs`, `remat`, `dry_run` as attributes.

    Returns:
      One row a set: name, ours and peer (the hook; seconds, medians), ratio, unit, runs, peak_mib
      and peer_peak_mib (arguments and temporaries of the compiled step), of_full, ideal, and
      checkpoint_mib (what one takes).
    """
    if settings.dry_run:
        say(f"would time {len(SETS)} sets of parameters")
        return None
    steps = {name: _step(claim(name, ARCH), settings.remat, hook=False) for name in SETS}
    hooks = {name: _step(claim(name, ARCH), settings.remat, hook=True) for name in SETS[1:]}
    times: dict[Any, list[float]] = {}
    with tqdm(total=settings.runs * (len(steps) + len(hooks)), desc="stepping") as bar:
        for _ in range(settings.runs):  # in turn, so that a slow minute hits all alike
            for kind, several in (("ours", steps), ("hook", hooks)):
                for name, (run, _) in several.items():
                    times.setdefault((kind, name), []).append(run())
                    bar.update()
    full = _flops(claim("everything", ARCH), settings.remat)
    rows = []
    for name in SETS:
        claims = claim(name, ARCH)
        mine = statistics.median(times["ours", name])
        theirs = statistics.median(times.get(("hook", name), times["ours", name]))
        held = sum(math.prod(claims.shapes[leaf_]) for leaf_ in claims.trained)
        rows.append(
            {
                "name": name,
                "ours": mine,
                "peer": theirs,
                "ratio": mine / theirs,
                "unit": "seconds",
                "runs": settings.runs,
                "peak_mib": steps[name][1],
                "peer_peak_mib": hooks.get(name, steps[name])[1],
                "of_full": mine / statistics.median(times["ours", "everything"]),
                "ideal": _flops(claims, settings.remat) / full,
                "checkpoint_mib": 12 * held / MIB,  # float32, with both moments
            }
        )
    _print(rows)
    return rows


def _flops(claims: Claims, remat: str) -> float:
    """Of a token, with what rematerialisation repeats."""
    once = flops_per_token(ARCH, LENGTH, claims.frozen)
    return once + repeated_per_token(ARCH, LENGTH, claims.frozen, remat)


def _step(claims: Claims, remat: str, hook: bool) -> tuple[Any, float]:
    """A function that takes one step and gives its seconds, and the step's memory in MiB."""
    key = jax.random.key(0)
    whole = {n: llama.initialize(ARCH, n, s, key, np.float32) for n, s in claims.whole.items()}
    config = Config(steps=10**6, optimizer=Optimizer())

    def part(name: str) -> jax.Array:
        own = leaf(name)
        x = whole[own.parameter]
        return x if own.rows is None else x[np.array(own.rows)]

    params = {n: part(n) for n in claims.trained}
    frozen = {n: part(n) for n in claims.frozen}
    optimizer = optim.make_optimizer(config)
    if hook:
        masks = {n: np.zeros(s[:1], np.float32) for n, s in claims.whole.items()}
        for own in map(leaf, claims.trained):
            masks[own.parameter][list(own.taken(claims.whole[own.parameter]))] = 1
        params, frozen = whole, {}
        optimizer = optax.chain(_masked(masks), optimizer)
    bind = functools.partial(llama.bind, ARCH, remat=remat)
    state = step_lib.State(params, optimizer.init(params), step_lib.new_counters())
    batch = random_batch((1, BATCH, LENGTH), range(ARCH.vocab_size))
    return compiled_step(bind, optimizer, state, frozen, batch, np.zeros(1, np.int32))


def _masked(masks: dict[str, np.ndarray]) -> optax.GradientTransformation:
    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        shaped = {n: m.reshape(-1, *[1] * (gradient[n].ndim - 1)) for n, m in masks.items()}
        return {n: g * shaped[n] for n, g in gradient.items()}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _print(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'':<18}{'ours s':>8}{'hook s':>8}{'ratio':>7}{'of full':>9}{'ideal':>7}"
        f"{'MiB':>7}{'hook MiB':>10}{'checkpoint MiB':>16}"
    )
    for row in rows:
        print(
            f"{row['name']:<18}{row['ours']:>8.3f}{row['peer']:>8.3f}{row['ratio']:>7.2f}"
            f"{row['of_full']:>9.2f}{row['ideal']:>7.2f}{row['peak_mib']:>7.0f}"
            f"{row['peer_peak_mib']:>10.0f}{row['checkpoint_mib']:>16.1f}"
        )
