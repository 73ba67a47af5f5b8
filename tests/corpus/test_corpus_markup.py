"""Markup in plain text, and what only looks like it."""

import importlib.util

import pytest

from maxlite.corpus.markup import Html, Markup
from maxlite.errors import InputError

pytest.importorskip("ftfy")


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("한국<b>어</b>는 <I>좋다</I>", "한국어는 좋다"),
        ("<p>좋다</p><p>나쁘다<br/>음</p>", "좋다\n\n나쁘다\n음"),
        ("<div class=a>가</div>\n\n\n\n<div>나</div>", "가\n\n나"),
        ('<a href="http://x.y/?a=1&amp;b=2" target=_blank>글</a>', "글"),
        ("<img src='a.png' alt=\"b\" hidden/>글<input disabled>", "글"),
        ("<TR><TD>가</TD><TD>나</TD></TR>", "가  나"),
        ("<script>var a='<b>';</script>끝<!-- c --><style type='x'>p {}</style>", "끝"),
        ("<!DOCTYPE html><?xml version='1.0'?><![CDATA[가]]>나", "가나"),
        ("&lt;b&gt;가&lt;/b&gt; &amp;amp;quot;나&amp;amp;quot;&nbsp;&copy;", '가 "나" ©'),
        (
            "[b]굵게[/b] [url=http://a.b]링[i]크[/i][/url] [img]http://x/y.png[/img]끝",
            "굵게 링크 끝",
        ),
        ("[quote=a]가[/quote] [size=3]나[/size]", "가 나"),
        (
            "[[서울|서울시]]는 {{인구|수={{셈|1}}}}'''수도'''이다.\n== 역사 ==\n"
            "[[파일:a.png|섬네일|[[한양]]의 지도]]옛 이름은 [[한양]]이다.<ref name='a'>책</ref>",
            "서울시는 수도이다.\n역사\n옛 이름은 한양이다.",
        ),
        ("see [the docs](https://a.b/c_(d)) and ![그림](./a.png 't')", "see the docs and 그림"),
        ("[위로](#top) [a [b] c](b.html)", "위로 a [b] c"),
    ],
)
def test_markup_is_taken_out(marked, plain):
    assert Markup().change(marked).strip() == plain


@pytest.mark.parametrize(
    "text",
    [
        "3 < 5 and 7 > 2, a<b, x<b and c>d, if (a<b && c>d)",
        "I <3 you, <a@b.c>, <https://a.b/c>, <unk> <s> <|im_start|>",
        "List<int> Vec<u8> Map<String, List<A>> T<A> Optional<object> #include <map>",
        "Usage: copy <source> <object>; [options] <input>",
        "a[i](x), b[b], x[1], m[[1]], handlers[name](request), [1] [2]",
        "[[ -f x ]] && [[ $a == b ]], [[1, 2], [3, 4]], np.array([[a, b]])",
        "{{ user.name }} {{x}} x = {{1, 2}, {3, 4}} {a: {b: {c: 1}}}",
        "    '''docstring.'''\n    x = '''one of\nmany lines'''",
        "AT&T, a&b; x && y; &c, R&D;",
        "In HTML a paragraph is `<p>text</p>` and ``&lt;`` is <; ```\n<div>\n```",
        "== not a heading here == and [b]lone, [/b",
        "https://example.com/a?b=c&d=e_(f)",
        "쵝오>ㅁ<b> ㅠ.ㅠ >_< <('')>",
    ],
)
def test_what_is_no_markup_stays(text):
    assert Markup().change(text) == text


def test_settings():
    everything = "<b>a</b> [b]c[/b] [[dd|e]] [f](http://g.h) http://i.j/k?l, end"
    assert Markup().change(everything) == "a c e f http://i.j/k?l, end"
    assert Markup(urls=False).change(everything) == "a c e f , end"
    assert Markup(False, False, False, False).change(everything) == everything
    assert Markup().apply(["<p></p>"]) == [("", "empty")]


def test_main_text_of_a_page():
    pytest.importorskip("lxml_html_clean")
    pytest.importorskip("trafilatura")
    sentences = [
        f"{n}번째 문단은 서울에 비가 내린 날의 이야기를 길게 전한다. " * 3 for n in range(5)
    ]
    body = "".join(f"<p>{sentence}</p>" for sentence in sentences)
    page = (
        "<!DOCTYPE html><html><head><title>제목</title><script>f()</script></head><body><nav>"
        f"<a href='/'>홈</a></nav><article><h1>기사</h1>{body}</article><footer>ⓒ</footer></body>"
    )
    step = Html()
    step.check()
    step.open()
    text = step.change(page)
    assert all(sentence.strip() in text for sentence in sentences)
    assert "홈" not in text and "f()" not in text and "<" not in text
    # Nothing of one page is remembered for the next.
    assert step.apply([page, page]) == [(text, ""), (text, "")]
    assert step.change("3 < 5 <b>no page</b>") == "3 < 5 <b>no page</b>"


@pytest.mark.skipif(bool(importlib.util.find_spec("trafilatura")), reason="trafilatura is there")
def test_a_package_that_is_absent_is_named():
    with pytest.raises(InputError, match="Html needs trafilatura: pip install trafilatura"):
        Html().check()
