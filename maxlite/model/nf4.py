"""Frozen projections in four bits: NormalFloat in blocks (QLoRA, arXiv 2305.14314, section 3).

The quantiser is qwix's, an extra of its own; its block scales are bfloat16 here, not quantised once
more. A scan takes a quantised stack apart as it does an array, so only the layer at work is ever
whole.

Shapes: L layers, O outputs, I inputs, J pairs of inputs, K blocks of them.
"""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from maxlite.errors import InputError

NAME = "nf4"
CODES = np.dtype(ml_dtypes.uint4)  # stands for a quantised leaf where dtypes are told
BLOCK = 64


class Quantized(NamedTuple):
    """A stack of weights [L, O, I], or one of its layers.

    Codes are two to a byte: as arrays of four bits, compiled programs and devices do not agree on
    their layout (jax 0.10).
    """

    codes_LOJ: jax.Array  # uint8, the even input in the lower half
    scales_LOK: jax.Array  # bfloat16

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weights."""
        return (*self.codes_LOJ.shape[:-1], 2 * self.codes_LOJ.shape[-1])


def block(inputs: int) -> int:
    """Weights that share a scale: as many as divide a row, up to `BLOCK`."""
    return max(size for size in range(1, BLOCK + 1) if inputs % size == 0)


def nbytes(shape: tuple[int, ...], dtype: Any) -> float:
    """Bytes of a leaf; a quantised one's are half a byte a weight and two a block."""
    size = float(np.prod(shape))
    if np.dtype(dtype) != CODES:
        return size * np.dtype(dtype).itemsize
    return size / 2 + size / block(shape[-1]) * 2


def check() -> None:
    """Refuses to go on without qwix.

    Raises:
      InputError: it is not installed.
    """
    if importlib.util.find_spec("qwix") is None:
        raise InputError(
            "frozen_dtype='nf4' needs qwix: install it with pip install 'maxlite[qlora]'"
        )


def quantize(w_LOI: jax.Array) -> Quantized:
    """A stack of weights in four bits; only one layer's arithmetic is there at a time.

    Args:
      w_LOI: of any float dtype, with an even number of inputs; the result lies on its devices as it
        does.
    """
    places = jax.tree.map(lambda part: part.sharding, abstract(w_LOI))
    return jax.jit(_stack, out_shardings=places)(w_LOI)


def abstract(w_LOI: jax.Array | jax.ShapeDtypeStruct) -> Quantized:
    """The shapes, dtypes and places of what `quantize` makes."""
    mesh, spec = w_LOI.sharding.mesh, w_LOI.sharding.spec  # type: ignore[union-attr]

    def place(part: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        sizes = zip([*spec, None, None, None], part.shape, strict=False)
        even = [axis if axis and n % mesh.shape[axis] == 0 else None for axis, n in sizes]
        sharding = NamedSharding(mesh, PartitionSpec(*even))
        return jax.ShapeDtypeStruct(part.shape, part.dtype, sharding=sharding)

    return jax.tree.map(place, jax.eval_shape(_stack, w_LOI))


def _stack(w_LOI: jax.Array) -> Quantized:
    return jax.lax.map(_layer, w_LOI)


def _layer(w_OI: jax.Array) -> Quantized:
    import qwix

    found = qwix.quantize(
        w_OI,
        NAME,
        channelwise_axes=(0,),
        tiled_axes={1: block(w_OI.shape[-1])},
        scale_dtype=jnp.bfloat16,
    )
    pairs_OJ2 = found.qvalue.reshape(*w_OI.shape[:-1], -1, 2)
    return Quantized(jax.lax.bitcast_convert_type(pairs_OJ2, jnp.uint8), found.scale)


def dequantize(weight: jax.Array | Quantized) -> jax.Array:
    """The weights of one layer [O, I] that codes stand for, bfloat16; an array as it is."""
    if not isinstance(weight, Quantized):
        return weight
    import qwix

    pairs_OJ2 = jax.lax.bitcast_convert_type(weight.codes_LOJ, jnp.uint4)
    codes_OI = pairs_OJ2.reshape(weight.shape)
    return qwix.dequantize(qwix.QArray(codes_OI, weight.scales_LOK, qtype=NAME))
