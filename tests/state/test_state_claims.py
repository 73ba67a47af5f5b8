"""What trains: rules, short names, and the table."""

import dataclasses

import numpy as np
import pytest

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.rules import SETS, Rule
from maxlite.state.claims import claim, table
from maxlite.transforms import Lora

ARCH = Architecture(
    vocab_size=40,
    hidden_size=8,
    intermediate_size=16,
    num_hidden_layers=6,
    num_attention_heads=2,
    base_rows=32,
)
TIED = dataclasses.replace(ARCH, tie_word_embeddings=True)
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
UP, Q = "model.layers.mlp.up_proj.weight", "model.layers.self_attn.q_proj.weight"


def trained(train, arch=ARCH, **more):
    return set(claim(train, arch, **more).trained)


def test_the_sets_of_the_field():
    everything = set(claim("everything", ARCH).rules)
    assert trained("everything") == everything and not any("[" in name for name in everything)
    assert trained("new_input_rows") == {f"{EMBEDDING}[32:40]"}
    assert trained("new_input_rows, output_rows") == {f"{EMBEDDING}[32:40]", HEAD}  # KoSOLAR
    assert trained("new_rows") == {f"{EMBEDDING}[32:40]", f"{HEAD}[32:40]"}
    assert trained("old_output_rows") == {f"{HEAD}[0:32]"}
    assert trained("vocabulary") == {EMBEDDING, HEAD}
    assert trained("body") == everything - {EMBEDDING, HEAD}
    assert f"{UP}[1:6:2]" in trained("odd_layers") and f"{UP}[0:5:2]" in trained("even_layers")
    assert f"{Q}[2:6:3]" in trained("inserted_layers", inserted=[2, 5])
    lora = dataclasses.replace(ARCH, lora=Lora(2, 4.0, "q_proj", dora=True))
    parts = ("A", "B", "magnitude_vector")
    found = [f"model.layers.self_attn.q_proj.lora_{part}.weight" for part in parts]
    assert trained("lora", lora) == set(found) and trained("everything", lora) > set(found)
    assert trained((Rule("lora_B"),), lora) == {found[1]}
    assert trained("norms") == {n for n in everything if n.endswith("norm.weight")}


def test_inserted_layers_may_be_in_the_architecture_until_a_model_tells():
    arch = dataclasses.replace(ARCH, inserted_layers="2,5")
    assert trained("inserted_layers", arch) == trained("inserted_layers", inserted=[2, 5])
    assert trained("inserted_layers", arch, inserted=[1]) == trained(
        "inserted_layers", inserted=[1]
    )
    with pytest.raises(InputError, match=r"layers '2,6' .* layers 0 to 5"):
        claim("inserted_layers", dataclasses.replace(ARCH, inserted_layers="2,6"))


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_usable_and_claims_each_leaf_once(name):
    arch = dataclasses.replace(ARCH, lora=Lora(2, 4.0, "q_proj"))
    claims = claim(name, arch, inserted=[2, 5])
    rows = sum(shape[0] for shape in claims.shapes.values())
    assert rows == sum(shape[0] for shape in claims.whole.values())
    assert set(claims.trained) | set(claims.frozen) == set(claims.rules)
    assert not set(claims.trained) & set(claims.frozen)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("layers", layers="odd from 1"), f"{UP}[0:5:2]"),
        (Rule("layers", layers="even from 1"), f"{UP}[1:6:2]"),
        (Rule("layers", layers="0-1,4-"), f"{UP}[0:2]"),
        (Rule("mlp", layers="3"), f"{UP}[3:4]"),
        (Rule("model.layers.mlp.up*"), UP),
        (Rule("up_proj, q_proj"), Q),
        (Rule("output", rows="8-15"), f"{HEAD}[8:16]"),
        (Rule("output", rows="32-"), f"{HEAD}[32:40]"),
        (Rule("input", rows="old"), f"{EMBEDDING}[0:32]"),
    ],
)
def test_rules_select(rule, expected):
    assert expected in trained((rule,))


def test_the_first_rule_wins_and_the_table_says_so():
    rules = (Rule("norms", learning_rate=0.5), Rule("layers", layers="odd"))
    claims = claim(rules, ARCH)
    assert claims.rule("model.layers.input_layernorm.weight").learning_rate == 0.5
    assert claims.rule(f"{UP}[1:6:2]").learning_rate == 1
    text = table(claims, dict.fromkeys(claims.rules, np.dtype(np.float32)))
    assert "'layers odd' has only what 'norms' before it leaves" in text
    assert "learning rate x 0.5" in text and "frozen" in text


def test_what_is_said_not_to_train_is_frozen():
    found = trained((Rule("norms", trains=False), Rule("layers")))
    assert UP in found and not any("norm" in name for name in found)


def test_shares_add_up_in_the_table():
    claims = claim("new_rows", ARCH)
    text = table(claims, dict.fromkeys(claims.rules, np.dtype(np.float32)))
    total = sum(np.prod(shape) for shape in claims.shapes.values())
    assert f"64 parameters ({64 / total:.2%})" in text


def test_a_tied_model_has_one_table_and_one_rule():
    assert trained("new_rows", TIED) == {f"{EMBEDDING}[32:40]"}
    assert trained("vocabulary", TIED) == {EMBEDDING}
    for train in ("new_input_rows", "output_rows", "new_input_rows, output_rows"):
        with pytest.raises(InputError, match=r"the model is tied.*untie"):
            claim(train, TIED)
    rates = (Rule("input"), Rule("output", learning_rate=0.1))
    with pytest.raises(InputError, match=r"the model is tied.*row 0 is 'input' and 'output'"):
        claim(rates, TIED)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("new_inputrows", "no set 'new_inputrows'; did you mean 'new_input_rows'"),
        ("", "'train' is empty"),
        ((), "'train' is empty"),
        ((Rule("up_prj"),), "no target 'up_prj'.*did you mean 'up_proj'"),
        ((Rule("model.rotary.*"),), "'model.rotary.*' selects nothing"),
        ((Rule("norms", rows="new"),), "'norms new' selects nothing"),
        ((Rule("layers", layers="6"),), "goes to 6, but the model has layers 0 to 5"),
        ((Rule("layers", layers="4-2"),), "goes to 4, but"),
        ((Rule("layers", layers="some"),), "has 'some'; write numbers"),
        ((Rule("input", rows="0-40"),), "goes to 40, but the model has rows 0 to 39"),
        ((Rule("everything"), Rule("norms")), "all that the rule 'norms' .* by 'everything'"),
        ((Rule("everything", trains=False),), "nothing trains"),
        ("inserted_layers", "tells of none; upscale_depth"),
    ],
)
def test_bad_rules_are_refused(train, said):
    with pytest.raises(InputError, match=said):
        claim(train, ARCH)


def test_new_rows_need_an_extension():
    with pytest.raises(InputError, match=r"'input new'.*tells of no extension.*rows='32000-'"):
        claim("new_rows", dataclasses.replace(ARCH, base_rows=0))
