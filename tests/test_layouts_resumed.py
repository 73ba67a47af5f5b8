"""A run that goes on, in its middle, on another mesh and in another number of processes.

What the devices were given at each step is written down by `tests.struck`, token by token.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import finish, losses, start, status
from several import start_several

STEPS = 12
STAGE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer, Source


def get_config():
    return Config(
        model="{here}/model",
        steps=12,
        batch_size=8,
        seq_len=32,
        data=Data(train=(Source("{here}/xx.txt", weight=3), Source("{here}/en.txt"))),
        optimizer=Optimizer(learning_rate=3e-3),
        checkpoint=Checkpoint(every=4, keep=3),
        eval=Eval(every=0),
        log=Log(every=1),
    )
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text) -> Path:
    here = tmp_path_factory.mktemp("resumed")
    make_folder(here / "model")
    for name in ("xx.txt", "en.txt"):
        shutil.copy(tiny_text / name, here)
    (here / "stage.py").write_text(STAGE.format(here=here))
    return here


def train(desk: Path, name: str, processes: int, devices: int, **settings) -> None:
    settings["out"] = desk / name
    keys = [f"--config.{key}={value}" for key, value in settings.items()]
    arguments = [f"--config={desk}/stage.py", *keys, f"--tokens={desk}/{name}-tokens.jsonl"]
    if processes == 1:
        started = [start("tests.struck", *arguments, devices=devices)]
    else:
        several = [arguments] * processes
        started = start_several(*several, module="tests.struck", devices=devices)
    outcomes = finish(*started)
    assert {outcome.status for outcome in outcomes} == {0}, outcomes[0].err
    assert status(desk / name)["status"] == "finished"


def tokens(desk: Path, name: str) -> dict[int, dict[int, list[int]]]:
    """The ids of each row of the global batch of each step, whoever has placed it."""
    found: dict[int, dict[int, list[int]]] = {}
    for line in (desk / f"{name}-tokens.jsonl").read_text().splitlines():
        entry = json.loads(line)
        rows = found.setdefault(entry["step"], {})
        for row, ids in zip(entry["rows"], entry["tokens"], strict=True):
            assert rows.setdefault(row, ids) == ids  # two processes may hold the same row
    return found


@pytest.fixture(scope="module")
def one(desk) -> Path:
    train(desk, "one", 1, 1)
    return desk / "one"


def test_the_same_tokens_and_losses_wherever_it_goes_on(desk, one):
    """One device until step 4, two processes of two until 8, then eight devices of one."""
    expected = tokens(desk, "one")
    assert list(expected) == list(range(1, STEPS + 1))
    assert all(sorted(rows) == list(range(8)) for rows in expected.values())
    assert len({tuple(ids) for rows in expected.values() for ids in rows.values()}) == 8 * STEPS

    shutil.copytree(one, desk / "moved")
    for step in (8, 12):
        shutil.rmtree(desk / "moved" / "checkpoints" / str(step))
    train(desk, "moved", 2, 2, mesh="fsdp=2,tensor=2")
    here = tokens(desk, "moved")
    assert here == {step: expected[step] for step in range(5, STEPS + 1)}

    shutil.rmtree(desk / "moved" / "checkpoints" / "12")
    (desk / "moved-tokens.jsonl").unlink()
    train(desk, "moved", 1, 8, mesh="data=2,fsdp=4", accumulate=1)
    assert tokens(desk, "moved") == {step: expected[step] for step in range(9, STEPS + 1)}

    found, alone = losses(desk / "moved"), losses(one)
    assert list(found) == list(alone) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(found.values()), list(alone.values()), rtol=0, atol=1e-5)
