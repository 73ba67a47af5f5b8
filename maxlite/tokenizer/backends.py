"""The two kinds of tokenizer file, behind one small interface.

Both are changed in memory, never on disk, so that raw text can't produce a special token.
"""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import sentencepiece
import tokenizers

from maxlite.errors import InputError

_USUAL = {
    "bos": ("<s>", "<|begin_of_text|>", "<bos>"),
    "eos": ("</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"),
}
# A noncharacter: no text holds it, so a piece whose name begins with it never matches.
_UNREACHABLE = "\U0010ffff"


class Backend(Protocol):
    """What a tokenizer file offers; ids in and out are those of the file."""

    rows: int  # 1 + the largest id
    literal: dict[int, str]  # ids that stand for a string as a whole and are never produced by text
    ends: dict[str, int]  # the file's own idea of "bos" and "eos"

    def find(self, piece: str) -> int | None: ...
    def piece(self, index: int) -> str | None: ...
    def encode(self, texts: list[str]) -> list[np.ndarray]: ...
    def decode(self, ids: list[int]) -> str: ...


class SentencePieceFile:
    """A SentencePiece model (`tokenizer.model`)."""

    def __init__(self, path: Path, data: bytes, special: set[str], prefix_space: bool):
        processor = _sentencepiece(path, data)
        size = processor.get_piece_size()
        names = {processor.id_to_piece(i): i for i in range(size)}
        # Text can produce any piece but a control one: what the folder calls special becomes that.
        hidden = {names[text] for text in special & names.keys() if len(text) > 1}
        hidden -= {
            i
            for i in hidden
            if processor.is_control(i) or processor.is_unknown(i) or processor.is_byte(i)
        }
        if hidden or not prefix_space:
            processor = _sentencepiece(path, _edited(data, hidden, prefix_space))
        self._processor = processor
        self._names = names
        self.rows = size
        self.literal = {i: p for p, i in names.items() if processor.is_control(i)}
        ends = {"bos": processor.bos_id(), "eos": processor.eos_id()}
        self.ends = {key: index for key, index in ends.items() if index >= 0}

    def find(self, piece: str) -> int | None:
        return self._names.get(piece)

    def piece(self, index: int) -> str | None:
        return self._processor.id_to_piece(index) if 0 <= index < self.rows else None

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        return self._processor.encode_as_numpy(texts, num_threads=-1)

    def decode(self, ids: list[int]) -> str:
        return self._processor.decode(ids)


class JsonFile:
    """A `tokenizer.json` of the tokenizers library."""

    def __init__(self, path: Path, data: bytes, special: set[str]):
        try:
            tree = json.loads(data)
            added = {token["id"]: token for token in tree.get("added_tokens") or []}
            special = special | {token["content"] for token in added.values() if token["special"]}
            self.literal = _hide_special(tree, added, special)
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
        # The fast variant computes no character offsets.
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)


def _sentencepiece(path: Path, data: bytes) -> sentencepiece.SentencePieceProcessor:
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=data)
        if processor.get_piece_size() > 0:
            return processor
    except (RuntimeError, OSError):
        pass
    raise InputError(f"{path} is not a SentencePiece model: it is damaged or of another kind")


def _edited(data: bytes, hidden: set[int], prefix_space: bool) -> bytes:
    from sentencepiece import sentencepiece_model_pb2 as pb2

    proto = pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(data)
    for index in hidden:
        proto.pieces[index].type = proto.SentencePiece.CONTROL
    if not prefix_space:
        proto.normalizer_spec.add_dummy_prefix = False
    return proto.SerializeToString()


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
