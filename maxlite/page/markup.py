"""The markup of a page. Whatever is not `Html` is text, and is escaped where it enters."""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from maxlite.page.style import STYLE

_UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
_FIGURE = re.compile(r"[-+×−]?[0-9][0-9.,]*[%kMBT]?( ([0-9]+ )?(s|min|h)| \([^()]*\))*|–")
_FORBID = "default-src 'none'; style-src 'unsafe-inline'"


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def visible(text: str) -> str:
    """The text, with a name in place of each character that is not seen or moves others.

    Control and format characters (line ends, directions, joiners), unassigned ones, halves of pairs
    and unusual spaces become their number, as "⟨U+200B⟩"; a mark without a letter gets a circle.
    """
    shown = "".join(map(_visible, text))
    return "◌" + shown if shown and unicodedata.category(shown[0]) in ("Mn", "Me") else shown


def _visible(character: str) -> str:
    kind = unicodedata.category(character)
    if kind in _UNSEEN or (kind == "Zs" and character != " "):
        return f"⟨U+{ord(character):04X}⟩"
    return character


def escape(value: Any) -> Html:
    """A value as markup that shows it: escaped, and with nothing unseen in it."""
    return value if isinstance(value, Html) else Html(html.escape(visible(str(value))))


def tag(name: str, *children: Any, **attributes: Any) -> Html:
    """An element.

    Args:
      name: of the element.
      children: `Html` as it is, anything else as text.
      attributes: those that are None or False are left out; a trailing "_" of a name is dropped,
        any other becomes "-".
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape("" if value is True else value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{said}>{join(children)}</{name}>")


def join(parts: Iterable[Any]) -> Html:
    """Several values one after the other."""
    return Html("".join(escape(part) for part in parts))


def code(text: str, marked: bool = False) -> Html:
    """A piece of text as it is written: unseen characters are set off, directions stay inside."""
    parts = re.split(r"(⟨U\+[0-9A-F]+⟩)", visible(text))
    shown = [tag("i", part[1:-1]) if i % 2 else part for i, part in enumerate(parts)]
    return tag("code", *shown, class_="marked" if marked else None, dir="auto")


def listing(text: str) -> Html:
    """Lines of a program or of commands, as they are to be typed."""
    return tag("pre", tag("code", Html("\n".join(map(escape, text.split("\n"))))))


def pieces(texts: Sequence[str], marked: Iterable[int] = ()) -> Html:
    """A text in pieces, in their order whatever their direction; some of them marked."""
    chosen = set(marked)
    return tag("span", *(code(t, i in chosen) for i, t in enumerate(texts)), class_="pieces")


def paragraph(*parts: Any) -> Html:
    """A paragraph."""
    return tag("p", *parts)


def note(*parts: Any, kind: str = "note") -> Html:
    """A remark that stands out; kind is "note", "good" or "bad"."""
    return tag("p", *parts, class_=f"remark {kind}")


def facts(title: Any, entries: Sequence[tuple[Any, Any, Any]]) -> Html:
    """The few figures that matter: for each what it is, the figure, and what to say of it."""
    items = [
        tag("div", tag("dt", what), tag("dd", value, class_="value"), tag("dd", said))
        for what, value, said in entries
    ]
    return tag("article", tag("h3", title), tag("dl", *items), class_="facts")


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], label: str) -> Html:
    """A table that scrolls within its own box where it is too wide.

    Args:
      head: of its columns.
      rows: cells; columns of figures alone go to the right. What is in one is no `Html`.
      label: what it shows, for those who do not see it.
    """
    filled = [list(row) for row in rows]
    right = [
        bool(column) and all(_is_figure(cell) for cell in column)
        for column in zip(*filled, strict=True)
    ] or [False] * len(head)

    def line(kind: str, cells: Sequence[Any]) -> Html:
        made = [
            tag(
                "th" if kind == "col" or i == 0 else "td",
                cell,
                scope=kind if kind == "col" or i == 0 else None,
                class_="figure" if right[i] else None,
            )
            for i, cell in enumerate(cells)
        ]
        return tag("tr", *made)

    body = [line("row", row) for row in filled]
    inner = tag("table", tag("thead", line("col", head)), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=label)


def _is_figure(cell: Any) -> bool:
    text = str(cell)
    return not isinstance(cell, Html) and bool(_FIGURE.fullmatch(text))


def figure(chart: Html, caption: Any, *parts: Any) -> Html:
    """A chart, what to see in it, and perhaps its numbers."""
    return tag("figure", chart, tag("figcaption", caption), *parts)


def fold(title: Any, *parts: Any, open_: bool = False) -> Html:
    """Parts that are shown when asked for."""
    return tag("details", tag("summary", title), *parts, open=open_)


def section(title: str, lead: Any, *parts: Any) -> Html:
    """A part of the page with a heading, and a sentence or two on what to look for."""
    heading = tag("h2", tag("a", title, href=f"#{_anchor(title)}"))
    return tag("section", heading, tag("p", lead, class_="lead"), *parts, id=_anchor(title))


def document(title: str, lead: Any, sections: Sequence[tuple[str, Html]], foot: Any = "") -> str:
    """The whole page.

    Args:
      title: its heading.
      lead: below that.
      sections: their headings, as given to `section`, and what `section` gave.
      foot: at the end.

    Returns:
      HTML that loads nothing, runs nothing, and follows the reader's choice of light or dark.
    """
    links = [tag("li", tag("a", name, href=f"#{_anchor(name)}")) for name, _ in sections]
    head = (
        '<meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_FORBID)}">'
        f"{tag('title', title)}<style>{STYLE}</style>"
    )
    body = join(
        [
            tag("header", tag("h1", title), tag("div", lead)),
            tag("nav", tag("ol", *links), aria_label="Sections"),
            tag("main", *(part for _, part in sections)),
            tag("footer", foot),
        ]
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
