"""Sections of the page of report_tokenizer that look at pieces, and what all its sections need.

Each is a function of the figures that gives (lead, part, …), or nothing where there is nothing to
say.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from maxlite.page import (
    Html,
    Series,
    bars,
    code,
    figure,
    fold,
    lines,
    paragraph,
    pieces,
    table,
    tag,
)
from maxlite.page.markup import join

_GROUPS = 12  # so many are drawn


@dataclass(frozen=True)
class Told:
    """The figures, and what all sections ask of them."""

    figures: dict[str, Any]

    @property
    def base(self) -> str | None:
        """The name of the tokenizer that others are compared with, if there is one."""
        return self.figures["base"]

    @property
    def tokenizers(self) -> list[dict[str, Any]]:
        """The figures of each tokenizer."""
        return self.figures["tokenizers"]

    @property
    def names(self) -> list[str]:
        """Of the tokenizers, in their order."""
        return [of["name"] for of in self.tokenizers]

    @property
    def targets(self) -> list[dict[str, Any]]:
        """Those that are compared with the base."""
        return [of for of in self.tokenizers if "changes" in of]

    @property
    def drawn(self) -> list[dict[str, Any]]:
        """The groups of texts that charts show."""
        return self.figures["groups"][:_GROUPS]

    def colour(self, name: str) -> int:
        """Of a tokenizer in charts; the base is grey."""
        return self.names.index(name) + (not self.base)

    @cached_property
    def folder(self) -> str:
        """The folder that all files are in."""
        files = [os.path.abspath(file["name"]) for file in self.figures["files"]]
        return os.path.commonpath([os.path.dirname(file) for file in files])

    def file(self, name: str) -> str:
        """What a file is called on the page."""
        return os.path.relpath(os.path.abspath(name), self.folder)


def unreachable(told: Told) -> Sequence[Any]:
    """Pieces that no text gives."""
    rows, parts = [], []
    for of in told.tokenizers:
        dead = of["unreachable"]
        new = [f"{dead['new']:,}", percent(dead["new_share"])] if of["new"] else ["–", "–"]
        kinds = listed(dead["by_kind"]), listed(dead["by_script"])
        lost = f"{dead['lost']:,}" if of in told.targets else "–"
        count = f"{dead['of']:,}", f"{dead['count']:,}", percent(dead["share"])
        rows.append([of["name"], *count, *new, lost, *kinds])
        shown = [
            [f"{row['id']:,}", code(row["piece"]), pieces(row["becomes"])]
            for row in dead["examples"]
        ]
        if shown:
            made = table(["Id", "Piece", "Becomes"], shown, f"Pieces never produced, {of['name']}")
            parts.append(fold(f"Examples of {of['name']}", made, open_=of in told.targets))
    head = ["Tokenizer", "Pieces", "Never produced", "Share", "New ones", "Share of new", "Lost"]
    summary = table([*head, "Kinds", "Scripts"], rows, "Pieces never produced, by tokenizer")
    return (
        "Pieces whose own text becomes other pieces: no text can ever give them, so their rows"
        " are never trained. Merged vocabularies have many. Those of the kind “unused” are meant"
        " to be so: steps on the way to longer pieces. “Lost” are pieces that the base does"
        " give: rows that were trained, and are not used any more.",
        summary,
        *parts,
    )


def frequency(told: Told) -> Sequence[Any]:
    """How often pieces occur, by rank."""
    ranked, covered = [], []
    for of in told.tokenizers:
        colour = told.colour(of["name"])
        ranked.append(
            Series(of["name"], [*zip(of["ranks"], of["frequencies"], strict=True)], colour)
        )
        covered.append(Series(of["name"], [*zip(of["ranks"], of["reached"], strict=True)], colour))
    charts = [
        figure(
            lines("Count by rank", ranked, "rank of the piece", "tokens", log_x=True, log_y=True),
            "A straight fall is natural; a cliff at the end is rows that hardly train.",
        ),
        figure(
            lines(
                "Share of tokens by number of pieces", covered, "most frequent pieces",
                "share of tokens", log_x=True, format_y=lambda v: f"{v:.0%}", ends=(0.0, 1.0),
            ),
            "Where a curve is flat, more pieces hardly shorten these texts.",
        ),
    ]  # fmt: skip
    shares = [*told.tokenizers[0]["coverage"]]
    head = ["Tokenizer", "Ids", "Used", *(f"{float(share):.1%}" for share in shares)]
    rows = [
        [of["name"], f"{of['rows']:,}", f"{of['used']:,}"]
        + [f"{of['coverage'][share]:,}" for share in shares]
        + [
            f"{of['never']:,}",
            percent(of["fallback_share"], 2),
            percent(of["unknown_share"], 2),
        ]
        for of in told.tokenizers
    ]
    return (
        "How the texts use the vocabulary, and how many ids make a share of all tokens. Pieces"
        " that do not occur here learn nothing from texts like these.",
        tag("div", *charts, class_="charts"),
        table([*head, "Never here", "Bytes", "Unknown"], rows, "Coverage by tokenizer"),
    )


def new(told: Told) -> Sequence[Any]:
    """What the texts have of pieces that are not the base's."""
    if not any(of["new"] for of in told.targets):
        return ()
    targets = [of for of in told.targets if of["new"]]
    groups = told.drawn
    series = [
        Series(
            of["name"],
            [(i, g["new_share"][of["name"]] or 0) for i, g in enumerate(groups)],
            told.colour(of["name"]),
        )
        for of in targets
    ]
    names = [group["name"] for group in groups]
    chart = bars("Share of tokens that are new pieces, by group", names, series, percent)
    rows = [
        [told.file(f["name"]), f"{f['characters']:,}"]
        + [percent(f["new_share"][of["name"]]) for of in targets]
        for f in told.figures["files"]
    ]
    head = ["File", "Characters", *(of["name"] for of in targets)]
    parts: list[Any] = [
        tag("div", figure(chart, "Share of tokens that are new, by group."), class_="charts"),
        table(head, rows, "Share of tokens that are new, by file"),
    ]
    for of in targets:
        parts.append(tag("h3", of["name"]))
        said = (
            f"{of['new']:,} new pieces ({listed(of['new_scripts'])}); {of['never_new']:,} of them"
        )
        parts.append(
            paragraph(f"{said} ({percent(of['never_new'] / of['new'])}) are not in these texts.")
        )
        shown = [
            [
                f"{r['id']:,}",
                code(r["piece"]),
                f"{r['count']:,}",
                percent(r["count"] / of["tokens"], 2),
            ]
            for r in of["frequent_new"]
        ]
        label = f"The most frequent new pieces of {of['name']}"
        parts.append(fold(label, table(["Id", "Piece", "Tokens", "Share"], shown, label)))
    return (
        "New pieces should be many in the texts that they were made for and none elsewhere. The"
        " more of the tokens are new, the more has to be learnt.",
        *parts,
    )


