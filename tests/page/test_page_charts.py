"""Charts: what is drawn lies where the numbers say, and inside the picture."""

import math
import re
from itertools import pairwise

import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.page import Series, bars, lines
from maxlite.page.charts import short

FINITE = st.floats(1e-6, 1e12)


def size(svg):
    return [float(v) for v in svg.attributes["viewbox"].split()][2:]


def curve(path):
    numbers = [float(v) for v in re.findall(r"-?[\d.]+", path.attributes["d"])]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def curves(svg):
    return [p for p in svg.all("path") if p.attributes["class"].startswith("curve")]


def texts(svg):
    return [t.text for t in svg.all("text")]


def test_a_power_law_is_straight_on_logarithmic_axes():
    points = [(10.0**i, 10.0 ** (6 - i)) for i in range(7)]
    made = lines("t", [Series("law", points)], "rank", "count", log_x=True, log_y=True)
    svg = pages.read(made).inside[0]
    drawn = curve(curves(svg)[0])
    steps = {(round(b[0] - a[0]), round(b[1] - a[1])) for a, b in pairwise(drawn)}
    assert len(steps) == 1 and drawn[0][0] < drawn[-1][0] and drawn[0][1] < drawn[-1][1]
    assert {"1", "10", "1k", "1M", "rank", "count", "law"} <= set(texts(svg))


def test_plain_axes_begin_at_nought():
    svg = pages.read(lines("t", [Series("s", [(0, 10), (50, 20), (100, 30)])], "x", "y")).inside[0]
    (x0, y0), (x1, y1), (x2, y2) = curve(curves(svg)[0])
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y1 - y0 == pytest.approx(y2 - y1, abs=0.2)
    axis = next(
        e
        for e in svg.all("line")
        if e.attributes["class"] == "axis" and e.attributes["y1"] == e.attributes["y2"]
    )
    assert float(axis.attributes["y1"]) - y0 == pytest.approx(y0 - y1, abs=0.2)
    assert {"0", "5", "30", "100"} <= set(texts(svg))


def test_what_differs_little_fills_the_picture_where_axes_need_not_begin_at_nought():
    points = [(100, 2.01), (110, 2.02), (120, 2.04)]
    svg = pages.read(lines("t", [Series("s", points)], "x", "y", zero=False)).inside[0]
    (_, lowest), _, (_, highest) = curve(curves(svg)[0])
    assert lowest - highest > 100 and "0" not in texts(svg)
    alone = lines("t", [Series("s", points)], "x", "y", zero=False, joined=False)
    dots = pages.read(alone).inside[0].all("circle")
    at = {(d.attributes["cx"], d.attributes["cy"]) for d in dots}
    assert {(str(x), str(y)) for x, y in curve(curves(svg)[0])} < at


def test_ends_that_are_given():
    points = [(1, 0.2), (10, 0.9)]
    made = lines(
        "t", [Series("s", points)], "x", "y", log_x=True, format_y=lambda v: f"{v:.0%}", ends=(0, 1)
    )
    assert {"0%", "20%", "100%"} <= set(texts(pages.read(made).inside[0]))


@given(
    st.lists(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=5), min_size=1, max_size=7),
    *[st.booleans()] * 4,
)
@settings(max_examples=100, deadline=None)
def test_everything_is_inside_and_no_two_names_lie_on_each_other(many, log_x, log_y, zero, joined):
    series = [Series(f"s{i}", points, i) for i, points in enumerate(many)]
    settings = {"log_x": log_x, "log_y": log_y, "zero": zero, "joined": joined}
    svg = pages.read(lines("t", series, "x", "y", **settings)).inside[0]
    width, height = size(svg)
    assert len(curves(svg)) == joined * len(series)
    for dot in svg.all("circle"):
        assert 0 <= float(dot.attributes["cx"]) <= width
        assert 0 <= float(dot.attributes["cy"]) <= height
    for path in svg.all("path"):
        for x, y in curve(path):
            assert 0 <= x <= width and 0 <= y <= height
    places = [float(t.attributes["y"]) for t in svg.all("text") if re.fullmatch(r"s\d", t.text)]
    assert len(places) == len(series)
    gaps = sorted(places)
    assert all(b - a >= 16.8 for a, b in pairwise(gaps))
    assert gaps[0] > 0 and gaps[-1] < height


