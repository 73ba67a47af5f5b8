"""One tokenizer made from another: is it so, and what its new pieces were before."""

from dataclasses import dataclass

import numpy as np

from maxlite.errors import InputError
from maxlite.tokenizer.characters import length
from maxlite.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class OldPieces:
    """The ids into which a base tokenizer splits each of N new pieces, one after the other.

    Attributes:
      ids: int32 [P].
      starts, stops: int64 [N]; the pieces of new piece i are `ids[starts[i]:stops[i]]`. Both are
        equal where it has none: a special token, or text that the base cannot write.
      lead_starts, lead_stops: int64 [N]; the same for the beginning of each: the fewest pieces that
        hold its first character, a space before that left out.
    """

    ids: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    lead_starts: np.ndarray
    lead_stops: np.ndarray


def check_extends(base: Tokenizer, new: Tokenizer) -> None:
    """Refuses a tokenizer that is not another one with more ids behind its own.

    Raises:
      InputError: the first id at which they differ, with both pieces, or that nothing is new.
    """
    for index in range(min(base.rows, new.rows)):
        if base.piece(index) != new.piece(index):
            raise InputError(
                f"{new.path} does not extend {base.path}: id {index} is {new.piece(index)!r} there "
                f"and {base.piece(index)!r} here; append new pieces behind the old ones"
            )
    if new.rows <= base.rows:
        raise InputError(
            f"{new.path} has {new.rows} ids and {base.path} has {base.rows}: there is nothing to "
            "extend; name a tokenizer with new pieces behind the old ones"
        )


def check_keeps(base: Tokenizer, new: Tokenizer, kept: np.ndarray) -> None:
    """Refuses a tokenizer whose ids are not the kept ones of another, in order.

    Args:
      base: the whole tokenizer.
      new: the compacted one.
      kept: the ids of `base` that it holds, ascending [R].

    Raises:
      InputError: the first id at which they differ, with both pieces.
    """
    for index, old in enumerate(kept.tolist()[: new.rows]):
        piece = base.piece(old)
        if piece and piece != new.piece(index):
            raise InputError(
                f"{new.path} does not belong to these ids: its id {index} is "
                f"{new.piece(index)!r}, and id {old} of {base.path}, which comes in its place, is "
                f"{piece!r}"
            )


def old_pieces(base: Tokenizer, new: Tokenizer) -> OldPieces:
    """Splits every new piece of a tokenizer as the base would inside a text.

    A piece that begins with a space is split as the beginning of a word, any other as the inside of
    one. Pieces of broken characters (byte-level BPE) are made of the base's pieces for their bytes.

    Args:
      base: the tokenizer with ids below `base.rows`.
      new: one that extends it.
    """
    raw = [new.raw(index) for index in range(base.rows, new.rows)]
    written = [i for i, part in enumerate(raw) if part]
    parts = base.encode_inside([raw[i] or b"" for i in written])
    counts = np.zeros(len(raw), np.int64)
    counts[written] = [len(part) for part in parts]
    ids = np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int32)
    stops = np.cumsum(counts)
    starts = stops - counts
    meant = {index: base.raw(index) or b"?" for index in np.unique(ids).tolist()}
    leads = [
        _lead([meant[index] for index in ids[start:stop].tolist()])
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]
    skipped, taken = np.array(leads, np.int64).reshape(-1, 2).T
    return OldPieces(ids, starts, stops, starts + skipped, starts + skipped + taken)


def _lead(parts: list[bytes]) -> tuple[int, int]:
    """How many pieces to skip, and how many then hold the first character."""
    start = 0
    while start + 1 < len(parts) and not parts[start].strip(b" "):
        start += 1
    first, stop = b"", start
    while stop < len(parts):
        first += parts[stop]
        stop += 1
        text = first.lstrip(b" ")
        if not text or len(text) >= length(text[0]):
            break
    return start, stop - start
