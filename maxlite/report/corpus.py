"""What a cleaning did, step by step: a table for the terminal, and a page.

Both are functions of the figures that clean_corpus writes:

    steps   in their order, each with "name", "settings", "documents_in", "documents_out",
            "bytes_in", "bytes_out", "changed" (documents it changed), "seconds" (of one core) and
            "reasons": {reason: {"documents", "bytes"}} of what it dropped; perhaps "examples" of
            that: [{"reason", "text"}]
    files   the names of what was read
    out     what was written

and other values, such as the seed, which the page lists. Bytes are those of the text in UTF-8.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from maxlite.console import human
from maxlite.page import (
    Html,
    Series,
    bars,
    code,
    document,
    facts,
    figure,
    fold,
    note,
    paragraph,
    section,
    table,
    tag,
)

_LETTERS = 400  # of an example
_START = "at the start"
_TOLD = ("steps", "files")  # of the figures, those that have a place of their own

Figures = dict[str, Any]


def funnel_table(figures: Figures) -> str:
    """The funnel as text: a line for each step, and below it the reasons, the most frequent first.

    Returns:
      Lines, without the last one's end.
    """
    steps = figures["steps"]
    if not steps:
        return "no step was run"
    first = steps[0]["documents_in"], steps[0]["bytes_in"]
    rows = [["step", "documents", "left", "bytes", "left", "changed", "time", "MB/s"]]
    rows.append([_START, *_amounts(*first, first), "", "", ""])
    for step in steps:
        left = _amounts(step["documents_out"], step["bytes_out"], first)
        rows.append(
            [step["name"], *left, f"{step['changed']:,}", duration(step["seconds"]), _speed(step)]
        )
        for reason, lost in _reasons(step):
            amounts = _amounts(lost["documents"], lost["bytes"], first)
            rows.append([f"  {reason}", *(f"-{amount}" for amount in amounts), "", "", ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def page(figures: Figures) -> str:
    """The same as one self-contained page of HTML, with charts, settings and examples."""
    parts = {
        "Summary": _summary,
        "The funnel": funnel,
        "Why texts were dropped": _dropped,
        "Examples of what was dropped": _examples,
        "Speed": _speeds,
        "Settings": _settings,
    }
    shown = [(name, section(name, *body)) for name, of in parts.items() if (body := of(figures))]
    files = figures["files"]
    lead = paragraph(
        f"What became of {files[0] if len(files) == 1 else f'{len(files):,} files'} in "
        f"{len(figures['steps']):,} steps. Written to ",
        code(str(figures["out"])),
        ".",
    )
    foot = paragraph("Made by clean_corpus. The figures are those that --json writes.")
    return document("Corpus report", lead, shown, foot)


def _summary(figures: Figures) -> Sequence[Any]:
    steps = figures["steps"]
    if not steps:
        return ("No step was run: nothing was changed, and nothing dropped.",)
    entries = []
    for what, unit in (("documents", ""), ("bytes", "B")):
        was, left = steps[0][f"{what}_in"], steps[-1][f"{what}_out"]
        said = f"of {human(was, unit)}"
        entries.append((f"{what} left", human(left, unit), f"{said}: {_share(left, was)}"))
    most = max(steps, key=lambda step: step["documents_in"] - step["documents_out"])
    dropped = most["documents_in"] - most["documents_out"]
    if dropped:
        said = f"by {most['name']}, more than by any other step"
        entries.append(("dropped", human(dropped), said))
    seconds = sum(step["seconds"] for step in steps)
    speed = f"{_rate(steps[0]['bytes_in'], seconds)} MB a second on one core"
    entries.append(("time", duration(seconds), speed))
    return "What went in, and what came out.", facts("All steps together", entries)


def funnel(figures: Figures) -> Sequence[Any]:
    """What each step left, as the parts of a section; none where no step was run."""
    steps = figures["steps"]
    if not steps:
        return ()
    first = steps[0]["documents_in"], steps[0]["bytes_in"]
    stages = [(_START, *first)]
    stages += [(s["name"], s["documents_out"], s["bytes_out"]) for s in steps if _took(s)]
    series = [
        Series(
            name, [(i, stage[k + 1] / max(1, first[k])) for i, stage in enumerate(stages)], k + 1
        )
        for k, name in enumerate(("documents", "bytes"))
    ]
    others = "; steps that took nothing are not drawn" * (len(stages) <= len(steps))
    chart = bars("What was left after each step", [s[0] for s in stages], series, share)
    rows = [[_START, *_amounts(*first, first), "–", "–", "–"]]
    for step in steps:
        left = _amounts(step["documents_out"], step["bytes_out"], first)
        lost = step["documents_in"] - step["documents_out"]
        dropped = _share(lost, step["documents_in"])
        rows.append([step["name"], *left, f"{lost:,}", dropped, f"{step['changed']:,}"])
    head = ["Step", "Documents", "Of all", "Bytes", "Of all", "Dropped", "Of its own", "Changed"]
    return (
        "What each step left of the corpus. Where documents fall and bytes do not, short texts"
        " went; where bytes fall and documents do not, texts were shortened.",
        tag(
            "div",
            figure(chart, f"Shares of what was there at the start{others}."),
            class_="charts",
        ),
        table(head, rows, "Documents and bytes left after each step"),
    )


def _dropped(figures: Figures) -> Sequence[Any]:
    steps = figures["steps"]
    rows = [
        [
            reason,
            step["name"],
            f"{lost['documents']:,}",
            _share(lost["documents"], steps[0]["documents_in"]),
            human(lost["bytes"]),
            f"{lost['bytes'] / max(1, lost['documents']):,.0f}",
        ]
        for step in steps
        for reason, lost in _reasons(step)
    ]
    if not rows:
        return ("No text was dropped.",) if steps else ()
    head = ["Reason", "Step", "Documents", "Of all", "Bytes", "Bytes each"]
    return (
        "A text is dropped once, by the first step that has a reason: what comes later would have"
        " dropped some of it, too.",
        table(head, rows, "Documents and bytes dropped, by reason"),
    )


def _examples(figures: Figures) -> Sequence[Any]:
    parts: list[Html] = []
    for step in figures["steps"]:
        texts = [
            paragraph(f"{example['reason']}: ", code(_cut(example["text"])))
            for example in step.get("examples", ())
        ]
        if texts:
            parts.append(fold(f"Dropped by {step['name']}", *texts, open_=not parts))
    lead = "Look here first: a filter that drops what a person would keep is set too sharply."
    return (lead, *parts) if parts else ()


def _speeds(figures: Figures) -> Sequence[Any]:
    steps = figures["steps"]
    total = sum(step["seconds"] for step in steps)
    if not total:
        return ()
    series = [Series("seconds", [(i, step["seconds"]) for i, step in enumerate(steps)])]
    chart = bars("Time by step", [step["name"] for step in steps], series, duration)
    rows = [
        [step["name"], human(step["bytes_in"]), f"{step['seconds']:,.2f}"]
        + [_share(step["seconds"], total)]
        + [_speed(step), _rate(step["documents_in"] * 1e6, step["seconds"])]
        for step in steps
    ]
    head = ["Step", "Bytes", "Seconds", "Of all", "MB a second", "Documents a second"]
    return (
        "Time of one core; as many cores as work side by side divide it.",
        tag("div", figure(chart, "What to switch off, or to speed up, first."), class_="charts"),
        table(head, rows, "Time and speed by step"),
    )


def _settings(figures: Figures) -> Sequence[Any]:
    said = [[name, code(str(value))] for name, value in figures.items() if name not in _TOLD]
    steps = [
        [step["name"], code(", ".join(f"{k}={v!r}" for k, v in step["settings"].items()) or "–")]
        for step in figures["steps"]
    ]
    files = [[code(str(name))] for name in figures["files"]]
    parts: list[Html] = []
    if steps:
        parts.append(table(["Step", "Settings"], steps, "Settings of each step"))
    if said:
        parts.append(table(["Of all steps", "Value"], said, "Other settings"))
    if files:
        parts.append(fold(f"Files ({len(files):,})", table(["File"], files, "Files")))
    else:
        parts.append(note("No file was read.", kind="bad"))
    return "What it takes to do the same again.", *parts


def _reasons(step: Figures) -> Iterator[tuple[str, dict[str, int]]]:
    """Why a step dropped texts, the most frequent first."""
    yield from sorted(step["reasons"].items(), key=lambda item: (-item[1]["documents"], item[0]))


def _took(step: Figures) -> bool:
    """Whether a step left less than it had."""
    return any(step[f"{what}_out"] < step[f"{what}_in"] for what in ("documents", "bytes"))


def _amounts(documents: int, size: int, first: tuple[int, int]) -> list[str]:
    """Documents and bytes, each with its share of what was there at the start."""
    return [f"{documents:,}", _share(documents, first[0]), human(size), _share(size, first[1])]


def share(part: float | None) -> str:
    """A share, with two digits after its point where it is nearly nothing or nearly all."""
    if part is None:
        return "–"
    return f"{part:.{2 if 0 < part < 0.00995 or 0.9995 <= part < 1 else 1}%}"


def _share(part: float, whole: float) -> str:
    return share(part / whole if whole else None)


def duration(seconds: float) -> str:
    """A time for people: 2.15 s, 6 min 42 s, 3 h 07 min."""
    if seconds < 99.5:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
    )


def _speed(step: Figures) -> str:
    return _rate(step["bytes_in"], step["seconds"])


def _rate(size: float, seconds: float) -> str:
    """Millions a second."""
    if not size or not seconds:
        return "–"
    rate = size / 1e6 / seconds
    return f"{rate:,.0f}" if rate >= 99.5 else f"{rate:.3g}"


def _cut(text: str) -> str:
    return text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…"
