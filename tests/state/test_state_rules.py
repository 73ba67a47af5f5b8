"""The table that says what trains."""

import pytest

from maxlite.errors import InputError
from maxlite.state import rules
from maxlite.state.rules import Rule

SHAPES = {
    "model.embed_tokens.weight": (10, 4),
    "model.layers.mlp.up_proj.weight": (2, 8, 4),
    "model.norm.weight": (4,),
    "lm_head.weight": (10, 4),
}
TABLE = (
    Rule("head", r"lm_head\..*", trains=True),
    Rule("norms", r".*norm\.weight", trains=False),
    Rule("others", r".*", trains=True),
)


def test_the_first_match_wins_and_everything_is_claimed_once():
    claimed = rules.claim(TABLE, SHAPES)
    assert {name: rule.name for name, rule in claimed.items()} == {
        "model.embed_tokens.weight": "others",
        "model.layers.mlp.up_proj.weight": "others",
        "model.norm.weight": "norms",
        "lm_head.weight": "head",
    }
    assert list(claimed) == list(SHAPES)


def test_a_rule_must_match_the_whole_name():
    with pytest.raises(InputError, match=r"'model\.embed_tokens\.weight'"):
        rules.claim([Rule("part", "model", trains=True)], SHAPES)


def test_a_parameter_that_no_rule_claims_is_refused():
    with pytest.raises(InputError, match=r"'model\.layers\.mlp\.up_proj\.weight'"):
        rules.claim([Rule("some", r".*(embed|norm|head).*", trains=True)], SHAPES)


@pytest.mark.parametrize(
    "table",
    [
        (Rule("adapters", r".*lora.*", trains=True), *TABLE),
        (*TABLE, Rule("shadowed", r"lm_head\.weight", trains=False)),
    ],
)
def test_a_rule_that_claims_nothing_is_refused(table):
    with pytest.raises(InputError, match=r"rule '(adapters|shadowed)'"):
        rules.claim(table, SHAPES)


def test_split_keeps_the_order():
    trains, frozen = rules.split(rules.claim(TABLE, SHAPES))
    assert trains == [
        "model.embed_tokens.weight",
        "model.layers.mlp.up_proj.weight",
        "lm_head.weight",
    ]
    assert frozen == ["model.norm.weight"]


def test_everything_trains():
    claimed = rules.claim(rules.SETS["everything"], SHAPES)
    assert rules.split(claimed) == (list(SHAPES), [])


def test_the_table_counts_each_parameter_once():
    lines = rules.table(rules.claim(TABLE, SHAPES), SHAPES).splitlines()
    assert sorted(line.strip() for line in lines) == [
        "head: trains, 40 parameters in 1 arrays",
        "norms: frozen, 4 parameters in 1 arrays",
        "others: trains, 104 parameters in 2 arrays",
    ]
