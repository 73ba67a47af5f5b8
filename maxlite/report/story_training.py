"""Sections of the page of tools.report on training: what trained, curves, mixture, and cost.

Each is a function of the figures of `maxlite.report.story` that gives (lead, part, ...), or nothing
where there is nothing to say.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from maxlite.console import human
from maxlite.page import (
    Column,
    Html,
    Series,
    bars,
    figure,
    fold,
    lanes,
    lines,
    note,
    table,
    tag,
)
from maxlite.report.corpus import duration, share
from maxlite.report.stages import GROUPS

Figures = dict[str, Any]

_POINTS = 250  # of a stage's curve, at most
_ROWS = 12  # of a stage's curve in a table, at most
_ROOM = {"layers": 3.2, "norm": 1.5, "adapters": 2.8}  # of a column; those of tables have 1


def charts(drawn: Sequence[Html]) -> Html:
    """Charts side by side where there is room."""
    return tag("div", *drawn, class_="charts")


def numbers(head: Sequence[Any], rows: Iterable[Sequence[Any]], label: str) -> Html:
    """The table behind a chart, shown when asked for."""
    return fold("As a table", table(head, rows, label))


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits after its point."""
    return "–" if value is None else f"{value:,.{digits}f}"


def several(stages: Sequence[Figures]) -> str:
    """How many stages, in words."""
    return f"{len(stages)} stages" if len(stages) > 1 else "one stage"


def stage_name(number: int, stage: Figures) -> str:
    """What a stage is called where order matters."""
    return f"{number} {stage['name']}"


def trained(figures: Figures) -> Sequence[Any]:
    """What trained in each stage, as a picture."""
    stages = figures["stages"]
    groups = list(dict.fromkeys((g["group"], g["part"]) for s in stages for g in s["groups"]))
    groups.sort(key=lambda group: GROUPS.index(group[0]))
    columns = [_column(group, stages) for group in groups]
    rows, table_rows, told = [], [], []
    for i, stage in enumerate(stages, 1):
        known = {(g["group"], g["part"]): g for g in stage["groups"]}
        cells = [known[group]["shares"] if group in known else None for group in groups]
        whole = stage["trained"] / stage["parameters"]
        rows.append((stage_name(i, stage), cells, share(whole)))
        said = [
            share(g["trained"] / g["parameters"]) if (g := known.get(group)) else "–"
            for group in groups
        ]
        of = f"{human(stage['trained'])} of {human(stage['parameters'])}"
        table_rows.append([stage["name"], _rule(stage), *said, of, share(whole)])
        taught = [" ".join(group) for group in groups if sum(known.get(group, _NONE)["shares"])]
        told.append(f"{stage['name']}: {', '.join(t.strip() for t in taught) or 'nothing'}.")
    picture = lanes("What trained in each stage", columns, rows, " ".join(told))
    caption = (
        "From left to right the model, from its input to its output; from top to bottom the stages,"
        " in order. Filled: trained. Empty: frozen. On the right, the share of all parameters that"
        " trained."
    )
    head = ["Stage", "Rule", *(" ".join(group).strip() for group in groups), "Parameters", "Share"]
    whole_table = numbers(head, table_rows, "Share of each group that trained, by stage")
    return (
        "Which part of the model learned when. What was frozen did not move at all.",
        charts([figure(picture, caption, whole_table), _costs(stages)]),
    )


_NONE: Figures = {"shares": ()}


def _column(group: tuple[str, str], stages: Sequence[Figures]) -> Column:
    name, part = group
    first, _, second = name.partition(" ")
    if name == "layers":
        depths = {len(g["shares"]) for s in stages for g in s["groups"] if g["group"] == name}
        part = " or ".join(f"1–{depth}" for depth in sorted(depths))
    return Column(first, part or second, _ROOM.get(name, 1 if part else 1.6))


def _rule(stage: Figures) -> str:
    rule = stage["settings"]["train"]
    return rule if isinstance(rule, str) else "rules of its own"


def _costs(stages: Sequence[Figures]) -> Html:
    """How large what trained was, beside the optimizer's memory for it."""
    names = [stage_name(i, stage) for i, stage in enumerate(stages, 1)]
    series = [Series("trained", [(i, s["trained"]) for i, s in enumerate(stages)])]
    drawn = bars("Parameters that trained, by stage", names, series, human)
    size, unit = _unit(stages)
    rows = [
        [s["name"], f"{s['trained']:,}", f"{s['parameters']:,}", number(s["optimizer_gib"] * size)]
        for s in stages
    ]
    head = ["Stage", "Trained", "Of", f"Optimizer {unit}"]
    most = max(s["parameters"] for s in stages)
    caption = f"Parameters that trained, of {human(most)}. Only these have gradients and moments."
    return figure(drawn, caption, numbers(head, rows, "Parameters that trained, by stage"))


def _unit(stages: Sequence[Figures]) -> tuple[int, str]:
    """In what the optimizer's memory is told, and how many of them a GiB has."""
    return (1, "GiB") if max(s["optimizer_gib"] for s in stages) >= 0.1 else (1024, "MiB")


