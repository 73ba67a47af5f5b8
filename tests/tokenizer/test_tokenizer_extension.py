import json
import shutil

import numpy as np
import pytest
import sentencepiece
import tokenizers
from extended import SPECIAL, extend, extended_model, new_pieces, split
from tokenizers import AddedToken

from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.extension import check_extends, check_keeps, old_pieces

KINDS = ["tokenizer.model", "tokenizer.json"]


def pieces_of(found, i: int) -> list[int]:
    return found.ids[found.starts[i] : found.stops[i]].tolist()


def lead_of(found, i: int) -> list[int]:
    return found.ids[found.lead_starts[i] : found.lead_stops[i]].tolist()


def written(tokenizer, ids) -> list[str]:
    return [tokenizer.piece(i) for i in ids]


# --- does it extend? -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 255, 257])
def test_one_that_extends(kind, count, tiny_tokenizer, tmp_path):
    base = load_tokenizer(tiny_tokenizer / kind)
    new = load_tokenizer(extend(tiny_tokenizer, tmp_path / "new", count) / kind)
    check_extends(base, new)
    assert new.rows == 400 + count
    assert written(new, range(400, new.rows)) == new_pieces(count)


def test_the_two_forms_may_extend_each_other(tiny_tokenizer, tmp_path):
    folder = extend(tiny_tokenizer, tmp_path / "new", 30)
    pairs = [[load_tokenizer(tiny_tokenizer / k), load_tokenizer(folder / k)] for k in KINDS]
    check_extends(pairs[0][0], pairs[1][1])
    check_extends(pairs[1][0], pairs[0][1])
    same = old_pieces(pairs[0][0], pairs[1][1]), old_pieces(pairs[1][0], pairs[0][1])
    for key in vars(same[0]):
        np.testing.assert_array_equal(getattr(same[0], key), getattr(same[1], key))


def test_the_first_difference_is_named(tiny_tokenizer, tmp_path):
    folder = extend(tiny_tokenizer, tmp_path / "new", 3)
    tree = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocab = tree["model"]["vocab"]
    one, other = sorted(vocab, key=vocab.get)[300:302]
    vocab[one], vocab[other] = 301, 300
    (folder / "tokenizer.json").write_text(json.dumps(tree), "utf-8")
    base, new = load_tokenizer(tiny_tokenizer / "tokenizer.json"), load_tokenizer(folder)
    with pytest.raises(InputError) as error:
        check_extends(base, new)
    assert f"id 300 is {other!r} there and {one!r} here" in str(error.value)
    assert str(new.path) in str(error.value) and str(base.path) in str(error.value)


def test_an_added_token_of_the_base_counts(tiny_tokenizer, tmp_path):
    old = shutil.copytree(tiny_tokenizer, tmp_path / "old")
    (old / "added_tokens.json").write_text('{"<pad>": 400}')
    new = load_tokenizer(extend(tiny_tokenizer, tmp_path / "new", 9))
    with pytest.raises(InputError, match="id 400 is '가' there and '<pad>' here"):
        check_extends(load_tokenizer(old), new)


def test_nothing_new(tiny_tokenizer, tmp_path):
    base = load_tokenizer(tiny_tokenizer)
    more = load_tokenizer(extend(tiny_tokenizer, tmp_path / "new", 3))
    with pytest.raises(InputError, match=r"has 400 ids and .* has 400: there is nothing to extend"):
        check_extends(base, base)
    with pytest.raises(InputError, match=r"has 400 ids and .* has 403: there is nothing to extend"):
        check_extends(more, base)


