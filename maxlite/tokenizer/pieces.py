"""One piece of a tokenizer, and how text is written in pieces."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise

SPACE = "▁"  # how a piece writes a space, byte-level ones apart
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one id stands for.

    Attributes:
      text: as the file writes it ("▁the", "<0x0A>", "Ġthe").
      kind: "normal"; "byte" (a byte that text falls back to, or of the byte-level alphabet);
        "special" (control, unknown, user-defined and added tokens); "unused" (SentencePiece makes
        it on the way to longer pieces, but never gives it out).
      score: SentencePiece's; 0.0 where there is none.
    """

    text: str
    kind: str
    score: float = 0.0


def splits(pieces: Iterable[str], known: Collection[str]) -> list[Pair]:
    """All ways to make pieces of two known ones: piece by piece, the longest first part first."""
    return [
        (piece[:i], piece[i:])
        for piece in pieces
        for i in range(len(piece) - 1, 0, -1)
        if piece[:i] in known and piece[i:] in known
    ]


def falls(values: Iterable[float]) -> bool:
    """Whether no value is greater than the one before it."""
    return all(a >= b for a, b in pairwise(values))


def shown(piece: str) -> str:
    """A piece in a message; long ones shortened."""
    return repr(piece if len(piece) <= 40 else piece[:37] + "...")


def listed(pieces: Iterable[str], most: int = 3) -> str:
    """The first few pieces, for a message."""
    some = [shown(piece) for piece in pieces]
    return ", ".join(some[:most]) + (", ..." if len(some) > most else "")
