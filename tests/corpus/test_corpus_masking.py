"""Personal data, and numbers that are none."""

import random
from datetime import date, timedelta

import corpus_examples as made
import pytest

from maxlite.corpus.masking import KINDS, Mask
from maxlite.errors import InputError


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("kim@naver.com으로", "[이메일]으로"),
        ("<a.b+c@x-y.co.kr>, 메일:abc_d@gmail.com.", "<[이메일]>, 메일:[이메일]."),
        ("010-1234-5678", "[전화번호]"),
        ("TEL010-1234-5678번", "TEL[전화번호]번"),
        ("01012345678입니다", "[전화번호]입니다"),
        ("010 1234 5678, 010.1234.5678", "[전화번호], [전화번호]"),
        ("010)1234-5678 010 - 1234 - 5678", "[전화번호] [전화번호]"),
        ("011-123-4567", "[전화번호]"),
        ("(02)123-4567 / 02)1234-5678", "[전화번호] / [전화번호]"),
        ("☎02-123-4567~8", "☎[전화번호]~8"),
        ("031-1234-5678, 070-1234-5678, 0505-123-4567", "[전화번호], [전화번호], [전화번호]"),
        ("+82-10-1234-5678, +82 2 123 4567", "[전화번호], [전화번호]"),
        ("+821012345678, (+82)10-1234-5678", "[전화번호], [전화번호]"),
        ("+82(0)10-1234-5678", "[전화번호]"),
        ("1588-3456", "[전화번호]"),
        ("고객센터 1588-1599", "고객센터 [전화번호]"),
        ("900101-1234567, 010101 - 3234567", "[주민등록번호], [주민등록번호]"),
        ("850505-5123456", "[외국인등록번호]"),
        ("0001013000008 9001011000003", "[주민등록번호] 9001011000003"),
    ],
)
def test_personal_data_is_replaced(text, masked):
    assert Mask().change(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-02, 2019.12.31, 010-10-10, 12:34:56, 2020-01-02T12:34:56.789012",
        "1,234,567원, 12,000,000, 3.141592653589, 0.010 123 4567",
        "ISBN 978-89-01-23456-7, 89-010-1234-5, 0-201-63361-2, ISSN 0317-8471",
        "v1.2.3.4, 1.2.3.4, 10.15.7, 2.0.1-rc1, 192.168.0.1",
        "arXiv:2112.11446, arXiv:0705.1234v2, 10.1000/182, RFC 2616",
        "1588-1592년, 1592-1598, 2010-2020, 1600-1644, 1811-1866",
        "01010101010, 0102030405, 102-1234-5678, 100-200-3000",
        "901301-1234567, 900230-1234567, 900101-12345678, 1900101-1234567",
        "1234567890123, 20200101123456, 550e8400-e29b-41d4-a716-446655440000",
        "@app.route, a@b, user@host, git@github, a @ b, @kim, x@y.1",
        "010-1234-5678-9, 2020-010-1234-5678, 10.010-1234-5678",
        "110-123-456789, 4111-1111-1111-1111, 8.8.8.8",
        "1번 2번 3번 010 02 031",
    ],
)
def test_other_numbers_stay(text):
    assert Mask().change(text) == text


def test_cards_and_addresses_of_computers_on_demand():
    step = Mask(kinds=("card", "ipv4"))
    text = "4111-1111-1111-1111, 4111111111111111, 378282246310005, 121.78.33.7에서"
    assert step.change(text) == "[카드번호], [카드번호], [카드번호], [IP 주소]에서"
    text = "4111-1111-1111-1112, 0000-0000-0000-0000, 192.168.10.20, 1.2.3.4, v121.78.33.7, "
    text += "버전 121.78.33.7, pkg==121.78.33.7, 121.78.33.7.5, 321.78.33.7, kim@naver.com"
    assert step.change(text) == text


def test_resident_numbers_have_a_date():
    """Each day of a century, and no day that is none."""
    day = date(1900, 1, 1)
    while day < date(2000, 1, 1):
        assert Mask().change(f"{day:%y%m%d}-1000000") == "[주민등록번호]"
        assert (Mask().change(f"{day:%y%m%d}-3000000") == "[주민등록번호]") == real(day)
        day += timedelta(days=13)
    for wrong in ("000000", "001301", "000132", "010229", "990431"):
        assert Mask().change(f"{wrong}-3000000") == f"{wrong}-3000000"


def real(day):
    try:
        return bool(day.replace(year=day.year + 100))
    except ValueError:
        return False


def test_thirteen_digits_need_a_check_digit():
    rng = random.Random(0)
    numbers = [made.resident(rng, "12").replace("-", "").replace(" ", "") for _ in range(2000)]
    masked = sum(Mask().change(number) != number for number in numbers)
    assert 120 < masked < 250  # one in eleven, or a little more: 0 and 10, 1 and 11 share a digit


def test_words_of_one_s_own():
    step = Mask(kinds=("email", "phone"), replacements=(("email", "<mail>"),))
    step.check()
    assert step.change("a@b.com 010-1234-5678") == "<mail> [전화번호]"
    keep = Mask(replacements=(("email", "email@example.com"),), kinds=("phone",))
    keep.check()
    with pytest.raises(InputError, match="would be replaced itself"):
        Mask(replacements=(("email", "010-0000-0000"),)).check()


def test_unknown_kinds_are_refused():
    with pytest.raises(InputError, match=r"Mask\(kinds=.*'fax' is none of email, "):
        Mask(kinds=("fax",)).check()
    with pytest.raises(InputError, match="'fax' is none of"):
        Mask(replacements=(("fax", "x"),)).check()
    assert set(Mask().kinds) < set(KINDS)
