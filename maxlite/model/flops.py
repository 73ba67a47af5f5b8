"""Model FLOPs: the one place that says how the work in a token is counted."""

from __future__ import annotations

import math
from collections.abc import Collection

from maxlite.config import Architecture
from maxlite.model.parameters import LAYERS, shapes


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

    Not counted: the embedding's lookup, norms, biases, softmax, and what rematerialisation repeats.
    A tied table counts once, as the head. Documents packed in a row count as one.

    Args:
      arch: the model's shape.
      seq_len: tokens in a row, S.
      frozen: stacked names of the parameters that do not train.
    """
    sizes = {
        name: math.prod(shape[1:] if name.startswith(LAYERS) else shape)
        for name, shape in shapes(arch).items()
    }
    window = min(arch.sliding_window or seq_len, seq_len)
    keys = window * (1 - window / (2 * seq_len))
    attention = 4 * arch.num_attention_heads * arch.head_dim * keys

    layers = [name for name in sizes if name.startswith(LAYERS)]
    head = "model.embed_tokens.weight" if arch.tie_word_embeddings else "lm_head.weight"
    total, trained = 0.0, "model.embed_tokens.weight" not in frozen  # trained: anything so far
    for name in [*layers * arch.num_hidden_layers, "model.norm.weight", head]:
        if name == f"{LAYERS}self_attn.o_proj.weight":
            total += attention * (3 if trained else 1)
        if name == head or name.endswith("_proj.weight"):
            total += sizes[name] * (6 if name not in frozen else 4 if trained else 2)
        trained |= name not in frozen
    return total
