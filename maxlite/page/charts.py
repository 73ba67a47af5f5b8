"""Charts as inline SVG: lines on plain or logarithmic axes, and bars in groups.

Every series is named where it is drawn, and told apart by more than its colour. Colours come from
the page's style, so they follow light and dark.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from maxlite.page.drawing import (
    COLOURS,
    LINE,
    WIDTH,
    Axis,
    Format,
    Series,
    cut,
    frame,
    line,
    picture,
    rounded,
    short,
    width,
)
from maxlite.page.markup import Html, tag

_DASHES = (None, None, "7 4", "2 4", "10 3 2 3", "4 3", "12 5")


def lines(
    title: str,
    series: Sequence[Series],
    x: str,
    y: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    format_x: Format = short,
    format_y: Format = short,
    ends: tuple[float, float] | None = None,
    zero: bool = True,
    joined: bool = True,
    marks: Sequence[tuple[float, str]] = (),
) -> Html:
    """A chart of lines; each has its name at its right end.

    Args:
      title: what it shows, for those who do not see it.
      series: of at least one point each; on a logarithmic axis those that are not positive are
        left out. A point whose y is not a number ends a line, and the next begins another.
      x, y: what the axes show.
      log_x, log_y: whether an axis is logarithmic.
      format_x, format_y: how numbers are written on the axes.
      ends: of the y axis; None takes those of the points.
      zero: whether axes that are not logarithmic begin at 0; else near the points, for what differs
        little.
      joined: false draws points alone.
      marks: names of parts of the x axis, with where each begins, ascending.
    """

    def drawable(point: tuple[float, float]) -> bool:
        return (point[0] > 0 or not log_x) and (not point[1] <= 0 or not log_y)

    kept = [replace(s, points=[p for p in s.points if drawable(p)]) for s in series]
    kept = [s for s in kept if _known(s)]
    if not kept:
        return picture(title, 60, [tag("text", "nothing to draw", x=0, y=30)])
    names = [cut(s.name, 14) for s in kept]
    left, top, height = 46, 40 if marks else 26, 280
    right, bottom = WIDTH - 24 - max(map(width, names)), height - 44
    known = [p for s in kept for p in _known(s)]
    begins = [at for at, _ in marks if at > 0 or not log_x]
    across = Axis([*(p[0] for p in known), *begins], log_x, left, right, zero)
    up = Axis(list(ends) if ends else [p[1] for p in known], log_y, bottom, top, zero)
    drawn = frame(across, up, x, y, (left, top, right, bottom), format_x, format_y)
    drawn += _marked(marks, across, (left, top, right, bottom))
    stops = [up(_known(s)[-1][1]) for s in kept]
    for s, name, stop, place in zip(kept, names, stops, _apart(stops, bottom), strict=True):
        if joined:
            drawn.append(
                tag("path", tag("title", s.name), d=_path(s, across, up),
                    class_=f"curve stroke {s.style}", stroke_dasharray=_DASHES[s.colour % COLOURS])
            )  # fmt: skip
        else:
            drawn += [
                tag("circle", tag("title", s.name), cx=rounded(across(a)), cy=rounded(up(b)), r=3.2,
                    class_=f"fill {s.style}")
                for a, b in _known(s)[:-1]  # the last has one in any case
            ]  # fmt: skip
        at, edge = rounded(across(_known(s)[-1][0])), rounded(right)
        leader = f"M{at} {rounded(stop)} L{edge} {rounded(stop)} L{edge + 10} {rounded(place)}"
        drawn.append(tag("path", d=leader, class_="lead-line", stroke_dasharray="2 3"))
        for cx, cy in ((at, stop), (edge + 12, place)):
            drawn.append(tag("circle", cx=cx, cy=rounded(cy), r=3.2, class_=f"fill {s.style}"))
        drawn.append(tag("text", name, x=edge + 19, y=rounded(place + 4)))
    told = (
        f"{s.name}: {format_y(first[1])} at {format_x(first[0])}, "
        f"{format_y(last[1])} at {format_x(last[0])}."
        for s in kept
        for first, last in [(_known(s)[0], _known(s)[-1])]
    )
    return picture(title, height, drawn, f"{y} by {x}. {' '.join(told)}")


def bars(
    title: str, groups: Sequence[str], series: Sequence[Series], format_value: Format = short
) -> Html:
    """Bars from left to right, in groups one below the other; each has its name and value.

    Args:
      title: what it shows, for those who do not see it.
      groups: names.
      series: points (number of the group, value of at least 0).
      format_value: how values are written.
    """
    names = [cut(s.name, 20) for s in series]
    left = rounded(12 + max(map(width, names), default=0))
    values = [value for s in series for _, value in s.points]
    written = max((width(format_value(value)) for value in values), default=0)
    room = WIDTH - left - 10 - written
    scale = room / (max(values, default=0) or 1)
    drawn, y = [], 4.0
    for number, group in enumerate(groups):
        y += LINE
        drawn.append(tag("text", cut(group, 60), x=0, y=rounded(y - 3), class_="head"))
        for s, name in zip(series, names, strict=True):
            for _, value in [p for p in s.points if p[0] == number]:
                long = rounded(max(value * scale, 1))
                base = rounded(y + LINE - 4)
                bar = tag(
                    "rect",
                    tag("title", f"{group}, {s.name}: {format_value(value)}"),
                    x=rounded(left),
                    y=rounded(y + 2),
                    rx=2,
                    width=long,
                    height=LINE - 4,
                    class_=f"fill {s.style}",
                )
                label = tag("text", name, x=left - 8, y=base, text_anchor="end", class_="soft")
                told = tag("text", format_value(value), x=rounded(left + long + 6), y=base)
                drawn += [label, bar, told]
                y += LINE
        y += 12
    said = (
        f"{group}, {s.name}: {format_value(value)}."
        for number, group in enumerate(groups)
        for s in series
        for place, value in s.points
        if place == number
    )
    return picture(title, rounded(y), drawn, " ".join(said))


def _known(series: Series) -> list[tuple[float, float]]:
    return [point for point in series.points if not math.isnan(point[1])]


def _path(series: Series, across: Axis, up: Axis) -> str:
    """A line through the points, begun anew after each that is not a number."""
    path, begins = [], True
    for a, b in series.points:
        if not math.isnan(b):
            path.append(f"{'M' if begins else 'L'}{rounded(across(a))} {rounded(up(b))}")
        begins = math.isnan(b)
    return " ".join(path)


def _marked(
    marks: Sequence[tuple[float, str]], across: Axis, box: tuple[float, float, float, float]
) -> list[Html]:
    """Upright lines where parts begin, with their names, or their numbers where room lacks."""
    _, top, right, bottom = box
    starts = [across(at) for at, _ in marks]
    rooms = [b - a - 6 for a, b in pairwise([*starts, right])]
    fits = all(width(name) * 0.9 <= room for (_, name), room in zip(marks, rooms, strict=True))
    drawn = []
    for number, (start, (_, name), room) in enumerate(zip(starts, marks, rooms, strict=True), 1):
        drawn.append(line(start, top - 14, start, bottom, "mark"))
        said = name if fits else str(number)
        if width(said) * 0.9 <= room:
            drawn.append(tag("text", said, x=rounded(start + 4), y=top - 5, class_="soft"))
    return drawn


def _apart(places: Sequence[float], lowest: float) -> list[float]:
    """Places near those given, but a line apart, in their order, and none below the lowest."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + LINE)
    over = moved[order[-1]] - lowest
    if over > 0:
        moved[order[-1]] -= over
        for after, before in pairwise(order[::-1]):
            moved[before] = min(moved[before], moved[after] - LINE)
    return moved