def oddities(told: Told) -> Sequence[Any]:
    """Pieces to look at before they get a row, by kind."""
    head = ["What", *told.names]
    kinds = [odd["name"] for odd in told.tokenizers[0]["oddities"]]
    rows = []
    for i, kind in enumerate(kinds):
        cells = []
        for of in told.tokenizers:
            odd = of["oddities"][i]
            new = f" ({odd['new']:,} new)" if odd["new"] else ""
            cells.append(f"{odd['count']:,}{new}")
        rows.append([kind, *cells])
    parts: list[Any] = [table(head, rows, "Odd pieces by kind")]
    for of in told.targets or told.tokenizers:
        made = []
        for odd in [odd for odd in of["oddities"] if odd["examples"]]:
            shown = join(_example(row) for row in odd["examples"])
            said = f"{odd['name'].capitalize()} – {odd['count']:,}"
            made += [tag("h3", said), paragraph(odd["what"]), tag("ul", shown, class_="some")]
        if made:
            parts.append(fold(f"Examples of {of['name']}, new pieces first", *made))
    return (
        "Pieces to look at before they get a row. None of these is wrong in itself; many of them"
        " say that the text was not clean, or that two vocabularies do not match.",
        *parts,
    )


def _example(row: dict[str, Any]) -> Html:
    like = [" like ", code(row["twin"])] if "twin" in row else []
    return tag("li", code(row["piece"]), *like, " ", tag("small", row["id"]))


def number(value: float | None, digits: int = 4) -> str:
    """A ratio with about so many figures."""
    if value is None:
        return "–"
    return f"{value:.{max(0, digits - (1 if value < 10 else 2))}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share in percent, with so many digits; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}%}"


def listed(counts: dict[str, int]) -> str:
    """The first four counts, and a sign of more."""
    some = [f"{count:,} {name}" for name, count in [*counts.items()][:4]]
    return ", ".join(some) + (", …" if len(counts) > 4 else "") or "–"
