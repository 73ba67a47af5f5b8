import json
import random

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as pb2
from tokenizers import Tokenizer

from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.definition import Definition, open_definition, write_definition
from maxlite.tokenizer.reachability import unreachable
from maxlite.tokenizer.training import KINDS, train
from maxlite.tokenizer.traits import LLAMA3, kind_of, traits

SIZES = {"sentencepiece_bpe": 500, "sentencepiece_unigram": 420, "byte_level": 500}
ODD = [
    "",
    " lead",
    "a  b   c",
    "trail ",
    "20160101",
    "漢字 🎉 x",
    "<s> <0x41> <|end_of_text|>",
    "tab\tx",
]


@pytest.fixture(scope="session")
def lines(tiny_text) -> list[str]:
    """English and Hangul, with numbers."""
    chance = random.Random(0)
    texts = (tiny_text / "en.txt").read_text("utf-8") + (tiny_text / "xx.txt").read_text("utf-8")
    return [f"{line} {chance.randint(0, 9999)}" for line in texts.split("\n") if line]


@pytest.fixture(scope="session")
def trained(lines) -> dict[str, Definition]:
    return {kind: train(iter(lines), SIZES[kind], kind) for kind in KINDS}


def proto_of(definition: Definition):
    proto = pb2.ModelProto()
    proto.ParseFromString(definition.files["tokenizer.model"])
    return proto


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_everyone_loads(kind, trained, lines, tmp_path):
    write_definition(trained[kind], tmp_path / "new")
    names = {path.name for path in (tmp_path / "new").iterdir()}
    model = set() if kind == "byte_level" else {"tokenizer.model"}
    assert names == {"tokenizer.json", "tokenizer_config.json"} | model
    found = load_tokenizer(tmp_path / "new")
    assert found.rows == SIZES[kind] == len(trained[kind].pieces)
    bos, eos = LLAMA3.special.values() if kind == "byte_level" else ("<s>", "</s>")
    assert (found.piece(found.bos), found.piece(found.eos)) == (bos, eos)
    texts = lines[:50] + lines[-50:] + ODD
    for text, ids in zip(texts, found.encode(texts), strict=True):
        assert found.decode(ids) == text
    assert kind_of(open_definition(tmp_path / "new")) == kind
    assert len(unreachable(open_definition(tmp_path / "new"))) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_encodes_alike(kind, trained, lines, tmp_path):
    transformers = pytest.importorskip("transformers")
    write_definition(trained[kind], tmp_path / "new")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "new"))
    ours = trained[kind].tokenizer()
    texts = lines[::10] + [text for text in ODD if "<" not in text]
    for text, ids in zip(texts, ours.encode(texts), strict=True):
        assert theirs.encode(text, add_special_tokens=False) == ids.tolist()
        assert theirs.decode(ids.tolist()) == text
    assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos, ours.eos)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_both_forms_agree(kind, trained, lines):
    texts = lines + ODD
    model, tree = (trained[kind].tokenizer(form).encode(texts) for form in ("model", "json"))
    different = [i for i, pair in enumerate(zip(model, tree, strict=True)) if not same(*pair)]
    assert not different, texts[different[0]]


def test_text_that_spells_a_token_is_text(trained):
    """Without the reader's help, that is; the characters of most are unknown, too."""
    bare = Tokenizer.from_buffer(trained[KINDS[1]].files["tokenizer.json"])
    bare.encode_special_tokens = True
    for text in ("<s>", "x </s>", "<unk><unk>", "<0x41>", "<0x0A> <0xFF>"):
        found = bare.encode(text, add_special_tokens=False)
        assert bare.decode(found.ids) == text and not {0, 1, 2} & set(found.ids)


def same(one, other) -> bool:
    return one.tolist() == other.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_gives_the_same_files(kind, trained, lines):
    again = train(iter(lines), SIZES[kind], kind)
    assert again.files == trained[kind].files
    other = train(iter(lines[:-50]), SIZES[kind], kind)
    assert other.files != again.files


def test_sentencepiece_settings_without_a_base(trained):
    """Those of Llama 2."""
    spec, normalizer = (
        getattr(proto_of(trained[KINDS[0]]), f"{n}_spec") for n in ("trainer", "normalizer")
    )
    assert (spec.model_type, spec.vocab_size) == (2, 500)
    assert spec.byte_fallback and spec.split_digits and spec.allow_whitespace_only_pieces
    assert (normalizer.name, normalizer.add_dummy_prefix) == ("identity", True)
    assert not normalizer.remove_extra_whitespaces
    assert proto_of(trained[KINDS[1]]).trainer_spec.model_type == 1
    assert [p.text for p in trained[KINDS[0]].pieces[:4]] == ["<unk>", "<s>", "</s>", "<0x00>"]


