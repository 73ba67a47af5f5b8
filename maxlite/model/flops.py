"""Model FLOPs: the one place that says how the work in a token is counted."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from maxlite.config import Architecture
from maxlite.model.leaves import leaf
from maxlite.parameters import EMBEDDING, HEAD, LAYERS, NORM, shapes

ADAPTERS = (".lora_A.weight", ".lora_B.weight", ".lora_embedding_B.weight")  # A is looked up there


def flops_per_token(arch: Architecture, seq_len: int, frozen: Collection[str] = ()) -> float:
    """Floating-point operations of a training step, forward and backward, per token.

    A matmul weight costs 2 in the forward pass, 2 where a gradient passes through it to something
    that trains before it, and 2 for its own gradient if it trains. So: 6 per weight when everything
    trains; 4 for a frozen weight that passes gradient; 2 for a frozen weight with nothing trained
    at or before it. A trained weight counts 6 even where nothing before it trains.

    Attention counts the products of queries with keys and of weights with values: per layer and
    token 2 * 2 * H * E * keys forward, and twice that backward where a gradient passes. `keys` is
    the mean number a query sees in a row of S tokens, W (1 - W / 2S) with W the smaller of S and
    the sliding window: half of S when every earlier token is seen, hence 12 * H * E * S / 2 in all.

    Not counted: the embedding's lookup, norms, biases, softmax, what rematerialisation repeats, and
    the row norms of DoRA, which do not grow with the tokens. A tied table counts once, as the head.
    Documents packed in a row count as one.

    Args:
      arch: the model's shape.
      seq_len: tokens in a row, S.
      frozen: leaves that do not train (see `maxlite.model.leaves`).
    """
    whole = shapes(arch)
    trains = {name: np.ones(shape[0], bool) for name, shape in whole.items()}
    for name in frozen:
        own = leaf(name)
        trains[own.parameter][list(own.taken(whole[own.parameter]))] = False
    attention = attention_flops(arch, seq_len)

    def weight(name: str, mine: bool, passes: bool) -> float:
        matmul = name.endswith(("_proj.weight", *ADAPTERS))
        return math.prod(whole[name][-2:]) * (6 if mine else 4 if passes else 2) * matmul

    layered = [name for name in whole if name.startswith(LAYERS)]
    below, above = (f"{name.removesuffix('.weight')}.lora_" for name in (EMBEDDING, HEAD))
    total, passes = 0.0, bool(trains[EMBEDDING].any())  # passes: something so far trains
    for name in [n for n in whole if n.startswith(below)]:
        passes |= bool(trains[name].any())
        total += weight(name, bool(trains[name].any()), passes)
    for layer in range(arch.num_hidden_layers):
        for name in layered:
            mine = bool(trains[name][layer])
            if name == f"{LAYERS}self_attn.o_proj.weight":
                total += attention * (3 if passes else 1)
            total += weight(name, mine, passes)
            passes |= mine
    passes |= bool(trains[NORM].any())
    for name in [n for n in whole if n.startswith(above)]:
        total += weight(name, bool(trains[name].any()), passes)
    head = trains[EMBEDDING if arch.tie_word_embeddings else HEAD]
    rows = int(head.sum()) * 6 + int((~head).sum()) * (4 if passes else 2)
    return total + rows * arch.hidden_size


def attention_flops(arch: Architecture, seq_len: int) -> float:
    """Attention's products in a layer's forward pass, per token."""
    window = min(arch.sliding_window or seq_len, seq_len)
    keys = window * (1 - window / (2 * seq_len))
    return 4 * arch.num_attention_heads * arch.head_dim * keys
