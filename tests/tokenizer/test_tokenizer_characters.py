import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.tokenizer.characters import begins_only, open_end

CHARACTERS = st.characters(exclude_categories=["Cs"])


def hangul(character: str) -> bool:
    return "HANGUL" in unicodedata.name(character, "")


@settings(max_examples=300, deadline=None)
@given(st.text(CHARACTERS, max_size=4), CHARACTERS, st.integers(0, 4))
def test_what_begins_a_character_and_does_not_end_it(text, last, cut):
    part = last.encode()[:cut]
    expected = part if len(part) < len(last.encode()) else b""
    assert open_end(text.encode() + part) == expected


@pytest.mark.parametrize(
    ("start", "only"),
    [
        ("가".encode()[:2], True),
        ("힘".encode()[:2], True),  # what stands behind it among the syllables is not assigned
        (b"\xed", True),  # the other half are surrogates
        (b"\xea", False),  # Lisu, Vai, Javanese, ...
        ("ㅋ".encode()[:2], True),
        ("ㄱ".encode()[:2], False),  # Bopomofo
        ("ꥠ".encode()[:2], False),  # Rejang
        (b"\xe1\x84", True),
        (b"\xf0", False),
        (b"\xf0\x90\x80", False),
        (b"\xc3", False),
        (b"\xee\x80", False),
    ],
)
def test_whether_only_one_script_begins_so(start, only):
    assert begins_only(start, hangul) is only


@pytest.mark.parametrize("text", ["é", "가", "ㄱ", "ꥠ", "🎉", "\uf900"])
def test_it_is_asked_of_every_character_that_begins_so(text):
    """Against all of Unicode, one by one."""
    for cut in range(1, len(text.encode())):
        start = text.encode()[:cut]
        asked = []
        assert begins_only(start, lambda c, asked=asked: not asked.append(c))
        everything = (chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000)
        assigned = (c for c in everything if unicodedata.category(c) != "Cn")
        assert asked == [
            c for c in assigned if c.encode().startswith(start) and len(c.encode()) > cut
        ]
