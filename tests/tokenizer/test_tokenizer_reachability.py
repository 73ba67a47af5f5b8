import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.tokenizer.definition import open_definition
from maxlite.tokenizer.reachability import unreachable


@pytest.fixture
def llama3(tmp_path, llama3_json):
    path = tmp_path / "tokenizer.json"
    path.write_text(llama3_json, "utf-8")
    return path


def dead(definition):
    return [definition.pieces[i].text for i in unreachable(definition).tolist()]


@pytest.mark.parametrize("form", ["model", "json"])
def test_pieces_without_a_way_to_them(form, tiny_tokenizer):
    base = open_definition(tiny_tokenizer)
    assert len(unreachable(base)) == 0 and len(unreachable(base.tokenizer(form))) == 0
    # "가나다라" has no two parts that are pieces; "▁가나다" has, and both can be made
    new = ["가", "나", "다", "라", "▁가", "나다", "가나다라", "▁가나다"]
    after = base.extended(new, special=["[PAD]"])
    told = [after.pieces[i].text for i in unreachable(after.tokenizer(form)).tolist()]
    assert told == ["가나다라"]
    assert unreachable(after, [400, 406, 5]).tolist() == [406]


def test_scores_of_zero_strand_pieces_of_the_base(tiny_tokenizer):
    base = open_definition(tiny_tokenizer)
    assert not {"th", "▁th", "the"} & base.ids.keys()  # "▁the" is made of "▁t" and "he"
    stranded = dead(base.extended(["th"], scores="published"))
    assert "▁the" in stranded and all("th" in piece for piece in stranded)
    assert dead(base.extended(["th"])) == []


def test_nothing_that_text_becomes_is_called_unreachable(tiny_tokenizer):
    base = open_definition(tiny_tokenizer)
    new = ["가", "나", "다", "가나", "나다", "가나다", "▁가나", "다▁", "나▁가", "가다나가"]
    after = base.extended(new)
    lost = unreachable(after)

    @settings(max_examples=100, deadline=None)
    @given(st.text("가나다 the", max_size=40))
    def check(text):
        assert not np.isin(after.tokenizer().encode_one(text), lost).any()

    check()
    assert dead(after) == ["나▁가", "가다나가"]


def test_broken_characters_of_byte_level_pieces(llama3):
    base = open_definition(llama3)
    assert len(unreachable(base)) == 0
    text = "".join(p.text for p in base.pieces if p.kind == "byte")
    first, second, third = "ðŁĻ"  # the first three bytes of most emoji
    assert {first, second, third} <= set(text)
    pieces = [first + second, first + second + third]
    merges = [(first, second)]  # none leads to the second piece
    after = base.extended(pieces, merges=merges)
    assert dead(after) == [pieces[1]]
    tree = json.loads(after.read("tokenizer.json"))
    assert tree["model"]["ignore_merges"]  # a whole word needs no merges, a part of one does
    assert dead(base.extended(pieces, merges=[*merges, (pieces[0], third)])) == []


def test_whole_words_need_no_merges_where_the_model_ignores_them(llama3):
    base = open_definition(llama3)
    after = base.extended(["zyxw"], merges=[])
    assert dead(after) == [] and after.ids["zyxw"] in after.tokenizer().encode_one("a zyxw")


def test_unused_pieces_and_bytes(tiny_tokenizer):
    base = open_definition(tiny_tokenizer)
    step = base.ids["▁t"]
    assert unreachable(base.kept(np.arange(400), unused=[step])).tolist() == [step]