# --- what the new pieces were ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_hangul_is_bytes_and_a_space_only_where_the_piece_has_one(kind, tiny_tokenizer, tmp_path):
    base = load_tokenizer(tiny_tokenizer / kind)
    new = load_tokenizer(extend(tiny_tokenizer, tmp_path / "new", 257) / kind)
    found = old_pieces(base, new)
    space = base.find("▁")
    expected = [split(piece, space) for piece in new_pieces(257)]
    assert [pieces_of(found, i) for i in range(257)] == expected
    assert [lead_of(found, i) for i in range(257)] == [
        [i for i in ids if i != space][:3] for ids in expected
    ]
    assert (found.ids.dtype, found.starts.dtype, len(found.starts)) == (np.int32, np.int64, 257)


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_split_as_inside_a_text(kind, tiny_tokenizer, tmp_path):
    pieces = ["▁themoon", "themoon", "▁▁", "▁the▁garden", "moon▁", "0월", "ooqu"]
    base = load_tokenizer(tiny_tokenizer / kind)
    new = load_tokenizer(extend(tiny_tokenizer, tmp_path / "new", pieces=pieces) / kind)
    found = old_pieces(base, new)
    for i, piece in enumerate(pieces):
        old = written(base, pieces_of(found, i))
        if "월" not in piece:
            assert "".join(old) == piece
        # Behind a character that merges with nothing it is the same in a whole text.
        text = base.encode_one("가" + piece.replace("▁", " "))
        assert pieces_of(found, i) == text[-len(old) :].tolist()
    assert written(base, lead_of(found, 0)) == ["▁the"]
    assert written(base, pieces_of(found, 0))[0] == "▁the"
    assert not written(base, pieces_of(found, 1))[0].startswith("▁")
    assert written(base, lead_of(found, 2)) == written(base, pieces_of(found, 2))[-1:]


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_metaspace_pipeline_splits_alike(scheme, tiny_tokenizer, tmp_path):
    """As transformers 5 writes Llama tokenizers."""
    folder, found = extend(tiny_tokenizer, tmp_path / "new", 60), []
    for change in ({}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme}):
        pair = []
        for source in (tiny_tokenizer, folder):
            tree = json.loads((source / "tokenizer.json").read_text("utf-8"))
            if change:
                tree |= {"normalizer": None, "pre_tokenizer": change | {"split": False}}
            pair.append(load_tokenizer(write(tmp_path / f"{source.name}.json", json.dumps(tree))))
        found.append(old_pieces(*pair))
    assert len(found[0].ids) > 100
    for key in vars(found[0]):
        np.testing.assert_array_equal(getattr(found[0], key), getattr(found[1], key))


def test_all_syllables_begin_differently(tiny_tokenizer, tmp_path):
    """By their first byte alone they would share four rows."""
    syllables = [chr(c) for c in range(0xAC00, 0xD7A4)]
    base = load_tokenizer(tiny_tokenizer / "tokenizer.model")
    folder = extend(tiny_tokenizer, tmp_path / "new", pieces=["▁" + s for s in syllables])
    found = old_pieces(base, load_tokenizer(folder / "tokenizer.model"))
    leads = {tuple(lead_of(found, i)) for i in range(len(syllables))}
    assert len(leads) == len(syllables) == 11172
    assert len({pieces_of(found, i)[0] for i in range(len(syllables))}) == 1


def test_what_the_base_cannot_write_has_no_pieces(tmp_path, tiny_text, tiny_tokenizer):
    sentencepiece.SentencePieceTrainer.train(
        input=str(tiny_text / "en.txt"),
        model_prefix=str(tmp_path / "plain"),
        model_type="unigram",
        vocab_size=80,
        hard_vocab_limit=False,
        minloglevel=3,
    )
    data = (tmp_path / "plain.model").read_bytes()
    pieces = ["가", "a가", "the", "▁zzz", SPECIAL, "<0x41>"]
    (tmp_path / "new.model").write_bytes(extended_model(data, pieces))
    base, new = (load_tokenizer(tmp_path / f"{name}.model") for name in ("plain", "new"))
    check_extends(base, new)
    found = old_pieces(base, new)
    assert [bool(pieces_of(found, i)) for i in range(5)] == [False, False, True, False, False]
    assert "".join(written(base, pieces_of(found, 2))) == "the"
    assert lead_of(found, 0) == []


def test_unigram_json_with_metaspace(tmp_path, unigram_json):
    base = load_tokenizer(write(tmp_path / "base.json", unigram_json))
    tree = json.loads(unigram_json)
    pieces = ["▁thedogs", "thedogs", "▁the▁dogs", "한국", "寿"]
    tree["model"]["vocab"] += [[piece, -20.0] for piece in pieces]
    new = load_tokenizer(write(tmp_path / "new.json", json.dumps(tree)))
    check_extends(base, new)
    found = old_pieces(base, new)
    for i, piece in enumerate(pieces[:4]):
        assert "".join(written(base, pieces_of(found, i))) == piece
    assert pieces_of(found, 4) == [], "unknown to the base"
    assert base.piece(base.encode_one("thedogs")[0]).startswith("▁"), "a whole text is not inside"


def write(path, text):
    path.write_text(text, "utf-8")
    return path


# --- byte-level BPE --------------------------------------------------------------------------


def byte_level(text: str | bytes) -> str:
    """How a byte-level tokenizer writes text."""
    data = text.encode() if isinstance(text, str) else text
    kept = {*range(33, 127), *range(161, 173), *range(174, 256)}
    moved = [byte for byte in range(256) if byte not in kept]
    return "".join(chr(b) if b in kept else chr(256 + moved.index(b)) for b in data)


