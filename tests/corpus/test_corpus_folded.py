import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.corpus.folded import _kind, _kinds, fold, portions

# What meets at the border of two texts: digits, marks that compose, what NFKC makes longer or
# joins, what is dropped, half a surrogate pair.
char = st.sampled_from("aAß 1٣½①.,-~|\n\t가ㄱㅏᄀ̈́ﷺﬁ…😀️\u200d\ud83d\x00")
text = st.text(char, max_size=12)


def folded(*texts, **kwargs):
    codes, ends = fold(texts, **kwargs)
    starts = [0, *ends.tolist()]
    return ["".join(map(chr, codes[a:b])) for a, b in zip(starts, ends.tolist(), strict=False)]


SAME = [
    ("정말 재미있다!!", "정말재미있다~"),
    ("Ｈｅｌｌｏ, World", "hello world"),
    ("한글", unicodedata.normalize("NFD", "한글")),
    ("STRASSE", "straße"),
    ("A\u200bB\u00ad", "ab"),
    ("한글!", "“한글”…"),
    ("3.5점", "３,５ 점"),
    ("좋아요 ♥", "좋아요♥\ufe0f"),
]
DIFFERENT = [
    ("1월 5일", "2월 5일"),
    ("3.5점", "35점"),
    ("1 2", "12"),
    ("C++", "C"),
    ("C+", "C#"),
    ("좋아 😀", "좋아 😡"),
    ("?", "!"),
    ("", "."),
    ("ㅋㅋ", "ㅋㅋㅋ"),
]


@pytest.mark.parametrize("one, two", SAME)
def test_what_is_folded_away(one, two):
    assert len(set(folded(one, two))) == 1


@pytest.mark.parametrize("one, two", DIFFERENT)
def test_what_stays(one, two):
    assert len(set(folded(one, two))) == 2


def test_literally():
    assert folded("1. 첫째, 3.5 % (약)", "...", whole=True) == ["1첫째3 5약", "..."]
    assert folded("1,\n", "2", " ,3", whole=False) == ["1", "2", "3"]
    assert folded("...", "", whole=False) == ["", ""]


@given(st.lists(text, max_size=8), st.booleans())
@settings(max_examples=200, deadline=None)
def test_texts_do_not_depend_on_their_neighbours(texts, whole):
    codes, ends = fold(texts, whole)
    assert codes.dtype == "<u4" and len(ends) == len(texts)
    assert len(codes) == (ends[-1] if texts else 0)
    assert folded(*texts, whole=whole) == [folded(text, whole=whole)[0] for text in texts]


@given(text)
@settings(max_examples=200, deadline=None)
def test_against_a_reader_of_single_characters(text):
    expected = ""
    for place, c in enumerate(plain := unicodedata.normalize("NFKC", text).casefold()):
        category = unicodedata.category(c)
        if not (category[0] in "PZ" or category in ("Cc", "Cf", "Sk") or c in "~|\ufe0f"):
            gap = place and plain[place - 1] != expected[-1:]
            digits = (expected[-1:] + c).isdecimal() and expected
            expected += f" {c}" if gap and digits else c
    assert folded(text, whole=False) == [expected]
    assert folded(text) == [expected or plain]


@given(st.lists(st.integers(0, 70_000), max_size=30))
@settings(max_examples=50, deadline=None)
def test_portions_are_all_texts_in_order(sizes):
    texts = ["x" * size for size in sizes]
    parts = list(portions(texts))
    assert [text for part in parts for text in part] == texts
    assert all(len(part) == 1 or sum(map(len, part)) <= 1 << 15 for part in parts)


def test_what_becomes_of_a_character_is_told_by_its_category_alone():
    numbers = range(0, 0x110000, 7)
    assert _kinds()[numbers].tolist() == [_kind(chr(n)) for n in numbers]
