"""Writes short children's stories, in English or Korean, one a line; the demo's text.

Every word and plot is in english.py and korean.py beside this file and was written for it. A story
is a plot whose beats are each told in one of a few ways, with people, places and things drawn from
word lists; Korean particles follow the last syllable of the word they stand on. The same arguments
give the same bytes; different seeds give different stories (a story is never written twice).

  python launch/demo/make_text.py --language=ko --stories=2000 --seed=1 --out=stories.txt
"""

import argparse
import os
import random
import re
import sys
from pathlib import Path
from typing import Any

import english
import korean

# Particle as written in a plot: (after a consonant, after a vowel).
_PARTICLES = {
    "은": ("은", "는"),
    "이": ("이", "가"),
    "을": ("을", "를"),
    "과": ("과", "와"),
    "아": ("아", "야"),
    "으로": ("으로", "로"),
    "이라는": ("이라는", "라는"),
    "이네": ("이네", "네"),
    "도": ("도", "도"),
}
_SLOT = re.compile(r"\{(\w+)(?:\.(\w+))?(?::([^}]+))?\}")


def attach(word: str, particle: str) -> str:
    """A Korean word with a particle in the form that the word's last syllable asks for."""
    code = ord(word[-1]) - 0xAC00
    if not 0 <= code < 11172:
        raise ValueError(f"'{word}' does not end in a Hangul syllable")
    final = code % 28  # 0: ends in a vowel; 8: in ㄹ, after which 으로 is 로 too
    closed = final != 0 and not (particle == "으로" and final == 8)
    return word + _PARTICLES[particle][0 if closed else 1]


def with_article(word: str, change: str) -> str:
    """An English word with "a" or "an", or (change "^") with its first letter capital."""
    if change == "^":
        return word[0].upper() + word[1:]
    return ("an " if word[0] in "aeiou" else "a ") + word


def parse(words: str | tuple[str, str]) -> list[dict[str, str]]:
    """A word list: "a|b|c", or names of forms and a table whose cells are "form / form / form"."""
    names, table = ("", words) if isinstance(words, str) else words
    cells = [cell.strip() for cell in re.split(r"[|\n]", table)]
    forms = [cell.split(" / ") for cell in cells if cell]
    return [dict(zip(names.split("|"), form, strict=True)) for form in forms]


class Teller:
    """Tells random stories in one language."""

    def __init__(self, language: str, rng: random.Random):
        book: Any = {"en": english, "ko": korean}[language]
        self._modify = {"en": with_article, "ko": attach}[language]
        self._plots = list(book.PLOTS.values())
        self._rng = rng
        self._words = {slot: parse(words) for slot, words in book.WORDS.items()}

    def _cast(self) -> dict[str, dict[str, str]]:
        """One word for every slot; the people differ, and so do word and word2 of a kind."""
        cast = {}
        for slot, words in self._words.items():
            cast[slot], cast[slot + "2"] = self._rng.sample(words, 2)
        cast["friend"] = cast["hero2"]
        return cast

    def tell(self) -> str:
        cast = self._cast()

        def fill(match: re.Match[str]) -> str:
            slot, form, change = match.groups()
            word = cast[slot]
            if form == "many":
                text = re.sub(r"y$", "ie", word[""]) + "s"
            elif form == "possessive":
                text = word[""] + ("'" if word[""].endswith("s") else "'s")
            else:
                text = word[form or ""]
            return self._modify(text, change) if change else text

        beats = [self._rng.choice(beat) for beat in self._rng.choice(self._plots)]
        return " ".join(_SLOT.sub(fill, beat) for beat in beats if beat)


def stories(language: str, count: int, seed: int) -> list[str]:
    """`count` different stories; a longer list from the same seed begins with the shorter one."""
    teller = Teller(language, random.Random(f"{language} {seed}"))
    told: dict[str, None] = {}
    while len(told) < count:
        told[teller.tell()] = None
    return list(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language", choices=("en", "ko"), required=True)
    parser.add_argument("--stories", type=int, default=1000)
    parser.add_argument("--skip", type=int, default=0, help="leave out so many, to hold them out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.out.exists():
        sys.exit(f"make_text: {args.out} exists; remove it or give another --out")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    told = stories(args.language, args.skip + args.stories, args.seed)[args.skip :]
    text = "".join(f"{story}\n" for story in told)
    partial = args.out.with_name(args.out.name + ".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, args.out)
    print(f"{args.out}: {args.stories} stories, {len(text.encode()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
