"""What a layer keeps of its forward pass for the backward pass; the rest is computed again.

Every mode leaves out the copies of weights that a cast makes: a loop over layers would otherwise
hold one of the whole model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from maxlite.errors import InputError

ATTENTION = "attention"  # attention's result, which each backend marks itself
_keep = jax.checkpoint_policies

# "none" keeps every product with a weight, and attention's result: what is repeated is cheap.
# Scores, which grow with the square of the sequence, are repeated too.
POLICIES: dict[str, Callable[..., Any]] = {
    "none": _keep.save_from_both_policies(
        _keep.dots_with_no_batch_dims_saveable, _keep.save_only_these_names(ATTENTION)
    ),
    "full": _keep.nothing_saveable,
}


def policy(name: str) -> Callable[..., Any]:
    """The policy for `jax.checkpoint` that a setting means.

    Raises:
      InputError: no such mode.
    """
    if name not in POLICIES:
        raise InputError(f"remat '{name}' does not exist; choose one of {', '.join(POLICIES)}")
    return POLICIES[name]


def kept(o_BSHE: jax.Array) -> jax.Array:
    """Marks attention's result for the policies above."""
    return checkpoint_name(o_BSHE, ATTENTION)
