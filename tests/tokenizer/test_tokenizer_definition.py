import json
import shutil

import numpy as np
import pytest
import tokenizers
from definition_examples import LINES, NEW, TEXTS, edited, folder, read, same_ids
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2 as pb2

from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.definition import Piece, open_definition, write_definition

# --- reading and writing ---------------------------------------------------------------------


def test_what_is_not_changed_keeps_its_bytes(tmp_path, tiny_tokenizer, digest):
    definition = open_definition(tiny_tokenizer)
    assert (definition.form, definition.model) == ("sentencepiece", "bpe")
    write_definition(definition, tmp_path / "out")
    assert digest(tmp_path / "out") == digest(tiny_tokenizer)


def test_pieces_have_kinds_and_scores(tiny_tokenizer, llama3, unigram_json, tmp_path):
    pieces = open_definition(tiny_tokenizer).pieces
    assert len(pieces) == 400 and pieces[3] == Piece("<0x00>", "byte", 0.0)
    assert [p.kind for p in pieces[:3]] == ["special"] * 3
    proto = read((tiny_tokenizer / "tokenizer.model").read_bytes())
    assert [p.text for p in pieces] == [p.piece for p in proto.pieces]
    assert [p.score for p in pieces] == [p.score for p in proto.pieces]
    definition = open_definition(llama3)
    assert definition.form == "byte_level"
    kinds = [p.kind for p in definition.pieces]
    assert kinds.count("byte") == 256 and kinds[-4:] == ["special"] * 4
    assert definition.pieces[-4].text == "<|begin_of_text|>"
    unigram = folder(tmp_path / "u", tokenizer__json=unigram_json)
    assert open_definition(unigram).model == "unigram"


@pytest.mark.parametrize("kind", ["tiny", "llama3"])
def test_a_folder_and_its_file_are_the_same(kind, tiny_tokenizer, llama3):
    source = tiny_tokenizer if kind == "tiny" else llama3
    whole, lone = open_definition(source), open_definition(source / "tokenizer.json")
    assert [p.text for p in whole.pieces] == [p.text for p in lone.pieces]
    assert lone.form == ("byte_fallback" if kind == "tiny" else "byte_level")
    assert "tokenizer.model" not in lone.files


def test_a_folder_is_written_whole_or_not_at_all(tmp_path, tiny_tokenizer, monkeypatch):
    definition, out = open_definition(tiny_tokenizer), tmp_path / "a" / "out"
    monkeypatch.setattr(shutil, "copyfile", lambda *a: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(InputError, match="full"):
        write_definition(definition, out)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    write_definition(definition, out)
    with pytest.raises(InputError, match="exists already"):
        write_definition(definition, out)
    (out / "chat_template.jinja").write_text("old")
    write_definition(definition, out, overwrite=True)
    assert not (out / "chat_template.jinja").exists() and len(list(out.parent.iterdir())) == 1
    (out / "model.safetensors").write_text("weights")
    with pytest.raises(InputError, match="more than a tokenizer"):
        write_definition(definition, out, overwrite=True)
    assert (out / "model.safetensors").read_text() == "weights"


# --- extension -------------------------------------------------------------------------------


def test_published_scores_give_the_published_file(model):
    """The published merge, written out again: strings that are missing, score 0, in order."""
    wanted = read(model.read_bytes())
    for text in NEW:
        piece = pb2.ModelProto.SentencePiece()
        piece.piece = text
        piece.score = 0
        wanted.pieces.append(piece)
    definition = open_definition(model).extended(NEW, scores="published")
    assert definition.read("tokenizer.model") == wanted.SerializeToString()
    unset = read(definition.read("tokenizer.model")).pieces[-1]
    assert not unset.HasField("type") and unset.HasField("score")
    assert definition.read("tokenizer.model").startswith(model.read_bytes()[:5000])


def test_fields_that_are_not_known_survive(model):
    unknown = b"\xa2\x06\x03abc"  # field 100
    model.write_bytes(model.read_bytes() + unknown)
    for changed in (
        open_definition(model).extended(NEW),
        open_definition(model).kept(np.arange(399)),
    ):
        assert unknown in changed.read("tokenizer.model")


def test_ranked_scores_go_down_from_the_lowest_ordinary_one(model):
    proto = read(model.read_bytes())
    lowest = min(p.score for p in proto.pieces)
    proto.pieces[390].score = -1e9
    model.write_bytes(proto.SerializeToString())
    before = open_definition(model)
    after = before.extended(NEW)
    assert after.pieces[:400] == before.pieces[:400]
    scores = np.array([p.score for p in after.pieces[400:]], np.float32)
    np.testing.assert_array_equal(scores, lowest - 1 - np.arange(len(NEW)))
    proto.pieces[391].score = -(2.0**24) + 4
    model.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="no room for 9 distinct"):
        open_definition(model).extended(NEW)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.permutations(NEW))
