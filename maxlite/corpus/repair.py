"""Texts as they were meant: encodings mistaken for others undone, one form of Unicode and spaces.

ftfy knows most of what goes wrong between UTF-8 and the encodings of the West. It looks at every
character many times, so it is asked only about texts that hold a character it could act on. What it
doesn't know is Korean text in CP949 (EUC-KR) that was read as Latin-1 or Windows-1252.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import regex

from maxlite.corpus.settled import Settled, needed

# Characters that no part of a repair acts on, whatever stands beside them: ASCII but for control
# characters and &, Hangul and its single letters, Japanese, Chinese, and the punctuation that is
# usual among them. Most texts hold nothing else.
_SOUND = "\t\n -%'-~가-힣ㄱ-ㅣ一-鿿ぁ-んァ-ヺー、。〈-】…‘’“”–—"
_SUSPECT = re.compile(f"[^{_SOUND}]+")

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # a terminal's colours
_TAG = re.compile("<[A-Za-z/!]")
_BREAK = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_PLAIN = str.maketrans(
    dict.fromkeys("\xa0\u1680\u202f\u205f\u3000\u3164\uffa0", " ")
    | {chr(code): " " for code in range(0x2000, 0x200B)}
    | {
        chr(code): None
        for first, last in (
            (0x00, 0x08), (0x0E, 0x1F), (0x7F, 0x9F),  # control characters
            (0xAD, 0xAD), (0x180E, 0x180E), (0x200B, 0x200B),  # where a line may be divided
            (0x61C, 0x61C), (0x200E, 0x200F), (0x202A, 0x202E),  # directions
            (0x2060, 0x206F), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFC), (0xE0001, 0xE0001),
            (0xFDD0, 0xFDEF), (0xFFFE, 0xFFFF),  # no characters
        )
        for code in range(first, last + 1)
    }
)  # fmt: skip
_UNPLAIN = re.compile(f"[{''.join(map(re.escape, map(chr, _PLAIN)))}]")
# Joiners are spelling where letters take different shapes, and they bind emoji together.
_SHAPED = (
    r"[[\p{L}\p{M}]--[\p{Script=Latin}\p{Script=Hangul}\p{Script=Han}\p{Script=Hiragana}"
    r"\p{Script=Katakana}\p{Script=Cyrillic}\p{Script=Greek}\uFE00-\uFE0F]]"
)
_PICTURE = r"\p{Extended_Pictographic}"
_JOINER = regex.compile(
    rf"(?V1)(?<!{_SHAPED})(?:\u200c|(?<![{_PICTURE}\uFE0F\U0001F3FB-\U0001F3FF])\u200d"
    rf"|\u200d(?!{_PICTURE}))"
)
_LOST = re.compile("[\ud800-\udfff\ufffd]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# NFKC makes initial consonants of Korean's single letters: ㅋㅋ would become another ㅋㅋ that no
# keyboard writes.
_JAMO = re.compile("([\u3131-\u318e]+)")


@dataclass
class Repair(Settled):
    """Repairs and normalises Unicode.

    Attributes:
      form: Unicode's normal form, "NFC", "NFKC", "NFD" or "NFKD"; "" changes none.
      encodings: text that was decoded wrongly is decoded as it should have been.
      entities: HTML's `&amp;` becomes `&` where no tag is in the text: among tags it may stand for
        what must not become one (`Markup` knows).
      lost: what stands for characters that nobody can restore: U+FFFD and halves of surrogate
        pairs. Nothing, unless told; "\\ufffd" keeps their places.
      blanks: so many blanks may follow one another in a line; its indentation is kept.
      empty_lines: so many empty lines may follow one another.
    """

    form: str = "NFC"
    encodings: bool = True
    entities: bool = True
    lost: str = ""
    blanks: int = 2  # two after a sentence are ordinary typing, and PEP 8 before a comment
    empty_lines: int = 2  # as between functions of a program

    def check(self) -> None:
        if self.form not in ("", "NFC", "NFKC", "NFD", "NFKD"):
            raise self.refuse("form", "it must be NFC, NFKC, NFD, NFKD or empty for none")
        if self.lost not in ("", "\ufffd"):
            raise self.refuse("lost", 'it must be "" or "\\ufffd"')
        self.within("blanks", 1, float("inf"))
        self.within("empty_lines", 0, float("inf"))
        if self.encodings or self.entities:
            needed("ftfy", "'maxlite[corpus]'", "Repair")

    def once(self, text: str) -> str:
        if _SUSPECT.search(text):
            text = self._characters(text)
        elif self.form not in ("", "NFC"):  # that of all these characters
            text = _normal(self.form, text)
        text = text.strip()
        if "  " in text or "\n\n" in text or " \n" in text or "\t\n" in text:
            text = self._layout(text)
        return text

    def _characters(self, text: str) -> str:
        text = _ESCAPE.sub("", text)
        if self.entities and "&" in text and not _TAG.search(text):
            from ftfy.fixes import unescape_html

            text = unescape_html(text)
        if self.encodings:
            text = _decoded(text)
        text = _BREAK.sub("\n", text)  # after it: U+0085 is a part of much that was mistaken
        if _SURROGATE.search(text):
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if _LOST.search(text):
            text = text.replace("\ufffd", self.lost)
        if "\u3164" in text:
            text = _FILLED.sub(_syllable, text)
        if _UNPLAIN.search(text):
            text = text.translate(_PLAIN)
        if "\u200c" in text or "\u200d" in text:
            text = _JOINER.sub("", text)
        return _normal(self.form, text)

    def _layout(self, text: str) -> str:
        blanks, ends, lines = _layouts(self.blanks, self.empty_lines)
        text = blanks.sub(" " * self.blanks, text)
        text = ends.sub("", text)
        return lines.sub("\n" * (self.empty_lines + 1), text)


@lru_cache
def _layouts(blanks: int, empty_lines: int) -> tuple[re.Pattern[str], ...]:
    """What finds too many blanks, blanks at the end of a line, and too many empty lines.

    None begins in the middle of blanks, so long runs of them cost no more than others.
    """
    return (
        re.compile(rf"(?<=\S) {{{blanks + 1},}}"),
        re.compile(r"(?<![ \t])[ \t]++(?=\n)"),
        re.compile(rf"\n{{{empty_lines + 2},}}"),
    )


def _normal(form: str, text: str) -> str:
    if form in ("NFKC", "NFKD"):
        parts = _JAMO.split(text)
        parts[::2] = [unicodedata.normalize(form, part) for part in parts[::2]]  # type: ignore
        return "".join(parts)
    return unicodedata.normalize(form, text) if form else text  # type: ignore[arg-type]


def _decoded(text: str) -> str:
    """The text with what was decoded wrongly decoded as it should have been, line by line."""
    from ftfy import fix_encoding

    if _PAIR.search(text):
        text = _LINE.sub(_korean_line, text)
    if _bad(text):
        text = "\n".join(map(fix_encoding, text.split("\n")))  # U+0085 ends no line here
    return text


_AROUND = 6


def _bad(text: str) -> bool:
    """Whether ftfy would look for an encoding, asked only around what it could have noticed.

    What it takes for bad holds a suspect and is seven characters long at most.
    """
    from ftfy.badness import is_bad

    return any(
        is_bad(text[max(0, run.start() - _AROUND) : run.end() + _AROUND])
        for run in _SUSPECT.finditer(text)
    )


# KS X 1001 writes a syllable that it lacks as a filler and its three letters, the last of which may
# be a filler, too; the letters of each place stand here in the order of Unicode's syllables.
_FIRST = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_LAST = "\u3164ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_FILLED = re.compile(f"\u3164([{_FIRST}])([ㅏ-ㅣ])([{_LAST}]?)")


def _syllable(match: re.Match[str]) -> str:
    first, vowel, last = match.groups()
    number = _FIRST.index(first) * 21 + ord(vowel) - ord("ㅏ")
    return chr(ord("가") + number * 28 + _LAST.index(last or "\u3164"))


# Bytes from 0x80 on as Latin-1 and as Windows-1252 read them.
_WINDOWS = {bytes([byte]).decode("cp1252", "replace"): chr(byte) for byte in range(0x80, 0xA0)}
_WINDOWS.pop("\ufffd")
_TO_LATIN = str.maketrans(_WINDOWS)
_HIGH = "\x80-\xff" + "".join(_WINDOWS)
# The 2,350 syllables of KS X 1001 are two bytes, B0-C8 and A1-FE. Another 8,822, seldom written,
# end in other bytes, some of them in those of letters.
_PAIR = re.compile("[\xb0-\xc8][\xa1-\xfe]")
_LINE = re.compile(f"[{_HIGH}](?:[{_HIGH}\t -~]*[{_HIGH}])?[A-Za-z]?")
_WORD = re.compile(f"[{_HIGH}]{{2,}}")
# The most frequent syllables of Korean, four fifths of what reviews, news, chats and manuals hold.
_FREQUENT = frozenset(
    "이다는하지에가고요을의니어로은한사를아기서도나해스자인리있시수보만라정게들그대화면으일세영거했전제데합트할드것무주마부상여좋용"
    "생되장습말적모과오구연네미내까음않안없재예야러문와간국진같성터신소었반위비동바우명중체파유공려입때함작너조랑치원더된람남경각래프"
    "관감분겠당개행선현발포실운호환회타결크단메출본잘계히코르봐표레저점방며친건번았많금객최후버싶변설통달던열애력"
)


def _korean_line(match: re.Match[str]) -> str:
    """A part of a line as Korean; word by word where the whole of it makes no sense.

    One word that is Korean beyond doubt makes the others of its line so.
    """
    whole = match.group()
    certain = any(map(_korean, _WORD.findall(whole)))
    return _korean(whole, certain) or _WORD.sub(
        lambda word: _korean(word.group(), certain) or word.group(), whole
    )


def _korean(text: str, certain: bool = False) -> str:
    """What the text says if its bytes are CP949's; empty unless that is Korean beyond doubt.

    Seven tenths of all but ASCII and single letters (ㅋㅋ) must be syllables, three at least, and
    frequent ones a third of them and one more: words in Latin letters have few accents that follow
    each other, and what Latin-1's tables and formulas hold makes rare syllables, of which one in
    twelve is frequent. If it is certain without that, one syllable is enough.
    """
    try:
        read = text.translate(_TO_LATIN).encode("latin-1").decode("cp949")
    except UnicodeError:
        return ""
    letters = [c for c in read if c > "\x7f" and not "ㄱ" <= c <= "ㅣ"]
    syllables = [c for c in letters if "가" <= c <= "힣"]
    if 10 * len(syllables) < 7 * len(letters):
        return ""
    frequent = sum(syllable in _FREQUENT for syllable in syllables)
    sure = len(syllables) >= 3 and 3 * (frequent - 1) >= len(syllables)
    return read if sure or certain else ""
