"""The optimizer: AdamW through optax, its learning-rate schedule, and where its state lives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from maxlite.config import Config, Optimizer, warmup_steps
from maxlite.model.leaves import leaf
from maxlite.parameters import matrix
from maxlite.rules import Rule


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
    """Whether weight decay applies to a leaf: to matrices, not to norms, biases and magnitudes."""
    return matrix(leaf(name).parameter)


def make_optimizer(
    config: Config,
    rules: Mapping[str, Rule] | None = None,
    begun: Mapping[str, int] | None = None,
) -> optax.GradientTransformation:
    """AdamW (arXiv 1711.05101) after global-norm clipping, over {leaf name: array}.

    Args:
      config: `optimizer` in it holds for every leaf whose rule says nothing else.
      rules: leaf names to the rules that they train by.
      begun: leaf names to the updates that moments from a stage before have seen; such leaves are
        a group of their own, whose bias correction goes on from there (see `carried`).
    """
    opt, seen = config.optimizer, begun or {}
    settings = {
        name: _settings(opt, rule, seen.get(name, 0)) for name, rule in (rules or {}).items()
    }
    clip = optax.clip_by_global_norm(opt.clip) if opt.clip else optax.identity()
    groups = dict.fromkeys(settings.values()) or {_settings(opt, Rule()): None}
    if len(groups) == 1:
        return optax.chain(clip, *_adamw(config, next(iter(groups))))
    labels = {name: str(group) for name, group in settings.items()}
    each = {str(group): optax.chain(*_adamw(config, group)) for group in groups}
    return optax.chain(clip, optax.partition(each, lambda params: {n: labels[n] for n in params}))


class Settings(NamedTuple):
    """How a group of leaves is updated; `rate` multiplies the schedule."""

    rate: float
    decay: float
    beta1: float
    beta2: float
    begun: int = 0  # updates that its moments have seen when the run begins


def _settings(opt: Optimizer, rule: Rule, begun: int = 0) -> Settings:
    return Settings(
        rule.learning_rate,
        opt.weight_decay if rule.weight_decay < 0 else rule.weight_decay,
        opt.beta1 if rule.beta1 < 0 else rule.beta1,
        opt.beta2 if rule.beta2 < 0 else rule.beta2,
        begun,
    )


def carried(
    state: Any, begun: Mapping[str, int], mu: Mapping[str, jax.Array], nu: Mapping[str, jax.Array]
) -> Any:
    """The state of a new optimizer with the moments of a stage before.

    Args:
      state: `optimizer.init(params)`, of an optimizer made with `begun`.
      begun: leaf names to the updates that their moments have seen.
      mu: the running mean of each of their gradients, in the leaf's shape and any float dtype.
      nu: the same of squares.
    """

    def put(adam: Any) -> Any:
        mine = [n for n, x in adam.mu.items() if n in begun and not _masked(x)]
        if not mine:
            return adam
        count = jax.device_put(np.int32(begun[mine[0]]), adam.count.sharding)
        return adam._replace(
            count=count,
            mu={**adam.mu, **{n: mu[n].astype(adam.mu[n].dtype) for n in mine}},
            nu={**adam.nu, **{n: nu[n].astype(adam.nu[n].dtype) for n in mine}},
        )

    def is_adam(x: Any) -> bool:
        return isinstance(x, optax.ScaleByAdamState)

    return jax.tree.map(lambda x: put(x) if is_adam(x) else x, state, is_leaf=is_adam)


def _masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _adamw(config: Config, group: Settings) -> tuple[optax.GradientTransformation, ...]:
    rate = schedule(config)
    adam = optax.scale_by_adam(group.beta1, group.beta2, config.optimizer.eps)
    return (
        _rounded(adam) if "moments" in config.optimizer.bfloat16 else adam,
        optax.add_decayed_weights(
            group.decay, mask=lambda params: {name: decays(name) for name in params}
        ),
        optax.scale_by_learning_rate(
            rate if group.rate == 1 else lambda count: group.rate * rate(count)
        ),
    )


def _rounded(adam: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same with both moments of matrices in bfloat16 between steps; within one in float32.

    optax's `mu_dtype` is for the first alone.
    """

    def held(state: Any, dtype: Any) -> Any:
        def cast(moments: Mapping[str, Any]) -> dict[str, Any]:
            return {
                name: x.astype(dtype) if not _masked(x) and matrix(leaf(name).parameter) else x
                for name, x in moments.items()
            }

        return state._replace(mu=cast(state.mu), nu=cast(state.nu))

    def init(params: Any) -> Any:
        return held(adam.init(params), jnp.bfloat16)

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, after = adam.update(gradients, held(state, jnp.float32), params)
        return updates, held(after, jnp.bfloat16)

    return optax.GradientTransformation(init, update)


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
