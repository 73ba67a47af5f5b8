"""A SentencePiece model as data: its protobuf, edited field by field.

Fields that are not set stay so, and fields that this version of the format does not know survive.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from maxlite.errors import InputError
from maxlite.tokenizer.pieces import Piece

# The classes of the protobuf are made when it is imported, where mypy does not see them.
ModelProto: Any = sentencepiece_model_pb2.ModelProto  # type: ignore[attr-defined]
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_KINDS = {NORMAL: "normal", UNUSED: "unused", BYTE: "byte"}
_MODELS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_EXACT = float(2**24)  # whole numbers below are distinct in float32


def parse(data: bytes, where: str) -> Any:
    """The message in a file's bytes.

    Raises:
      InputError: it is none, or neither BPE nor Unigram; a piece in it is empty or doubled.
    """
    proto = ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:  # DecodeError, whose home differs between protobuf's implementations
        proto.Clear()
    if not proto.pieces:
        raise InputError(f"{where} is not a SentencePiece model: it is damaged or of another kind")
    if model(proto) not in ("bpe", "unigram"):
        raise InputError(f"{where} is a {model(proto)} model; only BPE and Unigram can be used")
    seen: dict[str, int] = {}
    for index, piece in enumerate(proto.pieces):
        if not piece.piece:
            raise InputError(f"{where} has an empty piece, id {index}; train or export it again")
        if seen.setdefault(piece.piece, index) != index:
            raise InputError(
                f"{where} has the piece {piece.piece!r} twice, ids {seen[piece.piece]} and "
                f"{index}; train or export it again"
            )
    return proto


def model(proto: Any) -> str:
    """ "bpe", "unigram", "word" or "char"."""
    return _MODELS[proto.trainer_spec.model_type]


def pieces(proto: Any) -> list[Piece]:
    """The pieces by id."""
    return [Piece(p.piece, _KINDS.get(p.type, "special"), p.score) for p in proto.pieces]


def extended(
    data: bytes, where: str, new: Sequence[str], scores: str, special: Sequence[str]
) -> bytes:
    """A BPE model with more pieces behind its own.

    Args:
      data: the file.
      where: its name, for messages.
      new: normal pieces.
      scores: "published" or "ranked", as in `Definition.extended`.
      special: control pieces, put last.
    """
    proto = parse(data, where)
    values = [0.0] * len(new) if scores == "published" else _ranked(proto, where, len(new))
    for text, score in zip(new, values, strict=True):
        proto.pieces.add(piece=text, score=score)  # no type: that means normal
    for text in special:
        proto.pieces.add(piece=text, score=0.0, type=CONTROL)
    return proto.SerializeToString()


def _ranked(proto: Any, where: str, count: int) -> list[float]:
    """Whole numbers downward from the lowest ordinary score of a normal piece.

    Scores that float32 cannot count by ones (LLaMA's runs of spaces have -1e9) are not ordinary.
    """
    normal = (p.score for p in proto.pieces if p.type == NORMAL)
    lowest = math.floor(min((score for score in normal if score > -_EXACT), default=0.0))
    if lowest - count < -_EXACT:
        raise InputError(
            f"{where} has scores down to {lowest}, which leaves no room for {count} distinct ones "
            "below; take --scores=published, or another base"
        )
    return [float(lowest - i) for i in range(1, count + 1)]


def kept(data: bytes, where: str, ids: Sequence[int], unused: Collection[int]) -> bytes:
    """A model with some of the pieces.

    Args:
      data: the file.
      where: its name, for messages.
      ids: those to keep, ascending.
      unused: normal pieces among them that shall never be given out.
    """
    proto = parse(data, where)
    rows = [proto.pieces[i] for i in ids]
    smaller = ModelProto()
    smaller.CopyFrom(proto)
    del smaller.pieces[:]
    smaller.pieces.extend(rows)
    place = {old: new for new, old in enumerate(ids)}
    for index in unused:
        smaller.pieces[place[index]].type = UNUSED
    spec = smaller.trainer_spec
    for name in ("unk_id", "bos_id", "eos_id", "pad_id"):
        new = place.get(getattr(spec, name), getattr(spec, name))
        if new != getattr(spec, name):
            setattr(spec, name, new)
    return smaller.SerializeToString()
