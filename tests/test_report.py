"""report, as a user calls it: on a recipe that has run, on its runs, and in a browser."""

import json
import shutil

import browser
import pages
import pytest
from commands import call, done, heavy, refused
from past_runs import past_run

pytest.importorskip("datatrove")  # which cleans the corpus

import past_recipe

TOOL = "tools.report"
RECIPE = ["Summary", "What trained when", "Loss and bits per byte", "Before and after",
          "New rows beside old ones", "What it writes", "The corpus", "The mixture",
          "Speed, memory and cost", "Settings", "To do it again"]  # fmt: skip
WIDTHS = (1280, 390)
WIDE = "document.documentElement.scrollWidth"
OUTSIDE = """
[...document.querySelectorAll('svg')].filter(svg => {
  const [drawn, room] = [svg.getBBox(), svg.viewBox.baseVal];
  return drawn.x < -8 || drawn.x + drawn.width > room.width + 8;
}).map(svg => svg.getAttribute('aria-label'))
"""  # the names of charts that are drawn beyond their picture
TALLEST = "Math.max(...[...document.querySelectorAll('.texts dd')].map(d => d.offsetHeight))"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, make_folder, tiny_text, tiny_tokenizer):
    """The folder of a recipe of two stages."""
    here = tmp_path_factory.mktemp("report") / "a <b>"
    return past_recipe.run(past_recipe.lay(here, make_folder, tiny_text, tiny_tokenizer))


@pytest.fixture(scope="module")
def made(recipe):
    """The page on the recipe, and its figures."""
    page, told = recipe.parent / "page.html", recipe.parent / "told.json"
    long = json.dumps({"text": "가나 <b> " * 9000})
    with (recipe / "samples.jsonl").open("a") as f:
        f.write(f"{long}\n")
    done(call(TOOL, f"--recipe={recipe}", f"--out={page}", f"--json={told}", "--price=1e6"))
    return page, json.loads(told.read_text())


def cells(read, label):
    """The cells of a table's body."""
    (box,) = read.all("div", class_="scroll", **{"aria-label": label})
    return [[c.text for c in row.inside] for row in box.all("tbody")[0].all("tr")]


def test_the_figures_are_those_of_the_files(recipe, made):
    told = made[1]
    assert [stage["name"] for stage in told["stages"]] == ["first", "second"]
    for evaluation in told["evaluations"]:
        said = json.loads((recipe / f"{evaluation['name']}.json").read_text())["files"]
        texts = {text["name"]: text for text in evaluation["texts"]}
        assert [*texts] == ["corpus", "english"]  # as the mixture calls them
        for file, text in zip(said, texts.values(), strict=True):
            for key in ("bits_per_byte", "tokens_per_char", "bytes"):
                assert text[key] == pytest.approx(file[key])
    first, second = told["stages"]
    trains = {(g["group"], g["part"]): g["trained"] for g in first["groups"] if g["trained"]}
    assert trains == {("input rows", "new"): 57 * 32, ("output rows", "new"): 57 * 32}
    assert second["groups"][-1]["group"] == "adapters" and second["groups"][-1]["shares"] == [1]
    assert second["began"] == 6 * 8 * 32
    assert told["rows"]["input"]["counts"] == {"old": 400, "begun": 57, "new": 57}
    assert told["texts"][0]["prompt"] == "The cat" and len(told["texts"][0]["texts"]) == 3
    assert [step["name"] for step in told["steps"]] == [s.name for s in past_recipe.steps(
        recipe.parent)]  # fmt: skip


def test_the_page_shows_them(recipe, made):
    page, told = made
    read = pages.read(page.read_text("utf-8"))
    assert [h.text for h in read.all("h2")] == RECIPE
    assert f"<{recipe.parent.name[3]}>" in read.text  # and it was escaped
    before, after = ({t["name"]: t for t in e["texts"]} for e in told["evaluations"])
    shown = {row[0]: row for row in cells(read, "Bits per byte and tokens a character, by text")}
    for name in ("corpus", "english"):
        was, now = before[name], after[name]
        assert shown[name][2:4] == [f"{was['bits_per_byte']:.4f}", f"{now['bits_per_byte']:.4f}"]
        assert shown[name][5:7] == [f"{e['tokens_per_char']:.3f}" for e in (was, now)]
    assert len(cells(read, "Norms of input rows")) == 3
    assert [row[1] for row in cells(read, "Share of each group that trained, by stage")] == [
        "new_rows", "lora, vocabulary",
    ]  # fmt: skip
    last = cells(read, "Speed, memory and cost by stage")[-1]
    assert last[0] == "second" and last[-1] == f"{told['stages'][1]['seconds'] / 0.0036:,.2f}"
    commands = read.all("pre")[0].text
    assert commands.count("python -m") == 8 and "--config.train=new_rows" in commands
    assert told["stages"][1]["order"] in read.text