def test_both_forms_of_a_ranked_extension_agree(tiny_tokenizer, texts, new):
    definition = open_definition(tiny_tokenizer).extended(new, special=["[PAD]"])
    same_ids(definition, [*texts, "가나 가나다 나다 moonlight sees the"])
    before, after = load_tokenizer(tiny_tokenizer), definition.tokenizer()
    for text in [*texts, "a moon"]:
        assert after.decode(after.encode_one(text)) == text.replace("▁", " ")
        if not set(text) & set("가나") and "sees " not in text:
            assert after.encode_one(text).tolist() == before.encode_one(text).tolist()


def test_a_special_token_is_no_text_in_either_form(tiny_tokenizer, tmp_path):
    definition = open_definition(tiny_tokenizer).extended(["가"], special=["[PAD]", "<x>"])
    assert definition.pieces[400:] == (
        Piece("가", "normal", definition.pieces[400].score),
        Piece("[PAD]", "special", 0.0),
        Piece("<x>", "special", 0.0),
    )
    for form in ("model", "json"):
        tokenizer = definition.tokenizer(form)
        assert tokenizer.find("<x>") == 402 and tokenizer.encode_one("<x>[PAD]").max() < 400
        assert tokenizer.decode([402]) == "<x>"
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        assert json.loads(definition.read(name))["pad_token"] == "[PAD]"
    transformers = pytest.importorskip("transformers")
    write_definition(definition, tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs.pad_token_id == 401 and len(theirs) == 403


def test_a_byte_level_extension_goes_behind_all_ids(llama3, tmp_path):
    before = open_definition(llama3)
    rows = len(before.pieces)
    pieces = ["Ġsea", "íķ", "íķľ"]  # the last is 한, the one before two of its bytes
    pieces = [p for p in pieces if p not in before.ids]
    after = before.extended(pieces, special=["<|pad|>"])
    assert after.pieces[:rows] == before.pieces and len(after.pieces) == rows + len(pieces) + 1
    assert after.pieces[rows].text == pieces[0] and after.files.keys() == before.files.keys()
    assert json.loads(after.read("tokenizer_config.json"))["chat_template"] == "{{ x }}"
    write_definition(after, tmp_path / "out")
    fast = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    for index, piece in enumerate(after.pieces):
        assert fast.token_to_id(piece.text) == index
    assert fast.encode("<|eot_id|>", add_special_tokens=False).ids == [before.ids["<|eot_id|>"]]
    ours = after.tokenizer()
    assert ours.rows == len(after.pieces) and ours.decode(ours.encode_one("한국 sea")) == "한국 sea"
    again = after.extended(["seĠsea"], merges=[("se", "Ġsea")])
    assert again.pieces[-1].text == "seĠsea" and again.ids["<|eot_id|>"] == before.ids["<|eot_id|>"]
    assert load_tokenizer(tmp_path / "out").find("<|pad|>") == len(after.pieces) - 1


@pytest.mark.parametrize("style", [str, list])
def test_merges_are_written_as_the_file_writes_them(style, lone_json):
    def change(tree):
        pairs = tree["model"]["merges"]
        tree["model"]["merges"] = [" ".join(p) if style is str else [*p] for p in pairs]

    definition = open_definition(edited(lone_json, change))
    assert definition.form == "byte_fallback"
    old = json.loads(definition.read("tokenizer.json"))["model"]["merges"]
    new = json.loads(definition.extended(NEW).read("tokenizer.json"))["model"]["merges"]
    assert new[: len(old)] == old and {type(m) for m in new} == {style}
    assert new[len(old)] == ("가 나" if style is str else ["가", "나"])


def test_a_json_alone_segments_as_the_model_would(tiny_tokenizer, lone_json):
    texts = [*LINES, "가나다 가나 moonlight", "나다 가"]
    both = open_definition(tiny_tokenizer).extended(NEW).tokenizer("model")
    alone = open_definition(lone_json).extended(NEW).tokenizer()
    for a, b in zip(both.encode(texts), alone.encode(texts), strict=True):
        np.testing.assert_array_equal(a, b)


def test_byte_tokens_never_merge(lone_json):
    definition = open_definition(lone_json)
    merges = json.loads(definition.read("tokenizer.json"))["model"]["merges"]
    after = definition.extended(["<0x0A>x"])
    assert json.loads(after.read("tokenizer.json"))["model"]["merges"] == merges


# --- keeping a part --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["both", "json", "llama3"])
def test_a_part_segments_text_of_its_pieces_alike(kind, tiny_tokenizer, lone_json, llama3):
    source = {"both": tiny_tokenizer, "json": lone_json, "llama3": llama3}[kind]
    whole = open_definition(source)
    made = {a for pair in _merges(whole) for a in pair}
    leaves = [i for i, p in enumerate(whole.pieces) if p.kind == "normal" and p.text not in made]
    gone = [i for i in leaves if len(whole.pieces[i].text) > 1][::2]
    assert len(gone) > 5
    kept = np.setdiff1d(np.arange(len(whole.pieces)), gone)
    part = whole.kept(kept)
    assert [p.text for p in part.pieces] == [whole.pieces[i].text for i in kept]
    assert [p.kind for p in part.pieces] == [whole.pieces[i].kind for i in kept]
    texts = [*LINES, "The dogs and the sea shells, 한국어 boat today"]
    old, new = whole.tokenizer(), part.tokenizer()
    unchanged = 0
    for text in texts:
        before, after = old.encode_one(text), kept[new.encode_one(text)]
        assert new.decode(new.encode_one(text)) == old.decode(old.encode_one(text))
        if not np.isin(before, gone).any():
            np.testing.assert_array_equal(before, after)
            unchanged += 1
        assert not np.isin(after, gone).any()
    assert unchanged >= 3
    if kind == "both":
        same_ids(part, texts)


def _merges(definition):
    merges = json.loads(definition.read("tokenizer.json"))["model"]["merges"]
    return [m.split(" ") if isinstance(m, str) else m for m in merges]


def test_special_tokens_get_their_new_ids_everywhere(llama3):
    config = json.loads((llama3 / "tokenizer_config.json").read_text())
    whole = open_definition(llama3)
    bos = whole.ids["<|begin_of_text|>"]
    decoder = {str(bos): {"content": "<|begin_of_text|>", "special": True}}
    (llama3 / "tokenizer_config.json").write_text(
        json.dumps(config | {"added_tokens_decoder": decoder})
    )
    part = open_definition(llama3).kept([i for i in range(len(whole.pieces)) if i != bos - 1])
    assert part.ids["<|begin_of_text|>"] == bos - 1
    assert [*json.loads(part.read("tokenizer_config.json"))["added_tokens_decoder"]] == [
        str(bos - 1)
    ]
    fast = tokenizers.Tokenizer.from_str(part.read("tokenizer.json").decode())
    assert fast.encode("the").ids[0] == bos - 1


def test_a_part_of_a_unigram_model(tmp_path, unigram_json):
    whole = open_definition(folder(tmp_path / "u", tokenizer__json=unigram_json))
    last = len(whole.pieces) - 1
    part = whole.kept(np.arange(last))
    assert part.tokenizer().rows == last
    assert json.loads(part.read("tokenizer.json"))["model"]["unk_id"] == 0
    with pytest.raises(InputError, match="Unigram model, which cannot be extended"):
        whole.extended(["가"])


def test_unused_pieces_are_steps_that_are_never_given_out(tiny_tokenizer):
    whole = open_definition(tiny_tokenizer)
    steps = [whole.ids["▁t"], whole.ids["he"]]
    part = whole.kept(np.arange(400), unused=steps)
    assert "tokenizer.json" not in part.files and "unused" in part.without_json
    assert [part.pieces[i].kind for i in steps] == ["unused", "unused"]
    tokenizer = part.tokenizer()
    assert whole.ids["▁the"] in tokenizer.encode_one("the moon")
    assert not np.isin(tokenizer.encode_one("t th tho"), steps).any()


# --- refusals --------------------------------------------------------------------------------


def test_changes_that_are_refused(tiny_tokenizer, lone_json, llama3):
    definition, alone = open_definition(tiny_tokenizer), open_definition(lone_json)
    byte_level = open_definition(llama3)
    for call, told in (
        (lambda: definition.extended(["▁the"]), "has '▁the' already"),
        (lambda: definition.extended(["가", "가"]), "given twice"),
        (lambda: definition.extended([""]), "empty"),
        (lambda: definition.extended(["a b"]), "writes spaces with '▁'"),
        (lambda: definition.extended(["가나"]), "characters that are no pieces"),
        (lambda: byte_level.extended(["가"]), "byte-level alphabet"),
        (lambda: alone.extended(["th▁"], scores="published"), "has no scores"),
        (lambda: alone.extended(["가나"], merges=[("가", "나")]), "not a piece"),
        (lambda: definition.kept([0, 2, 1]), "ascending"),
        (lambda: definition.kept(range(401)), "from 0 to 399"),
        (lambda: definition.kept(range(1, 400)), "1 are not: '<unk>'"),
        (lambda: definition.kept([0, 1, 2, *range(4, 400)]), "'<0x00>'"),
        (lambda: definition.kept(range(300), unused=[300]), "be among them"),
        (lambda: definition.kept(range(400), unused=[5]), "only normal pieces"),
        (lambda: alone.kept(range(400), unused=[300]), "cannot mark pieces as unused"),
    ):
        with pytest.raises(InputError, match=told):
            call()
    assert "가나" in definition.extended(["가나"], scores="published").ids
