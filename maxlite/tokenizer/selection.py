"""Which pieces are wanted: by script, by a regular expression, or from a list."""

from collections.abc import Callable
from pathlib import Path

import regex

from maxlite.errors import InputError
from maxlite.tokenizer.pieces import SPACE

Keep = Callable[[str], bool]
HOW = "script:Han|Hangul, regex:PATTERN or list:FILE"


def selection(text: str) -> Keep:
    """What a selection means, as a test of the text of a piece (spaces as spaces).

    - `script:NAME[|NAME...]`, Unicode's names: the text has a letter of one of the scripts, and is
      nothing else but characters that are used with them, marks and punctuation, with at most a
      space before. A text without such letters never holds such a piece, so its ids stay as they
      were. That nothing else may be in a piece keeps other words beside them as they were, too:
      "Python은" has the pieces of "Python" before what is new.
    - `regex:PATTERN` of the regex package: it is found somewhere in the text.
    - `list:FILE`: the text is a line of a UTF-8 file; a space may be written as ▁.

    Args:
      text: one of these.

    Raises:
      InputError: it is none of them, a script or pattern that is not known, a list that cannot be
        read or is empty.
    """
    kind, _, what = text.partition(":")
    if kind == "script" and what:
        return _scripts(what.split("|"))
    if kind == "regex" and what:
        try:
            pattern = regex.compile(what)
        except regex.error as error:
            raise InputError(f"{what!r} is not a regular expression: {error}") from None
        return lambda piece: pattern.search(piece) is not None
    if kind == "list" and what:
        listed = read_list(Path(what).expanduser())
        return frozenset(line.replace(SPACE, " ") for line in listed).__contains__
    raise InputError(f"{text!r} does not select pieces; write {HOW}")


def _scripts(names: list[str]) -> Keep:
    own, used = "", ""
    for name in names:
        try:
            known = name.replace("_", "").isalpha() and regex.compile(rf"\p{{Script={name}}}")
        except regex.error:
            known = None
        if not known:
            raise InputError(
                f"{name!r} is not a script that Unicode knows; write it like Hangul, Han, Hiragana,"
                " Thai, Arabic or Devanagari"
            ) from None
        own += rf"\p{{Script={name}}}"
        used += rf"\p{{Script={name}}}\p{{Script_Extensions={name}}}"
    pattern = regex.compile(rf"(?V1) ?(?=.*[[{own}]&&\p{{L}}])[{used}\p{{Inherited}}\p{{P}}]+")
    return lambda piece: pattern.fullmatch(piece) is not None


def read_list(path: Path) -> tuple[str, ...]:
    """The lines of a UTF-8 file that lists pieces, each once; those of white space left out.

    Raises:
      InputError: it cannot be read, or lists nothing.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not valid UTF-8 (at byte {error.start})") from None
    pieces = tuple(dict.fromkeys(line.rstrip("\r") for line in lines if line.strip()))
    if not pieces:
        raise InputError(f"{path} lists no pieces; write one a line")
    return pieces
