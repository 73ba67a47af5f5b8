import hashlib
import json
import shutil

import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.errors import InputError
from maxlite.tokenizer import check_rows, load_tokenizer

LINES = [
    "The cat sees the moon today.",
    " a leading space, two  spaces, a trailing one ",
    "한국어 문장과 emoji 🙂 and\ttabs\nand lines",
    "<s>[INST] plain </s> text <unk> <0x0A>",
]


def write(folder, **files):
    """Files by name, with __ for the dot; dicts become JSON."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        content = json.dumps(content) if isinstance(content, dict) else content
        content = content.encode() if isinstance(content, str) else content
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


@pytest.fixture
def sp_folder(tmp_path, tiny_tokenizer):
    """A folder with a SentencePiece model alone."""
    return write(
        tmp_path / "sp", tokenizer__model=(tiny_tokenizer / "tokenizer.model").read_bytes()
    )


def test_sentencepiece_ids_are_its_own(sp_folder):
    tokenizer = load_tokenizer(sp_folder)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(sp_folder / "tokenizer.model"))
    encoded = tokenizer.encode(LINES)
    assert [ids.dtype for ids in encoded] == [np.int32] * len(LINES)
    assert [ids.tolist() for ids in encoded] == processor.encode(LINES)
    assert (tokenizer.rows, tokenizer.bos, tokenizer.eos) == (400, 1, 2)
    assert [tokenizer.decode(ids) for ids in encoded] == LINES


def test_json_and_sentencepiece_agree(tiny_tokenizer, sp_folder, tiny_text):
    ours, other = load_tokenizer(tiny_tokenizer), load_tokenizer(sp_folder)
    assert ours.path.suffix == ".json" and other.path.suffix == ".model"
    lines = LINES + (tiny_text / "xx.txt").read_text("utf-8").splitlines()[:50]
    for a, b in zip(ours.encode(lines), other.encode(lines), strict=True):
        assert a.dtype == np.int32
        np.testing.assert_array_equal(a, b)
        assert ours.decode(a) == other.decode(b)
    assert (ours.rows, ours.bos, ours.eos) == (other.rows, other.bos, other.eos)


def test_agrees_with_transformers_where_it_follows_the_files(tiny_tokenizer):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tiny_tokenizer / "tokenizer.json")
    )
    ours = load_tokenizer(tiny_tokenizer)
    lines = LINES[:3]  # the fourth holds special tokens, which transformers would find
    assert [i.tolist() for i in ours.encode(lines)] == theirs(
        lines, add_special_tokens=False
    ).input_ids


def test_which_ids_are_bytes_to_fall_back_to(tiny_tokenizer, sp_folder, tmp_path, llama3_json):
    for source in (tiny_tokenizer, sp_folder):
        tokenizer = load_tokenizer(source)
        assert [i for i in range(400) if tokenizer.falls_back(i)] == [*range(3, 259)]
    tree = json.loads((tiny_tokenizer / "tokenizer.json").read_text("utf-8"))
    tree["model"]["byte_fallback"] = False  # then "<0x41>" is a piece that stands for its letters
    for name, file in (("chars", tree), ("bytes", llama3_json)):
        tokenizer = load_tokenizer(write(tmp_path / name, tokenizer__json=file))
        assert not any(map(tokenizer.falls_back, range(tokenizer.rows)))


@pytest.mark.parametrize("kind", ["tiny", "sp", "llama3", "unigram", "user_defined"])
def test_special_strings_in_text_are_text(
    kind, tmp_path, tiny_tokenizer, sp_folder, llama3_json, unigram_json, sp_user_defined
):
    settings = {"additional_special_tokens": ["<|im_start|>"]}
    folder = {
        "tiny": lambda: tiny_tokenizer,
        "sp": lambda: sp_folder,
        "llama3": lambda: write(tmp_path / "f", tokenizer__json=llama3_json),
        "unigram": lambda: write(tmp_path / "f", tokenizer__json=unigram_json),
        "user_defined": lambda: write(
            tmp_path / "f", tokenizer__model=sp_user_defined, tokenizer_config__json=settings
        ),
    }[kind]()
    tokenizer = load_tokenizer(folder)
    special = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|begin_of_text|>", "<|eot_id|>"]
    special = [text for text in special if tokenizer.find(text) is not None]
    assert len(special) >= 2
    ids = {tokenizer.find(text) for text in special}
    unknown = (
        tokenizer.find("<unk>") if kind == "unigram" else None
    )  # it has no other way to write |
    for text in special:
        for line in (text, f"a{text}b", f"a {text} b", text * 2):
            assert not (set(tokenizer.encode_one(line).tolist()) & ids) - {unknown}, line
            if kind != "unigram":
                assert tokenizer.decode(tokenizer.encode_one(line)) == line


def test_user_defined_pieces_that_are_not_special_still_match(tmp_path, sp_user_defined):
    tokenizer = load_tokenizer(write(tmp_path / "f", tokenizer__model=sp_user_defined))
    assert tokenizer.find("[extra]") in tokenizer.encode_one("x [extra] y")
    named = load_tokenizer(
        write(tmp_path / "f", special_tokens_map__json={"pad_token": {"content": "[extra]"}})
    )
    assert named.find("[extra]") not in named.encode_one("x [extra] y")
    assert named.decode(named.encode_one("x [extra] y")) == "x [extra] y"
    assert named.fingerprint != tokenizer.fingerprint


def test_added_tokens_that_are_not_special_still_match(tmp_path, llama3_json):
    tokenizer = load_tokenizer(write(tmp_path / "f", tokenizer__json=llama3_json))
    assert tokenizer.find("<plain>") in tokenizer.encode_one("a<plain>b")
    assert tokenizer.rows == tokenizer.find("<plain>") + 1


@pytest.mark.parametrize("added", [False, True])
def test_a_special_character_stays_ordinary(added, tmp_path, llama3_json):
    """Folders exist whose padding token is an exclamation mark."""
    plain = load_tokenizer(write(tmp_path / "a", tokenizer__json=llama3_json))
    changed = tokenizers.Tokenizer.from_str(llama3_json)
    if added:
        changed.add_special_tokens([tokenizers.AddedToken("!", lstrip=True, rstrip=True)])
    settings = {"pad_token": "!", "bos_token": None}
    folder = write(
        tmp_path / "b", tokenizer__json=changed.to_str(), tokenizer_config__json=settings
    )
    tokenizer = load_tokenizer(folder)
    text = "the dogs ! over the other"
    np.testing.assert_array_equal(tokenizer.encode_one(text), plain.encode_one(text))
    assert tokenizer.decode(tokenizer.encode_one(text)) == text and tokenizer.bos is None


def test_a_special_string_that_merges_make_is_written_another_way(tmp_path, llama3_json):
    folder = write(
        tmp_path / "f",
        tokenizer__json=llama3_json,
        tokenizer_config__json={"eos_token": "he"},
    )
    plain = load_tokenizer(folder / "tokenizer.json")
    assert tokenizers.Tokenizer.from_str(llama3_json).encode("he").ids[1:] == [plain.eos]
    ids = plain.encode_one("he and the other")
    assert plain.eos not in ids and plain.decode(ids) == "he and the other"


def test_nothing_is_added_cut_or_padded(tmp_path, llama3_json):
    tree = json.loads(llama3_json)
    plain = load_tokenizer(write(tmp_path / "a", tokenizer__json=llama3_json))
    changed = tokenizers.Tokenizer.from_str(json.dumps(tree))
    changed.enable_truncation(4)
    changed.enable_padding(length=16)
    tokenizer = load_tokenizer(write(tmp_path / "b", tokenizer__json=changed.to_str()))
    text = "the quick brown fox jumps over the lazy dog"
    np.testing.assert_array_equal(tokenizer.encode_one(text), plain.encode_one(text))
    assert plain.bos not in plain.encode_one(text) and len(plain.encode_one(text)) > 4
    assert plain.decode(plain.encode_one(text)) == text


def test_dropout_is_switched_off(tmp_path, llama3_json):
    tree = json.loads(llama3_json)
    tree["model"].update(dropout=0.9, ignore_merges=False)
    tokenizer = load_tokenizer(write(tmp_path / "f", tokenizer__json=tree))
    text = "the shells she sells are sea shells"
    encoded = tokenizer.encode([text] * 20)
    assert {tuple(ids.tolist()) for ids in encoded} == {tuple(encoded[0].tolist())}
    assert len(encoded[0]) < len(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (1, 2)),
        ({"tokenizer_config__json": {"bos_token": None, "eos_token": "</s>"}}, (None, 2)),
        ({"tokenizer_config__json": {"bos_token": {"content": "</s>"}}}, (2, 2)),
        ({"tokenizer_config__json": {"bos_token": "", "eos_token": ""}}, (1, 2)),
        ({"special_tokens_map__json": {"eos_token": "<unk>"}}, (1, 0)),
        (
            {
                "tokenizer_config__json": {"eos_token": "</s>"},
                "special_tokens_map__json": {"eos_token": "<unk>"},
            },
            (1, 2),
        ),
        ({"config__json": {"bos_token_id": 7, "eos_token_id": [8, 9]}}, (1, 2)),
    ],
)
def test_ends_of_sentencepiece_folders(files, expected, sp_folder):
    tokenizer = load_tokenizer(write(sp_folder, **files))
    assert (tokenizer.bos, tokenizer.eos) == expected


def test_ends_of_json_folders(tmp_path, llama3_json):
    folder = write(tmp_path / "f", tokenizer__json=llama3_json)
    plain = load_tokenizer(folder)
    named = plain.find("<|begin_of_text|>"), plain.find("<|end_of_text|>")
    assert (plain.bos, plain.eos) == named
    write(folder, generation_config__json={"bos_token_id": 5, "eos_token_id": 6})
    assert (load_tokenizer(folder).bos, load_tokenizer(folder).eos) == (5, 6)
    write(folder, config__json={"eos_token_id": [plain.find("<|eot_id|>"), 6]})
    assert load_tokenizer(folder).eos == plain.find("<|eot_id|>")
    write(folder, tokenizer_config__json={"eos_token": "<|end_of_text|>"})
    assert (load_tokenizer(folder).bos, load_tokenizer(folder).eos) == (5, named[1])
    # A file given alone is nobody's folder, unless it has a standard name.
    alone = shutil.copy(folder / "tokenizer.json", folder / "other.json")
    assert (load_tokenizer(alone).bos, load_tokenizer(alone).eos) == named
    assert load_tokenizer(folder / "tokenizer.json").bos == 5


def test_tokens_added_by_settings(sp_folder):
    plain = load_tokenizer(sp_folder)
    write(
        sp_folder,
        added_tokens__json={"<pad>": 400, "</s>": 2},
        tokenizer_config__json={
            "added_tokens_decoder": {"403": {"content": "<|end|>", "special": True}},
            "eos_token": "<|end|>",
        },
    )
    tokenizer = load_tokenizer(sp_folder)
    assert (tokenizer.rows, tokenizer.eos, tokenizer.find("<pad>")) == (404, 403, 400)
    np.testing.assert_array_equal(tokenizer.encode_one("a <pad> b"), plain.encode_one("a <pad> b"))
    words = [tokenizer.encode_one("the cat"), tokenizer.encode_one("a dog")]
    ids = [1, *words[0], 400, *words[1], 2, 403]
    assert tokenizer.decode(ids) == "<s> the cat<pad> a dog</s><|end|>"
    assert tokenizer.decode(ids, skip_special=True) == "the cat<pad> a dog</s>"
    assert [tokenizer.piece(i) for i in (400, 401, 403, 1)] == ["<pad>", "", "<|end|>", "<s>"]
    assert tokenizer.fingerprint != plain.fingerprint


def test_prefix_space_can_be_switched_off(sp_folder):
    plain = load_tokenizer(sp_folder).encode_one("the cat")
    tokenizer = load_tokenizer(write(sp_folder, tokenizer_config__json={"add_prefix_space": False}))
    np.testing.assert_array_equal(tokenizer.encode_one(" the cat"), plain)


def test_fingerprint_follows_the_file_and_nothing_else(sp_folder, tmp_path, tiny_tokenizer):
    ours = load_tokenizer(sp_folder)
    copy = tmp_path / "elsewhere.model"
    copy.write_bytes((sp_folder / "tokenizer.model").read_bytes())
    assert load_tokenizer(copy).fingerprint == ours.fingerprint
    in_folder = load_tokenizer(tiny_tokenizer)
    assert in_folder.fingerprint != ours.fingerprint
    # The folder's settings say nothing that its tokenizer.json doesn't say itself.
    alone = shutil.copy(tiny_tokenizer / "tokenizer.json", tmp_path / "alone.json")
    assert load_tokenizer(alone).fingerprint == in_folder.fingerprint
    assert len(bytes.fromhex(ours.fingerprint)) == hashlib.sha256().digest_size


def test_files_that_belong_to_it(sp_folder, tmp_path, tiny_tokenizer):
    assert load_tokenizer(tiny_tokenizer).files == {
        path.name: path for path in sorted(tiny_tokenizer.iterdir())
    }
    alone = tmp_path / "korean.model"
    alone.write_bytes((sp_folder / "tokenizer.model").read_bytes())
    assert load_tokenizer(alone).files == {"tokenizer.model": alone}


def test_any_one_model_file_is_found(tmp_path, sp_folder):
    data = (sp_folder / "tokenizer.model").read_bytes()
    folder = write(tmp_path / "f", spiece__model=data)
    assert load_tokenizer(folder).path == folder / "spiece.model"
    with pytest.raises(InputError, match=r"several .*other\.model, spiece\.model"):
        load_tokenizer(write(folder, other__model=data))


def test_check_rows(sp_folder):
    tokenizer = load_tokenizer(sp_folder)
    check_rows(tokenizer, 400)
    check_rows(tokenizer, 512)
    with pytest.raises(InputError, match=r"ids up to 399, but the model has only 399 rows"):
        check_rows(tokenizer, 399)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer__json": "{not json"}, r"tokenizer\.json is not a tokenizer\.json"),
        ({"tokenizer__json": {"model": {}}}, r"tokenizer\.json is not a tokenizer\.json"),
        ({"tokenizer__model": b"\x00damaged"}, r"tokenizer\.model is not a SentencePiece model"),
        ({"tokenizer__model": b""}, r"tokenizer\.model is not a SentencePiece model"),
        ({"tokenizer_config__json": "[1]"}, r"tokenizer_config\.json must hold a JSON object"),
        ({"tokenizer_config__json": "{"}, r"tokenizer_config\.json cannot be read as JSON"),
        ({"tokenizer_config__json": {"eos_token": "<no>"}}, "'<no>' as its eos_token"),
        ({"added_tokens__json": {"<pad>": 5}}, "id 5 to the added token '<pad>'"),
        ({"added_tokens__json": {"<s>": 400}}, r"id 400 .*'<s>', but tokenizer\.model has it at 1"),
        ({"added_tokens__json": {"<pad>": "x"}}, "'<pad>' under 'x'"),
        ({"added_tokens__json": {"<a>": 400, "<b>": 400}}, "id 400 to '<b>'"),
    ],
)
def test_bad_folders(files, message, sp_folder):
    with pytest.raises(InputError, match=message):
        load_tokenizer(write(sp_folder, **files))


def test_missing(tmp_path):
    with pytest.raises(InputError, match="no tokenizer at"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no tokenizer\.json and no SentencePiece"):
        load_tokenizer(tmp_path)
    with pytest.raises(InputError, match=r"a\.txt is not a tokenizer"):
        load_tokenizer(write(tmp_path, a__txt="x") / "a.txt")


MARKED = ["a", " ", "  ", "▁", "the", "\n", "한", "<s>", "[x]"]


@pytest.mark.parametrize("added", [False, True])
@given(lines=st.lists(st.lists(st.sampled_from(MARKED), max_size=12).map("".join), max_size=6))
@settings(max_examples=60, deadline=None)
def test_spaces_are_marked_as_the_files_normalizers_do(added, lines, tiny_tokenizer):
    """Also where an added token is in the way, which is looked for before that."""
    plain = tokenizers.Tokenizer.from_file(str(tiny_tokenizer / "tokenizer.json"))
    plain.encode_special_tokens = True
    if added:
        plain.add_tokens([tokenizers.AddedToken("[x]", normalized=False)])
    tokenizer = load_tokenizer({"tokenizer.json": plain.to_str().encode()})
    encoded = plain.encode_batch(lines, add_special_tokens=False)
    assert [ids.tolist() for ids in tokenizer.encode(lines)] == [one.ids for one in encoded]


def test_the_variable_for_threads_counts_for_both_kinds(tiny_tokenizer, monkeypatch):
    processor = sentencepiece.SentencePieceProcessor
    asked = []
    encode = processor.encode_as_numpy
    monkeypatch.setattr(
        processor,
        "encode_as_numpy",
        lambda self, texts, num_threads: (
            asked.append(num_threads) or encode(self, texts, num_threads=num_threads)
        ),
    )
    tokenizer = load_tokenizer(tiny_tokenizer / "tokenizer.model")
    for value in ("true", "false", "0", ""):
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", value)
        tokenizer.encode(LINES)
    assert asked == [-1, 1, 1, -1]
