"""One self-contained HTML page: text, tables and charts, readable without network or scripts."""

from maxlite.page.charts import Series, bars, lines
from maxlite.page.markup import (
    Html,
    code,
    document,
    escape,
    facts,
    figure,
    fold,
    note,
    paragraph,
    pieces,
    section,
    table,
    tag,
    visible,
)

__all__ = [
    "Html",
    "Series",
    "bars",
    "code",
    "document",
    "escape",
    "facts",
    "figure",
    "fold",
    "lines",
    "note",
    "paragraph",
    "pieces",
    "section",
    "table",
    "tag",
    "visible",
]