def curves(figures: Figures) -> Sequence[Any]:
    """Loss and bits per byte over the tokens of all stages."""
    stages = figures["stages"]
    marks = [(s["began"], stage_name(i, s)) for i, s in enumerate(stages, 1)]
    marks = marks if len(stages) > 1 else []
    points: list[tuple[float, float]] = []
    rows = []
    for stage in stages:
        logged = _tokens(stage, "loss")
        points += [*_thinned(logged, _POINTS), (math.nan, math.nan)]
        rows += [
            [stage["name"], human(tokens), number(loss)] for tokens, loss in _thinned(logged, _ROWS)
        ]
    loss = lines(
        "Training loss", [Series("loss", points)], "tokens", "loss a token", zero=False, marks=marks
    )
    caption = "Of training. Between stages with different vocabularies it cannot be compared."
    told = numbers(["Stage", "Tokens", "Loss"], rows, "Training loss over tokens")
    drawn = [figure(loss, caption, told)]
    sets = list(dict.fromkeys(name for stage in stages for name in stage["evaluation"]))
    series = [
        Series(name, [point for stage in stages for point in _tokens(stage, name)], i)
        for i, name in enumerate(sets, 1)
    ]
    lead = "How it learned, over all tokens since the first stage began."
    if not series:
        said = "No bits per byte were measured while it trained: data.eval or data.held_out names"
        return lead, charts(drawn), note(f"{said} the text to measure.")
    bits = lines("Bits per byte", series, "tokens", "bits per byte", zero=False, marks=marks)
    rows = [
        [stage["name"], name, human(tokens), number(value, 4)]
        for stage in stages
        for name in sets
        for tokens, value in _thinned(_tokens(stage, name), _ROWS)
    ]
    told = numbers(["Stage", "Text", "Tokens", "Bits per byte"], rows, "Bits per byte over tokens")
    caption = "Of held-out text: less is better, whatever the vocabulary."
    return lead, charts([*drawn, figure(bits, caption, told)])


def _tokens(stage: Figures, name: str) -> list[tuple[float, float]]:
    """A curve over the tokens since the first stage began."""
    room = stage["settings"]["batch_size"] * stage["settings"]["seq_len"]
    return [(stage["began"] + step * room, value) for step, value in stage["curves"].get(name, ())]


def _thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """So many of the points, evenly, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def mixture(figures: Figures) -> Sequence[Any]:
    """What was read, beside what was asked for."""
    stages = [stage for stage in figures["stages"] if stage["mixture"]]
    rows = [
        [
            stage["name"],
            one["source"],
            share(one["asked"]),
            share(one["read"]),
            number(one["epochs"]),
        ]
        for stage in stages
        for one in stage["mixture"]
    ]
    if not rows:
        return ()
    lead = "Shares of the tokens by source, as the weights ask for them and as they were read."
    head = ["Stage", "Source", "Asked", "Read", "Times read through"]
    whole = table(head, rows, "Share of the tokens by source and stage")
    known = [s for s in stages if all(one["read"] is not None for one in s["mixture"])]
    if not known:
        said = "What was read was not measured: that is done with each evaluation."
        return lead, note(said), whole
    sources = list(dict.fromkeys(one["source"] for s in known for one in s["mixture"]))
    total = sum(stage["tokens"] for stage in known)

    def overall(source: str, key: str) -> float:
        return sum(s["tokens"] * (one[key] or 0) / total
                   for s in known for one in s["mixture"] if one["source"] == source)  # fmt: skip

    asked = all(one["asked"] is not None for s in known for one in s["mixture"])
    series = [
        Series(name, [(i, overall(source, key)) for i, source in enumerate(sources)], colour)
        for name, key, colour in (("asked", "asked", 0), ("read", "read", 1))
        if key == "read" or asked
    ]
    chart = bars("Share of the tokens, by source", sources, series, "{:.2%}".format)
    caption = f"Of all {human(total)} tokens of {several(known)}."
    return lead, charts([figure(chart, caption, fold("By stage", whole))])


def cost(figures: Figures) -> Sequence[Any]:
    """Speed, memory, time and, with a price, money."""
    stages = figures["stages"]
    price = figures.get("price", 0)
    names = [stage_name(i, stage) for i, stage in enumerate(stages, 1)]
    speed = [Series("tokens/s", [(i, s["tokens_per_second"]) for i, s in enumerate(stages)])]
    size, unit = _unit(stages)
    memory = [Series("GiB", [(i, s["memory_gib"]) for i, s in enumerate(stages)], 2)]
    columns: dict[str, Callable[[Figures], str]] = {
        "Stage": lambda s: s["name"],
        "Steps": lambda s: f"{s['step']:,}",
        "Tokens": lambda s: human(s["tokens"]),
        "Tokens/s": lambda s: human(s["tokens_per_second"]),
        "Peak GiB": lambda s: number(s["memory_gib"], 2),
        f"Optimizer {unit}": lambda s: number(s["optimizer_gib"] * size),
        "FLOPs": lambda s: human(s["flops"]),
    }
    if any(stage["mfu"] for stage in stages):
        columns["MFU"] = lambda s: share(s["mfu"])
    columns["Training"] = lambda s: duration(s["seconds"])
    if price:
        columns["Cost"] = lambda s: f"{s['seconds'] / 3600 * price:,.2f}"
    rows = [[told(stage) for told in columns.values()] for stage in stages]
    parts = [
        charts(
            [
                figure(bars("Tokens a second, by stage", names, speed, human),
                       "Median of what was logged; the first line, which compiles, left out."),
                figure(bars("Peak memory, by stage", names, memory, "{:.2f}".format),
                       "GiB of a device; on a CPU, of the whole process."),
            ]
        ),
        table(list(columns), rows, "Speed, memory and cost by stage"),
    ]  # fmt: skip
    steps = figures["steps"]
    if steps:
        rows = [[step["name"], duration(step["seconds"])] for step in steps]
        total = sum(step["seconds"] for step in steps)
        rows.append(["all steps", duration(total)])
        whole = table(["Step", "Time"], rows, "Time by step")
        parts.append(fold(f"Every step of the recipe: {duration(total)}", whole))
    lead = "Training alone: a step's own time also has the start of its program, compiling,"
    return f"{lead} evaluations and checkpoints.", *parts
