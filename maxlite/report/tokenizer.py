"""The page of report_tokenizer: a function of the figures that --json writes."""

from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import Any

from maxlite.page import (
    Html,
    Series,
    bars,
    code,
    document,
    facts,
    figure,
    fold,
    lines,
    note,
    paragraph,
    pieces,
    section,
    table,
    tag,
)
from maxlite.page.markup import join
from maxlite.report import tokenizer_pieces
from maxlite.report.tokenizer_pieces import Told, number, percent

_FILES = 60  # so many are shown without unfolding
_PER = ("character", "word", "byte")


def page(figures: dict[str, Any]) -> str:
    """HTML of what `maxlite.tokenizer.reporting.report` gives."""
    told = Told(figures)
    parts = [
        ("Fertility", _fertility(told)),
        ("Texts that changed", _changes(told)),
        ("Pieces never produced", tokenizer_pieces.unreachable(told)),
        ("How often pieces occur", tokenizer_pieces.frequency(told)),
        ("New pieces in use", tokenizer_pieces.new(told)),
        ("Share of the model", _models(told)),
        ("Odd pieces", tokenizer_pieces.oddities(told)),
        ("Two forms of one tokenizer", _agreement(told)),
    ]
    shown = [(name, section(name, *body)) for name, body in parts if body]
    who = ", ".join(told.names[1:] if told.base else told.names) or "tokenizers"
    total, most = figures["total"], figures["lines"]
    lead = paragraph(
        f"Measured on {total['files']:,} files in {len(figures['groups']):,} groups: "
        f"{total['documents']:,} texts, {total['characters']:,} characters. Files are named from ",
        code(told.folder),
        "." + (f" The base is {told.base}." if told.base else ""),
        f" Only the first {most:,} texts of each file were compared." if most else "",
    )
    foot = paragraph("Made by report_tokenizer. The figures are those that --json writes.")
    summary = ("Summary", section("Summary", *_summary(told)))
    return document(f"Tokenizer report: {who}", lead, [summary, *shown], foot)


def _summary(told: Told) -> Sequence[Any]:
    parts: list[Any] = []
    for of in told.targets or told.tokenizers:
        entries: list[tuple[Any, Any, Any]] = [_cost(told, of)]
        if told.base:
            entries += _against_base(of)
        dead, models = of["unreachable"], told.figures["models"]
        entries.append(
            (
                "never produced",
                f"{dead['count']:,}",
                f"of {dead['of']:,} pieces: no text gives them",
            )
        )
        if models:
            share = models[0]["tokenizers"][of["name"]]["share"]
            now = percent(models[0]["now"]["share"])
            said = f"of the parameters of {models[0]['name']}; {now} now"
            entries.append(("tables", percent(share), said))
        parts.append(facts(of["name"], entries))
        if of["not_an_extension"]:
            parts.append(
                note(
                    "This does not extend the base: ",
                    f"{of['not_an_extension']}. ",
                    "Pieces are compared by what they stand for, not by id.",
                    kind="bad",
                )
            )
    return ("What matters most; each figure is explained below.", *parts)


