"""compare_runs, as a user calls it."""

import json

import pages
import pytest
from commands import call, done, refused
from past_runs import past_run

TOOL = "tools.compare_runs"


@pytest.fixture
def desk(tmp_path):
    """Three runs, in a folder with a space and a comma in its name."""
    here = tmp_path / "a, b"
    for i, name in enumerate(("one", "two", "three")):
        past_run(here / name, 2 + i, bits=2 - i / 10)
    return here


def runs(here):
    return "--runs=" + ",".join(f'"{here / name}"' for name in ("one", "two", "three"))


def test_a_table_a_page_and_figures(desk):
    page, told = desk / "out.html", desk / "told.json"
    outcome = done(call(TOOL, runs(desk), f"--out={page}", f"--json={told}"))
    assert "depth -1.00" in outcome.out and str(page) in outcome.err
    found = json.loads(told.read_text())
    assert [run["name"] for run in found["runs"]] == ["one", "two", "three"]
    assert found["correlations"]["korean"]["depth"] == pytest.approx(-1)
    assert found["different"]["architecture.num_hidden_layers"] == [2, 3, 4]
    assert "The runs" in pages.read(page.read_text("utf-8")).text


def test_a_page_is_not_needed_and_a_dry_run_writes_none(desk):
    assert "korean" in done(call(TOOL, runs(desk))).out
    outcome = done(call(TOOL, runs(desk), f"--out={desk}/out.html", "--dry_run"))
    assert "would compare 3 runs" in outcome.err and not (desk / "out.html").exists()


def test_what_cannot_be_is_refused(desk):
    assert "--runs must be given" in refused(desk, TOOL)
    assert "is not a run folder" in refused(desk, TOOL, f"--runs={desk.parent}")
    page = desk / "there.html"
    page.write_text("mine")
    assert "exists; choose another --out" in refused(desk, TOOL, runs(desk), f"--out={page}")
    assert "does not exist" in refused(desk, TOOL, runs(desk), "--out=nowhere/x.html")
    done(call(TOOL, runs(desk), f"--out={page}", "--overwrite"))
    assert page.read_text("utf-8") != "mine"
