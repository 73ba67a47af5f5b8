"""What the tests of continued merges share: words, a script, and what pieces stand for."""

import unicodedata

from maxlite.tokenizer.definition import Definition

KINDS = ["sentencepiece", "byte_fallback", "byte_level"]
WORDS = (
    "영화 정말 재미있다 재미없다 최고 최고의 감동 이야기 배우 연기 좋다 좋았다 음악 시간".split()
)
WORDS += "ㅋㅋ ㅋㅋㅋㅋ ㅠㅠ".split()


def hangul(character: str) -> bool:
    return "HANGUL" in unicodedata.name(character, "")


def forms(definition: Definition) -> list:
    """Its encoders, loaded once: that takes longer than what is tested."""
    if not hasattr(definition, "forms"):
        names = ["json", "model"] if definition.form == "sentencepiece" else ["json"]
        definition.forms = [definition.tokenizer(name) for name in names]
    return definition.forms


def texts_of(definition: Definition, pieces: list[str]) -> list[str]:
    """What pieces stand for; broken characters as the replacement character."""
    tokenizer = definition.tokenizer()
    raw = [tokenizer.raw(tokenizer.find(piece)) for piece in pieces]
    return [data.decode(errors="replace") for data in raw]
