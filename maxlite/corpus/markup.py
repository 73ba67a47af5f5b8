"""What was written for a browser, a forum or a wiki and stands in plain text, taken out of it.

Nothing here parses: texts of a crawl hold pieces of pages, and most texts hold none. So each form
is looked for by what only it has, and `a < b`, `List<int>`, `<3` and `x[i]` are none of them.
"""

import re
from dataclasses import dataclass

from maxlite.corpus.settled import Settled, needed
from maxlite.corpus.step import Change

_BLOCKS = frozenset(
    "address article aside blockquote body br caption center col colgroup dd details dir div dl dt "
    "fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr "
    "html iframe legend li main menu meta nav ol optgroup option p pre section select summary "
    "table tbody tfoot thead title tr ul".split()
)
_CELLS = frozenset(("td", "th"))
_INLINE = frozenset(
    "a abbr acronym area audio b base bdi bdo big button canvas cite code data del dfn em embed "
    "font i img input ins kbd label link map mark marquee meter nobr noframes noscript object "
    "output param picture progress q rp rt ruby s samp small source span strike strong sub sup svg "
    "textarea time track tt u var video wbr".split()
)
# Names that are also words of programs, manuals (<input>) and faces (>_<b>): without attributes,
# such a tag is one only if somebody closes it.
_WORDS = frozenset(
    "a address area audio b base button canvas code data details form header i input label link "
    "main map mark menu meter nav object option output param picture progress q s section select "
    "source summary time title track u var video".split()
)
_FLAGS = (
    "allowfullscreen|async|autofocus|autoplay|checked|compact|controls|default|defer|disabled|"
    "hidden|ismap|loop|multiple|muted|nohref|noresize|noshade|nowrap|open|readonly|required|"
    "reversed|scoped|selected"
)
_VALUE = r"""\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=`]+)"""
_TAG = re.compile(
    r"<(?:(?<![A-Za-z0-9_]<)|(?![A-Z]>))"  # T<A> is code
    rf"(?P<close>/?)(?P<name>{'|'.join(sorted(_BLOCKS | _CELLS | _INLINE, reverse=True))})"
    rf"(?P<given>(?:\s+(?:[a-z_:@][\w:.-]*{_VALUE}|(?:{_FLAGS})(?=[\s/>])))*+)\s*/?>",
    re.IGNORECASE,
)
_CLOSED = re.compile("</([A-Za-z]+)")
# What is never shown, and how it ends: only before its last end is it looked for, so that many
# beginnings without one don't each look through the rest of the text.
_UNSEEN = [
    (
        re.compile(rf"<{name}(?:\s[^<>]*)?(?<!/)>.*?</{name}\s*>", re.IGNORECASE | re.DOTALL),
        re.compile(rf"</{name}\s*>", re.IGNORECASE),
    )
    for name in ("script", "style", "template", "ref")
] + [(re.compile("<!--.*?-->", re.DOTALL), re.compile("-->"))]
_DECLARED = re.compile(r"<(?:!doctype\s[^<>]*|\?xml\s[^<>]*\?|ref\s[^<>]*/)>", re.IGNORECASE)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_AND = re.compile(r"&(?:(?:amp|#38|#x26);)+", re.IGNORECASE)
# Between such quotes a text speaks of markup.
_CODE = re.compile(r"(```.*?```|``[^\n]+?``|`[^`\n]+`)", re.DOTALL)

_BBCODES = (
    "b i u s url img email quote code color colour size font center left right align justify list "
    "li table tr td th youtube spoiler indent highlight background sub sup"
).split()
_BBCODE = re.compile(
    rf"\[({'|'.join(_BBCODES)})(?:=[^\[\]\n]*)?\]((?:(?!\[\1[\]=]).)*?)\[/\1\]",
    re.IGNORECASE | re.DOTALL,
)

# Two brackets or braces are also lists of lists, shells' tests and templates of programs. That a
# text is a wiki's is told by a link under another name, two links, a template with named arguments,
# or a bold word that begins a line which goes on.
_NAMED = r"(?<![\w\[=,])\[\[[^\W\d_][^\[\]\n|,=$\"']*[^\W_][)]?"
_WIKI = re.compile(
    rf"{_NAMED}\|[^\[\]\n]+\]\]|{_NAMED}\]\].*{_NAMED}\]\]"
    r"|\{\{[^\W\d_][^{}\n|=]*\|[^{}]*\w ?=[^{}]*\}\}"
    r"|^'''[^'\n]+''' ?[^\W\d_(]",
    re.MULTILINE,
)
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_FILE = re.compile(
    r"\[\[\s*(?:file|image|category|파일|그림|분류)\s*:[^\[\]]*(?:\[\[[^\[\]]*\]\][^\[\]]*)*\]\]\n?",
    re.IGNORECASE,
)
_LINK = re.compile(r"\[\[(?:[^\[\]\n|]*\|)?([^\[\]\n|]*)\]\]")
_EMPHASIS = re.compile(r"'''(?:'')?(?=\S)([^\n]*?)(?:'')?'''")
_HEADING = re.compile(r"^(={2,6})[ \t]*([^=\n]+?)[ \t]*\1[ \t]*$", re.MULTILINE)

