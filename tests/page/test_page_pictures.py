"""Clouds and lanes: what is drawn lies where the numbers say, and inside the picture."""

import re

import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.page import Column, Series, cloud, lanes

POINT = st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))


def read(made):
    return pages.read(made).inside[0]


def size(svg):
    return [float(v) for v in svg.attributes["viewbox"].split()][2:]


def places(path):
    return [tuple(map(float, p)) for p in re.findall(r"M(-?[\d.]+) (-?[\d.]+)", path)]


def clouds(svg):
    """The places of each series, without the one that explains it."""
    kinds = [p for p in svg.all("path") if p.attributes["class"].startswith("points")]
    return [places(p.attributes["d"]) for p in kinds if not p.attributes["class"].endswith("key")]


@given(st.lists(st.lists(POINT, min_size=1, max_size=20), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_all_points_of_a_cloud_are_inside(many):
    svg = read(cloud("t", [Series(f"s{i}", points, i) for i, points in enumerate(many)], "x", "y"))
    width, height = size(svg)
    found = clouds(svg)
    assert [len(drawn) for drawn in found] == [len(points) for points in many]
    assert all(0 <= x <= width and 0 <= y <= height for drawn in found for x, y in drawn)


def test_a_cloud_keeps_the_order_of_its_points_on_both_axes():
    svg = read(cloud("t", [Series("s", [(0, 0), (1, 2), (2, 4)])], "x", "y", "rising"))
    (a, b, c) = clouds(svg)[0]
    assert b[0] - a[0] == pytest.approx(c[0] - b[0], abs=0.2) and b[0] > a[0]
    assert b[1] - a[1] == pytest.approx(c[1] - b[1], abs=0.2) and b[1] < a[1]
    assert svg.all("desc")[0].text == "rising"


def test_clouds_are_told_apart_by_shape():
    svg = read(cloud("t", [Series(n, [(0, 1), (1, 0)], i) for i, n in enumerate("abc")], "x", "y"))
    shapes = {
        re.sub(r"M-?[\d.]+ -?[\d.]+", "", p.attributes["d"])
        for p in svg.all("path")
        if p.attributes["class"].endswith("key")
    }
    assert len(shapes) == 3 and {"a", "b", "c"} <= {t.text for t in svg.all("text")}


def test_a_cloud_of_nothing_says_so():
    assert "nothing to draw" in read(cloud("t", [Series("s", [])], "x", "y")).text


def rects(svg, kind):
    found = [r for r in svg.all("rect") if r.attributes["class"].startswith(kind)]
    return [{k: float(r.attributes[k]) for k in ("x", "y", "width", "height")} for r in found]


def test_lanes_are_filled_as_far_as_their_parts():
    columns = [Column("rows", "old"), Column("rows", "new"), Column("layers", "1–4", 3)]
    rows = [("one", [[1.0], [0.0], [0.0, 1.0, 0.5, 0.001]], "10%"), ("two", [[0], None, [1]], "")]
    svg = read(lanes("What", columns, rows, "one: old rows."))
    frames, filled = rects(svg, "empty"), rects(svg, "fill")
    assert len(frames) == 8 and len(filled) == 5
    whole = frames[0]["height"]
    heights = [bar["height"] / whole for bar in filled]
    assert heights == pytest.approx([1, 1, 0.5, 0.125, 1])  # the least that is seen
    assert all(any(f["x"] == b["x"] and f["width"] == b["width"] for f in frames) for b in filled)
    bottoms = {f["y"] + f["height"] for f in frames}
    assert all(b["y"] + b["height"] in bottoms for b in filled)
    words = [t.text for t in svg.all("text")]
    assert words.count("rows") == 1 and {"old", "new", "one", "two", "10%", "·"} <= set(words)
    assert svg.all("desc")[0].text == "one: old rows."


@given(
    st.lists(st.integers(1, 130), min_size=1, max_size=7),
    st.lists(st.text("abcdefghij가나다", max_size=30), min_size=1, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_lanes_are_inside(parts, names):
    columns = [Column(f"c{i}", room=1 + (n > 1)) for i, n in enumerate(parts)]
    svg = read(lanes("t", columns, [(n, [[1.0] * k for k in parts], "100%") for n in names]))
    width, height = size(svg)
    for box in (*rects(svg, "empty"), *rects(svg, "fill")):
        assert box["width"] > 0 and box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
