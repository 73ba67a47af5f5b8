"""The demo's text and its base model."""

import re
import sys
from pathlib import Path

import pytest
import sentencepiece

DEMO = Path(__file__).resolve().parents[2] / "launch" / "demo"


@pytest.fixture(scope="module")
def make_text():
    """launch/demo/make_text.py; it runs as a script, beside the modules it imports."""
    sys.path.insert(0, str(DEMO))
    try:
        import make_text

        yield make_text
    finally:
        sys.path.remove(str(DEMO))


@pytest.mark.parametrize(
    ("word", "particle", "expected"),
    [
        ("소라", "은", "소라는"),
        ("하늘", "은", "하늘은"),
        ("도윤", "이", "도윤이"),
        ("지우", "이", "지우가"),
        ("책", "을", "책을"),
        ("모자", "을", "모자를"),
        ("빵", "과", "빵과"),
        ("사과", "과", "사과와"),
        ("숲", "으로", "숲으로"),
        ("학교", "으로", "학교로"),
        ("들판", "으로", "들판으로"),
        ("하늘", "으로", "하늘로"),  # ㄹ counts as a vowel here
        ("콩이", "아", "콩이야"),
        ("서연", "아", "서연아"),
        ("토끼", "이라는", "토끼라는"),
        ("곰", "이라는", "곰이라는"),
        ("모자", "이네", "모자네"),
    ],
)
def test_particles_follow_the_last_syllable(make_text, word, particle, expected):
    assert make_text.attach(word, particle) == expected


def test_articles(make_text):
    assert make_text.with_article("orange", "a") == "an orange"
    assert make_text.with_article("red", "a") == "a red"
    assert make_text.with_article("in the park", "^") == "In the park"


@pytest.mark.parametrize("language", ["en", "ko"])
def test_stories_are_repeatable_and_all_different(make_text, language):
    told = make_text.stories(language, 1500, seed=3)
    assert told == make_text.stories(language, 1500, seed=3)
    assert told[:200] == make_text.stories(language, 200, seed=3)  # so --skip holds out for sure
    assert len(set(told)) == 1500
    assert not set(told) & set(make_text.stories(language, 200, seed=4))


@pytest.mark.parametrize(
    ("language", "letters"), [("en", r"[A-Za-z' ,.!?\"]+"), ("ko", r"[가-힣 ,.!?\"]+")]
)
def test_stories_are_clean_text(make_text, language, letters):
    for story in make_text.stories(language, 1500, seed=0):
        assert re.fullmatch(letters, story)
        assert "  " not in story and story[-1] in '."!'


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_sentence_of_every_plot_can_be_told(make_text, language):
    """Random stories may miss a rare sentence with a misspelt slot."""
    import random

    teller = make_text.Teller(language, random.Random(0))
    for plot in teller._plots:
        for beat in plot:
            for sentence in beat:
                teller._plots = [[[sentence or "."]]]
                assert not set(teller.tell()) & set("{}:^/|")


def test_base_model_is_small_and_spells_korean_in_bytes():
    from safetensors import safe_open

    base = DEMO / "base"
    assert sum(f.stat().st_size for f in base.rglob("*")) < 2_000_000
    with safe_open(base / "model.safetensors", "np") as tensors:
        kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
    assert kinds == {"BF16"}
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(base / "tokenizer.model"))
    korean = "어느 날 아침 토끼가 왔어요."
    ids = pieces.encode(korean)
    assert pieces.decode(ids) == korean
    assert len(ids) > 2 * len(korean)
    assert len(pieces.encode("One morning the rabbit went to the river.")) < 25
