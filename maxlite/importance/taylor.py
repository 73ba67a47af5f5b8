"""First-order Taylor: how much the loss would change without a unit, from its gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxlite.importance import gates as gates_lib
from maxlite.importance.text import Text
from maxlite.model.loss import summed_loss
from maxlite.state.ready import Ready


def taylor(ready: Ready, text: Text, size: int) -> dict[str, Any]:
    """Units by |sum of w * dL/dw| over every weight that they are made of, the mean over sequences.

    L is the loss of one sequence, a token of it on average. (RethinkTinyLM, arXiv 2402.02791,
    section 4, names the criterion and LLM-Pruner, arXiv 2305.11627, section 3.2, has its
    derivation.) It is the absolute value sequence by sequence (as for heads in arXiv 1905.10650,
    section 4.1) that tells units apart. The gradient of all text together is close to 0 at the end
    of a training, and on text that the model itself has written exactly so but for noise.

    A layer's score counts all its weights, a residual channel's those of the whole model.

    Args:
      ready: the model.
      text: what it reads.
      size: rows at a time on the way to the devices; the result does not depend on it.

    Returns:
      float32 arrays by kind of unit.
    """
    arch = ready.architecture

    def loss(gates: dict[str, jax.Array], params: Any, row: Mapping[str, jax.Array]) -> jax.Array:
        model = ready.bind(gates_lib.gated(params, gates), {}, remat="full")
        nll, weight = summed_loss(model, row)
        return nll / jnp.maximum(weight, 1.0)

    @jax.jit
    def sums(params: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        def add(total: dict[str, jax.Array], row: Mapping[str, jax.Array]) -> tuple[Any, None]:
            one = jax.tree.map(lambda x: x[None], row)
            found = jax.grad(loss)(gates_lib.ones(arch), params, one)
            return jax.tree.map(lambda t, g: t + jnp.abs(g), total, found), None

        nothing = jax.tree.map(jnp.zeros_like, gates_lib.ones(arch))
        return jax.lax.scan(add, nothing, batch)[0]

    found = {kind: np.zeros(shape) for kind, shape in gates_lib.shapes(arch).items()}
    with ready.on_mesh():
        for batch in text.batches(size, ready.mesh, "gradients"):
            for kind, array in sums(ready.params, batch).items():
                found[kind] += np.asarray(array, np.float64)
    return {kind: (array / len(text)).astype(np.float32) for kind, array in found.items()}
