"""Texts as they are compared for equality: what a reader would overlook is folded away."""

import functools
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

_DROPPED, _KEPT, _DIGIT = range(3)
_VARIED = (0, 0x20000), (0xE0000, 0xE1000)  # beside them are ideographs, or nothing
_CHARS = 1 << 15  # of a portion: its arrays stay in a core's cache


def portions(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Consecutive texts in portions small enough to work on as arrays, in order; all of them."""
    start = chars = 0
    for i, text in enumerate(texts):
        if i > start and chars + len(text) > _CHARS:
            yield texts[start:i]
            start, chars = i, 0
        chars += len(text)
    if start < len(texts):
        yield texts[start:]


def fold(texts: Sequence[str], whole: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Texts in compatibility form (NFKC) and without case, white space, punctuation and "~|^`".

    Korean is spaced and punctuated as people please, so neither is a difference. Digits stay, and a
    space stays for what stood between two of them: 3.5 is not 35. Other symbols stay: C++ is not C,
    and an angry face is not a smile.

    Args:
      texts: N of them.
      whole: keep all of a text of which nothing would stay, so that "?" is not "!".

    Returns:
      Their code points end to end, uint32 [C], and where each text ends there, int64 [N].
    """
    plain = [unicodedata.normalize("NFKC", text).casefold() for text in texts]
    data = "".join(plain).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(bytearray(data), "<u4")
    lengths = np.fromiter(map(len, plain), np.int64, len(plain))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    kind = _kinds()[codes]
    keep = kind != _DROPPED
    if whole:
        keep |= np.repeat(np.diff(_before(keep)[bounds]) == 0, lengths)

    at = np.flatnonzero(keep)
    digit = kind[at] == _DIGIT
    apart = np.flatnonzero(digit[1:] & digit[:-1] & (np.diff(at) > 1))
    left, right = np.searchsorted(bounds, (at[apart], at[apart + 1]), "right")
    gap = at[apart[left == right]] + 1  # and not where one text ends and another begins
    codes[gap], keep[gap] = ord(" "), True
    return codes[keep], _before(keep)[bounds[1:]]


def _before(mask: np.ndarray) -> np.ndarray:
    """How many are set before each place, and in all; int64 [C + 1]."""
    return np.concatenate([[0], np.cumsum(mask)])


@functools.cache
def _kinds() -> np.ndarray:
    """What becomes of each code point."""
    kinds = np.full(0x110000, _KEPT, np.uint8)
    for start, stop in _VARIED:
        kinds[start:stop] = list(map(_kind, map(chr, range(start, stop))))
    return kinds


def _kind(char: str) -> int:
    category = unicodedata.category(char)
    if category == "Nd":
        return _DIGIT
    # Cc, Cf: controls, joiners, soft hyphens. Tildes and accents that stand alone are how Korean
    # draws out a vowel or smiles. A variation selector only says how a symbol is drawn.
    mere = char in "~∼|" or "\ufe00" <= char <= "\ufe0f"
    return _DROPPED if mere or category in ("Cc", "Cf", "Sk") or category[0] in "PZ" else _KEPT
