"""Training a tokenizer from text: SentencePiece (BPE, Unigram) or byte-level BPE.

BPE is of arXiv 1508.07909, Unigram of 1804.10959, SentencePiece of 1808.06226.

The libraries train; here they get the settings of a tokenizer that the new one shall be compared or
merged with, and what they complain of becomes a sentence.
"""

import io
import json
import re
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from maxlite.errors import InputError
from maxlite.tokenizer import companions, json_form, proto
from maxlite.tokenizer.definition import JSON, MODEL, Definition, open_definition
from maxlite.tokenizer.traits import LLAMA2, LLAMA3, Traits, kind_of, traits

KINDS = ("sentencepiece_bpe", "sentencepiece_unigram", "byte_level")
LEAST_COVERAGE = 0.98  # that SentencePiece takes
_LINE = 1000  # characters; SentencePiece leaves lines above 4,192 bytes out
_THREADS = 16  # always so many: sums in floating point depend on it


def train(
    texts: Iterable[str],
    size: int,
    kind: str,
    base: Definition | None = None,
    coverage: float | None = None,
) -> Definition:
    """Trains a tokenizer; the same text gives the same files.

    Args:
      texts: documents. SentencePiece holds them all in memory, byte-level training their words.
      size: the number of pieces, special tokens and bytes among them.
      kind: one of `KINDS`.
      base: whose traits it shall have; Llama 2's or Llama 3's if None.
      coverage: another share of the text's characters that get a piece, 0.98 to 1 (SentencePiece).

    Raises:
      InputError: no text, a size that does not suit it, or a base of another kind.
    """
    byte_level = kind == "byte_level"
    if base and (base.form == "byte_level") != byte_level:
        raise InputError(
            f"a tokenizer of the kind {kind} can't have the settings of {base.where}, which is of "
            f"the kind {kind_of(base)}; train that, or leave the base out"
        )
    if byte_level:
        if coverage is not None:
            raise InputError("byte-level tokenizers write every character: they have no coverage")
        return _byte_level(texts, size, traits(base) if base else LLAMA3)
    like = traits(base) if base else LLAMA2
    model = kind.removeprefix("sentencepiece_")
    data = _sentencepiece(texts, size, model, like, like.coverage if coverage is None else coverage)
    return _defined(data, model, like)


# --- SentencePiece ---------------------------------------------------------------------------


