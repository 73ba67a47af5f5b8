"""Characters as UTF-8 bytes: where a text is cut inside one, and which ones begin alike."""

import unicodedata
from collections.abc import Callable

_LOWEST = {2: 0x80, 3: 0x800, 4: 0x10000}  # the first character that needs so many bytes


def open_end(data: bytes) -> bytes:
    """The bytes at the end that begin a character and don't complete it; empty if there are none.

    Args:
      data: UTF-8 that begins with a whole character.
    """
    for back in range(1, min(len(data), 3) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            return data[-back:] if length(byte) > back else b""
        if byte < 0x80:
            break
    return b""


def begins_only(start: bytes, fits: Callable[[str], bool]) -> bool:
    """Whether every assigned character whose UTF-8 begins with these bytes fits.

    Args:
      start: the first byte, and any that follow, of characters of more bytes.
      fits: asked for each of those characters.
    """
    whole = length(start[0])
    code = start[0] & (0x7F >> whole)
    for byte in start[1:]:
        code = code << 6 | byte & 0x3F
    span = 1 << 6 * (whole - len(start))
    low, high = max(code * span, _LOWEST[whole]), min((code + 1) * span, 0x110000)
    assigned = [c for c in map(chr, range(low, high)) if unicodedata.category(c) not in _NOT_TEXT]
    return bool(assigned) and all(map(fits, assigned))


_NOT_TEXT = ("Cn", "Cs")  # unassigned, surrogates


def length(byte: int) -> int:
    """Bytes of the UTF-8 character that begins with this one; 1 if none of several does."""
    return 1 + (byte >= 0xC2) + (byte >= 0xE0) + (byte >= 0xF0) if byte < 0xF5 else 1
