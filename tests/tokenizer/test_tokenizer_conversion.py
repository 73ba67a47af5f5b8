import json

import pytest
import sentencepiece
import tokenizers
from definition_examples import LINES, TEXTS, folder, read, same_ids
from hypothesis import given, settings

from maxlite.errors import InputError
from maxlite.tokenizer.definition import open_definition, write_definition


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_a_converted_model_segments_alike(tiny_tokenizer, texts):
    definition = _converted(tiny_tokenizer)
    same_ids(definition, texts)
    fast = definition.tokenizer("json")
    for text in texts:
        assert fast.decode(fast.encode_one(text)) == text.replace("▁", " ")


_CONVERTED = {}


def _converted(source):
    if source not in _CONVERTED:
        _CONVERTED[source] = open_definition(source / "tokenizer.model").extended([])
        lone = open_definition(source / "tokenizer.model")
        assert json.loads(lone.read("tokenizer.json"))["model"]["merges"]
    return _CONVERTED[source]


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("squeeze", [True, False])
def test_settings_of_the_model_are_converted(prefix, squeeze, model):
    proto = read(model.read_bytes())
    proto.normalizer_spec.add_dummy_prefix = prefix
    proto.normalizer_spec.remove_extra_whitespaces = squeeze
    model.write_bytes(proto.SerializeToString())
    texts = [*LINES, "  a  b   ", "\n a\n  b ", "▁ ▁a▁ ", "a ▁", " \n ", "the moon"]
    same_ids(open_definition(model), texts)


def test_transformers_encodes_a_bare_model_as_sentencepiece_does(tmp_path, model):
    transformers = pytest.importorskip("transformers")
    write_definition(open_definition(model), tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    for text in LINES:
        assert theirs(text).input_ids == [1, *processor.encode(text)], text
    assert (theirs.bos_token, theirs.eos_token, theirs.unk_token) == ("<s>", "</s>", "<unk>")


def test_tokens_beside_a_bare_model_are_converted(tmp_path, tiny_tokenizer):
    transformers = pytest.importorskip("transformers")
    model = (tiny_tokenizer / "tokenizer.model").read_bytes()
    added = json.dumps({"<pad>": 400, "<tool>": 401})
    special = json.dumps({"pad_token": "<pad>"})
    source = folder(
        tmp_path / "in",
        tokenizer__model=model,
        added_tokens__json=added,
        special_tokens_map__json=special,
        tokenizer_config__json=json.dumps({"add_bos_token": False, "add_eos_token": True}),
    )
    definition = open_definition(source)
    assert [p.text for p in definition.pieces[400:]] == ["<pad>", "<tool>"]
    write_definition(definition, tmp_path / "out")
    fast = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert fast.token_to_id("<tool>") == 401 and fast.encode("the").ids[-1] == 2
    assert fast.encode("the").ids[0] != 1
    assert len(transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "out")) == 402
    with pytest.raises(InputError, match=r"outside of its tokenizer\.model") as refused:
        definition.extended(["가"])
    assert "'<pad>', '<tool>'" in str(refused.value)
    few = definition.kept([i for i in range(402) if i != 399])
    assert json.loads(few.read("added_tokens.json")) == {"<pad>": 399, "<tool>": 400}
    assert [p.text for p in few.pieces[399:]] == ["<pad>", "<tool>"]
    assert few.tokenizer().find("<tool>") == 400


def test_a_model_that_cannot_be_converted_stays_alone(tmp_path, sp_user_defined, model):
    definition = open_definition(folder(tmp_path / "u", tokenizer__model=sp_user_defined))
    assert list(definition.files) == ["tokenizer.model"] and "im_start" in definition.without_json
    with pytest.raises(InputError, match=r"no tokenizer\.json.*finds .* whole"):
        definition.tokenizer("json")
    same = definition.extended(["▁foxfox", "xf"])
    assert same.tokenizer().rows == 402 and "tokenizer.json" not in same.files
    proto = read(model.read_bytes())
    proto.normalizer_spec.precompiled_charsmap = b"\0\0\0\0"
    proto.normalizer_spec.name = "nmt_nfkc"
    model.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError):
        open_definition(model).tokenizer("json")


def test_user_defined_pieces_are_found_where_no_space_is_added(tmp_path, sp_user_defined):
    proto = read(sp_user_defined)
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    data = proto.SerializeToString()
    definition = open_definition(folder(tmp_path / "u", tokenizer__model=data))
    same_ids(definition, ["a<|im_start|>b [extra]", "[extra][extra] fox", "한국어 [ext"])