def test_series_differ_by_more_than_colour():
    series = [Series(f"s{i}", [(1, 1), (2, i + 1)], i) for i in range(7)]
    drawn = curves(pages.read(lines("t", series, "x", "y")).inside[0])
    looks = {(p.attributes["class"], p.attributes.get("stroke-dasharray")) for p in drawn}
    assert len(looks) == 7 and len({dash for _, dash in looks}) >= 6


def test_points_that_a_logarithm_lacks_are_left_out():
    svg = pages.read(
        lines("t", [Series("s", [(0, 5), (1, 0), (2, 3)])], "x", "y", log_x=True, log_y=True)
    )
    assert len(curve(curves(svg)[0])) == 1
    empty = pages.read(lines("t", [Series("s", [(0, 5)])], "x", "y", log_x=True))
    assert texts(empty) == ["nothing to draw"]


def test_bars_are_as_long_as_their_values():
    series = [Series("old", [(0, 4.0), (1, 1.0)], 0), Series("<new>", [(0, 2.0)], 1)]
    svg = pages.read(bars("title", ["ko & ja", "en"], series)).inside[0]
    widths = [float(r.attributes["width"]) for r in svg.all("rect")]
    assert (
        widths[0] == pytest.approx(2 * widths[1], abs=0.2) == pytest.approx(4 * widths[2], abs=0.4)
    )
    told = [r.all("title")[0].text for r in svg.all("rect")]
    assert told == ["ko & ja, old: 4", "ko & ja, <new>: 2", "en, old: 1"]
    assert {"ko & ja", "en", "old", "<new>", "4", "2", "1"} <= set(texts(svg))
    width, height = size(svg)
    for bar in svg.all("rect"):
        assert float(bar.attributes["x"]) + float(bar.attributes["width"]) < width
        assert float(bar.attributes["y"]) + float(bar.attributes["height"]) < height


@pytest.mark.parametrize(
    "made",
    [
        lines("What", [Series("s", [(1, 1)])], "x", "y"),
        bars("What", [], []),
        bars("What", ["g"], [Series("s", [(0, 0)])]),
    ],
)
def test_charts_tell_what_they_are(made):
    svg = pages.read(made).inside[0]
    assert svg.attributes["role"] == "img" and svg.attributes["aria-label"] == "What"
    assert svg.all("title")[0].text == "What"
    assert all(math.isfinite(v) for v in size(svg))


def test_numbers_of_an_axis():
    assert [short(v) for v in (0, 0.25, 30, 4000, 1.5e6, 2e9)] == [
        "0",
        "0.25",
        "30",
        "4k",
        "1.5M",
        "2B",
    ]


def test_a_line_is_broken_where_a_value_is_no_number():
    points = [(0, 1), (1, 2), (math.nan, math.nan), (2, 5), (3, 4)]
    svg = pages.read(lines("t", [Series("s", points)], "x", "y")).inside[0]
    path = curves(svg)[0].attributes["d"]
    assert path.count("M") == 2 and path.count("L") == 2 and "nan" not in str(svg)
    assert "s: 1 at 0, 4 at 3." in svg.all("desc")[0].text


def test_parts_of_an_axis_have_their_names_or_their_numbers():
    series = [Series("s", [(0, 1), (100, 2)])]
    svg = pages.read(lines("t", series, "x", "y", marks=[(0, "one"), (50, "two")])).inside[0]
    at = [float(m.attributes["x1"]) for m in svg.all("line") if m.attributes["class"] == "mark"]
    (x0, _), (x1, _) = curve(curves(svg)[0])
    assert at == pytest.approx([x0, (x0 + x1) / 2], abs=0.2) and {"one", "two"} <= set(texts(svg))
    close = [(0, "a long name"), (4, "another"), (8, "more"), (99.5, "and more")]
    svg = pages.read(lines("t", series, "x", "y", marks=close)).inside[0]
    said = set(texts(svg))
    assert "3" in said and not {"more", "4"} & said  # nor is there room for the number
    assert len([m for m in svg.all("line") if m.attributes["class"] == "mark"]) == 4
