"""Reads a page as strictly as a person who has no network would like it to be."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br"}


@dataclass
class Element:
    """One element: its attributes, elements within, and the text of all of it."""

    name: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    inside: list["Element"] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.words)

    def all(self, name: str, **attributes: str) -> list["Element"]:
        """The elements of a name below, with at least these attributes (class_ is class)."""
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        here = [
            e
            for e in self.inside
            if e.name == name and all(e.attributes.get(k) == v for k, v in wanted.items())
        ]
        return here + [found for e in self.inside for found in e.all(name, **attributes)]


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open = [Element("page")]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        assert len(element.attributes) == len(attrs), f"an attribute twice: {attrs}"
        self.open[-1].inside.append(element)
        if tag.lower() not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        raise AssertionError(f"<{tag}/> is no HTML")

    def handle_endtag(self, tag):
        assert self.open[-1].name == tag, f"</{tag}> closes <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element.words.append(data)


def read(markup: str) -> Element:
    """The elements of a whole page or a part; every one must be closed where it was opened.

    Nothing in it may run, or load or lead to anything but places of the same page.
    """
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].name}> is never closed"
    page = reader.open[0]
    _harmless(page)
    return page


def _harmless(element: Element) -> None:
    for e in element.inside:
        assert e.name not in {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
        for key, value in e.attributes.items():
            assert not key.startswith("on") and key not in {"src", "srcset", "action", "style"}
            assert "href" not in key or (value or "").startswith("#"), f"leads to {value!r}"
            assert key == "content" or "//" not in (value or ""), f"{key}={value!r}"
        if e.name == "style":
            assert "url(" not in e.text and "@import" not in e.text
        _harmless(e)
