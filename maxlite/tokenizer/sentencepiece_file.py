"""A SentencePiece model as a backend."""

import os
from functools import cached_property
from pathlib import Path

import numpy as np
import sentencepiece

from maxlite.errors import InputError
from maxlite.tokenizer.backends import byte_ids, encode_parts, raw_bytes


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
        self._path = path
        self._processor = processor
        self._names = names
        self.rows = size
        self.unk = processor.unk_id() if processor.unk_id() >= 0 else None
        self.literal = {i: p for p, i in names.items() if processor.is_control(i)}
        ends = {"bos": processor.bos_id(), "eos": processor.eos_id()}
        self.ends = {key: index for key, index in ends.items() if index >= 0}

    def find(self, piece: str) -> int | None:
        return self._names.get(piece)

    def piece(self, index: int) -> str | None:
        return self._processor.id_to_piece(index) if 0 <= index < self.rows else None

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        return self._processor.encode_as_numpy(texts, num_threads=_threads())

    def decode(self, ids: list[int]) -> str:
        return self._processor.decode(ids)

    def raw(self, index: int) -> bytes | None:
        """The bytes of text that a piece stands for, if text can produce it."""
        p, piece = self._processor, self.piece(index)
        if piece is None or p.is_control(index) or p.is_unknown(index):
            return None
        return raw_bytes(piece, p.is_byte(index))

    def encode_inside(self, parts: list[bytes]) -> list[np.ndarray]:
        """`encode` for what stands inside a text; broken characters become byte pieces."""
        return encode_parts(parts, self._inside.encode_as_numpy, lambda p: byte_ids(p, self.find))

    @cached_property
    def _inside(self) -> sentencepiece.SentencePieceProcessor:
        data = _edited(self._processor.serialized_model_proto(), set(), False, whole=False)
        return _sentencepiece(self._path, data)


def _threads() -> int:
    """Both libraries obey the variable that only the tokenizers library knows."""
    switch = os.environ.get("TOKENIZERS_PARALLELISM", "").lower()
    return 1 if switch in ("0", "n", "f", "no", "off", "false") else -1


def _sentencepiece(path: Path, data: bytes) -> sentencepiece.SentencePieceProcessor:
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=data)
        if processor.get_piece_size() > 0:
            return processor
    except (RuntimeError, OSError):
        pass
    raise InputError(f"{path} is not a SentencePiece model: it is damaged or of another kind")


def _edited(data: bytes, hidden: set[int], prefix_space: bool, whole: bool = True) -> bytes:
    from sentencepiece import sentencepiece_model_pb2 as pb2

    proto = pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(data)
    for index in hidden:
        proto.pieces[index].type = proto.SentencePiece.CONTROL
    if not prefix_space:
        proto.normalizer_spec.add_dummy_prefix = False
    if not whole:  # spaces at the ends of a part of a text belong to it
        proto.normalizer_spec.remove_extra_whitespaces = False
    return proto.SerializeToString()
