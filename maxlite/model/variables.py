"""The two kinds of parameter, and the one way to read them."""

from __future__ import annotations

import jax
from flax import nnx


class Frozen(nnx.Variable):
    """A parameter that does not train: no gradient flows into it, whoever differentiates."""


def value(variable: nnx.Variable) -> jax.Array:
    """The array of a `Param` or `Frozen`, in the dtype it is stored in."""
    array = variable[...]
    return jax.lax.stop_gradient(array) if isinstance(variable, Frozen) else array
