"""The count of model FLOPs: by hand on a small shape, and against what XLA compiles."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest

from maxlite.model.flops import flops_per_token
from maxlite.model.llama import bind, shapes
from maxlite.model.loss import summed_loss

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def test_everything_trains(tiny):
    arch = tiny()
    q, k, v, o = 32 * 32, 16 * 32, 16 * 32, 32 * 32
    mlp, head = 3 * 32 * 48, 96 * 32
    weights = 3 * (q + k + v + o + mlp) + head
    attention = 3 * 12 * (4 * 8) * 20 / 2
    assert flops_per_token(arch, 20) == 6 * weights + attention
    tied = tiny(tie_word_embeddings=True)
    assert flops_per_token(tied, 20) == flops_per_token(arch, 20)
    one = flops_per_token(arch, 40) - flops_per_token(arch, 20)
    assert one == attention


def test_frozen_weights_count_less(tiny):
    arch = tiny()
    table = shapes(arch)
    layers = 3 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48)
    head, attention = 96 * 32, 3 * 4 * (4 * 8) * 20 / 2
    everything = flops_per_token(arch, 20)
    # a frozen weight that gradient passes through
    assert flops_per_token(arch, 20, {HEAD}) == everything - 2 * head
    up = "model.layers.mlp.up_proj.weight"
    assert flops_per_token(arch, 20, {up}) == everything - 2 * 3 * 32 * 48
    # nothing trained at or before: forward alone
    body = set(table) - {HEAD}
    assert flops_per_token(arch, 20, body) == 2 * layers + 6 * head + attention
    assert flops_per_token(arch, 20, set(table)) == 2 * layers + 2 * head + attention
    # the embedding alone: gradient passes through all
    rest = set(table) - {EMBEDDING}
    assert flops_per_token(arch, 20, rest) == 4 * layers + 4 * head + 3 * attention
    # a tied table trains as the head too
    tied = tiny(tie_word_embeddings=True)
    rest = set(shapes(tied)) - {EMBEDDING}
    assert flops_per_token(tied, 20, rest) == 4 * layers + 6 * head + 3 * attention
    # within the first layer, nothing passes before the first weight that trains
    down = "model.layers.mlp.down_proj.weight"
    one = tiny(num_hidden_layers=1)
    frozen = set(table) - {down}
    assert flops_per_token(one, 20, frozen) == (
        2 * (layers / 3 - 32 * 48) + 6 * 32 * 48 + 4 * head + attention / 3
    )


def test_a_window_bounds_attention(tiny):
    def attention(seq_len, window):
        whole = flops_per_token(tiny(sliding_window=window), seq_len)
        return whole - (flops_per_token(tiny(), 20) - 3 * 12 * 32 * 20 / 2)

    assert attention(20, 0) == attention(20, 20) == attention(20, 99) == 3 * 12 * 32 * 10
    # 4 of a long row's keys, less at its start
    assert attention(1000, 4) == pytest.approx(3 * 12 * 32 * 4 * (1 - 4 / 2000))


@pytest.mark.parametrize(
    "frozen",
    [
        {"model.layers.mlp.up_proj.weight", "model.layers.self_attn.q_proj.weight"},
        {HEAD},
    ],
    ids=["in_layers", "head"],
)
def test_xla_spares_what_the_count_says(frozen, xla_flops, tiny):
    arch = tiny(num_hidden_layers=1)
    saved = 32 * (flops_per_token(arch, 16) - flops_per_token(arch, 16, frozen))
    assert xla_flops(set()) - xla_flops(frozen) == pytest.approx(saved, rel=0.1)


@pytest.fixture(scope="module")
def xla_flops(tiny, tokens, packed):
    """xla_flops(frozen): what XLA counts in a gradient over 2 rows of 16 tokens.

    With one layer, because it counts the body of a loop once.
    """
    arch = tiny(num_hidden_layers=1)
    batch = packed([16], tokens(arch, 2, 17))
    table = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes(arch).items()}

    @functools.cache
    def count(frozen):
        def loss(trains, rest):
            return summed_loss(bind(arch, trains, rest), batch)[0]

        trains = {name: x for name, x in table.items() if name not in frozen}
        rest = {name: table[name] for name in frozen}
        return jax.jit(jax.grad(loss)).lower(trains, rest).cost_analysis()["flops"]

    return lambda frozen: count(frozenset(frozen))