def test_every_chart_says_what_it_is_and_has_its_numbers_in_a_table(made):
    read = pages.read(made[0].read_text("utf-8"))
    for part in read.all("section"):
        drawn = part.all("figure")
        assert len(part.all("table")) >= len(drawn) / 2
        for chart in drawn:
            (svg,) = chart.all("svg")
            assert svg.attributes["role"] == "img" and svg.all("title")[0].text
            assert len(svg.all("desc")[0].text) > 10 and chart.all("figcaption")[0].text
            assert "nothing to draw" not in svg.text


def test_it_is_the_same_wherever_the_folder_is_and_after_a_run_was_lost(recipe, made, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(recipe, moved)
    told = tmp_path / "told.json"
    flags = (f"--out={tmp_path}/page.html", f"--json={told}", "--overwrite")
    done(call(TOOL, f"--recipe={moved}", *flags))
    found = json.loads(told.read_text())
    for key in ("evaluations", "funnels", "texts", "steps"):
        assert found[key] == made[1][key], key
    assert found["rows"] == made[1]["rows"]
    shutil.rmtree(moved / "model")
    shutil.rmtree(moved / "second")
    (moved / "samples.jsonl").unlink()
    content = json.loads((moved / "recipe.json").read_text()) | {"status": "failed"}
    (moved / "recipe.json").write_text(json.dumps(content))
    done(call(TOOL, f"--recipe={moved}", *flags))
    found = json.loads(told.read_text())
    assert [stage["name"] for stage in found["stages"]] == ["first"] and found["texts"] == []
    text = pages.read((tmp_path / "page.html").read_text("utf-8")).text
    assert "The recipe is failed: this is how it stands." in text


def test_texts_have_the_names_that_they_were_judged_under(recipe, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(recipe, moved)
    for name, said in (("before", "before <it>"), ("after", "after\nit")):
        told = json.loads((moved / f"{name}.json").read_text())
        for file, called in zip(told["files"], ("ko/web", file_name(told, 1)), strict=True):
            file["set"] = called
        told["samples"] = [{"prompt": "The dog", "text": said, "new_tokens": 2}]
        (moved / f"{name}.json").write_text(json.dumps(told))
    page, told = tmp_path / "page.html", tmp_path / "told.json"
    done(call(TOOL, f"--recipe={moved}", f"--out={page}", f"--json={told}"))
    found = json.loads(told.read_text())["evaluations"]
    assert [[text["name"] for text in e["texts"]] for e in found] == 2 * [["ko/web", "english"]]
    read = pages.read(page.read_text("utf-8"))
    assert "What goes on from “The dog”" in [h.text for h in read.all("h3")]
    assert {"before <it>", "afterit"} <= {d.text for d in read.all("dd")}
    (moved / "after.json").write_text('{"files": [{"name": 3}]}')
    sentence = refused(tmp_path, TOOL, f"--recipe={moved}", f"--out={tmp_path}/new.html")
    assert "after.json is not what evaluate writes" in sentence


def file_name(told, number):
    """What an evaluation calls a file, which is also its set where that was not named."""
    return told["files"][number]["name"]


def test_a_run_tells_of_those_before_it(recipe, tmp_path):
    page, told = tmp_path / "page.html", tmp_path / "told.json"
    done(call(TOOL, f"--run={recipe}/second", f"--out={page}", f"--json={told}"))
    found = json.loads(told.read_text())
    assert [stage["name"] for stage in found["stages"]] == ["first", "second"]
    assert found["rows"]["output"]["counts"] == {"old": 400, "begun": 57, "new": 57}
    read = pages.read(page.read_text("utf-8"))
    without = ("Before and after", "The corpus")
    assert [h.text for h in read.all("h2")] == [name for name in RECIPE if name not in without]
    assert "AddLora(" in read.all("pre")[0].text


def test_a_run_without_evaluation_or_checkpoint_says_so(tmp_path):
    run = past_run(tmp_path / "run", bits=None, status="running")
    page = tmp_path / "page.html"
    done(call(TOOL, f"--run={run}", f"--out={page}"))
    text = pages.read(page.read_text("utf-8")).text
    assert "No bits per byte were measured" in text and "The run is running" in text
    assert "The rows could not be read." in text


def test_what_cannot_be_told_of_is_refused(recipe, tmp_path):
    out = f"--out={tmp_path}/page.html"
    assert "either --run or --recipe" in refused(tmp_path, TOOL, out)
    both = (f"--run={recipe}/first", f"--recipe={recipe}")
    assert "either --run or --recipe" in refused(tmp_path, TOOL, *both, out)
    assert "is not a run folder" in refused(tmp_path, TOOL, f"--run={recipe}/model", out)
    assert "no recipe.json" in refused(tmp_path, TOOL, f"--recipe={recipe}/first", out)
    past_run(tmp_path / "new", steps=0)
    assert "has logged no step yet" in refused(tmp_path, TOOL, f"--run={tmp_path}/new", out)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.json").write_text('{"status": "running", "steps": {}}')
    assert "no stage of the recipe" in refused(tmp_path, TOOL, f"--recipe={tmp_path}/begun", out)
    (tmp_path / "begun" / "recipe.json").write_text("{")
    assert "is damaged" in refused(tmp_path, TOOL, f"--recipe={tmp_path}/begun", out)
    (tmp_path / "page.html").write_text("mine")
    assert "exists; choose another --out" in refused(tmp_path, TOOL, f"--recipe={recipe}", out)
    lost = f"--out={tmp_path}/nowhere/page.html"
    assert "lies in a folder that does not exist" in refused(
        tmp_path, TOOL, f"--recipe={recipe}", lost
    )


def test_a_dry_run_writes_nothing(recipe, tmp_path):
    out = f"--out={tmp_path}/page.html"
    outcome = done(call(TOOL, f"--recipe={recipe}", out, "--dry_run"))
    assert "would report on first, second" in outcome.err and not [*tmp_path.iterdir()]


def test_it_needs_no_accelerator_library(recipe, tmp_path):
    assert heavy(TOOL, f"--recipe={recipe}", f"--out={tmp_path}/page.html") == "[]"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_browser_shows_it_without_complaint(made, tmp_path, dark):
    program = browser.found()
    if not program:
        pytest.skip(browser.LACKING)
    with browser.started(program, tmp_path) as tab:
        for width in WIDTHS:
            tab.open(made[0], width, dark)
            assert tab.complaints == []
            assert tab.asked(WIDE) == width
            tab.asked("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert tab.asked(WIDE) == width  # also with everything unfolded
            shown = tab.asked("getComputedStyle(document.body).backgroundColor")
            levels = [int(part) for part in shown[4:-1].split(",")]
            assert (max(levels) < 64) == dark and (min(levels) > 192) != dark
            assert tab.asked(TALLEST) < 900  # texts scroll, however long they are
            outside = tab.asked(OUTSIDE)
            assert outside == []
            file = tmp_path / f"{width}.png"
            tab.screenshot(file)
            assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
            assert int.from_bytes(file.read_bytes()[16:20], "big") == width
        assert tab.complaints == []


def test_the_browser_would_complain(tmp_path):
    """Or the test above would see nothing whatever the page did."""
    program = browser.found()
    if not program:
        pytest.skip(browser.LACKING)
    page = tmp_path / "bad.html"
    wide = "<div style='width:2000px'>wide</div>"
    page.write_text(f"<script>nothing.there()</script><img src='http://x.invalid/y.png'>{wide}")
    with browser.started(program, tmp_path) as tab:
        tab.open(page, 390)
        assert tab.asked(WIDE) > 390
        said = " ".join(tab.complaints)
        assert "nothing is not defined" in said and "x.invalid" in said