def test_llama3_settings_without_a_base(trained):
    tokenizer = trained["byte_level"].tokenizer()
    pieces = [tokenizer.raw(i).decode() for i in tokenizer.encode_one("12345 dogs' x\n\n y")]
    assert "".join(pieces) == "12345 dogs' x\n\n y"
    cut = Tokenizer.from_buffer(trained["byte_level"].files["tokenizer.json"])
    words = [w for w, _ in cut.pre_tokenizer.pre_tokenize_str("12345 don't x\n\n  y")]
    assert words == ["123", "45", "Ġdon", "'t", "Ġx", "ĊĊ", "Ġ", "Ġy"]
    tree = json.loads(trained["byte_level"].files["tokenizer.json"])
    assert tree["model"]["ignore_merges"] is True
    assert [token["id"] for token in tree["added_tokens"]] == [498, 499]
    whole = cut.encode("x").ids
    assert whole[0] == tokenizer.bos and len(whole) == 2


# --- with a base -----------------------------------------------------------------------------


def sentencepiece_base(lines, folder, **settings) -> Definition:
    folder.mkdir()
    settings = {"model_type": "bpe", "byte_fallback": True} | settings
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=450,
        minloglevel=4,
        hard_vocab_limit=False,
        **settings,
    )
    (folder / "tokenizer.vocab").unlink()
    return open_definition(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"split_digits": True, "normalization_rule_name": "identity"},
        {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
        {"normalization_rule_name": "nfkc", "add_dummy_prefix": False},
        {"normalization_rule_name": "nmt_nfkc", "character_coverage": 0.98, "byte_fallback": False},
        {
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "allow_whitespace_only_pieces": True,
            "bos_piece": "<bos>",
            "eos_id": -1,
        },
    ],
)
def test_the_settings_of_a_sentencepiece_base(settings, lines, tmp_path):
    spaced = [line.replace(" the ", "    the ") for line in lines] + ["20162016 2016 1999"] * 50
    base = sentencepiece_base(spaced, tmp_path / "base", **settings)
    new = train(iter(spaced), 480, "sentencepiece_bpe", base)
    ours, theirs = proto_of(new), pb2.ModelProto()
    theirs.ParseFromString(base.files["tokenizer.model"].read_bytes())
    for name in ("split_digits", "byte_fallback", "character_coverage", "bos_piece", "eos_id"):
        assert getattr(ours.trainer_spec, name) == getattr(theirs.trainer_spec, name), name
    for name in ("name", "add_dummy_prefix", "remove_extra_whitespaces", "precompiled_charsmap"):
        assert getattr(ours.normalizer_spec, name) == getattr(theirs.normalizer_spec, name), name
    texts = [*lines[::20], "① ２０ﾊ ﬁ", "a  b", " x "]
    forms = [new.tokenizer(form) for form in ("model", "json")]
    for one, other in zip(*(form.encode(texts) for form in forms), strict=True):
        assert same(one, other)
    runs = [any(p.piece == "▁▁" for p in proto.pieces) for proto in (ours, theirs)]
    assert runs[0] == runs[1] == settings.get("allow_whitespace_only_pieces", False)


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("kind", KINDS[:2])
def test_both_forms_drop_the_same_spaces(kind, prefix, lines, tmp_path):
    """And marks for spaces that the text itself has: only those at its end are spaces."""
    settings = {"normalization_rule_name": "identity", "add_dummy_prefix": prefix}
    base = sentencepiece_base(lines, tmp_path / "base", remove_extra_whitespaces=True, **settings)
    new = train(iter(lines), SIZES[kind], kind, base)
    chance = random.Random(0)
    texts = ["".join(chance.choices("a b▁\nthe ", k=chance.randint(0, 12))) for _ in range(2000)]
    forms = [new.tokenizer(form).encode(texts) for form in ("model", "json")]
    for text, one, other in zip(texts, *forms, strict=True):
        assert one.tolist() == other.tolist(), text


