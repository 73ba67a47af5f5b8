"""Runs side by side: a table for the terminal, and a page. Figures are maxlite.report.runs's."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from maxlite.console import human
from maxlite.page import (
    Html,
    Series,
    code,
    document,
    facts,
    figure,
    lines,
    note,
    paragraph,
    section,
    table,
    tag,
)

Figures = dict[str, Any]

SIZES = ("depth", "width", "expansion", "parameters", "flops_per_token")
_CURVES = 12  # that have room for their names in a chart
_WORDS = {"flops_per_token": "FLOPs a token"}


def correlations(runs: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Spearman's rank correlations of what runs came to with their sizes.

    Below 0: the larger, the fewer bits per byte, which is better. Ties have their mean rank.

    Returns:
      {set: {size: correlation}} for each evaluation set that all runs have, of at least three, and
      each size of which there are several.
    """
    if len(runs) < 3:
        return {}
    return {
        name: {
            size: _correlation(_ranks([run[size] for run in runs]), scored)
            for size in SIZES
            if len({run[size] for run in runs}) > 1
        }
        for name in sets(runs)
        if all(name in run["evaluation"] for run in runs)
        and len(set(bits := [run["evaluation"][name]["bits_per_byte"] for run in runs])) > 1
        for scored in [_ranks(bits)]
    }


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, place, ties = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(ties) - (ties - 1) / 2)[place]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def sets(runs: Sequence[Figures]) -> list[str]:
    """The evaluation sets that any of the runs has."""
    return list(dict.fromkeys(name for run in runs for name in run["evaluation"]))


