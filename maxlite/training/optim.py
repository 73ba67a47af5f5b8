"""The optimizer: AdamW through optax, its learning-rate schedule, and where its state lives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import optax
from jax.sharding import NamedSharding

from maxlite.config import Config, warmup_steps


def schedule(config: Config) -> optax.Schedule:
    """Learning rate over applied updates: a linear warm-up from 0, then the named decay."""
    opt, warmup = config.optimizer, warmup_steps(config)
    rest = max(config.steps - warmup, 1)
    if opt.schedule == "cosine":
        after = optax.cosine_decay_schedule(opt.learning_rate, rest, alpha=opt.end)
    elif opt.schedule == "linear":
        after = optax.linear_schedule(opt.learning_rate, opt.learning_rate * opt.end, rest)
    else:
        after = optax.constant_schedule(opt.learning_rate)
    if not warmup:
        return after
    # The first update must move: it takes 1/warmup of the peak, the last of the warm-up all of it.
    ramp = optax.linear_schedule(opt.learning_rate / warmup, opt.learning_rate, max(warmup - 1, 1))
    return optax.join_schedules([ramp, after], [warmup])


def decays(name: str) -> bool:
    """Whether weight decay applies to a parameter: to matrices, not to norms and biases."""
    return not name.endswith(("norm.weight", ".bias"))


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """AdamW (arXiv 1711.05101) after global-norm clipping, over {stacked name: array}."""
    opt = config.optimizer
    clip = optax.clip_by_global_norm(opt.clip) if opt.clip else optax.identity()
    return optax.chain(
        clip,
        optax.scale_by_adam(opt.beta1, opt.beta2, opt.eps),
        optax.add_decayed_weights(
            opt.weight_decay, mask=lambda params: {name: decays(name) for name in params}
        ),
        optax.scale_by_learning_rate(schedule(config)),
    )


def state_shardings(
    abstract_state: Any, shardings: Mapping[str, NamedSharding], other: NamedSharding
) -> Any:
    """The optimizer state's shardings: a moment lies where its parameter does.

    Args:
      abstract_state: `jax.eval_shape(optimizer.init, params)`.
      shardings: stacked names to shardings of the parameters.
      other: for counters.
    """

    def place(path: tuple[Any, ...], _: Any) -> NamedSharding:
        last = path[-1]
        key = last.key if isinstance(last, jax.tree_util.DictKey) else None
        return shardings.get(key, other) if key is not None else other

    return jax.tree_util.tree_map_with_path(place, abstract_state)
