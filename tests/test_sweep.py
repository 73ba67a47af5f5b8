"""The sweep of configs/pangu, on a tiny size: killed, gone on with, planned, refused."""

import json
import re
import signal

import pages
import pytest
from commands import call, metrics, run, snapshot, start, status, step_reached, strike

from maxlite import flags
from maxlite.recipe import Recipe
from maxlite.recipe.steps import resolve, steps

TINY = {"parameters": 60_000, "depths": "1,3", "expansions": 2, "head_dim": 8, "steps": 200}
TINY |= {"ffn_multiple": 4, "batch_size": 8, "seq_len": 16, "held_out": 0.1}


def listed(**keys):
    given = ["--config=sweep.py", *(f"--config.{k}={v}" for k, v in keys.items())]
    return steps(flags.parse_as(given, flags.class_of(given, Recipe), resolve)[0])


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_text, tiny_tokenizer):
    """A folder, the command line of a tiny sweep into it, and how two starts of it ended."""
    here = tmp_path_factory.mktemp("my sweeps") / "tiny ones"
    given = TINY | {"out": here, "text": tiny_text / "en.txt", "tokenizer": tiny_tokenizer}
    given = ["--config=sweep.py", *(f"--config.{k}={v}" for k, v in given.items())]
    names = [step.name for step in listed(**TINY, tokenizer=tiny_tokenizer)]
    process = start("maxlite.recipe", *given)
    (killed,) = strike(signal.SIGTERM, process, lambda: step_reached(here / names[0]) >= 10)
    stood = status(here / names[0]), json.loads((here / "recipe.json").read_text())
    return here, given, names, killed, stood, run("maxlite.recipe", *given)


def test_a_killed_sweep_goes_on_within_its_step(desk):
    here, _, names, killed, (stood, told), again = desk
    assert killed.status == 128 + signal.SIGTERM, killed.err
    assert stood["status"] == "stopped" and 10 <= stood["step"] < 200
    assert told["status"] == "stopped" and told["step"] == names[0]
    assert again.status == 0, again.err
    assert f"resumed from step {stood['step']}" in again.err
    assert len(names) == 3 and names[2] == "compare"
    assert sorted(p.name for p in here.iterdir()) == sorted(
        [*names[:2], "lock", "logs", "recipe.json", "sweep.html", "sweep.json"]
    )
    for name in names[:2]:
        assert status(here / name)["status"] == "finished"
        assert [e["step"] for e in metrics(here / name) if "loss" in e][-1] == 200
    log = (here / "logs" / f"{names[0]}.log").read_text("utf-8")
    assert "stopped and saved" in log and "finished at step 200" in log


def test_the_shapes_are_compared_at_equal_parameters(desk):
    here, _, names, *_ = desk
    told = json.loads((here / "sweep.json").read_text())
    one, three = told["runs"]
    assert [run["name"] for run in told["runs"]] == names[:2]
    assert (one["depth"], three["depth"]) == (1, 3) and one["width"] > three["width"]
    for found in (one, three):
        assert abs(found["parameters"] / 60_000 - 1) < 0.02
        assert found["evaluation"]["en"]["step"] == found["step"] == 200
        assert found["evaluation"]["en"]["bits_per_byte"] < found["curves"]["en"][0][1]
    assert one["order"] == three["order"]  # they have read the same
    same = {"steps", "seed", "batch_size", "optimizer.learning_rate", "data.train"}
    assert not same & set(told["different"])
    assert "architecture.hidden_size" in told["different"]
    page = pages.read((here / "sweep.html").read_text("utf-8"))
    assert {"The runs", "By size"} <= {h.text for h in page.all("h2")}


def test_a_finished_sweep_is_planned_as_done_and_a_longer_one_refused(desk):
    here, given, names, *_ = desk
    before = snapshot(here)
    outcome = call("maxlite.recipe", *given, "--plan")
    assert outcome.status == 0 and outcome.out.count(": done") == 3, outcome.err
    assert "3 steps, 3 of them done" in outcome.out
    sentence = call("maxlite.recipe", *given, "--config.steps=300").sentence
    assert f"step '{names[0]}' began with other settings" in sentence
    assert "steps was 200 and is now 300" in sentence
    wider = call("maxlite.recipe", *given, "--config.depths=1,3,5", "--plan").out
    assert re.findall(r"^\d\. \S+: (.*)", wider, re.MULTILINE) == [
        "done", "done", "to do", "changed",
    ]  # fmt: skip
    assert snapshot(here) == before


def test_the_plan_at_the_papers_size_needs_nothing(tmp_path):
    big = {"parameters": 951_983_872, "rows": 48_000, "tied": "false", "head_dim": 128}
    big |= {
        "batch_size": 64,
        "accumulate": 16,
        "remat": "full",
        "ffn_multiple": 64,
        "depths": 20,
        "expansions": 2.667,
        "seq_len": 2048,
    }
    given = [f"--config.{k}={v}" for k, v in big.items()]
    told = tmp_path / "told.json"
    outcome = call("maxlite.recipe", "--config=sweep.py", "--plan", *given, f"--json={told}")
    assert outcome.status == 0, outcome.err
    assert "951,983,872 parameters" in outcome.out
    stage, compare = json.loads(told.read_text())
    assert stage["name"] == "20x1792x4864" and stage["plan"]["parameters"] == 951_983_872
    assert stage["stands"] == compare["stands"] == "to do"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["told.json"]


def test_any_two_sizes_give_the_third():
    def shapes(**keys):
        names = [s.name for s in listed(rows=500, parameters=10**7, **keys)][:-1]
        return [tuple(map(int, name.split("x"))) for name in names]

    assert len(shapes(depths="4,8", expansions="2,4")) == 4
    assert len(shapes(depths="4", expansions="2.66,2.67")) == 1
    for depth, width, ffn in shapes(depths="4,8", widths="256,320", expansions=""):
        assert depth in (4, 8) and width in (256, 320) and ffn % 8 == 0
    for _, width, ffn in shapes(depths="", widths="256", expansions="1,2,3"):
        assert width == 256 and 0.8 < ffn / width < 3.3


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "'tokenizer' and 'rows' are both empty"),
        ({"rows": 500, "depths": "4,x"}, "'depths' is '4,x'; write numbers"),
        ({"rows": 500, "depths": "4.5"}, "'depths' is '4.5'"),
        ({"rows": 500, "depths": "inf"}, "'depths' is 'inf'; write numbers"),
        ({"rows": 500, "expansions": "nan"}, "'expansions' is 'nan'; write numbers"),
        ({"rows": 500, "widths": "64"}, "the third be 0"),
        ({"rows": 500, "widths": "100", "depths": ""}, "no multiple of 16"),
        ({"rows": 32_000, "parameters": 1000}, "no width gives 1,000 parameters"),
    ],
)
def test_sizes_that_cannot_be_are_refused(keys, said):
    given = ["--config=sweep.py", "--plan", *(f"--config.{k}={v}" for k, v in keys.items())]
    assert said in call("maxlite.recipe", *given).sentence


def test_text_is_asked_for_before_anything_starts(tmp_path, tiny_tokenizer):
    given = [f"--config.out={tmp_path / 'x'}", f"--config.tokenizer={tiny_tokenizer}"]
    assert "'text' is empty" in call("maxlite.recipe", "--config=sweep.py", *given).sentence
    assert not any(tmp_path.iterdir())
