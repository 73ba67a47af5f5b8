"""Sections of the page on training, from figures that say what each cell must be."""

import pages
import pytest
from past_runs import past_run

from maxlite.console import human
from maxlite.data.orders import Listed, OrderFile, write_order
from maxlite.mixture import Source
from maxlite.report import stages
from maxlite.report.story_page import page
from maxlite.report.story_training import cost, curves, mixture, trained

ROOM = 8  # tokens a row of a past run


@pytest.fixture
def figures(tmp_path):
    """Of two stages that follow one another; the second read other shares than were asked for."""
    folders = [past_run(tmp_path / name) for name in ("a", "b")]
    listed = tuple(
        Listed(Source(name, weight, name), "x") for name, weight in (("ko", 3.0), ("en", 1.0))
    )
    write_order(folders[1] / "order", OrderFile(listed, "tokenizer", 1, 2, 0, ROOM))
    told = {"price": 3600.0, "steps": [], "kind": "run", "path": "here", "status": "finished"}
    told["stages"] = stages.figures([str(folder) for folder in folders])
    for one, read in zip(told["stages"][1]["mixture"], (0.625, 0.375), strict=True):
        one |= {"read": read, "epochs": 2 * read}
    return told


def read(parts):
    return pages.read("".join(part for part in parts if "<" in str(part)))


def cells(section, label):
    (box,) = section.all("div", class_="scroll", **{"aria-label": label})
    return [[cell.text for cell in row.inside] for row in box.all("tbody")[0].all("tr")]


def test_tokens_add_up_over_the_stages(figures):
    first, second = figures["stages"]
    assert second["began"] == first["tokens"] == 20 * first["settings"]["batch_size"] * ROOM
    section = read(curves(figures))
    each = first["tokens"] // 20
    rows = cells(section, "Training loss over tokens")
    steps = [*range(5, 41, 5)]
    assert [row[0] for row in rows] == ["a"] * 4 + ["b"] * 4
    assert [row[1] for row in rows] == [human(step * each) for step in steps]
    rows = cells(section, "Bits per byte over tokens")
    assert [row[2] for row in rows] == [human(step * each) for step in (10, 20, 30, 40)]


def test_what_was_asked_for_stands_before_what_was_read(figures):
    section = read(mixture(figures))
    assert cells(section, "Share of the tokens by source and stage") == [
        ["b", "ko", "75.0%", "62.5%", "1.250"],
        ["b", "en", "25.0%", "37.5%", "0.750"],
    ]
    (chart,) = section.all("svg")
    said = chart.all("desc")[0].text
    asked, told = said.index("75.00%"), said.index("62.50%")
    assert asked < told and said.index("asked") < said.index("read")


def test_what_it_cost_is_the_time_times_the_price(figures):
    seconds = [stage["seconds"] for stage in figures["stages"]]
    rows = cells(read(cost(figures)), "Speed, memory and cost by stage")
    assert [row[-1] for row in rows] == [f"{each:,.2f}" for each in seconds]
    assert min(seconds) > 0.1
    del figures["price"]
    rows = cells(read(cost(figures)), "Speed, memory and cost by stage")
    assert not {row[-1] for row in rows} & {f"{each:,.2f}" for each in seconds}


def test_one_stage_is_not_called_several(figures):
    read_by = figures["stages"][1:]
    (caption,) = read(mixture(figures | {"stages": read_by})).all("figcaption")
    assert caption.text.endswith("tokens of one stage.")


def test_memory_is_told_in_what_shows_it(figures):
    """Of a small model it is less than a thousandth of a GiB."""
    first, second = figures["stages"]
    first["optimizer_gib"], second["optimizer_gib"] = 0.05, 0.0001
    for section, label in (
        (cost(figures), "Speed, memory and cost by stage"),
        (trained(figures), "Parameters that trained, by stage"),
    ):
        shown = read(section)
        assert "Optimizer MiB" in shown.text and "Optimizer GiB" not in shown.text
        rows = cells(shown, label)
        assert "51.200" in rows[0] and "0.102" in rows[1]
    second["optimizer_gib"] = 1.5
    shown = read(cost(figures))
    assert "Optimizer GiB" in shown.text and "1.500" in shown.text


def test_the_whole_cost_is_in_the_summary(figures):
    more = {"name": "b", "version": "0", "others": 0, "evaluations": [], "context": 8, "texts": [],
            "funnels": [], "rows": {}, "inputs": {}, "config": "", "vocabulary": {}}  # fmt: skip
    whole = sum(stage["seconds"] for stage in figures["stages"])
    (summary,) = pages.read(page(figures | more)).all("section", id="summary")
    assert f"{whole:,.2f} at 3600 an hour" in summary.text
    assert "at most 100.0% trained in one stage" in summary.text