# a[i](x) is a call: what a link leads to looks like an address, and no name stands before it.
_MARKDOWN = re.compile(
    r"(?<![\w\])])!?\[((?:[^\[\]\n]|\[[^\[\]\n]*\])*)\]\("
    r"(?:<[^<>\n]*>|(?:https?://|www\.|mailto:|\.{0,2}/|\#)[^\s()]*(?:\([^\s()]*\)[^\s()]*)*"
    r"|[\w/.-]+\.(?:html?|md|rst|png|jpe?g|gif|svg|webp|pdf))"
    r"(?:\s+(?:\"[^\"\n]*\"|'[^'\n]*'))?\)"
)
_URL = re.compile(r"(?:https?|ftp)://[\w.~:/?#@!$&*+,;=%\[\]-]*[\w/#=&]", re.ASCII)
_PAGE = re.compile(r"<(?:!doctype\s+html|html|body)[\s>]", re.IGNORECASE)


@dataclass
class Markup(Settled):
    """Takes markup out of plain text and keeps what a reader would see.

    Whole pages are better given to `Html`, which knows what on them is text.

    Attributes:
      html: tags by the names that HTML has, comments, scripts and styles with what is in them, and
        entities; tags that begin or end a block leave a new line.
      bbcode: pairs as in `[b]...[/b]`.
      wiki: links, templates, emphasis and headings of MediaWiki, in texts that are a wiki's.
      markdown: of links and images, the text.
      urls: addresses are kept.
    """

    html: bool = True
    bbcode: bool = True
    wiki: bool = True
    markdown: bool = True
    urls: bool = True

    def check(self) -> None:
        if self.html:
            needed("ftfy", "'maxlite[corpus]'", "Markup")

    def once(self, text: str) -> str:
        if "`" in text:
            parts = _CODE.split(text)
            parts[::2] = map(self._prose, parts[::2])
            cleaned = "".join(parts)
        else:
            cleaned = self._prose(text)
        return text if cleaned == text else cleaned.strip("\n")

    def _prose(self, text: str) -> str:
        if self.html and ("<" in text or "&" in text):
            text = _html(text)
        if self.wiki and ("[[" in text or "{{" in text or "'''" in text) and _WIKI.search(text):
            text = _wiki(text)
        if self.bbcode and "[/" in text:
            text = _BBCODE.sub(_content, text)
        if self.markdown and "](" in text:
            text = _MARKDOWN.sub(r"\1", text)
        if not self.urls and "://" in text:
            text = _URL.sub("", text)
        return text


@dataclass
class Html(Change):
    """The main text of whole HTML pages, by trafilatura; other texts stay as they are.

    Attributes:
      precision: rather too little text than menus and advertisements.
      tables: the text of tables is kept.
      comments: what readers wrote below is kept.
    """

    precision: bool = True
    tables: bool = True
    comments: bool = False

    def check(self) -> None:
        needed("trafilatura", "trafilatura", "Html")

    def open(self) -> None:
        self.check()

    def change(self, text: str) -> str:
        if not _PAGE.search(text):
            return text
        from trafilatura import extract

        # Its own search for duplicates remembers the pages before, in the order they came.
        found = extract(
            text,
            favor_precision=self.precision,
            include_tables=self.tables,
            include_comments=self.comments,
            deduplicate=False,
        )
        return found or ""


def _html(text: str) -> str:
    if "&" in text and ";" in text:
        from ftfy.fixes import unescape_html

        text = unescape_html(_AND.sub("&", text)).replace("\xa0", " ")
    if "<" not in text:
        return text
    for unseen, ending in _UNSEEN:
        last = max((end.end() for end in ending.finditer(text)), default=0)
        text = unseen.sub("", text[:last]) + text[last:] if last else text
    text = _DECLARED.sub("", text)
    if "]]>" in text:
        text = _CDATA.sub(r"\1", text)
    closed = set(map(str.lower, _CLOSED.findall(text)))

    def shown(tag: re.Match[str]) -> str:
        name = tag["name"].lower()
        if name in _WORDS and not (tag["close"] or tag["given"] or name in closed):
            return tag.group()
        return "\n" if name in _BLOCKS else " " if name in _CELLS else ""

    cleaned = _TAG.sub(shown, text)
    if cleaned.count("\n") > text.count("\n"):  # its lines were the tags', not the writer's
        cleaned = re.sub(r"(?<![ \t])[ \t]++(?=\n)", "", cleaned)
        cleaned = re.sub(r"\n{3,}", "\n\n", cleaned)
    return cleaned


def _wiki(text: str) -> str:
    text = _FILE.sub("", _TEMPLATE.sub("", text))
    text = _LINK.sub(r"\1", text)
    return _HEADING.sub(r"\2", _EMPHASIS.sub(r"\1", text))


def _content(match: re.Match[str]) -> str:
    return "" if match[1].lower() in ("img", "youtube") else match[2]
