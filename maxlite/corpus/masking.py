"""Personal data replaced by words for what it was.

A pattern says where a number or an address may be, and a test of what it found whether it is one:
the parts of a date, a check digit, a range. Numbers that are part of something longer (of ISBNs,
decimals, identifiers) are left alone: no digit, and no point or hyphen with a digit, may touch
them. `\\b` and `\\d` are not used, to which Hangul is a letter and ٣ a digit.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from maxlite.corpus.settled import Settled

_NOT_BEFORE = r"(?<![0-9])(?<![0-9][-./])"
_NOT_AFTER = r"(?![0-9]|[-./][0-9])"

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_%+-](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![A-Za-z0-9@]|-[a-z])"
)

# Between parts a hyphen, a point, a blank, a bracket, or a blank on each side of one.
_GAP = r"(?: ?[-.·–)] ?| )"
_AREA = "(?:2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|80|50[2-8]?)"
_MOBILE = "1[016-9]"
_PHONE = re.compile(
    rf"{_NOT_BEFORE}(?:"
    # From abroad, with or without the 0 that a call within Korea begins with.
    rf"(?:\+ ?|\(\+?|00)82\)?[- .]?(?:\(0\)[- ]?|0)?(?:{_MOBILE}|{_AREA}){_GAP}?"
    rf"[0-9]{{3,4}}{_GAP}?[0-9]{{4}}"
    # Mobiles, whose digits may stand together: eleven from 010 on, unless all are 0 and 1 as in
    # base two, and ten or eleven from the older prefixes on.
    rf"|\(?0{_MOBILE}{_GAP}[0-9]{{3,4}}{_GAP}?[0-9]{{4}}"
    rf"|0(?:10(?![01]+(?![0-9]))[0-9]{{4}}|1[16-9][0-9]{{3,4}}){_GAP}?[0-9]{{4}}"
    # Others begin with an area's number and need something between the parts.
    rf"|\(?0{_AREA}{_GAP}[0-9]{{3,4}}{_GAP}[0-9]{{4}}"
    rf"){_NOT_AFTER}"
)
# Companies' numbers look like years from and to: 1588-1592. They are known by a word before them,
# or by a second part that is no year.
_COMPANY = re.compile(
    rf"{_NOT_BEFORE}(?P<word>(?:전화|문의|상담|센터|대표|번호|콜|tel|☎|☏)[^0-9\n]{{0,12}})?"
    r"(?P<number>1(?:5(?:22|33|44|66|77|88|99)|6(?:00|11|44|61|66|68|70|88)|8(?:00|11|33|55|66|77|"
    rf"99))[-.](?P<last>[0-9]{{4}})){_NOT_AFTER}",
    re.IGNORECASE,
)
# YYMMDD-Gxxxxxx. Since October 2020 the last six digits are drawn by lot, so a check digit can't be
# asked for; only where no hyphen tells what the thirteen digits are it must hold.
_RESIDENT = re.compile(
    rf"{_NOT_BEFORE}([0-9]{{2}})([0-9]{{2}})([0-9]{{2}})( ?[-–] ?| |)([0-9])[0-9]{{6}}{_NOT_AFTER}"
)
_CENTURY = {  # by the digit G: 1, 3, 9 men and 2, 4, 0 women; 5 to 8 those of other nations
    **dict.fromkeys("1256", 1900),
    **dict.fromkeys("3478", 2000),
    **dict.fromkeys("90", 1800),
}
_FOREIGN = "5678"
_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)

_CARD = re.compile(
    rf"{_NOT_BEFORE}(?:[0-9]{{4}}([- ]?)[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{4}}|3[47][0-9]{{2}}"
    rf"([- ]?)[0-9]{{6}}\2[0-9]{{5}}){_NOT_AFTER}"
)
_IPV4 = re.compile(
    r"(?<![0-9A-Za-z.=<>~^-])(?<!버전 )(?<!version )(?<!ver\. )(?<!release )"
    rf"[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}{_NOT_AFTER}",
    re.IGNORECASE,
)


def _company(match: re.Match[str]) -> bool:
    return bool(match["word"]) or not 1000 <= int(match["last"]) <= 2100


def _registered(match: re.Match[str]) -> bool:
    year, month, day, hyphen, generation = match.groups()
    try:
        date(_CENTURY[generation] + int(year), int(month), int(day))
    except ValueError:
        return False
    return bool(hyphen.strip()) or _checked(re.sub("[^0-9]", "", match.group()))


def _checked(digits: str) -> bool:
    """Whether the last of thirteen digits is the check digit that numbers had before 2020."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=False))
    rest = (11 - total % 11) % 10
    return int(digits[-1]) == ((rest + 2) % 10 if digits[6] in _FOREIGN else rest)


