"""Tokenizers that are damaged, or contradict themselves."""

import json
import shutil

import pytest
from definition_examples import edited, folder, read
from sentencepiece import sentencepiece_model_pb2 as pb2

from maxlite.errors import InputError
from maxlite.tokenizer.definition import open_definition


def _hole(tree):
    del tree["model"]["vocab"][next(p for p, i in tree["model"]["vocab"].items() if i == 300)]
    tree["model"]["merges"] = []


def _same_id(tree):
    tree["model"]["vocab"] |= {"zzz": 300}


def _empty(tree):
    tree["model"]["vocab"] |= {"": 400}


def _wordpiece(tree):
    rest = {"unk_token": "<unk>", "continuing_subword_prefix": "#", "max_input_chars_per_word": 9}
    tree["model"] = {"type": "WordPiece", "vocab": tree["model"]["vocab"], **rest}


def _not_whole(tree):
    tree["model"]["vocab"] |= {"zzz": "400"}


def _added_elsewhere(tree):
    tree["added_tokens"][2] |= {"content": "<s>"}


@pytest.mark.parametrize(
    "change, told",
    [
        (_hole, "no piece for 1 ids"),
        (_same_id, "the id 300 to"),
        (_empty, "empty piece"),
        (_wordpiece, "WordPiece"),
        (_not_whole, "tokenizer.json"),
        (_added_elsewhere, "added token the id 2"),
    ],
)
def test_a_damaged_json_is_refused(change, told, lone_json):
    with pytest.raises(InputError, match=told):
        open_definition(edited(lone_json, change))


def test_a_damaged_model_is_refused(model):
    proto = read(model.read_bytes())
    for change, told in (
        (lambda p: p.pieces.add(piece="▁the"), "twice|not a SentencePiece model"),
        (lambda p: p.pieces.add(piece=""), "empty|not a SentencePiece model"),
        (lambda p: setattr(p.trainer_spec, "model_type", 3), "word model"),
    ):
        changed = pb2.ModelProto()
        changed.CopyFrom(proto)
        change(changed)
        model.write_bytes(changed.SerializeToString())
        with pytest.raises(InputError, match=told):
            open_definition(model)


def test_two_forms_that_contradict_each_other_are_refused(tmp_path, tiny_tokenizer):
    source = tmp_path / "in"
    shutil.copytree(tiny_tokenizer, source)
    tree = json.loads((source / "tokenizer.json").read_text("utf-8"))
    tree["model"]["merges"].reverse()
    (source / "tokenizer.json").write_text(json.dumps(tree), "utf-8")
    with pytest.raises(InputError, match=r"merges of tokenizer\.json are not those"):
        open_definition(source).extended(["가"])
    vocab = tree["model"]["vocab"]
    a, b = (next(p for p, i in vocab.items() if i == n) for n in (398, 399))
    vocab[a], vocab[b] = vocab[b], vocab[a]
    (source / "tokenizer.json").write_text(json.dumps(tree), "utf-8")
    with pytest.raises(InputError, match=r"id 398 is .* in tokenizer\.model"):
        open_definition(source)


def test_tokens_that_only_the_settings_know_are_not_lost(tmp_path, llama3_json):
    rows = len(open_definition(folder(tmp_path / "a", tokenizer__json=llama3_json)).pieces)
    added = json.dumps({"<new>": rows})
    source = folder(tmp_path / "b", tokenizer__json=llama3_json, added_tokens__json=added)
    definition = open_definition(source)
    for call in (lambda: definition.extended(["Ġsea"]), lambda: definition.kept(range(rows))):
        with pytest.raises(InputError, match=r"tokens that its tokenizer\.json does not have"):
            call()
