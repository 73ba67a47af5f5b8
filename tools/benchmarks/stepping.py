"""A training step to time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import optax

from maxlite.training import step as step_lib

MIB = 2**20


def compiled_step(
    bind: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    state: step_lib.State,
    *rest: Any,
) -> tuple[Callable[[], float], float]:
    """A step that goes on from where it was, after one that is not timed.

    Args:
      bind, optimizer: of `maxlite.training.step.make_step`.
      state: where it begins; its arrays are given away.
      *rest: frozen weights, a batch and the flag that ends a run, as each step gets them.

    Returns:
      A function that takes one step and gives its seconds, and the memory of the compiled step in
      MiB: arguments and temporaries.
    """
    step = jax.jit(step_lib.make_step(bind, optimizer), donate_argnums=0)
    compiled = step.lower(state, *rest).compile()
    memory = compiled.memory_analysis()
    held = [state]

    def run() -> float:
        began = time.monotonic()
        held[0], figures = compiled(held[0], *rest)
        jax.block_until_ready((held[0], figures))
        return time.monotonic() - began

    run()
    return run, (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / MIB
