"""Scores of a model's units as a page: which layers, groups and channels matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from maxlite.page import (
    Html,
    Series,
    bars,
    code,
    document,
    figure,
    lines,
    paragraph,
    section,
    table,
    tag,
)
from maxlite.surgery.scores import Importance

_QUANTILES = {"most": 1.0, "90%": 0.9, "median": 0.5, "10%": 0.1, "least": 0.0}
_TALL, _WIDE, _LEFT = 18, 60, 70


def page(scores: Importance, model: str) -> str:
    """One self-contained page of HTML.

    Args:
      scores: of the model.
      model: where it is, for people.
    """
    parts = {
        "Layers": (scores.layers, _layers),
        "Groups of heads": (scores.groups, _groups),
        "FFN channels": (scores.channels, _channels),
        "Residual channels": (scores.residual, _residual),
    }
    shown = [
        (name, section(name, *of(array)))
        for name, (array, of) in parts.items()
        if array is not None
    ]
    lead = paragraph(
        f"Scores by the criterion {scores.criterion}: larger means more important. Measured on ",
        code(scores.text),
        " with the model ",
        code(model),
        ".",
    )
    foot = paragraph(f"Of the model with the signature {scores.signature}.")
    return document("Importance", lead, shown, foot)


def _layers(scores: np.ndarray) -> Sequence[Any]:
    points = list(enumerate(scores.tolist()))
    if scores.min() < 0:
        chart = lines("Score by layer", [Series("score", points)], "layer", "score")
    else:
        chart = bars(
            "Score by layer",
            ["score by layer"],
            [Series(f"layer {i}", [(0, value)]) for i, value in points],
        )
    least = ", ".join(str(i) for i in np.argsort(scores, kind="stable"))
    return "Every layer, as the criterion sees it alone.", figure(
        chart, f"From the least important on: {least}."
    )


def _groups(scores: np.ndarray) -> Sequence[Any]:
    depth, groups = scores.shape
    low, high = float(scores.min()), float(scores.max())
    drawn = [
        tag("text", f"group {g}", x=_LEFT + (g + 0.5) * _WIDE, y=12, text_anchor="middle",
            class_="soft")
        for g in range(groups)
    ]  # fmt: skip
    for layer, row in enumerate(scores.tolist()):
        y = 18 + layer * _TALL
        drawn.append(tag("text", f"layer {layer}", x=_LEFT - 8, y=y + 13, text_anchor="end"))
        for g, value in enumerate(row):
            strength = (value - low) / ((high - low) or 1.0)
            told = tag("title", f"layer {layer}, group {g}: {value:.4g}")
            drawn.append(
                tag("rect", told, x=_LEFT + g * _WIDE + 1, y=y + 1, width=_WIDE - 2,
                    height=_TALL - 2, rx=2, class_="fill s1",
                    fill_opacity=round(0.06 + 0.94 * strength, 3))
            )  # fmt: skip
    title = "Scores of groups by layer"
    chart = tag(
        "svg", tag("title", title), *drawn, role="img", aria_label=title,
        viewBox=f"0 0 {_LEFT + groups * _WIDE} {22 + depth * _TALL}",
    )  # fmt: skip
    head = ["layer", *(f"group {g}" for g in range(groups))]
    cells = [[i, *(f"{value:.4g}" for value in row)] for i, row in enumerate(scores.tolist())]
    return (
        "A group is a key-value head with its query heads; the stronger the colour, the higher.",
        figure(chart, "Surgery compares groups within a layer."),
        table(head, cells, title),
    )


def _channels(scores: np.ndarray) -> Sequence[Any]:
    series = [
        Series(name, list(enumerate(np.quantile(scores, q, axis=1).tolist())), colour)
        for colour, (name, q) in enumerate(_QUANTILES.items())
    ]
    chart = lines("Quantiles of channel scores by layer", series, "layer", "score")
    return "How the scores of a layer's channels are spread.", figure(
        chart, "Far apart: few channels do much of the work, and most can go at little cost."
    )


def _residual(scores: np.ndarray) -> Sequence[Any]:
    ordered = np.sort(scores)[::-1].tolist()
    chart: Html = lines(
        "Scores of residual channels, sorted", [Series("score", list(enumerate(ordered)))],
        "rank", "score",
    )  # fmt: skip
    return "One set of channels goes through the whole model.", figure(
        chart, "From the most important channel to the least."
    )