@pytest.fixture
def byte_level_pair(tmp_path, llama3_json):
    """make(pieces) -> the base and one with these pieces (bytes) behind its special tokens."""

    def make(pieces):
        tree = json.loads(llama3_json)
        vocab = tree["model"]["vocab"]
        vocab.update({token["content"]: token["id"] for token in tree["added_tokens"]})
        base = load_tokenizer(write(tmp_path / "base.json", json.dumps(tree)))
        vocab.update({byte_level(piece): len(vocab) + i for i, piece in enumerate(pieces)})
        return base, load_tokenizer(write(tmp_path / "new.json", json.dumps(tree)))

    return make


def test_byte_level_pieces(byte_level_pair):
    whole = "힣"  # not in the text that the base is of, so written in bytes
    parts = [" overthe", "overthe", whole, " " + whole, whole.encode()[:2], whole.encode()[1:]]
    base, new = byte_level_pair([p if isinstance(p, bytes) else p.encode() for p in parts])
    check_extends(base, new)
    found = old_pieces(base, new)
    for i, part in enumerate(parts):
        old = "".join(written(base, pieces_of(found, i)))
        assert old == byte_level(part)
        assert new.raw(base.rows + i) == (part if isinstance(part, bytes) else part.encode())
    assert written(base, pieces_of(found, 0))[0].startswith("Ġ")
    assert not written(base, pieces_of(found, 1))[0].startswith("Ġ")
    for i in (2, 3):  # the whole character, without a space of its own
        lead = b"".join(base.raw(index) for index in lead_of(found, i))
        assert lead.strip(b" ") == whole.encode()
    assert len(pieces_of(found, 4)) >= 1 and len(lead_of(found, 5)) == 1


def test_byte_level_numbers_follow_the_pipeline(byte_level_pair):
    base, new = byte_level_pair([b"2016"])
    found = old_pieces(base, new)
    assert pieces_of(found, 0) == base.encode_one("2016").tolist()


def test_added_tokens(tmp_path, llama3_json):
    """Those that text produces are text; special ones have no pieces."""
    base = load_tokenizer(write(tmp_path / "base.json", llama3_json))
    changed = tokenizers.Tokenizer.from_str(llama3_json)
    changed.add_tokens([AddedToken("한국어", normalized=False), "café foxes"])
    changed.add_special_tokens(["<|end of the dog|>"])
    new = load_tokenizer(write(tmp_path / "new.json", changed.to_str()))
    check_extends(base, new)
    found = old_pieces(base, new)
    for i, text in enumerate(["한국어", "café foxes"]):
        assert pieces_of(found, i) == base.encode_one(text).tolist()
    assert pieces_of(found, 2) == [] and new.raw(base.rows + 2) is None


def test_the_files_of_a_folder_that_is_not_there_yet(tiny_tokenizer, tmp_path):
    whole = load_tokenizer(tiny_tokenizer)
    files = {path.name: path for path in tiny_tokenizer.iterdir()}
    found = load_tokenizer(files)
    assert (found.path, found.files, found.fingerprint) == (
        whole.path,
        whole.files,
        whole.fingerprint,
    )
    del files["tokenizer.json"]
    settings = {"tokenizer_config.json": b'{"eos_token": "<unk>"}'}
    others = {"LICENSE": b"", "config.json": b'{"bos_token_id": 2}'}
    found = load_tokenizer(files | settings | others)
    assert (found.path.name, found.bos, found.eos, found.rows) == ("tokenizer.model", 1, 0, 400)
    assert found.files == files | settings
    as_bytes = {"tokenizer.model": files["tokenizer.model"].read_bytes()}
    assert load_tokenizer(as_bytes).encode_one("the cat").tolist() == (
        whole.encode_one("the cat").tolist()
    )
    with pytest.raises(InputError, match=r"the model has no tokenizer\.json"):
        load_tokenizer({"tokenizer_config.json": b"{}"})
    with pytest.raises(InputError, match=r"tokenizer_config\.json must hold a JSON object"):
        load_tokenizer(as_bytes | {"tokenizer_config.json": b"[]"})


# --- compaction ------------------------------------------------------------------------------


def test_a_compacted_tokenizer_belongs_to_its_ids(tiny_tokenizer, tmp_path):
    whole = load_tokenizer(extend(tiny_tokenizer, tmp_path / "new", 3))
    base = load_tokenizer(tiny_tokenizer)
    check_keeps(whole, base, np.arange(400))
    with pytest.raises(InputError) as error:
        check_keeps(whole, base, np.arange(3, 403))
    assert "id 0 is '<unk>', and id 3" in str(error.value) and "'<0x00>'" in str(error.value)
