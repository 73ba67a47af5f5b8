"""What the backward pass holds and computes again: the one place that says how both are counted."""

from __future__ import annotations

import math
from collections.abc import Collection

from maxlite.config import Architecture
from maxlite.model.attention import choose
from maxlite.model.flops import ADAPTERS, attention_flops
from maxlite.model.leaves import leaf
from maxlite.model.loss import chunk_tokens
from maxlite.model.remat import KEEP_ATTENTION, KEEP_PRODUCTS
from maxlite.parameters import EMBEDDING, LAYERS, halved, shapes


def activation_bytes(
    arch: Architecture,
    rows: int,
    seq_len: int,
    frozen: Collection[str] = (),
    *,
    remat: str = "none",
    attention: str = "auto",
    itemsize: int = 2,
    shards: int = 1,
) -> int:
    """Bytes of activations at the peak of a step over one micro-batch; an estimate.

    Three things are added up, with T = rows * seq_len tokens.

    * What layers keep for the backward pass, in the compute dtype: from the lowest layer on at or
      before which something trains, each keeps its input, T * D, and what the policy says besides:
      the results of the projections q, k, v, o, gate and up, and attention's. Layers below keep
      nothing.
    * What the layer at work has besides: all of these and the product of gate and up, with their
      gradients; for the dense attention also scores and weights, float32, of the half of the
      square that is seen.
    * The scores of the vocabulary and their gradient, float32, of as many tokens as the loss takes
      at a time on each device (see `maxlite.model.loss`).

    Not counted: the number a query that splash keeps with its result, and what a compiler adds,
    such as copies of a layer's weights in the compute dtype.

    Args:
      arch: the model's shape.
      rows: of a micro-batch, over all devices.
      seq_len: tokens in a row.
      frozen: leaves that do not train.
      remat: as in the config.
      attention: as in the config.
      itemsize: bytes of a number in the compute dtype.
      shards: devices that have tokens of their own.
    """
    tokens = rows * seq_len
    D, F = arch.hidden_size, arch.intermediate_size
    HE, KE = (n * arch.head_dim for n in (arch.num_attention_heads, arch.num_key_value_heads))
    products = HE + 2 * KE + D + 2 * F
    layers = arch.num_hidden_layers - lowest(arch, frozen)
    kept = layers * (D + products * (remat in KEEP_PRODUCTS) + HE * (remat in KEEP_ATTENTION))
    at_work = 2 * (D + products + HE + F) if layers else 0
    scores = 0
    if layers and choose(attention, seq_len) == "dense":
        scores = 4 * arch.num_attention_heads * rows * seq_len**2
    chunk = min(tokens, shards * chunk_tokens(arch.vocab_size))
    return tokens * itemsize * (kept + at_work) + scores + 2 * 4 * chunk * arch.vocab_size


def repeated_per_token(
    arch: Architecture, seq_len: int, frozen: Collection[str] = (), remat: str = "none"
) -> float:
    """What a training step computes again per token, beside the model's own work.

    From the lowest layer on at or before which something trains: all products with weights but the
    last of a layer, which nothing asks for again, and attention's two, each unless it is kept. Not
    counted: scores that dense attention repeats where its result is kept.

    Args:
      arch, seq_len, frozen: as for `maxlite.model.flops.flops_per_token`.
      remat: as in the config.
    """
    whole = shapes(arch)
    weights = sum(
        2 * math.prod(shape[-2:])
        for name, shape in whole.items()
        if name.startswith(LAYERS) and name.endswith(("_proj.weight", *ADAPTERS))
        if name != f"{LAYERS}mlp.down_proj.weight"
    )
    products = weights * (remat not in KEEP_PRODUCTS)
    attention = attention_flops(arch, seq_len) * (remat not in KEEP_ATTENTION)
    return (products + attention) * (arch.num_hidden_layers - lowest(arch, frozen))


def moment_bytes(name: str, bfloat16: str = "") -> int:
    """Of AdamW's two moments of one number of a leaf.

    Args:
      name: of the leaf.
      bfloat16: as in the config's `optimizer`.
    """
    return 4 if halved(leaf(name).parameter, "moments", bfloat16) else 8


def gradient_bytes(name: str, bfloat16: str = "", accumulate: int = 1) -> int:
    """Of the gradient of one number of a leaf, and of the float32 sum of several.

    Args:
      name, bfloat16: as for `moment_bytes`.
      accumulate: as in the config.
    """
    one = 2 if halved(leaf(name).parameter, "gradients", bfloat16) else 4
    return one + (4 if accumulate > 1 else 0)


def lowest(arch: Architecture, frozen: Collection[str]) -> int:
    """The lowest layer at or before which something trains; as many as there are for none."""
    whole = shapes(arch)
    trains = {name: set(range(shape[0])) for name, shape in whole.items()}
    for own in map(leaf, frozen):
        trains[own.parameter] -= set(own.taken(whole[own.parameter]))
    if any(trains[name] for name in whole if name.startswith(EMBEDDING.removesuffix("weight"))):
        return 0
    layers = [row for name, rows in trains.items() if name.startswith(LAYERS) for row in rows]
    return min(layers, default=arch.num_hidden_layers)
