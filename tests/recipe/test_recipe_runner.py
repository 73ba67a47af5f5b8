"""The runner: order, what is skipped, begun again and refused, and how it ends."""

import json
import os
import signal
import time

import pytest
from commands import call, finish, run, snapshot, start, strike

RECIPE = '''
from dataclasses import dataclass
from maxlite.recipe import Recipe, Step

PROGRAM = """
import pathlib, sys, time
out, text, wait, status, *reads = sys.argv[1:]
began = pathlib.Path(out + ".began")
began.write_text(began.read_text() + "x" if began.exists() else "x")
print("making", out, file=sys.stderr)
print("한글 \\\\xff", flush=True)
for _ in range(int(float(wait) * 20)):
    time.sleep(0.05)
if int(status):
    sys.exit(int(status))
said = "".join(pathlib.Path(r).read_text() for r in reads)
part = pathlib.Path(out + ".part")
part.write_text(said + text)
part.rename(out)
"""


@dataclass
class Three(Recipe):
    first: str = "1"
    second: str = "2"
    wait: float = 0.0  # seconds, of the second step
    status: int = 0  # of the second step
    lazy: bool = False  # the second step makes something else than it should
    more: bool = False  # a fourth step

    def plan(self):
        def step(name, text, wait=0, status=0, reads=()):
            out = f"{self.out}/{name}"
            command = ("python", "-c", PROGRAM, out, text, str(wait), str(status), *reads)
            makes = f"{out}.other" if name == "two" and self.lazy else out
            return Step(name, command, (makes,))

        yield step("one", self.first)
        yield step("two", self.second, self.wait, self.status, [f"{self.out}/one"])
        yield step("three", "3")
        if self.more:
            yield step("four", "4", reads=[f"{self.out}/two", f"{self.out}/three"])


def get_config():
    return Three()
'''


@pytest.fixture
def desk(tmp_path):
    """A folder with recipe.py, whose name has spaces."""
    here = tmp_path / "my desk"
    here.mkdir()
    (here / "recipe.py").write_text(RECIPE)
    return here


def arguments(here, **keys):
    given = {"out": here / "out put", **keys}
    return [f"--config={here}/recipe.py", *(f"--config.{k}={v}" for k, v in given.items())]


def begun(here):
    """How often each step was begun."""
    return {p.stem: len(p.read_text()) for p in sorted((here / "out put").glob("*.began"))}


def state(here):
    return json.loads((here / "out put" / "recipe.json").read_text())


def made(here):
    names = ("one", "two", "three", "four")
    return {n: p.read_text() for n in names if (p := here / "out put" / n).exists()}


def test_steps_run_in_order_and_once(desk):
    outcome = call("maxlite.recipe", *arguments(desk))
    assert outcome.status == 0, outcome.err
    assert made(desk) == {"one": "1", "two": "12", "three": "3"}
    told = [line for line in outcome.err.splitlines() if line.startswith(("[", "making", "$"))]
    assert [line.split()[0] for line in told] == ["[1/3]", "$", "making", "[2/3]", "$", "making",
                                                  "[3/3]", "$", "making"]  # fmt: skip
    assert "한글" in outcome.err
    assert "making" in (desk / "out put" / "logs" / "two.log").read_text("utf-8")
    assert state(desk)["status"] == "finished"
    before = snapshot(desk)
    again = call("maxlite.recipe", *arguments(desk), f"--json={desk}/told.json")
    assert again.status == 0 and again.err.count(": done") == 3
    told = json.loads((desk / "told.json").read_text())
    assert [step["stands"] for step in told] == ["done"] * 3
    assert all(step["seconds"] > 0 for step in told)
    (desk / "told.json").unlink()
    assert snapshot(desk) == before


def test_a_plan_has_no_effects(desk):
    before = snapshot(desk)
    outcome = call("maxlite.recipe", *arguments(desk), "--plan")
    assert outcome.status == 0, outcome.err
    assert snapshot(desk) == before
    assert "1. one: to do" in outcome.out and "'" in outcome.out and "0 of them" in outcome.out
    call("maxlite.recipe", *arguments(desk))
    before = snapshot(desk)
    outcome = call("maxlite.recipe", *arguments(desk, second="22", more=True), "--plan")
    assert [line for line in outcome.out.splitlines() if line[0].isdigit()] == [
        "1. one: done", "2. two: changed", "3. three: done",
        "4. four: to do", "4 steps, 2 of them done",
    ]  # fmt: skip
    assert snapshot(desk) == before


def test_a_changed_command_is_refused_or_begun_anew_with_what_follows(desk):
    call("maxlite.recipe", *arguments(desk, more=True))
    before = snapshot(desk)
    outcome = call("maxlite.recipe", *arguments(desk, more=True, first="A"))
    said = """step 'one' began with other settings: word 4 was "1" and is now "A"; what two, four"""
    assert f"{said} read is made anew; give the old settings" in outcome.sentence
    assert "--overwrite" in outcome.sentence and snapshot(desk) == before
    outcome = call("maxlite.recipe", *arguments(desk, more=True, first="A"), "--overwrite")
    assert outcome.status == 0, outcome.err
    assert made(desk) == {"one": "A", "two": "A2", "three": "3", "four": "A234"}
    assert begun(desk) == {"one": 2, "two": 2, "three": 1, "four": 2}


