"""What a layer keeps of its forward pass for the backward pass; the rest is computed again.

The method is that of arXiv 1604.06174 and, in parts of a layer, of 2205.05198, section 5.

From the most memory to the least, with what a token costs beside the layer's input, which every
policy keeps (D numbers), and beside cheap elementwise work, which every policy repeats:

    policy     keeps                                  numbers a layer           computes again
    none       products with weights, attention's     2 HE + 2 KE + D + 2 F     scores, if dense
               result
    matmuls    products with weights                  HE + 2 KE + D + 2 F       attention
    attention  attention's result                     HE                        the products, and
                                                                                scores, if dense
    full       nothing                                0                         both

HE and KE are the widths of all queries and of all keys, F that of the FFN. The last product of a
layer, down, is neither kept nor computed again: nothing asks for it. The splash kernels keep one
more number a query, float32, with attention's result. Elsewhere "none" goes by the names `minimal`
or `selective`; its scores, which grow with the square of the sequence, are never kept.

Every policy leaves out the copies of weights that a cast makes: a loop over layers would otherwise
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
_products = _keep.dots_with_no_batch_dims_saveable
_attention = _keep.save_only_these_names(ATTENTION)

POLICIES: dict[str, Callable[..., Any]] = {
    "none": _keep.save_from_both_policies(_products, _attention),
    "matmuls": _products,
    "attention": _attention,
    "full": _keep.nothing_saveable,
}
KEEP_PRODUCTS = ("none", "matmuls")
KEEP_ATTENTION = ("none", "attention")


def policy(name: str) -> Callable[..., Any]:
    """The policy for `jax.checkpoint` that a setting means.

    Raises:
      InputError: no such policy.
    """
    if name not in POLICIES:
        raise InputError(f"remat '{name}' does not exist; choose one of {', '.join(POLICIES)}")
    return POLICIES[name]


def kept(o_BSHE: jax.Array) -> jax.Array:
    """Marks attention's result, or what else its backward pass needs, for these policies."""
    return checkpoint_name(o_BSHE, ATTENTION)
