"""Repairing of Unicode: what is repaired, what is left, and that the short way is exact."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.corpus import repair
from maxlite.corpus.repair import Repair
from maxlite.errors import InputError

ftfy = pytest.importorskip("ftfy")
is_bad = pytest.importorskip("ftfy.badness").is_bad


@pytest.mark.parametrize(
    ("broken", "repaired"),
    [
        ("í•œêµ\xadì–´", "한국어"),  # UTF-8 as Windows-1252
        ("한국어는 재밌다".encode().decode("latin-1"), "한국어는 재밌다"),
        ("저녁에 봤다".encode().decode("latin-1"), "저녁에 봤다"),  # holds U+0085
        ("schÃ¶n, â€œcafÃ©â€\x9d", "schön, “café”"),
        ("ÇÑ±¹¾î", "한국어"),  # CP949 as Latin-1
        ("제목: ÇÑ±¹¾î ÀÌ¾ß±â (2024)", "제목: 한국어 이야기 (2024)"),
        ("ÇÑ±¹¾î ÀÌ¾ß±â, café", "한국어 이야기, café"),  # word by word
        ("한글로 똠방각하를 썼다".encode("cp949").decode("latin-1"), "한글로 똠방각하를 썼다"),
        ("ㅤㅂㅘㅅ는데 안난ㅤㄷㅏㅋ", "봣는데 안난닼"),  # KS X 1001 with fillers
        ("하늘", "하늘"),
        ("e\u0301", "é"),
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("a&amp;amp;b &lt; c&nbsp;d", "a&b < c d"),
        ("<p>a &amp; b", "<p>a &amp; b"),
        ("\ud83d\ude00 ok", "😀 ok"),
        ("a\ud800b\ufffdc", "abc"),
        ("a\u200bb\ufeffc\xadd\u202ee\u2060f\x00g", "abcdefg"),
        ("a\u3000b\u00a0c\u2009d", "a b c d"),
        ("a\r\nb\rc\u2028d\x0ce", "a\nb\nc\nd\ne"),
        ("a      b  c", "a  b  c"),
        ("a  \t\n    b\n\n\n\n\n\nc", "a\n    b\n\n\nc"),
        ("  \n a \n ", "a"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian and Hindi spell with joiners
        ("क्\u200dष", "क्\u200dष"),
        ("👨\u200d👩\u200d👧 ❤\ufe0f\u200d🔥", "👨\u200d👩\u200d👧 ❤\ufe0f\u200d🔥"),
        ("가\u200d나 a\u200cb", "가나 ab"),
        ("ㅋㅋ ① ﬁ ＡＢ", "ㅋㅋ ① ﬁ ＡＢ"),
    ],
)
def test_repairs(broken, repaired):
    assert Repair().change(broken) == repaired


@pytest.mark.parametrize(
    "text",
    [
        "Ärger über größere Übungen, naïve café, São Tomé, ÇOK GÜZEL, 20 °C ± 5",
        "ÁÉÍÓÚ ÀÁÂÃÄÅ ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏ ÐÑÒÓÔÕÖ ØÙÚÛÜÝÞ",
        "¼ ½ ¾ ±² ³ µ ¶·¸ ¹º»",
        "한국어 · 중국어(中文)、日本語 “인용” ‘인용’ … — 3×4",
        "Москва, Ελλάδα, עברית, العربية, ไทย, हिन्दी",
        "def f():\n    return 1  # one\n\n\ndef g():\n\treturn 2",
        "AT&T a&b ♥★☆♪",
    ],
)
def test_other_texts_stay(text):
    assert Repair().change(text) == text


def test_settings():
    assert Repair(form="NFKC").change("ㅋㅋㅋ ① ＡＢ 가") == "ㅋㅋㅋ 1 AB 가"
    assert unicodedata.is_normalized("NFD", Repair(form="NFD").change("가é"))
    assert Repair(form="").change("e\u0301") == "e\u0301"
    assert Repair(encodings=False).change("ÇÑ±¹¾î") == "ÇÑ±¹¾î"
    assert Repair(entities=False).change("a &amp; b") == "a &amp; b"
    assert Repair(lost="\ufffd").change("a\ud800b\ufffd") == "a\ufffdb\ufffd"
    assert Repair(blanks=1, empty_lines=0).change("a  b\n\nc") == "a b\nc"
    assert Repair().apply(["\u200b \n", "가"]) == [("", "empty"), ("가", "")]


@pytest.mark.parametrize(
    "step", [Repair(form="NFX"), Repair(lost="?"), Repair(blanks=0), Repair(empty_lines=-1)]
)
def test_wrong_settings_are_refused(step):
    with pytest.raises(InputError, match=r"Repair\("):
        step.check()


def test_every_syllable_with_fillers_is_composed():
    for syllable in ("가", "힣", "뷁", "쒜", "읇"):
        letters = [unicodedata.name(c).split()[-1] for c in unicodedata.normalize("NFD", syllable)]
        written = "".join(unicodedata.lookup(f"HANGUL LETTER {name}") for name in letters)
        written += "\u3164" * (len(letters) == 2)
        assert Repair().change(f"a\u3164{written}b") == f"a{syllable}b"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@settings(max_examples=300, deadline=None)
def test_texts_of_sound_characters_need_no_repair(text):
    """That is why nothing else is asked about them."""
    sound = repair._SUSPECT.sub("", text)
    assert ftfy.fix_encoding(sound) == sound
    assert unicodedata.is_normalized("NFC", sound)
    assert Repair()._characters(sound) == sound


_MIXED = st.sampled_from(
    "aB ,\n–’“…가ÃÂÎÐØÙÅàáâãäéœŒ×²±€£§¶°·»«¿®¤¦\xa0\xad\x85™†√≈‚ГўВЂРСΒβʼё│┌ﬁ\ufffd"
)


@given(st.lists(_MIXED, max_size=24).map("".join))
@settings(max_examples=500, deadline=None)
def test_what_ftfy_finds_bad_is_found_around_suspects(text):
    if is_bad(text):
        assert repair._bad(text)
    if not repair._bad(text):
        assert ftfy.fix_encoding(text) == text


@given(st.text(st.characters(min_codepoint=0xC0, max_codepoint=0xFF), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_short_runs_of_accented_letters_are_never_korean(text):
    assert repair._korean(text) == ""