def _sentencepiece(
    texts: Iterable[str], size: int, model: str, like: Traits, coverage: float
) -> bytes:
    written = io.BytesIO()
    special: dict[str, Any] = {f"{key}_piece": text for key, text in like.special.items()}
    special |= {f"{key}_id": -1 for key in ("bos", "eos") if key not in like.special}
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts),
            model_writer=written,
            model_type=model,
            vocab_size=size,
            character_coverage=coverage,
            byte_fallback=like.byte_fallback,
            split_digits=like.digits,
            allow_whitespace_only_pieces=like.spaces,
            normalization_rule_name=like.normalization,
            add_dummy_prefix=like.prefix,
            remove_extra_whitespaces=like.squeeze,
            num_threads=_THREADS,
            minloglevel=4,  # what it logs on the way; errors are raised
            **special,
        )
    except RuntimeError as error:
        raise InputError(_complaint(str(error), size)) from None
    return written.getvalue()


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Lines short enough for SentencePiece, cut at spaces where there are some."""
    for text in texts:
        for line in text.split("\n"):
            while len(line) > _LINE:
                end = line.rfind(" ", 1, _LINE)
                end = _LINE if end < 0 else end
                yield line[:end]
                line = line[end:]
            if line and not line.isspace():
                yield line


def _complaint(error: str, size: int) -> str:
    if most := re.search(r"set it to a value <= (\d+)", error):
        return (
            f"the text is too small for {size:,} pieces: {int(most[1]):,} is the largest size "
            "possible; lower it, or give more text"
        )
    if least := re.search(r"required_chars\. \d+ vs (\d+)", error):
        return (
            f"{size:,} pieces are too few: special tokens, bytes and the characters of the text "
            f"take {int(least[1]):,}; raise the size, or lower the character coverage"
        )
    if "sentences_.empty()" in error:
        return "there is no text to train a tokenizer on"
    return f"SentencePiece cannot train on this text: {error}"


def _defined(data: bytes, model: str, like: Traits) -> Definition:
    """All files of a SentencePiece model."""
    plain = proto.parse(data, MODEL)
    characters = plain.normalizer_spec.precompiled_charsmap
    plain.normalizer_spec.ClearField("precompiled_charsmap")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MODEL).write_bytes(plain.SerializeToString())
        files = {
            name: file if isinstance(file, bytes) else file.read_bytes()
            for name, file in open_definition(folder).files.items()
        }
    tree = json.loads(files[JSON]) if model == "bpe" else _unigram(data, like)
    if characters:  # applied by clusters of characters there: jamo side by side may differ
        step = {"type": "Precompiled", "precompiled_charsmap": b64encode(characters).decode()}
        tree["normalizer"]["normalizers"].insert(0, step)
    files |= {MODEL: data, JSON: json_form.dump(tree)}
    files.setdefault(companions.CONFIG, companions.minimal_config(like.special))
    return Definition(files, "the new tokenizer")


def _unigram(data: bytes, like: Traits) -> dict[str, Any]:
    """The tokenizer.json that says what a Unigram model says, its normalization apart.

    Of ways to split a text that are equally likely, the two forms may take different ones.
    """
    rows = proto.parse(data, MODEL).pieces
    special = [i for i, row in enumerate(rows) if row.type in (proto.UNKNOWN, proto.CONTROL)]
    # Text that spells a byte piece or a special token is cut, or it would be taken for one.
    texts = [rows[i].piece for i in special]
    apart = ["<(?=0x[0-9A-F]{2}>)", *(f"{re.escape(t[0])}(?={re.escape(t[1:])})" for t in texts)]
    steps, back = json_form.marking(like.prefix, like.squeeze)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [json_form.added_token(i, rows[i].piece) for i in special],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "|".join(apart)},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": back},
        "model": {
            "type": "Unigram",
            "unk_id": special[0],
            "byte_fallback": like.byte_fallback,
            "vocab": [[row.piece, row.score] for row in rows],
        },
    }


# --- byte-level BPE --------------------------------------------------------------------------


def _byte_level(texts: Iterable[str], size: int, like: Traits) -> Definition:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    room = size - len(like.special)
    if room < len(alphabet):
        raise InputError(
            f"{size:,} pieces are too few: special tokens and bytes take "
            f"{len(alphabet) + len(like.special):,}; raise the size"
        )
    tree = json.loads(tokenizers.Tokenizer(models.BPE()).to_str())
    ignore_merges = like.pipeline["ignore_merges"]
    tree |= {key: part for key, part in like.pipeline.items() if key in tree}
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(tree))
    trainer = trainers.BpeTrainer(vocab_size=room, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    found = tokenizer.get_vocab_size()
    if found == len(alphabet):
        raise InputError("there is no text to train a tokenizer on")
    if found < room:
        raise InputError(
            f"the text is too small for {size:,} pieces: {found + len(like.special):,} is the "
            "largest size possible; lower it, or give more text"
        )
    tokenizer.add_special_tokens(list(like.special.values()))
    tree = json.loads(tokenizer.to_str())
    tree["model"]["ignore_merges"] = ignore_merges
    if bos := like.special.get("bos"):
        tree["post_processor"] = json_form.template({"bos": bos}, tokenizer.get_vocab())
    config = companions.minimal_config(like.special)
    files = {JSON: json_form.dump(tree), companions.CONFIG: config}
    return Definition(files, "the new tokenizer")
