"""Pictures as inline SVG beside lines and bars: clouds of points, and lanes of what is filled."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from maxlite.page.drawing import WIDTH, Axis, Series, cut, frame, picture, rounded, short, width
from maxlite.page.markup import Html, tag

_LANE, _GAP = 24, 9  # height of a lane, and between two
_SHAPES = ("M{} {}h0", "M{} {}m-2.5 2h5l-2.5-4.5z", "M{} {}m-2.7 0h5.4m-2.7-2.7v5.4")
_LEAST = 3  # pixels of what is filled at all


@dataclass(frozen=True)
class Column:
    """A column of lanes.

    Attributes:
      name: of it and of those beside it that are called the same; it is written once above them.
      part: its own name, below that.
      room: how wide it is, beside the others.
    """

    name: str
    part: str = ""
    room: float = 1.0


def cloud(title: str, series: Sequence[Series], x: str, y: str, told: str = "") -> Html:
    """Points in a plane, told apart by shape and colour; which is which is said above.

    Args:
      title: what it shows, for those who do not see it.
      series: at most three; later ones lie on top.
      x, y: what the axes show.
      told: what is to be seen in it, in words.
    """
    points = [point for s in series for point in s.points]
    if not points:
        return picture(title, 60, [tag("text", "nothing to draw", x=0, y=30)])
    box = left, top, right, bottom = 46.0, 50.0, WIDTH - 8.0, 256.0
    across = Axis([p[0] for p in points], False, left, right, zero=False)
    up = Axis([p[1] for p in points], False, bottom, top, zero=False)
    drawn = frame(across, up, x, y, box, short, short)
    at = left
    for s, shape in zip(series, _SHAPES, strict=False):
        places = [(rounded(across(a)), rounded(up(b))) for a, b in s.points]
        kind = f"points stroke {s.style}"
        path = "".join(shape.format(*place) for place in places)
        drawn.append(tag("path", tag("title", s.name), d=path, class_=kind))
        drawn.append(tag("path", d=shape.format(rounded(at + 4), 28), class_=f"{kind} key"))
        drawn.append(tag("text", s.name, x=rounded(at + 13), y=32))
        at += 30 + width(s.name)
    return picture(title, bottom + 44, drawn, told)


def lanes(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[tuple[str, Sequence[Sequence[float] | None], str]],
    told: str = "",
) -> Html:
    """Lanes one below the other, each a row of cells that are filled, empty, or filled in parts.

    Args:
      title: what it shows, for those who do not see it.
      columns: of all lanes.
      rows: of each lane its name, for each column the shares (0 to 1) of its parts that are filled,
        or None where there is nothing that could be, and a word at its end.
      told: the same in words.
    """
    names = [cut(name, 12) for name, _, _ in rows]
    left = 8 + max(map(width, names), default=0)
    right = WIDTH - 6 - max((width(end) for *_, end in rows), default=0)
    scale = (right - left) / sum(column.room for column in columns)
    drawn, edges, at = [], [], left
    for name, group in groupby(columns, key=lambda column: column.name):
        start = at
        for column in group:
            edges.append((at, column.room * scale - _GAP / 2))
            drawn.append(_head(column.part, *edges[-1], 26, "soft"))
            at += column.room * scale
        drawn.append(_head(name, start, at - start - _GAP / 2, 12, "head"))
    y = 36.0
    for name, (_, cells, end) in zip(names, rows, strict=True):
        base = rounded(y + _LANE / 2 + 4)
        drawn.append(tag("text", name, x=0, y=base))
        for (start, room), cell in zip(edges, cells, strict=True):
            drawn += _cell(start, y, room, cell)
        drawn.append(tag("text", end, x=WIDTH, y=base, text_anchor="end", class_="soft"))
        y += _LANE + _GAP
    return picture(title, y, drawn, told)


def _head(text: str, start: float, room: float, y: float, kind: str) -> Html:
    middle = rounded(start + room / 2)
    return tag("text", text, x=middle, y=y, text_anchor="middle", class_=kind)


def _cell(start: float, y: float, room: float, parts: Sequence[float] | None) -> list[Html]:
    if parts is None:
        return [_head("·", start, room, y + _LANE / 2 + 4, "soft")]
    one = room / len(parts)
    between = 1.5 if one > 5 else 0.5 if one > 2 else 0
    drawn = []
    for i, share in enumerate(parts):
        x, wide = rounded(start + i * one), rounded(one - between)
        drawn.append(tag("rect", x=x, y=y, width=wide, height=_LANE, class_="empty"))
        if share:
            high = rounded(max(_LEAST, share * _LANE))
            drawn.append(
                tag("rect", x=x, y=y + _LANE - high, width=wide, height=high, class_="fill s1")
            )
    return drawn
