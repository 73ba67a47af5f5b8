"""Charts as inline SVG: lines on plain or logarithmic axes, and bars in groups.

Every series is named where it is drawn, and told apart by more than its colour. Colours come from
the page's style, so they follow light and dark.
"""

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from maxlite.page.markup import Html, join, tag

Format = Callable[[float], str]

COLOURS = 7  # the first, which is grey, is for what others are compared with
_DASHES = (None, None, "7 4", "2 4", "10 3 2 3", "4 3", "12 5")
_WIDTH, _LINE = 440, 17
_LETTER = 7.0  # width of one, more or less


@dataclass(frozen=True)
class Series:
    """A named series.

    Attributes:
      name: what it is called in the chart.
      points: (x, y) of a line; (place, value) of bars, of which some may be left out.
      colour: its number in the palette; 0 is the grey one.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 1


def short(number: float) -> str:
    """A number for an axis: 0.25, 30, 4k, 1.5M."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.4g}{suffix}"
    return f"{number:.4g}"


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
) -> Html:
    """A chart of lines; each has its name at its right end.

    Args:
      title: what it shows, for those who do not see it.
      series: of at least one point each; on a logarithmic axis those that are not positive are
        left out.
      x, y: what the axes show.
      log_x, log_y: whether an axis is logarithmic.
      format_x, format_y: how numbers are written on the axes.
      ends: of the y axis; None takes those of the points.
      zero: whether axes that are not logarithmic begin at 0; else near the points, for what differs
        little.
      joined: false draws points alone.
    """
    kept = [
        Series(s.name, [p for p in s.points if (p[0] > 0 or not log_x) and (p[1] > 0 or not log_y)],
               s.colour)
        for s in series
    ]  # fmt: skip
    kept = [s for s in kept if s.points]
    if not kept:
        return _svg(title, 60, [tag("text", "nothing to draw", x=0, y=30)])
    names = [_cut(s.name, 14) for s in kept]
    right = 24 + max(map(_width, names))
    left, top, bottom, height = 46, 26, 44, 280
    horizontal = _Axis([p[0] for s in kept for p in s.points], log_x, left, _WIDTH - right, zero)
    shown = list(ends) if ends else [p[1] for s in kept for p in s.points]
    vertical = _Axis(shown, log_y, height - bottom, top, zero)
    drawn = [tag("text", y, x=0, y=12, class_="soft")]
    for tick in vertical.ticks:
        at = _number(vertical(tick))
        drawn.append(_line(left, at, _WIDTH - right, at, "grid"))
        said = format_y(tick)
        drawn.append(tag("text", said, x=left - 8, y=at + 4, text_anchor="end", class_="soft"))
    for tick in horizontal.ticks:
        at = _number(horizontal(tick))
        drawn.append(_line(at, height - bottom, at, height - bottom + 5, "axis"))
        drawn.append(
            tag("text", format_x(tick), x=at, y=height - bottom + 20, text_anchor="middle",
                class_="soft")
        )  # fmt: skip
    drawn.append(_line(left, height - bottom, _WIDTH - right, height - bottom, "axis"))
    middle = _number((left + _WIDTH - right) / 2)
    drawn.append(tag("text", x, x=middle, y=height - 6, text_anchor="middle", class_="soft"))
    stops = [vertical(s.points[-1][1]) for s in kept]
    for s, name, stop, place in zip(
        kept, names, stops, _apart(stops, height - bottom), strict=True
    ):
        places = [(_number(horizontal(a)), _number(vertical(b))) for a, b in s.points]
        colour = f"s{s.colour % COLOURS}"
        if joined:
            path = " ".join(f"{'L' if i else 'M'}{a} {b}" for i, (a, b) in enumerate(places))
            drawn.append(
                tag("path", tag("title", s.name), d=path, class_=f"curve stroke {colour}",
                    stroke_dasharray=_DASHES[s.colour % COLOURS])
            )  # fmt: skip
        else:
            drawn += [
                tag("circle", tag("title", s.name), cx=a, cy=b, r=3.2, class_=f"fill {colour}")
                for a, b in places[:-1]  # the last has one in any case
            ]
        at = _number(horizontal(s.points[-1][0]))
        edge = _number(_WIDTH - right)
        leader = f"M{at} {_number(stop)} L{edge} {_number(stop)} L{edge + 10} {_number(place)}"
        drawn.append(tag("path", d=leader, class_="lead-line", stroke_dasharray="2 3"))
        for cx, cy in ((at, stop), (edge + 12, place)):
            drawn.append(tag("circle", cx=cx, cy=_number(cy), r=3.2, class_=f"fill {colour}"))
        drawn.append(tag("text", name, x=edge + 19, y=_number(place + 4)))
    return _svg(title, height, drawn)


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
    names = [_cut(s.name, 20) for s in series]
    left = _number(12 + max(map(_width, names), default=0))
    values = [value for s in series for _, value in s.points]
    written = max((_width(format_value(value)) for value in values), default=0)
    room = _WIDTH - left - 10 - written
    scale = room / (max(values, default=0) or 1)
    drawn, y = [], 4.0
    for number, group in enumerate(groups):
        y += _LINE
        drawn.append(tag("text", _cut(group, 60), x=0, y=_number(y - 3), class_="head"))
        for s, name in zip(series, names, strict=True):
            for _, value in [p for p in s.points if p[0] == number]:
                width = _number(max(value * scale, 1))
                base = _number(y + _LINE - 4)
                bar = tag(
                    "rect",
                    tag("title", f"{group}, {s.name}: {format_value(value)}"),
                    x=_number(left),
                    y=_number(y + 2),
                    rx=2,
                    width=width,
                    height=_LINE - 4,
                    class_=f"fill s{s.colour % COLOURS}",
                )
                label = tag("text", name, x=left - 8, y=base, text_anchor="end", class_="soft")
                told = tag("text", format_value(value), x=_number(left + width + 6), y=base)
                drawn += [label, bar, told]
                y += _LINE
        y += 12
    return _svg(title, _number(y), drawn)


