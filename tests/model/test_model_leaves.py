"""Leaves: names, how a stack is cut into loops, and models that are computed over them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxlite.model.leaves import Leaf, Loop, divide, layout, leaf, loops
from maxlite.model.llama import bind, shapes
from maxlite.model.loss import summed_loss

EMBEDDING, HEAD, UP = (
    "model.embed_tokens.weight",
    "lm_head.weight",
    "model.layers.mlp.up_proj.weight",
)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (None, "x.weight"),
        (range(32000, 40960), "x.weight[32000:40960]"),
        (range(1, 48, 2), "x.weight[1:48:2]"),
        ((0, 1, 2, 3, 5, 6, 9), "x.weight[0:4,5:7,9]"),
        ((4, 9, 12), "x.weight[4,9,12]"),
    ],
)
def test_a_name_says_which_rows(rows, text):
    assert Leaf("x.weight", rows).name == text
    assert leaf(text).parameter == "x.weight"
    assert (leaf(text).rows is None) == (rows is None)
    assert list(leaf(text).taken((50,))) == list(range(50) if rows is None else rows)


def test_a_stack_is_cut_so_that_little_is_compiled():
    assert loops("F" * 32) == [Loop(0, 1, 32)]
    assert loops("FT" * 24) == [Loop(0, 2, 24)]
    assert loops("FFFFT" * 8) == [Loop(0, 5, 8)]  # LLaMA-Pro
    assert loops("TT" + "F" * 28 + "TT") == [Loop(0, 1, 2), Loop(2, 1, 28), Loop(30, 1, 2)]
    assert sum(loop.period for loop in loops("FTFTF")) == 3
    assert loops("") == []
    for stack in ("FFTTFTFF", "TFFTFFTTTF", "FTTFTTFTTFTF"):
        found = loops(stack)
        again = [stack[r.first : r.first + r.period] * r.repeats for r in found]
        assert "".join(again) == stack


def split(arch, params, trains):
    """Leaves of `params`; trains(name, row) says which rows do."""
    whole = shapes(arch)
    claims = {
        n: [(i, i + 1, bool(trains(n, i))) for i in range(s[0])]
        if len(s) > 1
        else [(0, s[0], bool(trains(n, 0)))]
        for n, s in whole.items()
    }
    both = ({}, {})
    for name, claim in divide(whole, claims).items():
        own = leaf(name)
        rows = np.array(own.taken(whole[own.parameter]))
        both[0 if claim else 1][name] = params[own.parameter][rows]
    return both


VARIANTS = {
    "new rows of both tables": lambda n, i: n in (EMBEDDING, HEAD) and i >= 80,
    "old rows of the head": lambda n, i: n == HEAD and i < 80,
    "rows in the middle": lambda n, i: n == EMBEDDING and 10 <= i < 90,
    "odd layers": lambda n, i: n.startswith("model.layers.") and i % 2 == 1,
    "the last layers": lambda n, i: n.startswith("model.layers.") and i >= 4,
    "one kind in some layers": lambda n, i: n == UP and i in (1, 2, 5),
    "ends": lambda n, i: n.startswith("model.layers.") and i in (0, 5),
    "all but norms": lambda n, i: "norm" not in n,
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tied", [False, True])
def test_leaves_give_the_loss_and_the_gradients_of_the_whole(
    variant, tied, tiny, random_params, tokens, packed
):
    arch = tiny(num_hidden_layers=6, tie_word_embeddings=tied)
    whole, batch = random_params(arch), packed([10, 14], tokens(arch, length=25))
    if tied and variant == "old rows of the head":
        pytest.skip("a tied model has no head")

    def loss(params, frozen):
        return summed_loss(bind(arch, params, frozen), batch)[0]

    everything, expected = jax.jit(jax.value_and_grad(loss))(whole, {})
    params, frozen = split(arch, whole, VARIANTS[variant])
    assert params and frozen
    value, gradient = jax.jit(jax.value_and_grad(loss))(params, frozen)
    np.testing.assert_allclose(value, everything, rtol=1e-6)
    for name, x in gradient.items():
        own = leaf(name)
        rows = np.array(own.taken(shapes(arch)[own.parameter]))
        np.testing.assert_allclose(x, expected[own.parameter][rows], atol=2e-5, rtol=1e-5)


def test_logits_of_old_rows_are_the_same_bits_in_a_split_table(tiny, random_params, tokens):
    arch = tiny()
    params, ids = random_params(arch), tokens(arch) % 80
    old = {n: x[:80] if n in (EMBEDDING, HEAD) else x for n, x in params.items()}

    def logits(arch, params, frozen):
        model = bind(arch, params, frozen)
        return model.head(model(ids)).scores(None, None)[0]

    before = jax.jit(lambda p: logits(tiny(vocab_size=80), p, {}))(old)
    new, frozen = split(arch, params, lambda n, i: n in (EMBEDDING, HEAD) and i >= 80)
    after = jax.jit(lambda p, f: logits(arch, p, f))(new, frozen)
    np.testing.assert_array_equal(before, after)


def test_leaves_that_are_no_partition_are_refused(tiny):
    arch = tiny()
    whole = tuple(shapes(arch).items())
    names = tuple(n for n, _ in whole if n != UP)
    assert layout((*names, UP), whole).stack == (Loop(0, 1, 3),)
    for more in ((), (f"{UP}[0:2]",), (UP, f"{UP}[0:1]"), (f"{UP}[0:4]",), (UP, "model.rotary")):
        with pytest.raises(ValueError, match=r"up_proj|rotary"):
            layout((*names, *more), whole)


def cost(arch, params, frozen, batch):
    """FLOPs and bytes of a compiled gradient, loops unrolled because XLA counts a body once."""

    def loss(params, frozen):
        model = bind(arch, params, frozen, scan_unroll=arch.num_hidden_layers)
        return summed_loss(model, batch)[0]

    compiled = jax.jit(jax.value_and_grad(loss)).lower(params, frozen).compile()
    found = compiled.cost_analysis()
    found = found[0] if isinstance(found, list) else found
    return found["flops"], compiled.memory_analysis().temp_size_in_bytes


def test_what_is_frozen_is_not_computed(tiny, random_params, tokens, packed):
    """A table that is concatenated, or a gradient that is masked away, would cost."""
    arch = tiny(vocab_size=2000, num_hidden_layers=4)
    whole, batch = random_params(arch), packed([24], tokens(arch, length=25))
    full, _ = cost(arch, whole, {}, batch)
    rows = batch["tokens"].size

    def share(trains):
        return cost(arch, *split(arch, whole, trains), batch)[0] / full

    layers = 4 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48)
    head = 2000 * 32
    weights = layers + head
    odd = share(lambda n, i: not n.startswith("model.layers.") or i % 2)
    assert 1 - odd > 0.8 * (layers / 2 * 2) / (6 * weights)
    new_output = share(lambda n, i: n == HEAD and i >= 1900)
    # nothing below the head needs a gradient: 2 a weight, and 2 more for the rows that train
    assert new_output < 0.36 + (2 * 100 * 32) / (6 * weights)
    new_input = share(lambda n, i: n == EMBEDDING and i >= 1900)
    assert new_input < 4.4 / 6 and rows


def test_a_split_table_is_never_put_together(tiny, random_params, tokens, packed):
    arch = tiny(vocab_size=50_000, num_hidden_layers=1)
    batch = packed([24], tokens(arch, length=25))
    params, frozen = split(
        arch, random_params(arch), lambda n, i: n in (EMBEDDING, HEAD) and i >= 49_000
    )

    def loss(params, frozen):
        return summed_loss(bind(arch, params, frozen), batch)[0]

    text = jax.jit(jax.value_and_grad(loss)).lower(params, frozen).compile().as_text()
    assert "[50000" not in text and ",50000" not in text and "f32[49000,32]" in text
    assert jnp.isfinite(loss(params, frozen))
