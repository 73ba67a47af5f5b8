"""The products that a vocabulary's scores are sums of: what a loss needs, short of the scores.

Shapes: [..., K] inputs of any leading dimensions, Vi rows of a part of the vocabulary, K numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from maxlite.model.layout import constrain


class Head(NamedTuple):
    """The scores of part i of the vocabulary are the sum over j of inputs[j] @ tables[i][j]ᵀ.

    Attributes:
      inputs: [..., Kj] in the compute dtype: hidden states, and what an adapter makes of them.
      tables: for each part, an array [Vi, Kj] for each input; of any float dtype.
    """

    inputs: tuple[Any, ...]
    tables: tuple[tuple[Any, ...], ...]

    @property
    def starts(self) -> list[int]:
        """The first row of each part."""
        sizes = [part[0].shape[0] for part in self.tables]
        return [sum(sizes[:i]) for i in range(len(sizes))]

    def placed(self) -> Head:
        """The same with tables in the compute dtype, rows spread as scores are."""
        return self._replace(
            tables=tuple(
                tuple(_place(w_VK, x.dtype) for w_VK, x in zip(part, self.inputs, strict=True))
                for part in self.tables
            )
        )

    def scores(self, *axes: str | None) -> list[jax.Array]:
        """Scores of each part, float32 [..., Vi].

        Args:
          axes: the logical axis of each leading dimension (see `maxlite.model.layout`), or None.
        """
        found = []
        for part in self.tables:
            products = [
                constrain(_product(x, w_VK), *axes, "vocab")
                for x, w_VK in zip(self.inputs, part, strict=True)
            ]
            found.append(sum(products[1:], start=products[0]))
        return found


def _product(x: jax.Array, w_VK: jax.Array) -> jax.Array:
    return jnp.einsum("...k,vk->...v", x, w_VK, preferred_element_type=jnp.float32)


def _place(w_VK: jax.Array, dtype: Any) -> jax.Array:
    # By way of columns, which is how it is stored: all devices exchange their shares, none has all.
    # Rows are then spread like the scores, or the backward pass would gather those.
    return constrain(constrain(w_VK.astype(dtype), "vocab", "width"), "vocab", None)
