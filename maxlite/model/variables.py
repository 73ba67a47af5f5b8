"""The two kinds of parameter, and the ways to read them."""

from __future__ import annotations

import jax
from flax import nnx

from maxlite.model import nf4


class Frozen(nnx.Variable):
    """A parameter that does not train: no gradient flows into it, whoever differentiates."""


def stored(variable: nnx.Variable) -> jax.Array | nf4.Quantized:
    """What a `Param` or `Frozen` holds: an array, or a quantised stack."""
    held = variable.get_value()
    return jax.lax.stop_gradient(held) if isinstance(variable, Frozen) else held


def value(variable: nnx.Variable) -> jax.Array:
    """The array of a `Param` or `Frozen`, in the dtype it is stored in."""
    return nf4.dequantize(stored(variable))
