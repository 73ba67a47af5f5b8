"""What may happen to one of two processes: both end, and go on, as if nothing had happened."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from commands import call, finish, metrics, run, snapshot, status
from several import silent, start_several

STEPS = 8
STAGE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer, Source


def get_config():
    return Config(
        model="{here}/model",
        steps=8,
        batch_size=4,
        seq_len=32,
        data=Data(train=(Source("{here}/xx.txt"),), held_out=0.1),
        optimizer=Optimizer(learning_rate=3e-3),
        checkpoint=Checkpoint(every=3),
        eval=Eval(every=4, documents=12, sample_tokens=0),
        log=Log(every=1),
    )
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text) -> Path:
    here = tmp_path_factory.mktemp("survival")
    make_folder(here / "model")
    shutil.copy(tiny_text / "xx.txt", here)
    (here / "stage.py").write_text(STAGE.format(here=here))
    return here


def stage(desk: Path, name: str, **settings) -> list[str]:
    settings |= {"out": desk / name, "export": desk / f"{name}-better"}
    keys = [f"--config.{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return [f"--config={desk}/stage.py", *keys]


def both(desk: Path, name: str, strike: str = "", **settings) -> list:
    """Two processes to their end; a mishap comes to the second of them."""
    usual = stage(desk, name, **settings)
    struck = [f"--strike={strike}"] if strike else []
    return finish(*start_several(usual, [*usual, *struck], module="tests.struck"))


@pytest.fixture(scope="module")
def undisturbed(desk) -> Path:
    first, second = both(desk, "undisturbed")
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert silent(second)
    return desk / "undisturbed"


def assert_goes_on(desk: Path, name: str, undisturbed: Path) -> None:
    """Started again it finishes, with the same bytes: the layout is the same."""
    first, second = both(desk, name)
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert status(desk / name)["status"] == "finished"
    assert metrics(desk / name) == metrics(undisturbed)
    weights = "model.safetensors"
    ours, theirs = (snapshot(desk / f"{n}-better") for n in (name, undisturbed.name))
    assert ours[weights] == theirs[weights]


@pytest.mark.parametrize(
    ("phase", "count", "steps"),
    [("compile", 1, {0, 1}), ("evaluation", 3, {0}), ("export", 5, {STEPS})],
)
def test_sigterm_to_one_of_two_in_any_phase_stops_both(desk, undisturbed, phase, count, steps):
    first, second = both(desk, phase, f"{phase},{count},SIGTERM")
    assert (first.status, second.status) == (0, 0), first.err + second.err
    stopped = status(desk / phase)
    assert stopped["status"] == "stopped" and stopped["step"] in steps
    assert stopped["checkpoint"] == stopped["step"] and silent(second)
    assert not (desk / f"{phase}-better").exists()
    if phase == "evaluation":
        assert not metrics(desk / phase)
    assert_goes_on(desk, phase, undisturbed)


def test_sigterm_before_the_run_is_opened_leaves_nothing(desk):
    first, second = both(desk, "early", "prepare,1,SIGTERM")
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert "stopped before the run was opened" in first.err
    assert not (desk / "early").exists()


def test_the_other_ends_when_one_is_killed_and_the_run_can_go_on(desk, undisturbed):
    first, second = both(desk, "killed", "step,15,SIGKILL")
    assert second.status == -signal.SIGKILL
    assert "another process has died" in first.sentence
    assert status(desk / "killed")["status"] == "running"  # a launcher starts it again
    assert_goes_on(desk, "killed", undisturbed)


def test_one_that_hangs_ends_and_says_where(desk, undisturbed):
    settings = {"stuck_minutes": 0.1, "eval__every": 0}
    first, second = both(desk, "stuck", "step,4,hang", **settings)
    # When one ends by its own watchdog, jax may abort the other, which has told by then.
    assert {first.status, second.status} <= {1, -signal.SIGABRT}
    assert "nothing has moved for 0.1 minutes" in second.err
    for stacks in (second.err, (desk / "stuck" / "stuck-1.txt").read_text()):
        assert "struck.py" in stacks and "most recent call first" in stacks
    assert status(desk / "stuck")["status"] == "running"


def test_a_lone_process_killed_in_the_export(desk):
    keys = stage(desk, "lone", checkpoint__minutes=1e-6, checkpoint__every=1000)
    killed = run("tests.struck", *keys, "--strike=export,5,SIGKILL")
    assert killed.status == -signal.SIGKILL and not (desk / "lone-better").exists()
    outcome = call("maxlite.train", *keys, "--config.mesh=fsdp=4,tensor=2")
    assert outcome.status == 0 and "resumed from step 8" in outcome.err
    assert json.loads((desk / "lone-better" / "config.json").read_text())["vocab_size"] == 400


@pytest.mark.parametrize("processes", [1, 2])
def test_checkpoints_by_the_clock(desk, processes):
    settings = {
        "checkpoint__minutes": 1e-6,
        "checkpoint__every": 1000,
        "checkpoint__keep": 100,
        "eval__every": 0,
    }
    name = f"clock-{processes}"
    if processes == 1:
        outcomes = [run("maxlite.train", *stage(desk, name, **settings))]
    else:
        outcomes = both(desk, name, **settings)
    assert {outcome.status for outcome in outcomes} == {0}, outcomes[0].err
    saved = {int(path.name) for path in (desk / name / "checkpoints").iterdir()}
    # The figures of a step say so, and are read a step later, when that one is saved.
    assert saved == set(range(2, STEPS + 1, 2))
