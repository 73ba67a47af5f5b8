"""Which of Unicode's scripts a text is written in; what all of them use counts for none."""

from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache

import regex

SCRIPTS = tuple(
    "Latin Han Hangul Hiragana Katakana Bopomofo Cyrillic Greek Arabic Hebrew Devanagari Bengali "
    "Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Thai Lao Khmer Myanmar Tibetan "
    "Mongolian Georgian Armenian Ethiopic Cherokee Canadian_Aboriginal Syriac Thaana Nko Tifinagh "
    "Yi Javanese Balinese Sundanese Ol_Chiki Vai Lisu Adlam Coptic Gothic Runic Ogham".split()
)
_ANY = regex.compile("|".join(rf"(?P<{name}>\p{{Script={name}}})" for name in SCRIPTS))
_TOGETHER = (
    {"Han", "Hiragana", "Katakana"},
    {"Han", "Bopomofo"},
)


@lru_cache(1 << 17)
def script(character: str) -> str:
    """The script of a character; "" where it is none of `SCRIPTS`, as of digits and signs."""
    found = _ANY.match(character)
    return found.lastgroup or "" if found else ""


def scripts(text: str) -> Counter[str]:
    """How many characters of each script a text has."""
    counts = Counter(map(script, text))
    del counts[""]
    return counts


def main_scripts(texts: Iterable[str], share: float = 0.1) -> list[str]:
    """The scripts that at least a share of those texts hold that are in any; frequent ones first.

    A few pieces in other scripts, which every trained vocabulary has, do not make them its own.
    """
    counts: Counter[str] = Counter()
    written = 0
    for text in texts:
        found = scripts(text)
        counts.update(found.keys())
        written += bool(found)
    return [name for name, count in counts.most_common() if count >= share * written]


def mixed(text: str) -> bool:
    """Whether a text holds scripts that no language writes one word in."""
    found = scripts(text).keys()
    return len(found) > 1 and not any(found <= together for together in _TOGETHER)


def holder(names: Collection[str]) -> "regex.Pattern[str] | None":
    """A pattern that finds a character of any of some scripts; None if there are none.

    Raises:
      regex.error: a name is unknown to Unicode.
    """
    if not names:
        return None
    return regex.compile("[" + "".join(rf"\p{{Script={name}}}" for name in names) + "]")
