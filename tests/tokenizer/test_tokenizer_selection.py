import pytest

from maxlite.errors import InputError
from maxlite.tokenizer.selection import selection


@pytest.mark.parametrize(
    "how, wanted, others",
    [
        (
            "script:Hangul",
            ["가", " 가나", "ᄒ", "ㅋㅋ", "가.", " (가", "가나'다"],
            ["", " ", ".", "a", "가a", "a가", "가1", "漢", "가漢", "가 나", "  가", "가\n", "가 "],
        ),
        ("script:Han|Hangul", ["漢", "가漢", " 漢字"], ["かな", "漢a", "·"]),
        ("script:Hiragana|Katakana", ["あ", "ー・あ", "カー"], ["ー", "漢あ", "x"]),
        ("script:Devanagari", ["कि", "क्ष", " हिन्दी।"], ["ab", "।"]),
        ("script:Arabic", ["سلام", "سَلام", "سلام،"], ["،", "salam"]),
        ("regex:\\p{Han}", ["漢", "a漢1"], ["가", "a"]),
        ("regex:^ [a-z]+$", [" ab"], ["ab", " ab1", " "]),
    ],
)
def test_pieces_are_chosen_by_their_text(how, wanted, others):
    keep = selection(how)
    assert [text for text in wanted if not keep(text)] == []
    assert [text for text in others if keep(text)] == []


def test_a_list_in_a_file(tmp_path):
    file = tmp_path / "list.txt"
    file.write_bytes("\ufeff▁가나\r\n 다\n\nlist:x\n".encode())
    keep = selection(f"list:{file}")
    assert [t for t in (" 가나", " 다", "list:x", "가나", "다", "") if keep(t)] == [
        " 가나",
        " 다",
        "list:x",
    ]


def test_selections_that_are_refused(tmp_path):
    (tmp_path / "empty").write_text("\n\n")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    for how, told in (
        ("Hangul", "does not select pieces; write script:"),
        ("script:", "does not select pieces"),
        ("script:Klingon", "'Klingon' is not a script"),
        ("script:Han|", "'' is not a script"),
        ("script:Han}a", "is not a script"),
        ("regex:(", "not a regular expression"),
        (f"list:{tmp_path}/no", "cannot be read"),
        (f"list:{tmp_path}/empty", "lists no pieces"),
        (f"list:{tmp_path}/latin", "not valid UTF-8"),
    ):
        with pytest.raises(InputError, match=told):
            selection(how)