def test_a_base_with_tokenizer_json_alone(tiny_tokenizer, lines, tmp_path):
    (tmp_path / "base").mkdir()
    tree = json.loads((tiny_tokenizer / "tokenizer.json").read_text("utf-8"))
    path = tmp_path / "base" / "tokenizer.json"
    path.write_text(json.dumps(tree), "utf-8")
    found = traits(open_definition(path))
    assert (found.prefix, found.digits, found.byte_fallback, found.squeeze) == (
        True,
        True,
        True,
        False,
    )
    assert found.special == {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}
    tree["normalizer"]["normalizers"].pop(0)  # no space before a text
    tree["decoder"]["decoders"].pop()
    path.write_text(json.dumps(tree), "utf-8")
    base = open_definition(path)
    assert not traits(base).prefix
    new = train(iter(lines), 480, "sentencepiece_bpe", base)
    assert not proto_of(new).normalizer_spec.add_dummy_prefix
    tree["normalizer"]["normalizers"].append({"type": "NFKC"})
    path.write_text(json.dumps(tree), "utf-8")
    with pytest.raises(InputError, match="normalizes text by NFKC, which"):
        train(iter(lines), 480, "sentencepiece_bpe", open_definition(path))


def test_a_byte_level_base_cuts_the_words(llama3_json, lines):
    base = Definition({"tokenizer.json": llama3_json.encode()}, "like Llama 3")
    new = train(iter(lines), 400, "byte_level", base)
    old, tree = json.loads(llama3_json), json.loads(new.files["tokenizer.json"])
    for key in ("normalizer", "pre_tokenizer", "decoder"):
        assert tree[key] == old[key]
    assert tree["model"]["ignore_merges"] == old["model"]["ignore_merges"]
    found = new.tokenizer()
    assert found.piece(found.bos) == "<|begin_of_text|>"
    assert all(found.decode(found.encode_one(text)) == text for text in lines[:20] + ODD)


def test_a_base_of_another_kind(trained, lines):
    for kind, base in (
        ("byte_level", "sentencepiece_bpe"),
        ("sentencepiece_unigram", "byte_level"),
    ):
        with pytest.raises(InputError, match=f"of the kind {kind} can't have the settings of"):
            train(iter(lines), 400, kind, trained[base])
    like = train(iter(lines), 420, "sentencepiece_unigram", trained["sentencepiece_bpe"])
    assert like.model == "unigram"


# --- text and sizes --------------------------------------------------------------------------


def test_long_lines_and_odd_characters_are_learnt_from():
    """SentencePiece itself leaves out what is longer than 4,192 bytes."""
    words = ["moonlight", "gardener", "달빛정원"]
    chance = random.Random(0)
    text = " ".join(chance.choices(words, k=3000)) + "\n" + "水" * 70_000
    text += "\n" + "\n".join(["starfish\0"] * 500)
    found = train([text], 340, "sentencepiece_bpe", coverage=1.0)
    assert {f"▁{word}" for word in words} <= {piece.text for piece in found.pieces}
    assert {"水水", "▁starfish"} <= {piece.text for piece in found.pieces}
    assert not any("\n" in piece.text or "\0" in piece.text for piece in found.pieces)


def test_coverage(lines):
    rare = [*lines, "희"]
    characters = {
        share: {p.text for p in train(iter(rare), 480, "sentencepiece_bpe", coverage=share).pieces}
        for share in (1.0, 0.99)
    }
    assert "희" in characters[1.0] and "희" not in characters[0.99]
    with pytest.raises(InputError, match="they have no coverage"):
        train(iter(rare), 480, "byte_level", coverage=1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_more_pieces_than_the_text_has(kind, lines):
    few = lines[:6]
    with pytest.raises(InputError, match="is the largest size possible") as error:
        train(iter(few), 20_000, kind)
    told = str(error.value)
    assert "too small for 20,000 pieces" in told and "\n" not in told
    most = int(told.split(" is the largest")[0].split()[-1].replace(",", ""))
    assert len(train(iter(few), most, kind).pieces) == most
    with pytest.raises(InputError, match="is the largest size possible"):
        train(iter(few), most + 1, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_pieces_than_there_must_be(kind, lines):
    with pytest.raises(InputError, match="100 pieces are too few") as error:
        train(iter(lines), 100, kind)
    least = int(str(error.value).split(" take ")[1].split(";")[0].replace(",", ""))
    assert len(train(iter(lines), least + 1, kind).pieces) == least + 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], ["", "  \n "]])
def test_no_text(kind, texts):
    with pytest.raises(InputError, match=r"no text to train a tokenizer on|largest size possible"):
        train(iter(texts), 400, kind)


def test_the_library_is_quiet(lines, capfd):
    for kind in KINDS:
        train(iter(lines), SIZES[kind], kind)
        with pytest.raises(InputError):
            train(iter(lines[:5]), 9000, kind)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