def test_a_lost_result_is_made_again_where_it_is_missed(desk):
    call("maxlite.recipe", *arguments(desk))
    (desk / "out put" / "one").unlink()
    assert call("maxlite.recipe", *arguments(desk)).status == 0
    assert begun(desk) == {"one": 1, "three": 1, "two": 1}  # what reads it is done
    (desk / "out put" / "two").unlink()
    assert call("maxlite.recipe", *arguments(desk)).status == 0
    assert begun(desk) == {"one": 2, "three": 1, "two": 2} and made(desk)["two"] == "12"


def test_a_failing_step_ends_the_recipe_with_its_status(desk):
    outcome = call("maxlite.recipe", *arguments(desk, status=7))
    assert outcome.status == 7 and "step 'two' failed (7)" in outcome.err
    assert state(desk)["status"] == "failed" and state(desk)["step"] == "two"
    assert made(desk) == {"one": "1"} and begun(desk) == {"one": 1, "two": 1}
    outcome = call("maxlite.recipe", *arguments(desk), "--overwrite")
    assert outcome.status == 0 and begun(desk) == {"one": 1, "three": 1, "two": 2}


def test_a_step_that_does_not_make_what_it_says_fails(desk):
    outcome = call("maxlite.recipe", *arguments(desk, lazy=True))
    assert outcome.status == 1 and "ended without having made" in outcome.err
    assert state(desk)["status"] == "failed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_recipe_goes_on_later(desk, number):
    """The step is an ordinary program, which either signal ends."""
    process = start("maxlite.recipe", *arguments(desk, wait=60))
    began = time.monotonic()
    (outcome,) = strike(number, process, lambda: "two" in begun(desk))
    assert time.monotonic() - began < 50
    assert outcome.status == 128 + number, outcome.err
    assert state(desk)["status"] == "stopped" and made(desk) == {"one": "1"}
    outcome = call("maxlite.recipe", *arguments(desk), "--overwrite")
    assert outcome.status == 0, outcome.err
    assert made(desk) == {"one": "1", "two": "12", "three": "3"}
    assert begun(desk) == {"one": 1, "three": 1, "two": 2}


def test_a_killed_recipe_leaves_its_step_to_end_and_takes_what_it_made(desk):
    process = start("maxlite.recipe", *arguments(desk, wait=2))
    (outcome,) = strike(signal.SIGKILL, process, lambda: "two" in begun(desk))
    assert outcome.status == -signal.SIGKILL and "two" not in made(desk)
    refused = call("maxlite.recipe", *arguments(desk, wait=2)).sentence
    assert "another process is working on the recipe" in refused
    while "two" not in made(desk):
        time.sleep(0.05)
    while "another process" in (outcome := run("maxlite.recipe", *arguments(desk, wait=2))).err:
        time.sleep(0.05)
    assert outcome.status == 0, outcome.err
    assert begun(desk) == {"one": 1, "three": 1, "two": 1}


def test_what_the_recipe_has_not_made_is_never_taken_for_its_own(desk):
    assert call("maxlite.recipe", *arguments(desk)).status == 0
    (desk / "out put" / "four").write_text("mine")
    for _ in range(2):
        outcome = call("maxlite.recipe", *arguments(desk, more=True), "--overwrite")
        assert "four exists and was not made by this recipe's step 'four'" in outcome.sentence
        assert made(desk)["four"] == "mine" and state(desk)["status"] == "failed"


def test_two_recipes_do_not_work_in_one_folder(desk):
    process = start("maxlite.recipe", *arguments(desk, wait=60))
    try:
        while "two" not in begun(desk):
            assert process.poll() is None
            time.sleep(0.02)
        outcome = call("maxlite.recipe", *arguments(desk, wait=60))
        assert "another process is working on the recipe in" in outcome.sentence
    finally:
        os.kill(process.pid, signal.SIGTERM)
        finish(process)


def test_what_is_in_the_way_is_never_removed_outside_the_folder(desk):
    (desk / "elsewhere.py").write_text(RECIPE.replace("{self.out}/", "{self.out}."))
    given = [f"--config={desk}/elsewhere.py", f"--config.out={desk}/out"]
    assert call("maxlite.recipe", *given).status == 0
    outcome = call("maxlite.recipe", *given, "--config.first=A", "--overwrite")
    assert "out.one is in the way and does not lie in" in outcome.sentence
    assert (desk / "out.one").read_text() == "1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--config.out="], "'out' is empty"),
        (["--config.firts=1"], "did you mean 'first'?"),
        (["--config.wait=long"], "'wait' must be float"),
        (["--plain"], "unknown argument '--plain'"),
        (["--json=nowhere/x.json"], "does not exist"),
    ],
)
def test_a_command_line_that_cannot_work_is_refused(desk, given, said):
    before = snapshot(desk)
    assert said in call("maxlite.recipe", *arguments(desk), *given).sentence
    assert snapshot(desk) == before


def test_another_folder_and_another_file_are_refused(desk):
    (desk / "out put").mkdir()
    (desk / "out put" / "mine.txt").write_text("x")
    assert "not a recipe's folder" in call("maxlite.recipe", *arguments(desk)).sentence
    assert "must return a recipe" in call("maxlite.recipe", "--config=continue.py").sentence
    assert "configs/pangu/sweep.py is one" in call("maxlite.recipe").sentence
    (desk / "out put" / "mine.txt").rename(desk / "out put" / "recipe.json")
    assert "recipe.json is damaged" in call("maxlite.recipe", *arguments(desk)).sentence


def test_help_tells_of_a_recipes_keys(desk):
    told = call("maxlite.recipe", "--help", f"--config={desk}/recipe.py").out
    assert "--plan" in told and "seconds, of the second step" in told and "folder of all" in told
