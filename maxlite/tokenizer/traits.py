"""How a tokenizer treats text: what a new one has to do alike to be compared or merged with it."""

import json
from dataclasses import dataclass, field
from typing import Any

from tokenizers import decoders

from maxlite.errors import InputError
from maxlite.tokenizer import json_form, proto
from maxlite.tokenizer.definition import MODEL, Definition
from maxlite.tokenizer.pieces import SPACE

COVERAGE = 0.9995  # SentencePiece's own default
_NORMALIZATIONS = ("identity", "nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf")
_SPACING = {"Sequence", "Prepend", "Replace", "Metaspace", "Split", "Strip"}  # no normalization
_LLAMA3 = (  # how Llama 3 cuts text into words
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Traits:
    """How a tokenizer treats text, as far as a new one can be made to do the same.

    Attributes:
      special: strings of the special tokens there shall be, by "unk", "bos" and "eos".
      digits: whether each digit is a piece by itself (SentencePiece).
      byte_fallback: whether characters without a piece are written in bytes (SentencePiece).
      prefix: whether a text gets a space before it (SentencePiece).
      squeeze: whether spaces at the ends, and beside another, are dropped (SentencePiece).
      spaces: whether several spaces may be one piece (SentencePiece).
      normalization: the name of SentencePiece's rule.
      coverage: the share of characters in the text that get a piece (SentencePiece).
      pipeline: normalizer, pre-tokenizer, decoder and `ignore_merges` (byte-level).
    """

    special: dict[str, str]
    digits: bool = True
    byte_fallback: bool = True
    prefix: bool = True
    squeeze: bool = False
    spaces: bool = True
    normalization: str = "identity"
    coverage: float = COVERAGE
    pipeline: dict[str, Any] = field(default_factory=dict)


LLAMA2 = Traits({"unk": "<unk>", "bos": "<s>", "eos": "</s>"})
LLAMA3 = Traits(
    {"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>"},
    pipeline={
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": _LLAMA3},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": False,
                },
            ],
        },
        "decoder": json.loads(decoders.ByteLevel().__getstate__()),
        "ignore_merges": True,
    },
)


def kind_of(base: Definition) -> str:
    """The kind to train that is most like a tokenizer."""
    return "byte_level" if base.form == "byte_level" else f"sentencepiece_{base.model}"


def traits(base: Definition) -> Traits:
    """The traits of a tokenizer, most of them found by trying it out.

    Raises:
      InputError: it normalizes text in a way that a new one cannot be given.
    """
    tokenizer = base.tokenizer()
    named = {"bos": tokenizer.bos, "eos": tokenizer.eos}
    special = {key: tokenizer.piece(index) for key, index in named.items() if index is not None}
    if base.form == "byte_level":
        assert base.tree is not None
        pipeline = {key: base.tree.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")}
        pipeline["ignore_merges"] = base.tree["model"].get("ignore_merges", False)
        return Traits(special or LLAMA3.special, pipeline=pipeline)
    texts = {piece.text for piece in base.pieces if piece.kind == "normal"}
    alone, inside = tokenizer.encode_one("a"), tokenizer.encode_inside([b" a"])[0]
    return Traits(
        {"unk": "<unk>"} | special,
        digits=not any(len(t.strip(SPACE)) > 1 and t.strip(SPACE).isdecimal() for t in texts),
        byte_fallback=any(piece.kind == "byte" for piece in base.pieces),
        prefix=alone.tolist() == inside.tolist(),
        squeeze=tokenizer.decode(tokenizer.encode_one("a  a")) != "a  a",
        spaces=SPACE * 2 in texts,
        normalization=_normalization(base),
        coverage=_coverage(base),
    )


def _normalization(base: Definition) -> str:
    if MODEL in base.files:
        spec = proto.parse(base.read(MODEL), base.where).normalizer_spec
        name = spec.name or "identity"
        known = name in _NORMALIZATIONS and (name != "identity" or not spec.precompiled_charsmap)
    else:
        assert base.tree is not None
        types = {part.get("type") for part in json_form.parts(base.tree)}
        name = ", ".join(sorted(str(kind) for kind in types - _SPACING - {None}))
        known, name = not name, name or "identity"
    if not known:
        raise InputError(
            f"{base.where} normalizes text by {name}, which a SentencePiece model cannot be "
            "trained to do; leave the base out"
        )
    return name


def _coverage(base: Definition) -> float:
    if MODEL not in base.files:
        return COVERAGE
    return proto.parse(base.read(MODEL), base.where).trainer_spec.character_coverage
