"""One training step: gradients by micro-batch, one division by the token count, one update.

A batch is a dict of [A, B, S] arrays: A accumulation steps, B rows, S tokens. State is a `State`:
`params` (what trains, float32, stacked names), `opt` (optax), `counters` (int32 scalars).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from maxlite.model.loss import Sums, training_loss
from maxlite.model.variables import halve

Params = dict[str, jax.Array]
Bind = Callable[[Params, Params], Any]  # (params, frozen) -> model


class State(NamedTuple):
    """Everything that a step changes."""

    params: Params
    opt: Any
    counters: dict[str, jax.Array]


def new_counters() -> dict[str, jax.Array]:
    """What a run counts, int32 scalars.

    step: done; skipped: of these, not applied; skipped_in_row: the latest streak.
    """
    return {name: jnp.zeros((), jnp.int32) for name in ("step", "skipped", "skipped_in_row")}


def make_step(
    bind: Bind,
    optimizer: optax.GradientTransformation,
    seed: int | None = None,
    z_loss: float = 0.0,
    halved: Collection[str] = (),
) -> Callable[..., tuple[State, dict[str, jax.Array]]]:
    """The step as a pure function (state, frozen, batch, save) -> (state, metrics).

    Only `params` is differentiated, so what is frozen costs no gradient. The loss is the sum over
    tokens of all micro-batches divided once by their number, so accumulation equals the big batch.
    A step whose loss or gradient is not finite changes nothing but the counters. `save`, int32
    [devices], is summed into the metrics, so that every process learns at the same step that one of
    them finds it is time for a checkpoint, without a wait.

    With a seed, adapters leave out what their dropout says: a function of the seed, the step and
    the micro-batch's number alone. With a z-loss (its weight, see `maxlite.model.loss`), what it
    adds to the gradient is a metric of its own; the loss stays without it.

    The gradients of leaves in `halved` are bfloat16 until they are added up or clipped.
    """

    def loss(slots: Params, params: Params, frozen: Params, micro: dict[str, jax.Array], key: Any):
        """By `slots`: the parameters, or for those in `halved` where their gradients go."""
        whole: dict[str, Any] = {
            n: halve(params[n], x) if n in halved else x for n, x in slots.items()
        }
        return training_loss(bind(whole, frozen), micro, key, z_loss)

    def slots_of(params: Params) -> Params:
        return {n: jnp.zeros_like(x, jnp.bfloat16) if n in halved else x for n, x in params.items()}

    def step(state: State, frozen: Params, batch: dict[str, jax.Array], save: jax.Array):
        by_slots = jax.value_and_grad(loss, has_aux=True)
        slots = slots_of(state.params)

        def gradient(micro, number):
            return by_slots(slots, state.params, frozen, micro, key(number))

        def key(number):
            if seed is None:
                return None
            of_step = jax.random.fold_in(jax.random.key(seed), state.counters["step"])
            return jax.random.fold_in(of_step, number)

        def add(total, turn):
            number, micro = turn
            (_, sums), grads = gradient(micro, number)
            return jax.tree.map(jnp.add, total, (sums, grads)), None

        count = batch["tokens"].shape[0]
        if count == 1:
            micro = jax.tree.map(lambda x: x[0], batch)
            (_, sums), grads = gradient(micro, 0)
        else:
            none = jnp.zeros(())
            nothing = Sums(none, none, none), jax.tree.map(jnp.zeros_like, state.params)
            (sums, grads), _ = jax.lax.scan(add, nothing, (jnp.arange(count), batch))
        weight = jnp.maximum(sums.weight, 1.0)
        grads = jax.tree.map(lambda g: g / weight, grads)
        mean, norm = sums.nll / weight, optax.tree.norm(grads)
        finite = jnp.isfinite(mean) & jnp.isfinite(norm)

        updates, opt = optimizer.update(grads, state.opt, state.params)
        params = optax.apply_updates(state.params, updates)

        def keep(new, old):
            return jnp.where(finite, new, old)

        skipped = jnp.where(finite, 0, 1)
        before = state.counters
        counters = {
            "step": before["step"] + 1,
            "skipped": before["skipped"] + skipped,
            "skipped_in_row": jnp.where(finite, 0, before["skipped_in_row"] + 1),
        }
        new = State(
            jax.tree.map(keep, params, state.params), jax.tree.map(keep, opt, state.opt), counters
        )
        metrics = {"loss": mean, "grad_norm": norm, "tokens": weight, "save": save.sum()}
        if z_loss:
            metrics["z_loss"] = sums.penalty / weight
        return new, metrics | counters

    return step


def init_state(
    params: Params, optimizer: optax.GradientTransformation, shardings: Any, replicated: Any
) -> State:
    """A state at step 0.

    Args:
      params: what trains, on its devices.
      optimizer: its transformation.
      shardings: of `optimizer.init(params)`.
      replicated: the sharding of the counters.
    """
    opt = jax.jit(optimizer.init, out_shardings=shardings)(params)
    return State(params, opt, jax.jit(new_counters, out_shardings=replicated)())
