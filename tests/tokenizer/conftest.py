"""Small tokenizers of other kinds than `tiny_tokenizer`, made on the spot."""

import io

import pytest
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer

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
