"""A learned mask: which units to keep, found by training a score for each, with fixed weights.

The parameterisation is our own. RethinkTinyLM (arXiv 2402.02791, section 4) reports that a learned
mask inherits better than any heuristic, but the text does not say how its own is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.importance import gates as gates_lib
from maxlite.importance.text import Text
from maxlite.model.loss import summed_loss
from maxlite.state import mesh as mesh_lib
from maxlite.state.ready import Ready

Arrays = dict[str, jax.Array]


@dataclass(frozen=True)
class Learning:
    """How a mask is learned.

    Attributes:
      budget: by kind of unit, how many stay: of the layers, of the residual channels, and in every
        layer of its groups and channels. A kind that is not named stays whole, and gets no scores.
      steps: of training.
      learning_rate: how far a step moves a score towards what it has just seen; at most 1.
      seed: of the noise.
    """

    budget: Mapping[str, int]
    steps: int = 300
    learning_rate: float = 0.1
    seed: int = 0


def check(learning: Learning, arch: Architecture) -> None:
    """Refuses a budget that a model cannot meet.

    Raises:
      InputError: it names no kind, or fewer units than 1 or more than there are; no steps; a
        learning rate that is not above 0, or above 1.
    """
    if not learning.budget:
        raise InputError(
            "a learned mask needs a budget: name the --target, or how many --budget_layers,"
            " --budget_groups, --budget_channels or --budget_residual stay"
        )
    for kind, shape in gates_lib.shapes(arch).items():
        count = learning.budget.get(kind, 1)
        if not 1 <= count <= shape[-1]:
            raise InputError(
                f"a budget of {count} {kind} cannot be met: the model has {shape[-1]}"
                f"{' in each layer' if len(shape) == 2 else ''}, and at least one must stay"
            )
    if learning.steps < 1 or not 0 < learning.learning_rate <= 1:
        raise InputError(
            f"{learning.steps} steps with a learning rate of {learning.learning_rate} learn no"
            " mask: both must be above 0, and the rate at most 1"
        )


def learned(ready: Ready, text: Text, size: int, learning: Learning) -> dict[str, np.ndarray]:
    """Units by scores that were trained under a hard budget.

    Each unit has a score, 0 at first. In each step the mask is 1 for the k best of a row of scores
    and 0 for the others, so the loss is that of a model that can be cut out, never that of one
    between (`gates.masked`). Behind it stands the slope of the loss, as if the mask were a number
    (straight through, arXiv 1308.3432): for a unit that is out, how much its return would lower
    the loss in the present company. A score is the running mean of that, and moves only while its
    unit is out. (The slope at a unit that is in says next to nothing in a trained model.) So the
    units that a mask misses come back, and those that it does not stay out.

    Gumbel noise on the scores makes the k best a draw without replacement with
    p ∝ exp(score / temperature), and shows each unit in many companies. Its temperature falls from
    the root mean square of the slopes to 0.

    Args:
      ready: the model; its weights do not change.
      text: its rows are read in turn, again from the first after the last.
      size: rows a step; another size is another result.
      learning: budget and settings, as `check` lets them pass.

    Returns:
      float32 arrays of the kinds in the budget, shaped as `surgery.scores.shapes` says. A score
      above 0 means that the unit is kept, and exactly as many are as the budget says.

    Raises:
      InputError: a gradient was not finite, so that no budget was met.
    """
    arch, budget = ready.architecture, dict(sorted(learning.budget.items()))
    shapes = {kind: gates_lib.shapes(arch)[kind] for kind in budget}

    def loss(masks: Arrays, params: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        residual = budget.get("residual")
        model = gates_lib.masked(arch, params, masks, residual, dtype=ready.dtype, remat="full")
        nll, weight = summed_loss(model, batch)
        return nll / jnp.maximum(weight, 1.0)

    everywhere = mesh_lib.replicated(ready.mesh)

    @partial(jax.jit, out_shardings=everywhere)
    def step(state: tuple[Arrays, Arrays], number: jax.Array, params: Any, batch: Any) -> Any:
        scores, squares = state
        temperature = 1 - number / learning.steps
        key = jax.random.fold_in(jax.random.key(learning.seed % 2**32), number)
        masks = {}
        for i, (kind, score) in enumerate(scores.items()):
            noise = jax.random.gumbel(jax.random.fold_in(key, i), score.shape)
            masks[kind] = top(score + temperature * jnp.sqrt(squares[kind]) * noise, budget[kind])
        mean, slopes = jax.value_and_grad(loss)(masks, params, batch)
        new_scores, new_squares = {}, {}
        for kind, score in scores.items():
            out = 1 - masks[kind]
            new_scores[kind] = score - learning.learning_rate * out * (slopes[kind] + score)
            square = jnp.sum(out * slopes[kind] ** 2) / jnp.maximum(jnp.sum(out), 1.0)
            new_squares[kind] = squares[kind] + (square - squares[kind]) / (number + 1)
        return (new_scores, new_squares), mean

    nothing = {kind: np.zeros(shape, np.float32) for kind, shape in shapes.items()}
    state = jax.device_put((nothing, dict.fromkeys(budget, np.float32(1))), everywhere)
    with (
        ready.on_mesh(),
        tqdm(total=learning.steps, desc="learning", unit=" steps", delay=2, leave=False) as bar,
    ):
        for number in range(learning.steps):
            rows = (number * size + np.arange(size)) % len(text)
            batch = text.batch(rows, ready.mesh)
            state, mean = step(state, np.int32(number), ready.params, batch)
            bar.update()
            bar.set_postfix(loss=f"{float(mean):.3f}", refresh=False)
    scores = {kind: np.asarray(state[0][kind]) for kind in budget}
    if not all(np.isfinite(score).all() for score in scores.values()):
        raise InputError(
            f"the scores of {ready.where} did not stay finite while the mask was learned, so its"
            " budget could not be met: compute in float32, or lower --learning_rate"
        )
    return {kind: _signed(score, budget[kind]) for kind, score in scores.items()}


def top(scores: jax.Array, count: Any) -> jax.Array:
    """1 for the `count` largest of each row of scores [..., N], the earlier of equals; else 0."""
    places = jnp.argsort(jnp.argsort(-scores, axis=-1, stable=True), axis=-1)
    return (places < count).astype(jnp.float32)


def _signed(scores: np.ndarray, count: int) -> np.ndarray:
    """Scores shifted so that just the `count` largest of each row are above 0."""
    kept = np.asarray(top(jnp.asarray(scores), count)) > 0
    lowest = np.where(kept, scores, np.inf).min(-1, keepdims=True)
    highest = np.where(kept, -np.inf, scores).max(-1, keepdims=True, initial=-np.inf)
    between = np.where(np.isfinite(highest), (lowest + highest) / 2, lowest - 1)
    tiny = np.float32(np.finfo(np.float32).tiny)  # of equals, one is kept and the other is not
    shifted = np.where(
        kept, np.maximum(scores - between, tiny), np.minimum(scores - between, -tiny)
    )
    return shifted.astype(np.float32)
