"""The tokenizer.json that says what a SentencePiece BPE model says."""

from collections.abc import Sequence
from typing import Any

from maxlite.errors import InputError
from maxlite.tokenizer import proto as sp
from maxlite.tokenizer.json_form import Tree, added_token, marking, template
from maxlite.tokenizer.pieces import SPACE, Pair, Piece, falls, splits
from maxlite.tokenizer.settings import Settings


def obstacle(proto: Any, settings: Settings) -> str:
    """Why no tokenizer.json can segment all texts as this model does; "" if one can."""
    normalizer = proto.normalizer_spec
    kinds = {piece.type for piece in proto.pieces}
    matched = _matched(proto, settings)
    if sp.model(proto) != "bpe":
        return "it is a Unigram model"
    if sp.UNUSED in kinds:
        return "it has unused pieces, which tokenizer.json does not know"
    if normalizer.precompiled_charsmap:
        return f"it normalizes text ({normalizer.name})"
    if proto.trainer_spec.treat_whitespace_as_suffix or not normalizer.escape_whitespaces:
        return "it does not write spaces as a mark before a word"
    if matched and (_prefix(proto, settings) or normalizer.remove_extra_whitespaces):
        return f"it finds {matched[0]!r} in text whole, and changes spaces as well"
    if any(SPACE in text for text in matched):
        return "it finds runs of spaces whole"
    return ""


def merges(pieces: list[Piece], special: set[str]) -> list[Pair]:
    """The merges of a SentencePiece BPE model as a ranked list.

    SentencePiece merges any two neighbours whose text together is a piece, the highest score first.
    Hence every way to split a piece into two is a merge, and scores are ranks. Only pieces of equal
    scores are taken otherwise: there the leftmost pair in the text would come first.
    """
    score = {p.text: p.score for p in pieces if p.kind == "normal" and p.text not in special}
    return sorted(splits(score, score), key=lambda pair: -score[pair[0] + pair[1]])


def updated(
    merges_before: list[Pair], pieces: list[Piece], special: set[str], where: str
) -> list[Pair]:
    """The merges of a model that has got more pieces, with those of before in their order.

    Raises:
      InputError: those of before are not the merges of such a model.
    """
    score = {p.text: p.score for p in pieces}
    every = merges(pieces, special)
    before = set(merges_before)
    if not before <= set(every) or not falls(score[a + b] for a, b in merges_before):
        raise InputError(
            f"{where}: the merges of tokenizer.json are not those of tokenizer.model beside it; "
            "remove the one that is wrong, and run again"
        )
    fresh = [pair for pair in every if pair not in before]
    return sorted([*merges_before, *fresh], key=lambda pair: -score[pair[0] + pair[1]])


def check_forms(
    ours: Sequence[Piece], theirs: Sequence[Piece], rows: int, alike: bool, where: str
) -> None:
    """Refuses a tokenizer.json that says other things than the tokenizer.model beside it.

    Args:
      ours: the pieces of tokenizer.model, and tokens added behind them.
      theirs: those of tokenizer.json.
      rows: how many tokenizer.model has.
      alike: whether both are BPE, or both Unigram.
      where: the folder.

    Raises:
      InputError: with the first difference.
    """
    found = ""
    for index, (piece, other) in enumerate(zip(ours, theirs, strict=False)):
        if piece.text != other.text:
            found = f"id {index} is {piece.text!r} in tokenizer.model and {other.text!r}"
            break
    else:
        if len(theirs) < rows:
            found = f"tokenizer.model has {rows} pieces and {len(theirs)} are"
        elif not alike:
            found = "one of BPE and Unigram is in tokenizer.model, the other"
    if found:
        raise InputError(f"{where}: {found} in tokenizer.json; remove the one that is wrong")


def to_json(proto: Any, settings: Settings, config: Tree) -> Tree:
    """Converts a model that has no `obstacle`.

    Args:
      proto: the model.
      settings: what the files beside it say.
      config: tokenizer_config.json, for whether BOS and EOS are put around a text.

    Returns:
      What a tokenizer.json holds: characters that merge, byte fallback, no pre-tokenizer.
    """
    pieces = sp.pieces(proto)
    spec, normalizer = proto.trainer_spec, proto.normalizer_spec
    unknown = next((p.piece for p in proto.pieces if p.type == sp.UNKNOWN), None)
    tokens = [
        added_token(i, p.text, special=p.text not in _matched(proto, settings))
        for i, p in enumerate(pieces)
        if p.kind == "special" or (p.text in settings.special and len(p.text) > 1)
    ]
    outside = {i: text for i, text in sorted(settings.added.items()) if i >= len(pieces)}
    tokens += [added_token(i, text, text in settings.special) for i, text in outside.items()]
    prefix, squeeze = _prefix(proto, settings), normalizer.remove_extra_whitespaces
    steps, back = marking(prefix, squeeze)
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": spec.byte_fallback,
        "ignore_merges": False,
        "vocab": {piece.text: i for i, piece in enumerate(pieces)},
        "merges": merges(pieces, {token["content"] for token in tokens}),
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tokens,
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "post_processor": _template(model["vocab"], spec, config),
        "decoder": {"type": "Sequence", "decoders": back},
        "model": model,
    }


def _prefix(proto: Any, settings: Settings) -> bool:
    return proto.normalizer_spec.add_dummy_prefix and settings.prefix_space


def _matched(proto: Any, settings: Settings) -> list[str]:
    """The user-defined pieces that text can produce."""
    own = [p.piece for p in proto.pieces if p.type == sp.USER_DEFINED]
    return [text for text in own if text not in settings.special or len(text) == 1]


def _template(vocab: dict[str, int], spec: Any, config: Tree) -> Tree | None:
    """Puts BOS before a text and EOS behind it, as the config says; Llama's way is BOS alone."""
    ends = {"bos": (spec.bos_piece, True), "eos": (spec.eos_piece, False)}
    used = {
        key: piece
        for key, (piece, usual) in ends.items()
        if piece in vocab and config.get(f"add_{key}_token", usual)
    }
    return template(used, vocab) if used else None
