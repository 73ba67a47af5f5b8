"""The two kinds of parameter, what they may hold, and the ways to read them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from maxlite.model import nf4


class Frozen(nnx.Variable):
    """A parameter that does not train: no gradient flows into it, whoever differentiates."""


class Halved(NamedTuple):
    """An array that trains and whose gradient is bfloat16: that of `slot`, not of `array`.

    A gradient has the dtype of what it is of. Were that a rounded copy of the weights, it would
    take the memory that the gradient saves; the slot is never looked at, so it takes none.
    """

    array: jax.Array
    slot: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.array.shape


def halve(array: jax.Array, slot: jax.Array) -> Halved:
    """See `Halved`; the slot is bfloat16, of the same shape."""
    return Halved(jax.lax.stop_gradient(array), slot)


@jax.custom_vjp
def _array(array: jax.Array, slot: jax.Array) -> jax.Array:
    return array


def _array_forward(array: jax.Array, slot: jax.Array) -> tuple[jax.Array, None]:
    return array, None


def _array_backward(_: None, gradient: jax.Array) -> tuple[Any, jax.Array]:
    return jnp.zeros_like(gradient), gradient.astype(jnp.bfloat16)


_array.defvjp(_array_forward, _array_backward)


def stored(variable: nnx.Variable) -> jax.Array | nf4.Quantized | Halved:
    """What a `Param` or `Frozen` holds: an array, a quantised stack, or an array with its slot."""
    held = variable.get_value()
    return jax.lax.stop_gradient(held) if isinstance(variable, Frozen) else held


def value(variable: nnx.Variable) -> jax.Array:
    """The array of a `Param` or `Frozen`, in the shape and dtype it is stored in."""
    held = stored(variable)
    return _array(*held) if isinstance(held, Halved) else nf4.dequantize(held)
