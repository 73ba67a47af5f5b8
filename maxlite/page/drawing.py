"""What all charts are drawn with: axes, numbers on them, lines, and the picture around it all."""

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from maxlite.page.markup import Html, join, tag

Format = Callable[[float], str]

COLOURS = 7  # the first, which is grey, is for what others are compared with
WIDTH = 440  # of every picture
LINE = 17  # from one line of text to the next
_LETTER = 8.0  # width of one, more or less, on a phone, where letters are larger


@dataclass(frozen=True)
class Series:
    """A named series.

    Attributes:
      name: what it is called in the chart.
      points: (x, y) of a line or a cloud; (place, value) of bars, of which some may be left out.
      colour: its number in the palette; 0 is the grey one.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 1

    @property
    def style(self) -> str:
        """The class of the palette."""
        return f"s{self.colour % COLOURS}"


class Axis:
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


def frame(
    across: Axis,
    up: Axis,
    x: str,
    y: str,
    box: tuple[float, float, float, float],
    format_x: Format,
    format_y: Format,
) -> list[Html]:
    """Both axes with their ticks and names.

    Args:
      across, up: the axes.
      x, y: what they show.
      box: its left, top, right and bottom edge.
      format_x, format_y: how numbers are written.
    """
    left, _, right, bottom = box
    drawn = [tag("text", y, x=0, y=12, class_="soft")]
    for tick in up.ticks:
        at = rounded(up(tick))
        drawn.append(line(left, at, right, at, "grid"))
        said = format_y(tick)
        drawn.append(tag("text", said, x=left - 8, y=at + 4, text_anchor="end", class_="soft"))
    for tick in across.ticks:
        at = rounded(across(tick))
        drawn.append(line(at, bottom, at, bottom + 5, "axis"))
        drawn.append(
            tag("text", format_x(tick), x=at, y=bottom + 20, text_anchor="middle", class_="soft")
        )
    drawn.append(line(left, bottom, right, bottom, "axis"))
    middle = rounded((left + right) / 2)
    drawn.append(tag("text", x, x=middle, y=bottom + 38, text_anchor="middle", class_="soft"))
    return drawn


def picture(title: str, height: float, drawn: Sequence[Html], told: str = "") -> Html:
    """A chart as an image with a name and, for those who do not see it, a description."""
    return tag(
        "svg",
        tag("title", title),
        *([tag("desc", told)] if told else []),
        join(drawn),
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_label=title,
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    """A straight line of a kind that the page's style knows."""
    return tag("line", x1=rounded(x1), y1=rounded(y1), x2=rounded(x2), y2=rounded(y2), class_=kind)


def short(number: float) -> str:
    """A number for an axis: 0.25, 30, 4k, 1.5M."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.4g}{suffix}"
    return f"{number:.4g}"


def width(text: str) -> float:
    """How wide a text is, more or less; letters of East Asia take two places."""
    return _LETTER * sum(1.8 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, most: int) -> str:
    """A text of at most so many letters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def rounded(value: float) -> float:
    """A place in a picture, as exact as anyone sees."""
    return round(value, 1)
