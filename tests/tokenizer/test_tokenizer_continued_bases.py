"""Merges that are learnt for whatever is kept, and for bases that are awkward or refused."""

import json

import pytest
from continued_examples import KINDS, forms, hangul, texts_of
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from maxlite.errors import InputError
from maxlite.tokenizer import continued
from maxlite.tokenizer.continued import learn
from maxlite.tokenizer.definition import Definition, open_definition
from maxlite.tokenizer.training import train

# --- without a script ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_everything_may_be_kept(kind, bases, korean):
    base = bases[kind]
    texts = korean[:300] + ["<s> <|end_of_text|> 20162016 don't"] * 30
    found = learn(base, texts, 300, min_count=2)
    assert len(found.pieces) == 300
    new = base.extended(found.pieces, merges=found.merges)
    told = texts_of(new, found.pieces)
    assert any(text.strip().isascii() for text in told)
    assert not any(" " in text[1:] or "\n" in text for text in told)
    digits = [text for text in told if sum(map(str.isdigit, text)) > 1]
    assert bool(digits) == (kind == "byte_level"), "as the base has it, digits are apart"
    for tokenizer in forms(new):
        raw = [tokenizer.raw(index) for index in range(400, tokenizer.rows)]
        encoded = tokenizer.encode_inside(raw)
        assert [ids.tolist() for ids in encoded] == [[400 + i] for i in range(300)]
        encoded = tokenizer.encode(texts)
        assert [tokenizer.decode(ids) for ids in encoded] == texts


