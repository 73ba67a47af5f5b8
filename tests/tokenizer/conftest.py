"""Small tokenizers of other kinds than `tiny_tokenizer`, made on the spot."""

import io
import json
import random
import shutil

import pytest
import sentencepiece
from continued_examples import KINDS, WORDS
from definition_examples import folder
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer

from maxlite.tokenizer.definition import Definition, open_definition
from maxlite.tokenizer.training import train

TEXT = [
    "The quick brown fox jumps over the lazy dog while the other dogs sleep.",
    "한국어 문장을 조금 넣어 둔다. 여우가 게으른 개를 뛰어넘는다.",
    "She sells sea shells by the sea shore; the shells she sells are sea shells.",
] * 10


@pytest.fixture(scope="session")
def sp_user_defined() -> bytes:
    """A SentencePiece model in which a chat marker is a piece that text can produce."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=model,
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        user_defined_symbols=["<|im_start|>", "[extra]"],
        minloglevel=3,
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def llama3_json() -> str:
    """Byte-level BPE with ignore_merges and special tokens after the vocabulary, as Llama 3's."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = Regex(r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(split, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    tokenizer.add_tokens([AddedToken("<plain>", normalized=False)])
    bos = ("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[bos]),
        ]
    )
    return tokenizer.to_str()


@pytest.fixture(scope="session")
def unigram_json() -> str:
    """A Unigram model whose own vocabulary holds the special tokens, where text can reach them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = UnigramTrainer(
        vocab_size=120,
        special_tokens=["<unk>", "<s>", "</s>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXT, "< > / s"], trainer)
    return tokenizer.to_str()


@pytest.fixture(scope="session")
def korean() -> list[str]:
    """Reviews of random words, with other scripts, digits and signs between them."""
    chance = random.Random(0)
    ends = [
        ".",
        "!",
        "...",
        " 2016년",
        "CD로",
        "(영화)",
        "  ",
        " BGM이 good",
        "\n",
        "漢字와",
        "~^^",
    ]
    lines = []
    for _ in range(1500):
        words = chance.choices(WORDS, range(len(WORDS), 0, -1), k=chance.randint(1, 9))
        more = ["", "", "은", "를", "에서", *WORDS]
        words = [word + chance.choice(more) for word in words]
        lines.append(" ".join(words) + chance.choice(ends))
    return lines


@pytest.fixture(scope="session")
def bases(tiny_tokenizer, tiny_text, tmp_path_factory) -> dict[str, Definition]:
    """Of English text, 400 pieces each."""
    alone = tmp_path_factory.mktemp("alone")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (alone / name).write_bytes((tiny_tokenizer / name).read_bytes())
    lines = (tiny_text / "en.txt").read_text("utf-8").split("\n")
    found = {
        "sentencepiece": open_definition(tiny_tokenizer),
        "byte_fallback": open_definition(alone),
        "byte_level": train(lines, 400, "byte_level"),
    }
    assert {kind: base.form for kind, base in found.items()} == dict(zip(KINDS, KINDS, strict=True))
    return found


@pytest.fixture
def model(tmp_path, tiny_tokenizer):
    """A bare tokenizer.model, editable."""
    return shutil.copy(tiny_tokenizer / "tokenizer.model", tmp_path / "tokenizer.model")


@pytest.fixture
def lone_json(tmp_path, tiny_tokenizer):
    return shutil.copy(tiny_tokenizer / "tokenizer.json", tmp_path / "tokenizer.json")


@pytest.fixture
def llama3(tmp_path, llama3_json):
    settings = json.dumps({"chat_template": "{{ x }}", "eos_token": "<|end_of_text|>"})
    return folder(tmp_path / "l3", tokenizer__json=llama3_json, tokenizer_config__json=settings)
