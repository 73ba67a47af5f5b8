"""Sizes: what is solved for is found again, and what cannot be is refused."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.sizes import count, described, shaped, solve, table_share

PANGU = Architecture(vocab_size=48_000, head_dim=128)


def test_the_figures_of_the_paper():
    compact = shaped(PANGU, 20, 1792, 8 / 3, ffn_multiple=256)
    assert (compact.intermediate_size, compact.num_attention_heads) == (4864, 14)
    assert count(compact) == 951_983_872 and f"{table_share(compact):.2%}" == "18.07%"
    large = Architecture(vocab_size=100_883, head_dim=128)
    before = shaped(large, 15, 1792, 8 / 3, ffn_multiple=256)
    assert count(before) == 946_529_024  # of which the paper has 38.19 %, or 38.20 %
    assert table_share(before) == 2 * 100_883 * 1792 / 946_529_024
    assert 0.3819 < table_share(before) < 0.3820


def test_a_tied_table_counts_once():
    own = shaped(PANGU, 2, 256, 4)
    tied = shaped(
        Architecture(vocab_size=48_000, head_dim=128, tie_word_embeddings=True), 2, 256, 4
    )
    table = 48_000 * 256
    assert count(own) - count(tied) == table
    assert table_share(tied) == table / count(tied) and table_share(own) == 2 * table / count(own)


@settings(max_examples=60, deadline=None)
@given(
    depth=st.integers(1, 60),
    heads=st.integers(1, 24),
    units=st.integers(1, 400),
    queries=st.sampled_from((1, 2, 4)),
    tied=st.booleans(),
)
def test_each_size_is_found_from_the_other_two(depth, heads, units, queries, tied):
    like = Architecture(vocab_size=1000, head_dim=16, tie_word_embeddings=tied)
    rules = {"queries_per_kv": queries, "ffn_multiple": 8}
    width = heads * 16 * queries
    sizes = {"depth": depth, "width": width, "expansion": units * 8 / width}
    shape = shaped(like, **sizes, **rules)
    assert shape.intermediate_size == units * 8 and shape.num_key_value_heads == heads
    for name in sizes:
        found = solve(count(shape), like, **(sizes | {name: 0}), **rules, tolerance=0)
        assert found == shape


@settings(max_examples=60, deadline=None)
@given(
    target=st.integers(200_000, 10**10),
    depth=st.integers(1, 40),
    expansion=st.floats(0.5, 6),
)
def test_no_neighbour_is_nearer(target, depth, expansion):
    like = Architecture(vocab_size=500, head_dim=8)
    found = solve(target, like, depth=depth, expansion=expansion, tolerance=math.inf)
    for other in (found.hidden_size - 8, found.hidden_size + 8):
        if other:
            near = count(shaped(like, depth, other, expansion))
            assert abs(count(found) - target) <= abs(near - target)


def test_ffn_channels_are_rounded_up_but_not_for_a_rounding_error():
    like = Architecture(vocab_size=100, head_dim=8)
    assert shaped(like, 1, 96, 8 / 3, ffn_multiple=32).intermediate_size == 256
    assert shaped(like, 1, 96, 2.68, ffn_multiple=32).intermediate_size == 288


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"width": 1792}, "depth 0, width 1792, expansion 0"),
        ({"depth": 2, "width": 128, "expansion": 2.0}, "the third be 0"),
        ({"width": 1800, "expansion": 2.0}, "no multiple of 128"),
        ({"width": -128, "expansion": 2.0}, "must all be above 0"),
        ({"depth": 20, "width": 12_800}, "no expansion gives 951,983,872"),
        ({"depth": 1, "expansion": 2.0, "tolerance": 1e-6}, "allow more than 0.0%"),
        ({"depth": 1, "width": 128, "ffn_multiple": 0}, "ffn_multiple is 0"),
        ({"target": 0, "width": 128, "expansion": 2.0}, "the target of 0 parameters must be above"),
    ],
)
def test_what_cannot_be_is_refused(arguments, said):
    with pytest.raises(InputError) as refused:
        solve(**({"target": 951_983_872, "like": PANGU} | arguments))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_too_many_rows_for_a_target_is_refused_with_the_smallest():
    with pytest.raises(InputError, match=r"no depth gives 1,000 parameters.* 1 layers of width"):
        solve(1000, PANGU, width=128, expansion=1.0)
    with pytest.raises(InputError, match="vocab_size is 0"):
        solve(1000, Architecture(head_dim=8), width=128, expansion=1.0)


def test_a_shape_in_words():
    assert (
        described(shaped(PANGU, 20, 1792, 2.0)) == "20 layers of width 1792 with 3584 FFN channels"
    )
