"""Sections of the page of tools.report on the model: what it scores, its new rows, what it writes.

Each is a function of the figures of `maxlite.report.story` that gives (lead, part, ...), or nothing
where there is nothing to say.
"""

from collections.abc import Sequence
from typing import Any

from maxlite.page import (
    Html,
    Series,
    bars,
    cloud,
    figure,
    fold,
    lines,
    note,
    table,
    tag,
)
from maxlite.page.markup import join
from maxlite.report.corpus import share
from maxlite.report.story_training import charts, number, numbers

Figures = dict[str, Any]

_TEXTS = 4  # that are shown of what was written, without unfolding
_SETS = {"old": ("old", 0), "begun": ("new, before", 2), "new": ("new, after", 1)}


def scores(figures: Figures) -> Sequence[Any]:
    """Bits per byte and tokens a character, before and after."""
    found = figures["evaluations"]
    if not found:
        if figures["kind"] == "run":
            return ()
        return ("No step of the recipe has evaluated the model.",)
    texts, context = _named(figures), figures["context"]
    rows = []
    for text in texts:
        scored = [_of(one, text) for one in found]
        bits = [one["bits_per_byte"] if one else None for one in scored]
        costs = [one["tokens_per_char"] if one else None for one in scored]
        change = f"{bits[-1] / bits[0] - 1:+.1%}" if bits[0] and bits[-1] else "–"
        size = next(one["bytes"] for one in scored if one)
        holds = [f"{context / cost:,.0f}" if cost else "–" for cost in costs]
        rows.append([text, f"{size:,}", *(number(b, 4) for b in bits), change,
                     *map(number, costs), *holds])  # fmt: skip
    names = [one["name"] for one in found]
    head = ["Text", "Bytes", *(_below("bits/byte", n) for n in names), "Change"]
    head += [_below("tokens/character", n) for n in names]
    head += [_below("characters/context", n) for n in names]
    bits_chart = bars(
        "Bits per byte, by text", texts, _series(figures, "bits_per_byte"), "{:.3f}".format
    )
    cost_chart = bars(
        "Tokens a character, by text", texts, _series(figures, "tokens_per_char"), "{:.3f}".format
    )
    return (
        "What was gained in the new language, beside it what was lost elsewhere, and what a text"
        " costs in tokens.",
        charts(
            [
                figure(bits_chart, "Bits per byte of held-out text: less is better, whatever the"
                       " vocabulary."),
                figure(cost_chart, "Tokens a character: fewer are cheaper, and the context of"
                       f" {context:,} tokens holds more text."),
            ]
        ),
        table(head, rows, "Bits per byte and tokens a character, by text"),
    )  # fmt: skip


def _below(what: str, name: str) -> Html:
    """A heading of a column in two lines."""
    return join([name, Html("<br>"), tag("small", what)])


def costs(figures: Figures) -> list[tuple[str, float, float]]:
    """Tokens a character of each text, in the first and the last of several evaluations."""
    found = figures["evaluations"]
    if len(found) < 2:
        return []
    pairs = ((text, _of(found[0], text), _of(found[-1], text)) for text in _named(figures))
    return [
        (text, a["tokens_per_char"], b["tokens_per_char"])
        for text, a, b in pairs
        if a and b and a["tokens_per_char"]
    ]


def _named(figures: Figures) -> list[str]:
    """The texts of any evaluation."""
    return list(dict.fromkeys(t["name"] for e in figures["evaluations"] for t in e["texts"]))


def _of(evaluation: Figures, text: str) -> Figures | None:
    return next((one for one in evaluation["texts"] if one["name"] == text), None)


def _series(figures: Figures, key: str) -> list[Series]:
    """A series for each evaluation, the first of several being grey."""
    found, texts = figures["evaluations"], _named(figures)
    colours = [1] if len(found) == 1 else [0, *range(2, len(found)), 1]
    return [
        Series(e["name"], [(i, one[key]) for i, t in enumerate(texts) if (one := _of(e, t))], c)
        for e, c in zip(found, colours, strict=True)
    ]


