"""The markup of a page: escaped, balanced, without anything unseen."""

import unicodedata

import pages
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maxlite import page

NASTY = '<script>alert("x")</script>&\'\x00\u202e\u200b\ud800\ufdd0'


def test_text_is_escaped_wherever_it_enters():
    made = page.document(
        NASTY,
        page.paragraph(NASTY),
        [
            (
                NASTY,
                page.section(
                    NASTY,
                    NASTY,
                    page.table([NASTY, "n"], [[NASTY, "1"], [page.code(NASTY), "2"]], NASTY),
                    page.facts(NASTY, [(NASTY, NASTY, NASTY)]),
                    page.note(NASTY, kind=NASTY),
                    page.fold(NASTY, page.pieces([NASTY, "b"], [0])),
                    page.figure(page.tag("svg", page.tag("title", NASTY)), NASTY),
                ),
            )
        ],
        NASTY,
    )
    made.encode()  # no half of a pair is left
    read = pages.read(made)
    shown = '<script>alert("x")</script>&\'⟨U+0000⟩⟨U+202E⟩⟨U+200B⟩⟨U+D800⟩⟨U+FDD0⟩'
    for name in ("title", "h1", "th", "dt", "dd", "figcaption", "summary", "p", "footer"):
        assert shown in [e.text for e in read.all(name)], name
    assert all("\x00" not in e.text and "\u202e" not in e.text for e in read.inside)
    signs = read.all("td")[0].all("i") or read.all("th")[-1].all("i")
    assert [sign.text for sign in signs] == ["U+0000", "U+202E", "U+200B", "U+D800", "U+FDD0"]


def test_links_lead_to_their_sections():
    names = ["Fertility", "Pieces, never produced!"]
    made = page.document("t", "", [(name, page.section(name, "lead")) for name in names])
    read = pages.read(made)
    links = [link.attributes["href"] for link in read.all("nav")[0].all("a")]
    assert links == ["#fertility", "#pieces-never-produced"]
    assert [f"#{section.attributes['id']}" for section in read.all("section")] == links


def test_the_page_forbids_itself_to_load_or_run_anything():
    metas = pages.read(page.document("t", "", [])).all("meta")
    policy = [m.attributes["content"] for m in metas if "http-equiv" in m.attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert any("width=device-width" in (m.attributes.get("content") or "") for m in metas)


@given(st.text(st.characters()))
@example("\x1f\u0ce2")
@settings(max_examples=200, deadline=None)
def test_nothing_unseen_is_left(text):
    shown = page.visible(text)
    kinds = {unicodedata.category(c) for c in shown}
    assert not kinds & {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
    assert not shown or unicodedata.category(shown[0]) not in ("Mn", "Me")
    # A name is set off without its brackets, and a mark after it gets a circle there, too.
    plain = str.maketrans("", "", "⟨⟩◌")
    assert pages.read(page.code(text)).text.translate(plain) == shown.translate(plain)


def test_figures_stand_on_the_right():
    rows = [["a", "1,234", "×0.5", "5 (2 new)", "–", "12 cats", page.code("1"), "2 min 06 s"],
            ["b", "-5.25%", "+3k", "0", "1.5T", "7", "2", "0.25 s"]]  # fmt: skip
    read = pages.read(page.table("abcdefgh", rows, "label"))
    cells = read.all("tbody")[0].all("tr")[0].inside
    assert [c.attributes.get("class") == "figure" for c in cells] == [
        False, True, True, True, True, False, False, True,
    ]  # fmt: skip
    assert [c.name for c in cells] == ["th"] + 7 * ["td"]
    box = read.all("div", class_="scroll")[0]
    assert box.attributes["aria-label"] == "label" and box.attributes["tabindex"] == "0"


def test_a_table_without_rows_has_a_head():
    assert [c.text for c in pages.read(page.table(["a", "b"], [], "none")).all("th")] == ["a", "b"]


def test_rows_must_be_as_long_as_the_head():
    with pytest.raises((ValueError, IndexError)):
        page.table(["a"], [["1", "2"], ["3"]], "uneven")


def test_marked_pieces():
    read = pages.read(page.pieces(["a", "<b>", "c"], [1]))
    assert [(c.text, c.attributes.get("class")) for c in read.all("code")] == [
        ("a", None), ("<b>", "marked"), ("c", None),
    ]  # fmt: skip


def test_attributes():
    assert page.tag("a", class_="x", aria_label='"q"', open_=True, id=None, hidden=False) == (
        '<a class="x" aria-label="&quot;q&quot;" open=""></a>'
    )
