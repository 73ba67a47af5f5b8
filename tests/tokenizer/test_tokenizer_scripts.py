"""Scripts of texts, against Unicode's own names of characters."""

import unicodedata

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.tokenizer.scripts import SCRIPTS, holder, main_scripts, mixed, script, scripts


def test_characters_by_script():
    assert dict(scripts("Kim 김, 金さん! 12")) == {
        "Latin": 3, "Hangul": 1, "Han": 1, "Hiragana": 2,
    }  # fmt: skip
    assert script("é") == "Latin" and script("々") == "Han" and script("ｶ") == "Katakana"
    assert script("5") == script("▁") == script("\u0301") == script("") == ""


@given(st.characters())
@settings(max_examples=300, deadline=None)
def test_each_character_has_the_script_that_unicode_gives_it(character):
    name = script(character)
    if name:
        assert regex.match(rf"\p{{Script={name}}}", character)
    else:
        assert not any(regex.match(rf"\p{{Script={other}}}", character) for other in SCRIPTS)
    said = unicodedata.name(character, "").split(" ")[0]
    if said in ("HANGUL", "HIRAGANA", "CYRILLIC", "ARMENIAN", "ETHIOPIC", "TAMIL") and name:
        assert name.upper() == said


def test_main_scripts_leave_a_few_strangers_out():
    texts = ["가", "나다", "라a", "!!", "12"] * 20 + ["x", "y"]
    assert main_scripts(texts) == ["Hangul", "Latin"]  # a third of those with letters
    assert main_scripts(["가"] * 95 + ["x"] * 5 + ["!"] * 1000) == ["Hangul"]
    assert main_scripts(["!", ""]) == main_scripts([]) == []


@pytest.mark.parametrize(
    ("text", "is_mixed"),
    [
        ("한a", True),
        ("aб", True),
        ("漢字かなカナ", False),
        ("漢한", True),
        ("a1!", False),
        ("", False),
    ],
)
def test_mixed_scripts(text, is_mixed):
    assert mixed(text) == is_mixed


def test_a_holder_finds_any_of_its_scripts():
    pattern = holder(["Hangul", "Han"])
    assert pattern and pattern.search("abc 金") and not pattern.search("abc 、ー1")
    assert holder([]) is None
    with pytest.raises(regex.error):
        holder(["Klingon"])
