"""New pieces that come and go, and which of another tokenizer are proposed."""

import pytest

from maxlite.errors import InputError
from maxlite.tokenizer.definition import Definition, open_definition
from maxlite.tokenizer.growth import Growth, broken, characters, proposed, readable, written
from maxlite.tokenizer.training import train

TEXT = ["가나다 가나라 가나, 가나. 나라 x나라 漢字 한글3 the"] * 20


@pytest.fixture(scope="module")
def base(tiny_tokenizer) -> Definition:
    return open_definition(tiny_tokenizer)


@pytest.fixture(scope="module")
def byte_level() -> Definition:
    return train(["the cat sees the moon and the red boat"] * 9, 262, "byte_level")


def test_characters_of_scripts():
    hangul = characters("Hangul")
    assert {"가", "힣", "ㅋ", "ᄀ"} <= hangul and not {"a", "漢", "3", "。"} & hangul
    assert characters("Hangul|Han") == hangul | characters("Han") and "漢" in characters("Han")
    assert {"ก", "ั"} <= characters("Thai"), "marks, too: pieces are made of them"
    with pytest.raises(InputError, match="not a script that Unicode knows"):
        characters("Hangeul")


@pytest.mark.parametrize("kind", ["sentencepiece_bpe", "sentencepiece_unigram", "byte_level"])
def test_what_is_proposed(kind, base, tiny_text):
    other = train([*TEXT, *(tiny_text / "xx.txt").read_text("utf-8").split("\n")], 320, kind)
    found = proposed(base, other, "Hangul")
    assert found.merges is None and len(found.pieces) == len(set(found.pieces)) > 3
    assert all(set(piece) & characters("Hangul") for piece in found.pieces)
    assert not any(set(piece) & set("ax漢字3 ") for piece in found.pieces)
    known = {*base.ids, *found.pieces}
    assert not known & base.ids.keys() & set(found.pieces)
    assert all(c in known for piece in found.pieces for c in piece), "or they can't be made"
    everything = proposed(base, other, "Hangul", scores="published")
    assert set(found.pieces) <= set(everything.pieces)


def test_what_would_be_stranded(base):
    growth = Growth(("가나", "가나다", "다가나다", *"가나다"))
    assert growth.stranded(base, set()) == set()
    assert growth.stranded(base, {"가나"}) == {"가나다", "다가나다"}
    assert growth.stranded(base, {"다"}) == {"가나다", "다가나다"}
    assert growth.stranded(base, set(growth.pieces)) == set()


def test_merges_lead_over_pieces(byte_level):
    growth = Growth((), ()).with_characters(byte_level, "가나", characters("Hangul"))
    assert [readable(byte_level, p) for p in growth.pieces if not broken(byte_level, p)] == [
        *"가나"
    ]
    ga, na = (written(byte_level, text) for text in "가나")
    longer = growth.with_pieces(byte_level, [ga + na, written(byte_level, " 가나")])
    assert longer.merges[len(growth.merges) :] == ((ga, na), ("Ġ", ga + na))
    assert longer.stranded(byte_level, {ga}) == {ga + na, "Ġ" + ga + na}
    assert longer.stranded(byte_level, {ga + na}) == {"Ġ" + ga + na}
    left = longer.without({ga + na, "Ġ" + ga + na})
    assert left == growth
    part = next(p for p in growth.pieces if broken(byte_level, p) and ga.startswith(p))
    assert ga in longer.stranded(byte_level, {part})
    ids = longer.on(byte_level).tokenizer().encode_inside([" 가나".encode()])[0]
    assert ids.tolist() == [len(byte_level.pieces) + len(longer.pieces) - 1]


def test_how_pieces_are_written(base, byte_level):
    assert written(base, " 가") == written(base, "▁가") == "▁가" == readable(base, "▁가")
    assert written(byte_level, " 가") == written(byte_level, "▁가") == "Ġê°Ģ"
    assert readable(byte_level, "Ġê°Ģ") == "▁가" and readable(byte_level, "ê°") == "ê°"
    assert broken(byte_level, "ê°") and not broken(byte_level, "ê°Ģ") and not broken(base, "ê°")
