"""A file of the tokenizers library as a backend."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from maxlite.errors import InputError
from maxlite.tokenizer import json_form
from maxlite.tokenizer.backends import byte_ids, encode_parts, raw_bytes
from maxlite.tokenizer.pieces import SPACE

_USUAL = {
    "bos": ("<s>", "<|begin_of_text|>", "<bos>"),
    "eos": ("</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"),
}
# A noncharacter: no text holds it, so a piece whose name begins with it never matches.
_UNREACHABLE = "\U0010ffff"


class JsonFile:
    """A `tokenizer.json` of the tokenizers library."""

    def __init__(self, path: Path, data: bytes, special: set[str]):
        try:
            tree = json.loads(data)
            added = {token["id"]: token for token in tree.get("added_tokens") or []}
            special = special | {token["content"] for token in added.values() if token["special"]}
            self.literal = _hide_special(tree, added, special)
            self._marks = _marks_spaces(tree)
            if self._marks:
                tree["normalizer"] = None
            tokenizer = tokenizers.Tokenizer.from_str(json.dumps(tree, ensure_ascii=False))
        except Exception as error:  # the library raises bare Exceptions
            raise InputError(f"{path} is not a tokenizer.json that can be read: {error}") from None
        tokenizer.encode_special_tokens = True
        for index, token in added.items():
            if tokenizer.token_to_id(token["content"]) != index:
                raise InputError(
                    f"{path} gives an added token the id {index}, but the tokenizers library gives "
                    f"it {tokenizer.token_to_id(token['content'])}; number them without gaps"
                )
        self._tokenizer = tokenizer
        self._ids = {text: index for index, text in self.literal.items()}
        self._added = {i: token["content"] for i, token in added.items() if i not in self.literal}
        self._byte_level = json_form.byte_level(tree)
        self._byte_pieces = bool(tree["model"].get("byte_fallback"))
        self.unk = tree["model"].get("unk_id")
        if isinstance(unk := tree["model"].get("unk_token"), str):
            self.unk = tokenizer.token_to_id(unk)
        self.rows = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        # Where nothing else says it: the first of the usual names that is a special token.
        self.ends = {
            key: next(self._ids[name] for name in names if name in self._ids)
            for key, names in _USUAL.items()
            if not self._ids.keys().isdisjoint(names)
        }

    def find(self, piece: str) -> int | None:
        return self._ids.get(piece, self._tokenizer.token_to_id(piece))

    def piece(self, index: int) -> str | None:
        return self.literal.get(index, self._tokenizer.id_to_token(index))

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        if self._marks:
            texts = [SPACE + t.replace(" ", SPACE) if t else t for t in texts]
        # The fast variant computes no character offsets.
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def raw(self, index: int) -> bytes | None:
        """The bytes of text that a piece stands for, if text can produce it."""
        if index in self.literal or index == self.unk:
            return None
        if index in self._added:
            return self._added[index].encode()
        piece = self._tokenizer.id_to_token(index)
        if piece is None:
            return None
        if not self._byte_level:
            return raw_bytes(piece, self._byte_pieces)
        written = _BYTE_OF.keys() >= set(piece)  # not so in a piece that only fills a place
        return bytes(_BYTE_OF[character] for character in piece) if written else None

    def encode_inside(self, parts: list[bytes]) -> list[np.ndarray]:
        """`encode` for what stands inside a text; broken characters become byte pieces."""

        def encode(texts: list[str]) -> list[np.ndarray]:
            # A marker is where a space was: some pipelines drop spaces, none drops the marker.
            marked = texts if self._byte_level else [t.replace(" ", SPACE) for t in texts]
            encodings = self._inside.encode_batch_fast(marked, add_special_tokens=False)
            return [np.array(encoding.ids, np.int32) for encoding in encodings]

        def broken(part: bytes) -> list[int]:
            if not self._byte_level:
                return byte_ids(part, self._tokenizer.token_to_id)
            text = "".join(_CHARACTER_OF[byte] for byte in part)
            return [token.id for token in self._merging.tokenize(text)]

        return encode_parts(parts, encode, broken)

    @cached_property
    def _inside(self) -> tokenizers.Tokenizer:
        tree = json.loads(self._tokenizer.to_str())
        for part in json_form.parts(tree):
            if part.get("type") == "Prepend":
                part["prepend"] = ""
            elif part.get("type") == "Metaspace":
                part["prepend_scheme"] = "never"
                part.pop("add_prefix_space", None)
            elif part.get("type") == "ByteLevel" and "add_prefix_space" in part:
                part["add_prefix_space"] = False
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(tree, ensure_ascii=False))
        tokenizer.encode_special_tokens = True
        return tokenizer

    @cached_property
    def _merging(self) -> tokenizers.models.BPE:
        """The model as it treats a part of a word: `ignore_merges` is for whole words alone."""
        tree = json.loads(self._tokenizer.to_str())
        tree["model"]["ignore_merges"] = False
        return tokenizers.Tokenizer.from_str(json.dumps(tree, ensure_ascii=False)).model


def _hide_special(
    tree: dict[str, Any], added: dict[int, dict[str, Any]], special: set[str]
) -> dict[int, str]:
    """Edits the tree so that text never becomes a special token, and nothing is added or cut.

    The library's `encode_special_tokens` alone is not enough: where the model itself knows the
    string (Unigram, whole words, BPE with `ignore_merges`), it would still match.

    Returns:
      The ids of the special tokens and their strings.
    """
    tree["truncation"] = tree["padding"] = tree["post_processor"] = None
    model = tree["model"]
    model.pop("dropout", None)  # BPE: it would make encoding random
    vocab = model["vocab"]
    listed = isinstance(vocab, list)  # Unigram: pairs (piece, score), the id is the place
    ids = {pair[0]: i for i, pair in enumerate(vocab)} if listed else vocab
    for token in added.values():
        token["special"] = token["content"] in special
    literal = {i: t["content"] for i, t in added.items() if t["special"]}
    literal.update({ids[text]: text for text in special & ids.keys()})
    # A single character can't be taken from the text: folders exist that pad with "!".
    renamed = {text: f"{_UNREACHABLE}{i}" for i, text in literal.items() if len(text) > 1}
    for token in added.values():
        token["content"] = renamed.get(token["content"], token["content"])
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges", ())]
    if pairs:
        model["merges"] = [p for p in pairs if renamed.keys().isdisjoint((*p, "".join(p)))]
    if listed:
        for pair in vocab:
            pair[0] = renamed.get(pair[0], pair[0])
    else:
        model["vocab"] = {renamed.get(piece, piece): index for piece, index in vocab.items()}
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = renamed.get(model["unk_token"], model["unk_token"])
    return literal


def _marks_spaces(tree: dict[str, Any]) -> bool:
    """Whether all that happens before the model is that a text gets a marker and so do its spaces.

    Written as normalizers (as Llama 2's are) that takes a fifth of the time of encoding, since the
    library keeps account of where each byte came from.
    """
    steps = [
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ]
    if any(not token["special"] for token in tree.get("added_tokens") or []):
        return False  # those are looked for in the text as it is
    normalizer = tree.get("normalizer") or {}
    return normalizer.get("normalizers") == steps and tree.get("pre_tokenizer") is None


def _byte_alphabet() -> dict[int, str]:
    """The characters by which byte-level BPE writes bytes: printable ones as they are."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    alphabet = {byte: chr(byte) for byte in kept}
    return alphabet | {byte: chr(256 + i) for i, byte in enumerate(others)}


_CHARACTER_OF = _byte_alphabet()
_BYTE_OF = {character: byte for byte, character in _CHARACTER_OF.items()}
