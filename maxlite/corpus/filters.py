"""What drops a text by a number of its own: its length, its characters, its language, a draw."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import regex

from maxlite.corpus.kinds import counted
from maxlite.corpus.settled import needed
from maxlite.corpus.step import Filter, Result

_NO_LIMIT = 0


@dataclass
class Length(Filter):
    """Drops texts that are too short or too long; blanks around them don't count.

    Attributes:
      min_chars, max_chars: characters, no limit above if 0.
      min_words, max_words: what blanks divide, no limit above if 0. Languages that write no blanks
        have one word a text.
    """

    min_chars: int = 10  # shorter is no sentence of Korean
    max_chars: int = _NO_LIMIT
    min_words: int = 0
    max_words: int = _NO_LIMIT

    def check(self) -> None:
        for name in ("min_chars", "max_chars", "min_words", "max_words"):
            self.within(name, 0, float("inf"))
        for kind in ("chars", "words"):
            least, most = getattr(self, f"min_{kind}"), getattr(self, f"max_{kind}")
            if most and most < least:
                raise self.refuse(f"max_{kind}", f"it is below min_{kind}={least}")

    def reason(self, text: str) -> str:
        chars = len(text.strip())
        if chars < self.min_chars:
            return "too short"
        if self.max_chars and chars > self.max_chars:
            return "too long"
        if self.min_words or self.max_words:
            words = len(text.split())
            if words < self.min_words:
                return "too few words"
            if self.max_words and words > self.max_words:
                return "too many words"
        return ""


class Shares(Filter):
    """A filter by shares of kinds of characters; it looks at many texts at once."""

    def reason(self, text: str) -> str:
        return self.apply([text])[0][1]

    def verdicts(self, texts: Sequence[str]) -> list[tuple[str, np.ndarray]]:
        """By reason, which texts are dropped, bool [N]; the first that holds is the reason."""
        raise NotImplementedError

    def apply(self, texts: Sequence[str]) -> list[Result]:
        reasons = [""] * len(texts)
        for why, drops in reversed(self.verdicts(texts)):
            for number in np.flatnonzero(drops):
                reasons[number] = why
        return list(zip(texts, reasons, strict=True))


_SYMBOL = r"[^\p{L}\p{M}\p{N}\s]"
_LETTER = r"[\p{L}\p{M}]"
# ㅋㅋㅋ, ㅠㅠ and their halfwidth forms: letters of Korean that are in no syllable.
_JAMO = r"[\u3131-\u318e\uffa1-\uffdc]"


@dataclass
class Symbols(Shares):
    """Drops texts that are mostly no words. All shares are of characters other than white space.

    Attributes:
      max_share: of characters that are neither letters, marks nor digits: punctuation, emoji.
      max_digits: of digits and other numbers.
      max_jamo: of Korean letters outside syllables, as in ㅋㅋㅋㅋ.
      min_letters: of letters and marks of any script.
    """

    max_share: float = 0.5  # prose has 0.05, code 0.2, a short review that ends in !!!!! 0.4
    max_digits: float = 0.3
    max_jamo: float = 0.5  # more laughter than words
    min_letters: float = 0.3

    def check(self) -> None:
        for name in ("max_share", "max_digits", "max_jamo", "min_letters"):
            self.within(name, 0, 1)

    def verdicts(self, texts: Sequence[str]) -> list[tuple[str, np.ndarray]]:
        counts = counted(texts, (_SYMBOL, r"\p{N}", _LETTER, _JAMO))
        symbols, digits, letters, jamo = counts.T / np.maximum(counts.sum(axis=1), 1)
        return [
            ("symbols", symbols > self.max_share),
            ("digits", digits > self.max_digits),
            ("lone jamo", jamo > self.max_jamo),
            ("few letters", letters + jamo < self.min_letters),
        ]


@dataclass
class Script(Shares):
    """Drops texts that are not written in a script. All shares are of letters and marks.

    Attributes:
      names: Unicode's names of the scripts wanted, with | between them.
      min_share: of letters in them; a text without letters has none.
      beside: scripts that may stand among them.
      max_foreign: of letters in any other script.
    """

    names: str = "Hangul"
    min_share: float = 0.5
    beside: str = "Latin|Han"  # as Korean texts of law, history and technology have them
    max_foreign: float = 0.2

    def check(self) -> None:
        self.within("min_share", 0, 1)
        self.within("max_foreign", 0, 1)
        for setting in ("names", "beside"):
            for name in filter(None, getattr(self, setting).split("|")):
                try:
                    regex.compile(rf"\p{{Script={name}}}")
                except regex.error:
                    raise self.refuse(setting, f"Unicode has no script {name!r}") from None
        if not self.names:
            raise self.refuse("names", "name a script, such as Hangul")

    def verdicts(self, texts: Sequence[str]) -> list[tuple[str, np.ndarray]]:
        shared = r"\p{Script=Common}\p{Script=Inherited}"  # modifiers, accents: of every script
        beside = shared + _scripts(self.beside)
        counts = counted(
            texts,
            (_LETTER, f"[{_LETTER}&&[{beside}]]", f"[{_LETTER}&&[{_scripts(self.names)}]]"),
        )
        foreign, _, wanted = counts.T / np.maximum(counts.sum(axis=1), 1)
        return [
            (f"little {self.names}", wanted < self.min_share),
            ("foreign script", foreign > self.max_foreign),
        ]


def _scripts(names: str) -> str:
    return "".join(rf"\p{{Script={name}}}" for name in names.split("|") if name)


@dataclass
class Language(Filter):
    """Drops texts in other languages than one, by a fastText model that the user has.

    Attributes:
      model: its file, such as lid.176.bin.
      language: its label for the language, without `__label__`.
      min_share: the probability that the model must give it.
    """

    model: str = ""
    language: str = "ko"
    min_share: float = 0.65

    def check(self) -> None:
        self.within("min_share", 0, 1)
        if not self.model:
            raise self.refuse("model", "give a fastText model's file; none is ever downloaded")
        if not Path(self.model).is_file():
            raise self.refuse("model", "there is no such file")
        needed("fasttext", "fasttext-numpy2-wheel", "Language")

    def open(self) -> None:
        self.check()
        try:
            labels = _model(self.model).get_labels()
        except (ValueError, RuntimeError, MemoryError) as error:
            raise self.refuse("model", f"fastText can't read it: {error}") from None
        if _LABEL + self.language not in labels:
            some = ", ".join(label.removeprefix(_LABEL) for label in labels[:8])
            raise self.refuse("language", f"the model doesn't know it, but {some} ...")

    def reason(self, text: str) -> str:
        return self.apply([text])[0][1]

    def apply(self, texts: Sequence[str]) -> list[Result]:
        lines = [
            text.replace("\n", " ").encode("utf-8", "replace").decode("utf-8") for text in texts
        ]
        found = zip(*_model(self.model).predict(lines), strict=True) if lines else ()
        wanted = _LABEL + self.language
        kept = [
            len(labels) > 0 and labels[0] == wanted and shares[0] >= self.min_share
            for labels, shares in found
        ]
        return [
            (text, "" if keep else "another language")
            for text, keep in zip(texts, kept, strict=True)
        ]


_LABEL = "__label__"


@lru_cache(4)
def _model(path: str) -> Any:
    import fasttext

    return fasttext.load_model(path)


@dataclass
class Sample(Filter):
    """Keeps a random part of the texts, by a hash of each.

    Neither their order nor their division into files matters, a larger share holds all texts of a
    smaller one, and texts that are the same are kept or dropped together.

    Attributes:
      share: of texts kept.
      seed: another one keeps others.
    """

    share: float = 1.0
    seed: int = 0

    def check(self) -> None:
        self.within("share", 0, 1)

    def reason(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        key = str(self.seed).encode()
        number = int.from_bytes(hashlib.blake2b(data, digest_size=8, key=key).digest(), "big")
        return "" if number < self.share * 2**64 else "not in the sample"
