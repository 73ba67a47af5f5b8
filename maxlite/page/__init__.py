"""One self-contained HTML page: text, tables and charts, readable without network or scripts."""

from maxlite.page.charts import bars, lines
from maxlite.page.drawing import Series
from maxlite.page.markup import (
    Html,
    code,
    document,
    escape,
    facts,
    figure,
    fold,
    listing,
    note,
    paragraph,
    pieces,
    section,
    table,
    tag,
    visible,
)
from maxlite.page.pictures import Column, cloud, lanes

__all__ = [
    "Column",
    "Html",
    "Series",
    "bars",
    "cloud",
    "code",
    "document",
    "escape",
    "facts",
    "figure",
    "fold",
    "lanes",
    "lines",
    "listing",
    "note",
    "paragraph",
    "pieces",
    "section",
    "table",
    "tag",
    "visible",
]