def rows(figures: Figures) -> Sequence[Any]:
    """New rows of the vocabulary beside old ones."""
    found = figures["rows"]
    if "missing" in found:
        return ("The rows could not be read.", note(f"{found['missing']}."))
    if not found:
        return ("Its vocabulary was not extended: all rows are of one kind.",)
    drawn = []
    for name, of in found.items():
        middles = [(a + b) / 2 for a, b in zip(of["bins"], of["bins"][1:], strict=False)]
        sets = {kind: _SETS[kind] for kind in of["counts"]}
        series = [
            Series(said, list(zip(middles, of["histogram"][kind], strict=True)), colour)
            for kind, (said, colour) in sets.items()
        ]
        chart = lines(
            f"Norms of {name} rows", series, "norm of a row", "share of rows", zero=False,
            format_y="{:.0%}".format,
        )  # fmt: skip
        rows = [
            [said, f"{of['counts'][kind]:,}", *(number(v) for v in of["norms"][kind].values())]
            for kind, (said, _) in sets.items()
        ]
        head = ["Rows", "Count", "Mean", "Median", "5 %", "95 %"]
        told = numbers(head, rows, f"Norms of {name} rows")
        drawn.append(figure(chart, f"How long {name} rows are (Euclidean norm).", told))
        drawn.append(_plane(name, of))
    return (
        "New rows that stay short, or apart from the old ones, have not learned to be used. Before:"
        " as they were when the first stage began.",
        charts(drawn),
    )


def _plane(name: str, of: Figures) -> Html:
    series = [
        Series(_SETS[kind][0], points, _SETS[kind][1]) for kind, points in of["plane"].items()
    ]
    first, second = (share(one) for one in of["explained"])
    told = ". ".join(
        f"{s.name}: {len(s.points)} rows around "
        f"({_middle([p[0] for p in s.points])}, {_middle([p[1] for p in s.points])})"
        for s in series
    )
    chart = cloud(f"Where {name} rows lie", series, f"first axis, {first} of the variance",
                  f"second axis, {second}", told)  # fmt: skip
    caption = (
        f"{name.capitalize()} rows on the two principal axes of old and new ones. A new row and its"
        f" nearest old one have a cosine of {of['neighbours']:.2f} on average."
    )
    rows = [
        [s.name, f"{len(s.points):,}"] + [_middle([p[i] for p in s.points]) for i in (0, 1)]
        for s in series
    ]
    head = ["Rows", "Drawn", "Middle, first axis", "Middle, second axis"]
    return figure(chart, caption, numbers(head, rows, f"Where {name} rows lie"))


def _middle(values: Sequence[float]) -> str:
    return f"{sorted(values)[len(values) // 2]:.3f}"


def samples(figures: Figures) -> Sequence[Any]:
    """What the model wrote, before, while and after it trained."""
    parts: list[Html] = []
    written = [
        (f"after {step:,} steps of {stage['name']}" if step else f"before {stage['name']}", text)
        for number, stage in enumerate(figures["stages"])
        for step, text in _ends_of(stage["samples"])
        if step or not number
    ]
    if written:
        first, between, last = written[:1], written[1:-1], written[1:][-1:]
        folded = [fold(f"Between ({len(between)})", _texts(between))] if between else []
        parts += [tag("h3", "While it trained"), _texts(first), *folded, _texts(last)]
    prompts = dict.fromkeys(one["prompt"] for e in figures["evaluations"] for one in e["samples"])
    for prompt in prompts:
        said = [
            (evaluation["name"], one["text"])
            for evaluation in figures["evaluations"]
            for one in evaluation["samples"]
            if one["prompt"] == prompt
        ]
        parts += [tag("h3", f"What goes on from “{prompt}”"), _texts(said)]
    for made in figures["texts"]:
        begins = f": what goes on from “{made['prompt']}”" if made["prompt"] else ""
        texts = [(str(i), text) for i, text in enumerate(made["texts"], 1)]
        parts += [tag("h3", f"In the end{begins}"), _texts(texts[:_TEXTS])]
        more = texts[_TEXTS:]
        parts += [fold(f"{len(more)} more", _texts(more))] if more else []
    return ("Unedited, and not chosen.", *parts) if parts else ()


def _ends_of(samples: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """The first and the last."""
    return [samples[0], samples[-1]] if len(samples) > 1 else list(samples)


def _texts(rows: Sequence[tuple[str, str]]) -> Html:
    """Texts with their names, line for line."""
    parts = []
    for name, text in rows:
        said = [line for each in text.split("\n") for line in (each, Html("<br>"))][:-1]
        parts += [tag("dt", name), tag("dd", *said, dir="auto")]
    return tag("dl", *parts, class_="texts")