def test_a_base_with_numbers_gets_more_of_them():
    base = train(["some text"] * 9, 260, "byte_level")
    data = dict(base.files)
    tree = json.loads(data["tokenizer.json"])
    tree["model"]["byte_fallback"] = True
    vocab = {f"<0x{i:02X}>": i for i in range(256)} | {"1": 256, "0": 257, "10": 258, "▁": 259}
    tree["model"] |= {"vocab": vocab, "merges": [["1", "0"]], "ignore_merges": False}
    tree |= {"pre_tokenizer": None, "added_tokens": [], "post_processor": None}
    tree["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    data["tokenizer.json"] = json.dumps(tree).encode()
    data["tokenizer_config.json"] = b"{}"
    numbers = Definition(data, "numbers")
    assert numbers.form == "byte_fallback"
    assert learn(numbers, ["100 100 100"], 9, min_count=2).pieces == ["100", "▁100"]


# --- awkward bases ---------------------------------------------------------------------------


def byte_base(vocab: list[str], merges: list[tuple[str, str]], **model) -> Definition:
    """Byte-level BPE of 256 bytes and these pieces, words split at spaces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {piece: i for i, piece in enumerate([*alphabet, *vocab])}
    tokenizer = Tokenizer(models.BPE(ids, merges))
    split = pre_tokenizers.Split(Regex(r" ?\S+|\s+"), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    tree = json.loads(tokenizer.to_str())
    tree["model"] |= model
    return Definition({"tokenizer.json": json.dumps(tree).encode()}, "a base")


def test_a_merge_to_a_piece_of_the_base_makes_no_new_one():
    """The base has "abc", but its own merges never lead there."""
    base = byte_base(["ab", "abc"], [("a", "b")])
    found = learn(base, ["abcd"] * 2 + ["abc"] * 5, 9, min_count=2)
    assert found.pieces == ["abcd"] and found.dropped == []
    assert found.merges == [("ab", "c"), ("abc", "d")]
    new = base.extended(found.pieces, merges=found.merges).tokenizer()
    assert [new.encode_one(text).tolist() for text in ("abcd", "abc")] == [[258], [257]]


def test_special_tokens_are_never_made():
    """Neither by a merge nor on the way to a character, though text spells them."""
    plain = byte_base([], [])
    tree = json.loads(plain.files["tokenizer.json"])
    first = pre_tokenizers.ByteLevel(False, False).pre_tokenize_str("한")[0][0][:2]
    tree["added_tokens"] = [
        {"id": 256 + i, "content": text, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for i, text in enumerate(["abc", first])
    ]
    base = Definition({"tokenizer.json": json.dumps(tree).encode()}, "with special tokens")
    found = learn(base, ["abcd", "abc"] * 9 + ["한한 국"] * 9, 99, min_count=2)
    new = base.extended(found.pieces, merges=found.merges).tokenizer()
    assert {"ab", " 국"} <= {new.raw(i).decode(errors="replace") for i in range(258, new.rows)}
    assert not {"abc", first} & set(found.pieces)
    for text in ("abcd", "abc", "한한"):
        assert not {256, 257} & set(new.encode_one(text).tolist())


def test_a_piece_that_arises_in_two_ways_counts_once():
    base = byte_base(["ab", "bc"], [("a", "b"), ("b", "c")])
    texts = ["xabc"] * 9 + ["zbc"] * 9 + ["abc"] * 9
    found = learn(base, texts, 99, min_count=2)
    assert len(found.pieces) == len(set(found.pieces))
    base = byte_base(["ab", "cd", "bcd", "zc"], [("z", "c"), ("c", "d"), ("a", "b"), ("b", "cd")])
    found = learn(base, ["abcd"] * 5 + ["abzcd"] * 5, 99, min_count=2)
    assert len(found.pieces) == len(set(found.pieces))
    new = base.extended(found.pieces, merges=found.merges).tokenizer()
    assert [len(new.encode_one(text)) for text in ("abcd", "abzcd")] == [1, 1]


def test_tokens_that_end_inside_a_character_are_taken_together():
    """The base joins the end of a character with the beginning of the next."""
    kor = [pre_tokenizers.ByteLevel(False, False).pre_tokenize_str(c)[0][0] for c in "한국"]
    across = kor[0][2] + kor[1][0]
    base = byte_base([across], [(kor[0][2], kor[1][0])])
    texts = ["한국어 한국어"] * 9 + ["한", "국"]
    found = learn(base, texts, 99, keep=hangul, min_count=2)
    new = base.extended(found.pieces, merges=found.merges).tokenizer()
    assert len(new.encode_one("한국어")) == 1
    assert "한국" in texts_of(base.extended(found.pieces, merges=found.merges), found.pieces)
    others = ["\u3105中\ua930", "Ω\u4e00\uf900"]
    for text, ids in zip(others, base.tokenizer().encode(others), strict=True):
        assert new.encode_one(text).tolist() == ids.tolist()
    raw = [new.raw(index) for index in range(257, new.rows)]
    assert [ids.tolist() for ids in new.encode_inside(raw)] == [[i] for i in range(257, new.rows)]


def test_whole_words_may_be_taken_as_they_are(llama3_json, korean):
    """With `ignore_merges`, and special tokens behind the vocabulary."""
    base = Definition({"tokenizer.json": llama3_json.encode()}, "like Llama 3")
    found = learn(base, korean, 150, keep=hangul, min_count=2)
    new = base.extended(found.pieces, merges=found.merges)
    assert len(found.pieces) == 150 and found.dropped == []
    tokenizer, old = new.tokenizer(), base.tokenizer()
    assert [tokenizer.piece(i) for i in range(old.rows)] == [old.piece(i) for i in range(old.rows)]
    raw = [tokenizer.raw(index) for index in range(old.rows, new.tokenizer().rows)]
    assert [i.tolist() for i in tokenizer.encode_inside(raw)] == [
        [old.rows + i] for i in range(150)
    ]
    texts = ["The quick brown fox <|eot_id|> <plain>", "sea shells\n\n 12345"]
    for text in texts:
        assert tokenizer.encode_one(text).tolist() == old.encode_one(text).tolist()


def test_what_is_never_made_is_replaced(bases, korean, monkeypatch):
    base = bases["sentencepiece"]
    usual = learn(base, korean, 100, keep=hangul, min_count=2)
    lost = usual.pieces[usual.characters + 3]
    monkeypatch.setattr(continued, "_unreachable", lambda base, stock: [lost])
    found = learn(base, korean, 100, keep=hangul, min_count=2)
    assert found.dropped == [lost] and lost not in found.pieces
    assert found.pieces[:-1] == [piece for piece in usual.pieces if piece != lost]
    assert len(found.pieces) == 100


def test_more_is_learnt_where_much_cannot_be_used(bases, korean, monkeypatch):
    base = bases["sentencepiece"]
    usual = learn(base, korean, 150, keep=hangul, min_count=2)
    lost = set(usual.pieces[usual.characters :][:40])
    asked = []
    real = continued._train
    monkeypatch.setattr(continued, "_SPARE", 0)
    monkeypatch.setattr(continued, "_train", lambda *a: (asked.append(a[1]), real(*a))[1])
    monkeypatch.setattr(
        continued, "_unreachable", lambda base, stock: [p for p in stock.pieces if p in lost]
    )
    found = learn(base, korean, 150, keep=hangul, min_count=2)
    assert len(found.pieces) == 150 and len(asked) == 2 and asked[1] == 2 * asked[0]
    assert not lost & set(found.pieces) and set(found.dropped) == lost


# --- refusals --------------------------------------------------------------------------------


def test_bases_that_cannot_be_continued(unigram_json, bases, tmp_path):
    unigram = Definition({"tokenizer.json": unigram_json.encode()}, "the Unigram one")
    with pytest.raises(InputError, match="the Unigram one is a Unigram model, which has no merges"):
        learn(unigram, ["가"], 5)
    tree = json.loads(bases["byte_fallback"].files["tokenizer.json"].read_text("utf-8"))
    renamed = {"<0x41>": "zzzz"}
    tree["model"]["vocab"] = {renamed.get(p, p): i for p, i in tree["model"]["vocab"].items()}
    lacking = Definition({"tokenizer.json": json.dumps(tree).encode()}, "it")
    with pytest.raises(InputError, match="it has pieces for 255 of the 256 bytes"):
        learn(lacking, ["가"], 5)
    for name in ("tokenizer.model", "tokenizer_config.json"):
        (tmp_path / name).write_bytes(bases["sentencepiece"].files[name].read_bytes())
    (tmp_path / "added_tokens.json").write_text('{"<pad>": 400}')
    read = iter(["가"])
    with pytest.raises(InputError, match="added outside of its"):
        learn(open_definition(tmp_path), read, 5)
    assert next(read) == "가", "before any text is read"
    with pytest.raises(InputError, match="pieces to learn is 0"):
        learn(bases["byte_level"], ["가"], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_learn_from(kind, bases):
    for texts in ([], ["", " \n"], ["only English here"]):
        with pytest.raises(InputError, match="nothing to learn"):
            learn(bases[kind], texts, 5, keep=hangul)
    found = learn(bases[kind], ["가나"], 5, keep=hangul)
    assert (found.pieces, found.words) == ([], 1)


def test_progress_is_told(bases):
    told = []
    learn(bases["byte_level"], ["한국 한국"] * 9, 9, keep=hangul, progress=told.append)
    assert [text.split()[0] for text in told] == ["counting", "encoding", "learning", "encoding"]