def differing(runs: Sequence[Figures]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, with the value of each run."""
    known = dict.fromkeys(key for run in runs for key in run["settings"])
    values = {key: [run["settings"].get(key) for run in runs] for key in known}
    return {
        key: found
        for key, found in values.items()
        if len({json.dumps(value, sort_keys=True) for value in found}) > 1
    }


def comparison_table(runs: Sequence[Figures]) -> str:
    """The runs as text, a line each, and the correlations below.

    Returns:
      Lines, without the last one's end.
    """
    rows = [_head(runs), *(_row(run, runs) for run in runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    told = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    for name, found in correlations(runs).items():
        said = ", ".join(f"{_word(size)} {value:+.2f}" for size, value in found.items())
        told.append(f"Spearman correlation with bits per byte of {name}: {said}")
    return "\n".join([*told, *_remarks(runs)])


def _head(runs: Sequence[Figures]) -> list[str]:
    scored = [f"bits/byte {name}" for name in sets(runs)]
    return [
        *("run", "depth", "width", "expansion", "parameters", "tables", "FLOPs/token"),
        *("steps", "loss", *scored, "tokens/s"),
    ]


def _row(run: Figures, runs: Sequence[Figures]) -> list[str]:
    scored = [run["evaluation"].get(name) for name in sets(runs)]
    return [
        run["name"],
        str(run["depth"]),
        str(run["width"]),
        f"{run['expansion']:.2f}",
        f"{run['parameters']:,}",
        f"{run['table_share']:.2%}",
        human(run["flops_per_token"]),
        str(run["step"]),
        "–" if run["loss"] is None else f"{run['loss']:.4f}",
        *("–" if score is None else f"{score['bits_per_byte']:.4f}" for score in scored),
        human(run["tokens_per_second"]),
    ]


def _remarks(runs: Sequence[Figures]) -> list[str]:
    """What a reader must know before comparing."""
    told = [
        f"{run['name']} is {run['status']} at step {run['step']} of {run['steps']}"
        for run in runs
        if run["status"] != "finished"
    ]
    told += [
        f"{run['name']}: {name} was last scored at step {score['step']} of {run['step']}"
        for run in runs
        for name, score in run["evaluation"].items()
        if score["step"] != run["step"]
    ]
    if len({run["order"] for run in runs}) > 1:
        told.append("the runs do not read the same text in the same order")
    return told


def page(runs: Sequence[Figures]) -> str:
    """The same as one self-contained page of HTML, with curves and charts by size."""
    parts = {
        "Summary": _summary,
        "The runs": _runs,
        "Loss and bits per byte": _curves,
        "By size": _by_size,
        "What is different": _settings,
    }
    shown = [(name, section(name, *body)) for name, of in parts.items() if (body := of(runs))]
    lead = paragraph(f"{len(runs):,} runs side by side.")
    foot = paragraph("Made by compare_runs. The figures are those that --json writes.")
    return document("Runs compared", lead, shown, foot)


def _summary(runs: Sequence[Figures]) -> Sequence[Any]:
    entries = []
    for name in sets(runs):
        scored = [run for run in runs if name in run["evaluation"]]
        best = min(scored, key=lambda run: _bits(run, name))
        worst = max(scored, key=lambda run: _bits(run, name))
        said = f"{best['name']}; the worst, {worst['name']}, has {_bits(worst, name):.4f}"
        entries.append((f"fewest bits per byte of {name}", f"{_bits(best, name):.4f}", said))
    fastest = max(runs, key=lambda run: run["tokens_per_second"])
    said = f"by {fastest['name']}, the fastest"
    entries.append(("tokens a second", human(fastest["tokens_per_second"]), said))
    notes = [note(remark, kind="bad") for remark in _remarks(runs)]
    return "What came out, less being better.", facts("All runs together", entries), *notes


def _runs(runs: Sequence[Figures]) -> Sequence[Any]:
    return (
        "Tables are the embedding and the head; expansion is FFN channels over width.",
        table(_head(runs), [_row(run, runs) for run in runs], "Shapes, cost and results of runs"),
    )


def _curves(runs: Sequence[Figures]) -> Sequence[Any]:
    shown = runs[:_CURVES]
    charts = []
    for name in ("loss", *sets(runs)):
        series = [
            Series(run["name"], run["curves"][name], i + 1)
            for i, run in enumerate(shown)
            if run["curves"].get(name)
        ]
        said = "of training" if name == "loss" else f"of {name}"
        what = "loss a token" if name == "loss" else "bits per byte"
        if series:
            chart = lines(f"{what} {said} by step", series, "step", what, zero=False)
            charts.append(figure(chart, f"{what.capitalize()} {said}."))
    lead = "How the runs came there."
    if len(runs) > _CURVES:
        lead += f" The first {_CURVES} of {len(runs)} are drawn."
    return lead, _charts(charts)


def _by_size(runs: Sequence[Figures]) -> Sequence[Any]:
    charts, found = [], correlations(runs)
    several = [size for size in SIZES if len({run[size] for run in runs}) > 1]
    for name in sets(runs):
        scored = [run for run in runs if name in run["evaluation"]]
        for size in several if len(scored) > 1 else ():
            points = [(run["name"], (run[size], _bits(run, name))) for run in scored]
            series = [Series(run, [point], i + 1) for i, (run, point) in enumerate(points)]
            if len(points) > _CURVES:  # too many for each to have its name
                series = [Series("runs", [point for _, point in points])]
            title = f"bits per byte of {name} by {_word(size)}"
            chart = lines(title, series, _word(size), "bits per byte", zero=False, joined=False)
            told = found.get(name, {}).get(size)
            more = f" Spearman correlation {told:+.2f}." if told is not None else ""
            charts.append(figure(chart, f"{name} by {_word(size)}.{more}"))
    if not charts:
        return ()
    lead = "A correlation below 0 says: the larger, the fewer bits, which is better."
    return lead, _charts(charts)


def _settings(runs: Sequence[Figures]) -> Sequence[Any]:
    found = differing(runs)
    if not found:
        return ("All have the same settings.",)
    rows = [
        [key, *(code(json.dumps(value, ensure_ascii=False)) for value in values)]
        for key, values in found.items()
    ]
    head = ["Setting", *(run["name"] for run in runs)]
    return "Everything else is the same in all of them.", table(head, rows, "Settings that differ")


def _charts(charts: Sequence[Html]) -> Html:
    return tag("div", *charts, class_="charts")


def _bits(run: Figures, name: str) -> float:
    return run["evaluation"][name]["bits_per_byte"]


def _word(size: str) -> str:
    return _WORDS.get(size, size)