def _luhn(match: re.Match[str]) -> bool:
    digits = [int(digit) for digit in match.group() if digit.isdecimal()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _public(match: re.Match[str]) -> bool:
    """Whether it is somebody's address; 1.2.3.4 and 7.3.5.10 are versions and sections."""
    try:
        address = ipaddress.IPv4Address(match.group())
    except ValueError:
        return False
    return address.is_global and sum(part >= 10 for part in address.packed) >= 2


_Test = Callable[[re.Match[str]], bool]
# By kind: what replaces it, what must be in a text that holds one, patterns, tests. In this order:
# what might be a part of something longer comes after it.
_KINDS: dict[str, tuple[str, re.Pattern[str], tuple[tuple[re.Pattern[str], _Test], ...]]] = {
    "email": ("[이메일]", re.compile("@"), ((_EMAIL, lambda match: True),)),
    "card": ("[카드번호]", re.compile("[0-9]{4}"), ((_CARD, _luhn),)),
    "resident_number": (
        "[주민등록번호]",
        re.compile("[0-9]{6}"),
        ((_RESIDENT, lambda match: match[5] not in _FOREIGN and _registered(match)),),
    ),
    "foreigner_number": (
        "[외국인등록번호]",
        re.compile("[0-9]{6}"),
        ((_RESIDENT, lambda match: match[5] in _FOREIGN and _registered(match)),),
    ),
    "phone": (
        "[전화번호]",
        re.compile("[0-9]{4}"),
        ((_PHONE, lambda match: True), (_COMPANY, _company)),
    ),
    "ipv4": ("[IP 주소]", re.compile(r"[0-9]\.[0-9]"), ((_IPV4, _public),)),
}
KINDS = tuple(_KINDS)


@dataclass
class Mask(Settled):
    """Replaces personal data by words.

    The words are Korean in brackets: they read as what they stand for, they are made of tokens that
    any tokenizer for Korean has, nothing takes them for a special token, and nobody owns them, as
    somebody may own an address or a number made up.

    Attributes:
      kinds: what to replace. Of `KINDS`, cards and addresses of computers are not among them unless
        told: many that look like one are article numbers and versions.
      replacements: (kind, words) for words of one's own, as (("email", "[email]"),).
    """

    kinds: tuple[str, ...] = ("email", "phone", "resident_number", "foreigner_number")
    replacements: tuple[tuple[str, str], ...] = ()

    def check(self) -> None:
        for setting, kinds in (
            ("kinds", self.kinds),
            ("replacements", [kind for kind, _ in self.replacements]),
        ):
            for kind in kinds:
                if kind not in _KINDS:
                    raise self.refuse(setting, f"{kind!r} is none of {', '.join(KINDS)}")
        for _, words in self.replacements:
            if self.once(words) != words:
                raise self.refuse("replacements", f"{words!r} would be replaced itself")

    def once(self, text: str) -> str:
        for kind, (words, hint, patterns) in _KINDS.items():
            if kind in self.kinds and hint.search(text):
                words = dict(self.replacements).get(kind, words)
                for pattern, test in patterns:
                    text = pattern.sub(_replaced(words, test), text)
        return text


def _replaced(words: str, test: _Test) -> Callable[[re.Match[str]], str]:
    def replaced(match: re.Match[str]) -> str:
        if not test(match):
            return match.group()
        return (match.groupdict().get("word") or "") + words

    return replaced
