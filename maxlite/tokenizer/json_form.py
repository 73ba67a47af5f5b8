"""A tokenizer.json as data: BPE written in characters or in bytes, and Unigram.

What is not changed is written back as it was read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenizers import pre_tokenizers

from maxlite.errors import InputError
from maxlite.tokenizer.pieces import BYTE, SPACE, Pair, Piece, listed

Tree = dict[str, Any]
BYTE_ALPHABET = frozenset(pre_tokenizers.ByteLevel.alphabet())


def parse(data: bytes, where: str) -> Tree:
    """The object in a file's bytes.

    Raises:
      InputError: it is no tokenizer.json, or its model is neither BPE nor Unigram.
    """
    try:
        tree = json.loads(data)
        kind = tree["model"].get("type") or ("BPE" if "merges" in tree["model"] else "Unigram")
        whole = all(isinstance(text, str) and type(i) is int for text, i, _ in _words(tree))
        if kind in ("BPE", "Unigram") and whole:
            return tree
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise InputError(f"{where} is not a tokenizer.json that can be read") from None
    if kind in ("BPE", "Unigram"):
        raise InputError(f"{where} has a vocabulary that does not give each piece a whole number")
    raise InputError(f"{where} holds a {kind} model; only BPE and Unigram can be used")


def dump(tree: Tree) -> bytes:
    """The bytes of a file, laid out as the tokenizers library does."""
    return json.dumps(tree, indent=2, ensure_ascii=False).encode()


def model(tree: Tree) -> str:
    """ "bpe" or "unigram"."""
    return "bpe" if "merges" in tree["model"] else "unigram"


def byte_level(tree: Tree) -> bool:
    """Whether pieces are written in the byte-level alphabet (Llama 3)."""
    return any(part.get("type") == "ByteLevel" for part in parts(tree))


def parts(tree: Tree) -> Iterator[Tree]:
    """The normalizers and pre-tokenizers, each by itself."""
    todo = [tree.get("normalizer"), tree.get("pre_tokenizer")]
    while todo:
        part = todo.pop() or {}
        todo += part.get("normalizers") or part.get("pretokenizers") or []
        yield part


def pieces(tree: Tree, where: str) -> list[Piece]:
    """The pieces by id, added tokens among them.

    Raises:
      InputError: ids without a piece, or with two; a piece with two ids; an empty piece.
    """
    by_id: dict[int, Piece] = {}
    in_bytes, fallback = byte_level(tree), bool(tree["model"].get("byte_fallback"))
    added = {token["id"]: token["content"] for token in tree.get("added_tokens") or []}
    special = {*added.values(), tree["model"].get("unk_token")}
    if (unk := tree["model"].get("unk_id")) is not None:
        special.add(tree["model"]["vocab"][unk][0])
    for text, index, score in _words(tree):
        kind = "special" if text in special else "normal"
        if (in_bytes and text in BYTE_ALPHABET) or (fallback and BYTE.fullmatch(text)):
            kind = "byte"
        if index in by_id:
            raise InputError(f"{where} gives the id {index} to {by_id[index].text!r} and {text!r}")
        by_id[index] = Piece(text, kind, score)
    seen = {piece.text: index for index, piece in by_id.items()}
    for index, text in added.items():
        if seen.setdefault(text, index) != index or by_id.get(index, Piece(text, "")).text != text:
            raise InputError(
                f"{where} gives the added token {text!r} the id {index}, but its model has "
                f"{text!r} at {seen[text]} or another piece there; put one of the two right"
            )
        by_id[index] = Piece(text, "special", by_id[index].score if index in by_id else 0.0)
    if len(seen) < len(by_id) or "" in seen:
        raise InputError(f"{where} has an empty piece, or one that has two ids; export it again")
    if holes := [i for i in range(len(by_id)) if i not in by_id]:
        raise InputError(
            f"{where} has no piece for {len(holes)} ids below its largest, the first is "
            f"{holes[0]}; give every id a piece (an added token will do)"
        )
    return [by_id[i] for i in range(len(by_id))]


def merges(tree: Tree) -> list[Pair]:
    """The merges of BPE, in the order of their ranks."""
    found = tree["model"]["merges"]
    return [tuple(m.split(" ", 1) if isinstance(m, str) else m) for m in found]


def with_merges(tree: Tree, pairs: Sequence[Pair]) -> Tree:
    """The tree with other merges, each written as the file writes them: a string or a pair."""
    found = tree["model"]["merges"]
    written = [" ".join(p) for p in pairs] if found and isinstance(found[0], str) else pairs
    return {**tree, "model": {**tree["model"], "merges": [*written]}}


def extended(tree: Tree, new: Sequence[str], special: Sequence[str], rows: int) -> Tree:
    """The tree of a BPE model with more pieces from id `rows` on; merges are left as they are."""
    # The library numbers added tokens by the model's size, unless the model has them as well.
    vocab = dict(tree["model"]["vocab"])
    vocab |= {token["content"]: token["id"] for token in tree.get("added_tokens") or []}
    vocab |= {text: rows + i for i, text in enumerate([*new, *special])}
    vocab = dict(sorted(vocab.items(), key=lambda item: item[1]))
    tokens = [added_token(vocab[text], text) for text in special]
    added = [*(tree.get("added_tokens") or []), *tokens]
    return {**tree, "added_tokens": added, "model": {**tree["model"], "vocab": vocab}}


def kept(tree: Tree, place: Mapping[int, int]) -> Tree:
    """The tree with some of the ids.

    Args:
      tree: the whole.
      place: new ids by old ones; every special token is among them.
    """
    old = tree["model"]
    changed: Tree = {}
    if model(tree) == "bpe":
        vocab = {text: place[i] for text, i in old["vocab"].items() if i in place}
        changed["vocab"] = dict(sorted(vocab.items(), key=lambda item: item[1]))
    else:
        changed["vocab"] = [pair for i, pair in enumerate(old["vocab"]) if i in place]
        changed["unk_id"] = place.get(old.get("unk_id"))
    smaller = {**tree, "model": {**old, **changed}}
    if model(tree) == "bpe":
        known = changed["vocab"].keys()
        pairs = [
            p for p in merges(tree) if p[0] in known and p[1] in known and p[0] + p[1] in known
        ]
        smaller = with_merges(smaller, pairs)
    smaller["added_tokens"] = [
        {**token, "id": place[token["id"]]}
        for token in tree.get("added_tokens") or []
        if token["id"] in place
    ]
    if tree.get("padding"):
        pad = tree["padding"].get("pad_id", 0)
        smaller["padding"] = {**tree["padding"], "pad_id": place.get(pad, pad)}
    if tree.get("post_processor"):
        smaller["post_processor"] = _renumbered(tree["post_processor"], place)
    return smaller


def _renumbered(processor: Tree, place: Mapping[int, int]) -> Tree:
    """What puts special tokens around a text, with their new ids."""
    new = dict(processor)
    if "processors" in new:
        new["processors"] = [_renumbered(each, place) for each in new["processors"]]
    if isinstance(new.get("special_tokens"), dict):
        new["special_tokens"] = {
            name: {**token, "ids": [place[i] for i in token["ids"]]}
            for name, token in new["special_tokens"].items()
        }
    for name in ("sep", "cls"):
        if name in new:
            new[name] = [new[name][0], place[new[name][1]]]
    return new


def added_token(index: int, text: str, special: bool = True) -> Tree:
    """An entry of `added_tokens`."""
    exact = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": text, **exact, "special": special}


def marking(prefix: bool, squeeze: bool) -> tuple[list[Tree], list[Tree]]:
    """How SentencePiece writes spaces as marks, and byte pieces, and reads them again.

    Args:
      prefix: a text gets a space before it.
      squeeze: spaces at the ends of a text are dropped, and those beside another.

    Returns:
      Normalizers, and decoders.
    """
    steps: list[Tree] = []
    if squeeze:  # marks that the text itself has count as spaces at its end alone
        for pattern, content in ((rf"\A +|[ {SPACE}]+\z", ""), (" {2,}", " ")):
            steps.append({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
    if prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    back: list[Tree] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        back.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return steps, back


def template(ends: Mapping[str, str], ids: Mapping[str, int]) -> Tree:
    """What puts BOS before a text and EOS behind it.

    Args:
      ends: the pieces of those that there are, by "bos" and "eos".
      ids: by piece.
    """

    def sequence(name: str, number: int) -> list[Tree]:
        before, behind = (
            [{"SpecialToken": {"id": ends[key], "type_id": number}}] if key in ends else []
            for key in ("bos", "eos")
        )
        return [*before, {"Sequence": {"id": name, "type_id": number}}, *behind]

    return {
        "type": "TemplateProcessing",
        "single": sequence("A", 0),
        "pair": sequence("A", 0) + sequence("B", 1),
        "special_tokens": {
            text: {"id": text, "ids": [ids[text]], "tokens": [text]} for text in ends.values()
        },
    }


def check_merges(pairs: Sequence[Pair], known: set[str], where: str) -> None:
    """Refuses merges of, or to, something that is not a piece.

    Raises:
      InputError: with some of them.
    """
    wrong = [p for p in pairs if not known.issuperset((*p, "".join(p)))]
    if wrong:
        raise InputError(
            f"{where} cannot get the merges {listed(' '.join(p) for p in wrong)}: a part or the "
            "whole is not a piece"
        )


def _words(tree: Tree) -> Iterator[tuple[str, int, float]]:
    vocab = tree["model"]["vocab"]
    if isinstance(vocab, dict):
        yield from ((text, index, 0.0) for text, index in vocab.items())
    else:
        yield from ((pair[0], i, float(pair[1])) for i, pair in enumerate(vocab))