def _cost(told: Told, of: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Tokens per character where the base and this differ the most, or over all."""
    if not told.base:
        value = told.figures["total"]["tokens_per_character"][of["name"]]
        return "tokens per character", number(value), "over all texts"
    known = [g for g in told.figures["groups"] if g["of_first"][of["name"]]]
    most = max(known, key=lambda g: abs(1 - g["of_first"][of["name"]]))
    ratio = most["of_first"][of["name"]]
    was, now = (most["tokens_per_character"][n] for n in (told.base, of["name"]))
    said = f"{number(was)} → {number(now)} per character"
    return f"tokens in {most['name']}", f"×{ratio:.2f}", said


def _fertility(told: Told) -> Sequence[Any]:
    groups = told.drawn
    charts = []
    for per in _PER[:2]:
        key = f"tokens_per_{per}"
        names = [group["name"] for group in groups]
        series = [
            Series(
                name,
                [(i, g[key][name]) for i, g in enumerate(groups) if g[key][name]],
                told.colour(name),
            )
            for name in told.names
        ]
        title = f"Tokens per {per}, by group"
        charts.append(figure(bars(title, names, series, number), f"{title}; shorter is cheaper."))
    parts: list[Any] = [tag("div", *charts, class_="charts")]
    parts.append(_sizes(told, "By group", [*told.figures["groups"], told.figures["total"]]))
    files = _sizes(told, "By file", told.figures["files"], told.file)
    many = len(told.figures["files"]) > _FILES
    parts.append(fold(f"By file ({len(told.figures['files']):,})", files, open_=not many))
    return (
        "How many tokens a text costs. Fewer are cheaper, and more fits into a context. Where a"
        " character takes several tokens it is written in bytes. Words are what white space"
        " separates, so their figures compare within a language only.",
        *parts,
    )


def _sizes(
    told: Told, label: str, rows: Sequence[dict[str, Any]], name: Callable[[str], str] = str
) -> Html:
    head: list[Any] = [label.removeprefix("By ").capitalize(), "Characters"]
    others = told.names[1:]
    for per in _PER:
        head += [_two_lines(f"per {per}", who) for who in told.names]
    head += [_two_lines(f"× {told.names[0]}", who) for who in others]
    body = []
    for row in rows:
        cells: list[Any] = [name(row["name"]), f"{row['characters']:,}"]
        for per in _PER:
            cells += [number(row[f"tokens_per_{per}"][who]) for who in told.names]
        cells += [number(row["of_first"][who], 3) for who in others]
        body.append(cells)
    return table(head, body, f"Tokens per character, word and byte {label.lower()}")


def _changes(told: Told) -> Sequence[Any]:
    if not told.targets:
        return ()
    parts: list[Any] = []
    for of in told.targets:
        found = of["changes"]
        scripts = ", ".join(of["meant_for"]) or "no script"
        parts.append(tag("h3", of["name"], f" – new pieces for {scripts}"))
        if not found["compared"]:
            parts.append(note(f"Every text holds letters of {scripts}: nothing to compare."))
            continue
        if not found["changed"]:
            said = f"None of {found['compared']:,} texts without such letters changed."
            parts.append(note(said, kind="good"))
            continue
        share = percent(found["changed"] / found["compared"])
        said = f"{found['changed']:,} of {found['compared']:,} texts ({share}) changed, from "
        said += f"{found['tokens_before']:,} to {found['tokens_after']:,} tokens."
        parts.append(note(said, kind="bad"))
        rows = [
            [told.file(f["name"]), f"{f['texts']:,}", f"{f['compared']:,}", f"{f['changed']:,}"]
            + [percent(f["changed"] / f["compared"]) if f["compared"] else "–"]
            for f in found["files"]
        ]
        head = ["File", "Texts", "Without such letters", "Changed", "Share"]
        parts.append(table(head, rows, f"Changed texts by file, {of['name']}"))
        examples = [_change(told, row) for row in found["examples"]]
        parts.append(fold("The first of them", *examples, open_=True))
    return (
        "Texts without a letter that the new pieces are for should become the ids that they"
        " were: the model knows those. Here is where they do not, and how each was cut before"
        " (above) and is now (below).",
        *parts,
    )


def _models(told: Told) -> Sequence[Any]:
    models = told.figures["models"]
    if not models:
        return ()
    rows = []
    for model in models:
        kinds = "one, tied" if model["tied"] else "two"
        shares = {"as it is": model["now"], **model["tokenizers"]}
        rows += [
            [model["name"], name, f"{s['rows']:,}", kinds, f"{s['tables'] / 1e6:,.1f}M"]
            + [f"{s['parameters'] / 1e6:,.1f}M", percent(s["share"])]
            for name, s in shares.items()
        ]
    series = [
        Series(model["name"], [(s["rows"], s["share"]) for s in model["sizes"]], i + 1)
        for i, model in enumerate(models)
    ]
    chart = lines(
        "Share of the tables by vocabulary size", series, "rows", "share of parameters",
        log_x=False, format_y=lambda v: f"{v:.0%}",
    )  # fmt: skip
    head = ["Model", "Vocabulary", "Rows", "Tables", "In tables", "Parameters", "Share"]
    return (
        "Embedding and head have a row for each id: rows × width, twice unless they are tied. In"
        " small models a large vocabulary takes what layers could have.",
        tag("div", figure(chart, "What the tables would be of the model."), class_="charts"),
        table(head, rows, "Parameters in the tables"),
    )


def _agreement(told: Told) -> Sequence[Any]:
    found = [of for of in told.tokenizers if of["agreement"]]
    if not found:
        return ()
    parts: list[Any] = []
    for of in found:
        forms = of["agreement"]
        name = Html(f"{tag('b', of['name'])}: ")
        if "differing" not in forms:
            parts.append(note(name, f"there is no tokenizer.json, since {forms['without_json']}."))
            continue
        made = " (which was made from it here)" if forms["made"] else ""
        said = (
            f"tokenizer.json{made} differs from tokenizer.model on {forms['differing']:,} of "
            f"{forms['lines']:,} texts; on {forms['differing_special']:,} where the names of "
            "special tokens in a text are taken for the tokens."
        )
        parts.append(note(name, said, kind="bad" if forms["differing"] else "good"))
        if forms["first"]:
            parts += [
                paragraph("The first, by tokenizer.model and by tokenizer.json:"),
                *_pair(*_window(forms["first"]["model"], forms["first"]["json"])),
            ]
    return (
        "SentencePiece and the tokenizers library should give the same ids, or a model is served"
        " other tokens than it was trained with.",
        *parts,
    )


def _against_base(of: dict[str, Any]) -> list[tuple[Any, Any, Any]]:
    changes = of["changes"]
    compared = (
        f"of {changes['compared']:,} texts without {', '.join(of['meant_for']) or 'new'} letters"
    )
    entries: list[tuple[Any, Any, Any]] = [
        ("texts that changed", f"{changes['changed']:,}", compared)
    ]
    if of["new"]:
        said = f"of {of['new']:,} new pieces are not in these texts"
        entries.append(("new, never used", f"{of['never_new']:,}", said))
    return entries


def _two_lines(first: str, second: str) -> Html:
    return join([first, Html("<br>"), tag("small", second)])


def _change(told: Told, row: dict[str, Any]) -> Html:
    where = tag("p", tag("small", f"{told.file(row['name'])}, text {row['number']:,}"))
    return tag("div", where, *_pair(row["before"], row["after"]), class_="change")


def _pair(a: Sequence[str], b: Sequence[str]) -> list[Html]:
    """Two segmentations of one text, one below the other; what is not in both is marked."""
    changed = [c for c in SequenceMatcher(None, a, b, False).get_opcodes() if c[0] != "equal"]
    marks_a = [i for _, start, stop, _, _ in changed for i in range(start, stop)]
    marks_b = [i for _, _, _, start, stop in changed for i in range(start, stop)]
    return [tag("p", pieces(a, marks_a)), tag("p", pieces(b, marks_b))]


def _window(a: Sequence[str], b: Sequence[str]) -> list[Sequence[str]]:
    """Both from shortly before they part."""
    lead = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
    first = max(0, lead - 4)
    return [side[first : first + 30] for side in (a, b)]
