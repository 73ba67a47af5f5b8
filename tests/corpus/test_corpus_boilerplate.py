"""Lines of pages, and sentences that hold the same words."""

import pytest

from maxlite.corpus.boilerplate import Boilerplate
from maxlite.errors import InputError


@pytest.mark.parametrize(
    "line",
    [
        "ⓒ 연합뉴스, 무단 전재 및 재배포 금지",
        "<저작권자 ⓒ 한국일보, 무단전재-재배포 금지>",
        "저작권자(c) 매일신문. 무단전재 및 AI학습 이용 금지",
        "무단 전재 및 재배포를 금합니다.",
        "Copyright © 2020-2023 Example Inc. All rights reserved.",
        "© 2019 The Times",
        "김철수 기자 = kim@example.co.kr",
        "(서울=연합뉴스) 홍길동 선임기자 = hong@example.com",
        "[홍길동 기자 hong@example.com]",
        "기사제보: jebo@example.com",
        "▶ 네이버에서 뉴스 구독하기",
        "기사입력 2020-01-02 10:11",
        "최종수정 2021년 3월 4일 (목) 오전 10:11:12",
        "공유하기",
        " - 로그인 | 회원가입 | 고객센터 ",
        "이전글",
        "댓글 3개",
        "목록 인쇄 신고",
        "Home > About Us",
        "Privacy Policy · Terms of Use · Contact",
        "This website uses cookies to improve your experience.",
        "Accept all cookies",
        "이 사이트는 쿠키를 사용합니다. 계속하면 동의하는 것으로 간주합니다.",
    ],
)
def test_lines_of_a_page(line):
    assert Boilerplate().change(f"첫 줄\n{line}\n끝 줄") == "첫 줄\n끝 줄"
    assert Boilerplate().apply([f"{line}\n{line}"]) == [("", "empty")]
    assert Boilerplate().change(line) == line  # a text of one line is no page


@pytest.mark.parametrize(
    "line",
    [
        "저작권은 중요하다.",
        "무단 전재 및 재배포 금지 조항을 두고 논란이 일었다.",
        "© 기호는 저작권을 뜻한다",
        "ⓒ는 저작권 기호이다",
        "(c) the third item of the list",
        "(c) 세 번째 조건은 다음과 같다",
        "Copyright law protects authors of books in most countries.",
        "홍길동 기자는 어제 서울에서 그를 만났다.",
        "연락은 hong@example.com으로 하면 된다.",
        "로그인을 하면 글을 쓸 수 있다.",
        "다음 글에서 설명하겠습니다.",
        "댓글 3개를 읽었다",
        "좋아요",
        "추천합니다",
        "메뉴가 다양하고 맛있다",
        "검색 엔진",
        "2020-01-02 회의",
        "2020년 1월 2일 수정되었다",
        "Share this with your friends, he said.",
        "Home is where the heart is",
        "Next we look at the data.",
        "Contact",
        "The site uses a database.",
        "우리는 쿠키를 구웠다.",
    ],
)
def test_lines_of_a_text(line):
    text = f"첫 줄\n{line}\n끝 줄"
    assert Boilerplate().change(text) == text


def test_long_lines_are_somebody_s_text():
    line = "we use cookies " + "and butter " * 40
    assert Boilerplate().change(f"a\n{line}") == f"a\n{line}"


def test_patterns_of_one_s_own():
    text = "공유하기\nSpecial offer 12\n글"
    assert Boilerplate(more=(r"special offer \d+",)).change(text) == "글"
    assert Boilerplate(patterns=(r"special offer \d+",)).change(text) == "공유하기\n글"
    with pytest.raises(InputError, match=r"more=.*'\(' is no pattern"):
        Boilerplate(more=("(",)).check()
