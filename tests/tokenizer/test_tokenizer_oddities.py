"""Odd pieces: each kind is found, and nothing else."""

import json
from pathlib import Path

import pytest
import tokenizers

from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.definition import open_definition
from maxlite.tokenizer.oddities import LONG, oddities, written

PLAIN = ["a", "▁the", "한국", "x,", "7", "▁7", "...", "漢字かな", "▁", "\n", "\t"]
ODD = {
    "white space alone": ["▁▁", "▁▁▁▁", "\n\n"],
    "control characters": ["a\u200b", "\u202e", "b\x07"],
    "replacement characters": ["\ufffd", "a\ufffd"],
    "scripts mixed": ["한a", "a한"],
    "digits joined": ["12", "▁20", "a1", "2·"],
    "one character repeated": ["ㅋㅋㅋㅋ", "▁----"],
    "very long": ["abcdefghijklmnopq", "abcdefghijklmnopqrstu"],
    "same but for form": ["ｘ,", "ﬁ"],
    "same but for case": ["▁The", "▁THE"],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Byte fallback; its pieces are those above, in no BPE that could be trained."""
    pieces = ["<unk>", "<s>", *(f"<0x{i:02X}>" for i in range(256)), "fi", *PLAIN]
    pieces += [piece for some in ODD.values() for piece in some]
    model = tokenizers.models.BPE(
        {piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True
    )
    made = tokenizers.Tokenizer(model)
    made.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    made.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback()]
    )
    made.add_special_tokens(["<s>"])
    path = Path(tmp_path_factory.mktemp("odd")) / "tokenizer.json"
    made.save(str(path))
    return load_tokenizer(path)


def test_each_kind_finds_its_own(tokenizer):
    found = {odd.name: odd for odd in oddities(tokenizer)}
    for name, pieces in ODD.items():
        assert {tokenizer.piece(i) for i in found[name].ids} == set(pieces), name
    assert found["parts of characters"].ids == []
    assert all(odd.what.endswith(".") for odd in found.values())
    assert len(tokenizer.piece(found["very long"].ids[0])) == 21 > LONG  # the longest first


def test_variants_name_what_they_are_variants_of(tokenizer):
    twins = {
        tokenizer.piece(a): tokenizer.piece(b)
        for odd in oddities(tokenizer)
        for a, b in odd.twins.items()
    }
    assert twins == {"ｘ,": "x,", "ﬁ": "fi", "▁The": "▁the", "▁THE": "▁the"}


def test_special_tokens_and_bytes_are_not_looked_at(tokenizer):
    texts = written(tokenizer)
    assert not {tokenizer.find(p) for p in ("<unk>", "<s>", "<0x41>")} & texts.keys()
    assert texts[tokenizer.find("▁▁")] == "  " and len(texts) == 1 + len(PLAIN) + 22


def test_broken_characters_of_byte_level_pieces(tmp_path, llama3_json):
    tree = json.loads(llama3_json)
    path = tmp_path / "tokenizer.json"
    path.write_text(llama3_json, "utf-8")
    definition = open_definition(path)
    tokenizer = definition.tokenizer()
    found = {odd.name: odd.ids for odd in oddities(definition)}["parts of characters"]
    expected = []
    for piece, index in tree["model"]["vocab"].items():
        raw = tokenizer.raw(index)
        if len(piece) > 1 and raw.decode("utf-8", "replace").encode() != raw:
            expected.append(index)
    assert found == sorted(expected) and found
    assert {i for i, text in written(tokenizer).items() if text is None} == set(found)
