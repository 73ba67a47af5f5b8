"""Texts that say the same again and again.

After Gopher's repetition removal (Rae et al., arXiv 2112.11446, appendix A.1.1, table A1), measured
without a word tokenizer: words are what blanks divide, and single characters where a script writes
no blanks. Shares are of characters other than white space. Three things differ on purpose, because
documents here may be one line long and Gopher's have fifty words at least: a phrase is frequent
only from three times on (in five words any two are a fifth of the text), below fifty words half of
the text must be repeated, and of a repeated n-gram only what comes after its first time is counted,
which is what would go if it were said once.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import regex

from maxlite.corpus.step import Filter

# Scripts without blanks between words: a character each. Others: what blanks divide.
_WORD = regex.compile(
    r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}"
    r"\p{Script=Khmer}\p{Script=Myanmar}\p{Script=Tibetan}]\p{M}*"
    r"|[^\s\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}"
    r"\p{Script=Khmer}\p{Script=Myanmar}\p{Script=Tibetan}]+"
)
_DENSE = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_PARAGRAPH = re.compile(r"\n\s*\n")
_LEAST_RUN = 5  # 아아아 and 1000 are no runs
_RUN = re.compile(rf"([^\W_])\1{{{_LEAST_RUN - 1},}}")  # rules such as ----- are layout
_LEAST_TIMES = 3
_SHORT, _SHORT_SHARE = 50, 0.5
_GOPHER_TOP = ((2, 0.20), (3, 0.18), (4, 0.16))
_GOPHER_REPEATED = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))


@dataclass
class Repetition(Filter):
    """Drops texts of which too much is repeated.

    Attributes:
      max_lines, max_line_chars: share of lines that were there before, and of characters in them.
      max_paragraphs, max_paragraph_chars: the same of what empty lines divide.
      top: for n, the share of characters in the most frequent phrase of n words.
      repeated: for n, the share of characters in phrases of n words that were there before.
      max_run: how often a letter or digit may follow itself; no limit if 0.
      max_run_share: share of a text in such runs of five or more, so that laughter alone is
        dropped and a sentence that ends in it is not.
    """

    max_lines: float = 0.30
    max_line_chars: float = 0.20
    max_paragraphs: float = 0.30
    max_paragraph_chars: float = 0.20
    top: tuple[tuple[int, float], ...] = _GOPHER_TOP
    repeated: tuple[tuple[int, float], ...] = _GOPHER_REPEATED
    max_run: int = 50
    max_run_share: float = 0.7

    def check(self) -> None:
        shares = "max_lines max_line_chars max_paragraphs max_paragraph_chars max_run_share"
        for name in shares.split():
            self.within(name, 0, 1)
        self.within("max_run", 0, float("inf"))
        for name in ("top", "repeated"):
            for n, share in getattr(self, name):
                if n != int(n) or n < 1 or not 0 <= share <= 1:
                    raise self.refuse(name, "it must list (words, share from 0 to 1)")

    def reason(self, text: str) -> str:
        return self._runs(text) or self._units(text) or self._phrases(text)

    def _runs(self, text: str) -> str:
        runs = [len(run.group()) for run in _RUN.finditer(text)]
        if not runs:
            return ""
        if self.max_run and max(runs) > self.max_run:
            return "long run of a character"
        share = sum(runs) / len("".join(text.split()))
        return "mostly runs of a character" if share > self.max_run_share else ""

    def _units(self, text: str) -> str:
        """Paragraphs and lines."""
        text = text.strip()
        if "\n" not in text:
            return ""
        paragraphs = [part.strip() for part in _PARAGRAPH.split(text)]
        count, chars = _again(paragraphs)
        if count > self.max_paragraphs or chars > self.max_paragraph_chars:
            return "repeated paragraphs"
        lines = [line.strip() for line in text.split("\n") if line and not line.isspace()]
        count, chars = _again(lines)
        if count > self.max_lines or chars > self.max_line_chars:
            return "repeated lines"
        return ""

    def _phrases(self, text: str) -> str:
        words = _WORD.findall(text) if _DENSE.search(text) else text.split()
        if len(set(words)) == len(words):  # most short texts: no phrase can be there twice
            return ""
        phrases = Phrases(words)
        total = phrases.chars[-1]
        least = _SHORT_SHARE if len(words) < _SHORT else 0.0
        top, repeated = dict(self.top), dict(self.repeated)
        for n in range(1, max([*top, *repeated, 0]) + 1):
            if not phrases.grow():
                return ""  # and no longer phrase is there twice, either
            if n in top and phrases.frequent() > max(top[n], least) * total:
                return f"frequent {n}-gram"
            if n in repeated and phrases.again() > max(repeated[n], least) * total:
                return f"repeated {n}-grams"
        return ""


class Phrases:
    """The phrases of n words that a text has more than once, for n = 1, 2, ...

    Attributes:
      n: words of a phrase; 0 before the first `grow`.
      chars: for each word, the characters before it; those of the whole text last.
    """

    def __init__(self, words: Sequence[str]):
        self.n = 0
        self.chars = list(accumulate(map(len, words), initial=0))
        self._words = words
        # The places where each of them begins. A phrase can't be there twice if what is left of it
        # without its last word is not, so most places are soon out.
        self._places = [list(range(len(words)))]

    def grow(self) -> bool:
        """Goes on to phrases of one word more; says whether there are any."""
        words, last = self._words, len(self._words) - self.n
        longer = []
        for places in self._places:
            by_next: dict[str, list[int]] = {}
            for place in places:
                if place < last:
                    by_next.setdefault(words[place + self.n], []).append(place)
            longer += [same for same in by_next.values() if len(same) > 1]
        self.n += 1
        self._places = longer
        return bool(longer)

    def frequent(self) -> int:
        """Characters in the most frequent phrase, if three of it have room where it is.

        Of several that are equally frequent, those of the one that has most.
        """
        most = max(map(len, self._places))
        if most < _LEAST_TIMES:
            return 0
        covered = (self._covered(places) for places in self._places if len(places) == most)
        return max((chars for words, chars in covered if words >= _LEAST_TIMES * self.n), default=0)

    def again(self) -> int:
        """Characters in phrases that were there before."""
        return self._covered(sorted(place for same in self._places for place in same[1:]))[1]

    def _covered(self, places: Iterable[int]) -> tuple[int, int]:
        """Words and characters of the phrases at these places, in ascending order."""
        words = chars = reached = 0
        for place in places:
            start, reached = max(place, reached), place + self.n
            words += reached - start
            chars += self.chars[reached] - self.chars[start]
        return words, chars


def _again(units: Sequence[str]) -> tuple[float, float]:
    """Shares of units that were there before, by count and by characters."""
    seen: set[str] = set()
    again = [unit for unit in units if unit in seen or seen.add(unit)]  # type: ignore[func-returns-value]
    return len(again) / len(units), sum(map(len, again)) / sum(map(len, units))
