"""What a tokenizer file offers, whichever its kind, and what the kinds have in common.

Both are changed in memory, never on disk, so that raw text can't produce a special token.
"""

import contextlib
from collections.abc import Callable
from typing import Protocol

import numpy as np

from maxlite.tokenizer.pieces import BYTE, SPACE


class Backend(Protocol):
    """What a tokenizer file offers; ids in and out are those of the file."""

    rows: int  # 1 + the largest id
    literal: dict[int, str]  # ids that stand for a string as a whole and are never produced by text
    ends: dict[str, int]  # the file's own idea of "bos" and "eos"
    unk: int | None  # what stands for text that no other piece can write

    def find(self, piece: str) -> int | None:
        """The id of a piece, by its name in the file."""
        ...

    def piece(self, index: int) -> str | None:
        """The name of an id's piece; None where the id has none."""
        ...

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """The ids of each text, int32 [T], without BOS and EOS."""
        ...

    def decode(self, ids: list[int]) -> str:
        """The text of ids."""
        ...

    def raw(self, index: int) -> bytes | None:
        """The bytes of text that a piece stands for, if text can produce it."""
        ...

    def encode_inside(self, parts: list[bytes]) -> list[np.ndarray]:
        """`encode` for parts of a text, int32 [T] each; broken characters become byte pieces."""
        ...


def raw_bytes(piece: str, byte_pieces: bool) -> bytes:
    """The bytes that a piece stands for by its name, which may be that of a byte piece."""
    byte = BYTE.fullmatch(piece) if byte_pieces else None
    return bytes.fromhex(byte[1]) if byte else piece.replace(SPACE, " ").encode()


def byte_ids(part: bytes, find: Callable[[str], int | None]) -> list[int]:
    """The byte pieces of some bytes; nothing where one is missing."""
    found = [find(f"<0x{byte:02X}>") for byte in part]
    return [i for i in found if i is not None] if None not in found else []


def encode_parts(
    parts: list[bytes],
    encode: Callable[[list[str]], list[np.ndarray]],
    broken: Callable[[bytes], list[int]],
) -> list[np.ndarray]:
    """Encodes what is text all at once, and the rest one by one.

    Args:
      parts: UTF-8 that need not begin or end with a whole character.
      encode: of whole texts.
      broken: gives the ids of a part that is no text.

    Returns:
      The ids of each part, int32 [T].
    """
    texts = {}
    for i, part in enumerate(parts):
        with contextlib.suppress(UnicodeDecodeError):
            texts[i] = part.decode()
    encoded = dict(zip(texts, encode(list(texts.values())), strict=True))
    return [
        encoded[i] if i in encoded else np.array(broken(part), np.int32)
        for i, part in enumerate(parts)
    ]