class _Axis:
    """Where numbers lie on an axis, and which of them are written there."""

    def __init__(
        self, values: Sequence[float], log: bool, start: float, stop: float, zero: bool = True
    ):
        self._log, self._start, self._stop = log, start, stop
        low, high = min(values), max(values)
        if log:
            first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
            last = max(last, first + 1)
            every = max(1, math.ceil((last - first) / 7))
            self.ticks = [10.0**power for power in range(first, last + 1, every)]
            self._low, self._high = float(first), float(last)
        else:
            low = min(low, 0.0) if zero else low
            step = _step((high - low) or (not zero and abs(high)) or 1.0)
            low = low if zero else math.floor(low / step + 1e-9) * step
            count = math.ceil((high - low) / step - 1e-9) or 1
            self.ticks = [low + i * step for i in range(count + 1)]
            self._low, self._high = low, low + count * step

    def __call__(self, value: float) -> float:
        at = math.log10(value) if self._log else value
        share = (at - self._low) / (self._high - self._low)
        return self._start + share * (self._stop - self._start)


def _step(span: float) -> float:
    """A round number that goes five times into a span, more or less."""
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if span / (power * m) <= 6)


def _apart(places: Sequence[float], lowest: float) -> list[float]:
    """Places near those given, but a line apart, in their order, and none below the lowest."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + _LINE)
    over = moved[order[-1]] - lowest
    if over > 0:
        moved[order[-1]] -= over
        for after, before in pairwise(order[::-1]):
            moved[before] = min(moved[before], moved[after] - _LINE)
    return moved


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    return tag("line", x1=_number(x1), y1=_number(y1), x2=_number(x2), y2=_number(y2), class_=kind)


def _svg(title: str, height: float, drawn: Sequence[Html]) -> Html:
    return tag(
        "svg",
        tag("title", title),
        join(drawn),
        viewBox=f"0 0 {_WIDTH} {height}",
        role="img",
        aria_label=title,
    )


def _width(text: str) -> float:
    """How wide a text is, more or less; letters of East Asia take two places."""
    return _LETTER * sum(1.8 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _number(value: float) -> float:
    return round(value, 1)
