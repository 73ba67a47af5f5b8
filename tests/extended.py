"""Tokenizers that extend `tiny_tokenizer`, what it makes of their pieces, and models for them."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

SPECIAL = "<|new|>"
SYLLABLES = "가나다라마바사아자하강산달별물불꽃말길집"


def new_pieces(count: int) -> list[str]:
    """Up to 440 pieces: a syllable, a special token, beginnings of words, and longer ones."""
    first, *others = SYLLABLES
    pairs = [a + b for a in SYLLABLES for b in SYLLABLES]
    return [first, SPECIAL, *("▁" + s for s in SYLLABLES), *others, *pairs][:count]


def split(piece: str, space: int) -> list[int]:
    """The ids of a new piece in `tiny_tokenizer`, which writes Hangul in bytes; ids 3-258."""
    if piece == SPECIAL:
        return []
    word = piece.removeprefix("▁")
    return [space] * (word != piece) + [3 + byte for byte in word.encode()]


def extend(source: Path, target: Path, count: int = 0, pieces: list[str] | None = None) -> Path:
    """Makes a copy of `tiny_tokenizer` (or of a folder that has it) with `count` new pieces."""
    target.mkdir(parents=True)
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        shutil.copy(source / name, target / name)
    pieces = new_pieces(count) if pieces is None else pieces
    if (source / "tokenizer.model").exists():
        data = (source / "tokenizer.model").read_bytes()
        (target / "tokenizer.model").write_bytes(extended_model(data, pieces))
    if (source / "tokenizer.json").exists():
        tree = json.loads((source / "tokenizer.json").read_text("utf-8"))
        extend_json(tree, pieces)
        (target / "tokenizer.json").write_text(json.dumps(tree, ensure_ascii=False), "utf-8")
    return target


def extended_model(data: bytes, pieces: list[str]) -> bytes:
    """A SentencePiece model with more pieces, each of a lower score than any before it."""
    from sentencepiece import sentencepiece_model_pb2 as pb2

    proto = pb2.ModelProto()
    proto.ParseFromString(data)
    lowest = min(piece.score for piece in proto.pieces)
    for i, piece in enumerate(pieces, 1):
        kind = proto.SentencePiece.CONTROL if piece == SPECIAL else proto.SentencePiece.NORMAL
        proto.pieces.add(piece=piece, score=lowest - i, type=kind)
    return proto.SerializeToString()


def extend_json(tree: dict, pieces: list[str]) -> None:
    """Adds pieces and the merges that make them to a parsed tokenizer.json of BPE."""
    vocab, merges = tree["model"]["vocab"], tree["model"]["merges"]
    for piece in pieces:
        vocab[piece] = len(vocab)
        if piece == SPECIAL:
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            tree["added_tokens"].append(
                {"id": vocab[piece], "content": piece, "special": True, **flags}
            )
        halves = [[piece[:k], piece[k:]] for k in range(1, len(piece))]
        merges += [pair for pair in halves if vocab.keys() >= set(pair)]


def models_and_tokenizers(here: Path, make_folder, tiny_tokenizer: Path) -> Path:
    """Makes tied (float32) and untied (bfloat16), and tokenizers new-N with N pieces more."""
    make_folder(here / "tied", tie_word_embeddings=True, num_hidden_layers=3)
    make_folder(here / "untied", dtype="bfloat16", num_hidden_layers=3, seed=1)
    for count in (1, 255, 257):
        extend(tiny_tokenizer, here / f"new-{count}", count)
    return here


def table(folder: Path, name: str) -> np.ndarray:
    """A tensor of a model folder."""
    found = [load_file(file) for file in folder.glob("*.safetensors")]
    return next(tensors[name] for tensors in found if name in tensors)


def config(folder: Path) -> dict:
    """The config.json of a model folder."""
    return json.loads((folder / "config.json").read_text())
