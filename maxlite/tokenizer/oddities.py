"""Pieces of a vocabulary that a person should look at: what training on raw text leaves behind."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from maxlite.tokenizer.definition import Definition
from maxlite.tokenizer.pieces import SPACE
from maxlite.tokenizer.scripts import mixed
from maxlite.tokenizer.tokenizer import Tokenizer

_LAYOUT = dict.fromkeys(map(ord, "\n\r\t"))
LONG = 16  # SentencePiece trains none longer by default


@dataclass(frozen=True)
class Oddity:
    """Pieces that are odd in one way.

    Attributes:
      name: of the way.
      what: it means, in a sentence.
      ids: of the pieces, those to look at first in front.
      twins: by id, the piece that one of them is a variant of.
    """

    name: str
    what: str
    ids: list[int]
    twins: dict[int, int] = field(default_factory=dict)


def written(of: Tokenizer | Definition) -> dict[int, str | None]:
    """What the ordinary pieces stand for, by id; None where it is no whole characters.

    Special tokens and single bytes are left out.
    """
    tokenizer = of.tokenizer() if isinstance(of, Definition) else of
    texts: dict[int, str | None] = {}
    for index in range(tokenizer.rows):
        raw = tokenizer.raw(index)
        if raw is None or tokenizer.falls_back(index):
            continue
        try:
            texts[index] = raw.decode()
        except UnicodeDecodeError:
            if len(raw) > 1:
                texts[index] = None
    return texts


def oddities(of: Tokenizer | Definition) -> list[Oddity]:
    """Looks at every piece; one may be odd in several ways.

    Args:
      of: a tokenizer of any kind.

    Returns:
      All the ways, those without a piece included.
    """
    texts = written(of)
    whole = {index: text for index, text in texts.items() if text is not None}
    found = [
        Oddity(name, what, [index for index, text in whole.items() if odd(text)])
        for name, what, odd in _WAYS
    ]
    long = [index for index, text in whole.items() if len(text.strip()) > LONG]
    return [
        *found,
        Oddity(
            "very long",
            f"More than {LONG} characters: often a line that the text repeats, seldom a word.",
            sorted(long, key=lambda index: -len(whole[index])),
        ),
        Oddity(
            "parts of characters",
            "Not whole UTF-8: normal in byte-level vocabularies, but such a piece may bind two "
            "languages together.",
            [index for index, text in texts.items() if text is None],
        ),
        _variants(
            "same but for form",
            "Another piece is the same in Unicode's form NFKC: text of two encodings was mixed.",
            whole,
            _nfkc,
            lambda text: _nfkc(text) != text,
        ),
        _variants(
            "same but for case",
            "Another piece differs in upper and lower case alone: usual, but each costs a row.",
            whole,
            str.lower,
            lambda text: text.lower() != text,
        ),
    ]


def _variants(
    name: str,
    what: str,
    texts: dict[int, str],
    key: Callable[[str], str],
    variant: Callable[[str], bool],
) -> Oddity:
    """The pieces that are variants of another one, which has the same key."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, text in texts.items():
        groups[key(text)].append(index)
    twins: dict[int, int] = {}
    for same in groups.values():
        plain = [index for index in same if not variant(texts[index])] or same[:1]
        twins |= {index: plain[0] for index in same if index not in plain}
    return Oddity(name, what, sorted(twins), twins)


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _any(text: Iterable[str], kinds: tuple[str, ...]) -> bool:
    return any(unicodedata.category(character) in kinds for character in text)


def _repeats(text: str) -> bool:
    text = text.strip()
    return len(text) >= 4 and len(set(text)) == 1


_WAYS: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    (
        "white space alone",
        "Runs of spaces or line ends: wanted for code, else a trace of how text was laid out.",
        lambda text: len(text) > 1 and not text.replace(SPACE, " ").strip(),
    ),
    (
        "control characters",
        "Control, format or private characters, line ends and tabs apart: nothing that is read.",
        lambda text: _any(text.translate(_LAYOUT), ("Cc", "Cf", "Co", "Cn", "Cs")),
    ),
    (
        "replacement characters",
        "U+FFFD stands where a text was decoded wrongly before training.",
        lambda text: "\ufffd" in text,
    ),
    (
        "scripts mixed",
        "Letters of scripts that are not written together: two languages share one row.",
        mixed,
    ),
    (
        "digits joined",
        "Digits with other digits or letters: numbers are cut irregularly, and arithmetic suffers.",
        lambda text: len(text.strip()) > 1 and any(map(str.isdecimal, text)),
    ),
    (
        "one character repeated",
        "Four or more of the same: laughter, rules and padding, each length a row of its own.",
        _repeats,
    ),
)
