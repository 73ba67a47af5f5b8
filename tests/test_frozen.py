"""Fifty steps of three stages on one device, eight devices and two processes; and broken guards."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from commands import call, finish, metrics, run
from frozen import check_moved
from several import start_alike
from test_configs import allowed, desk

from maxlite.state import base, claims, export
from maxlite.training import begin

__all__ = ["desk"]  # the fixture: model/ and text/

# Two halves of a run under everything that would move what is frozen, if anything could.
GIVEN = {
    "export_dtype": "float32",
    "batch_size": 24,
    "seq_len": 16,
    "accumulate": 3,
    "log.every": 1,
    "eval.every": 0,
    "optimizer.weight_decay": 0.1,
    "optimizer.clip": 0.02,
    "optimizer.warmup": 0,
    "optimizer.schedule": "constant",
    "optimizer.learning_rate": 3e-3,
}
FILES = ("kosolar/stage1.py", "redwhale/odd.py", "stage2.py")


def arguments(file: str, desk: Path, here: Path, steps: int, **more) -> list[str]:
    given = GIVEN | {"model": desk / "model", "data.train": desk / "text/xx.txt", "steps": steps}
    given |= {"out": here / "run", "export": here / f"after-{steps}", "data.eval": ""} | more
    return [f"--config={file}", *(f"--config.{key}={value}" for key, value in given.items())]


def two(*arguments: str):
    """The same in two processes with a device each."""
    outcomes = finish(*start_alike("maxlite.train", *arguments))
    return next((o for o in outcomes if o.status), outcomes[0])


WAYS = {
    "one": lambda *arguments: run("maxlite.train", *arguments),
    "eight": lambda *arguments: call("maxlite.train", *arguments),
    "two": two,
}


@pytest.mark.parametrize("file", FILES)
def test_fifty_steps_move_nothing_that_is_frozen(file, desk, tmp_path):
    adapted = file == "stage2.py"
    losses = {}
    for name, train in WAYS.items():
        here = tmp_path / name
        here.mkdir()
        for steps in (25, 50):
            outcome = train(*arguments(file, desk, here, steps))
            assert outcome.status == 0, outcome.err
        assert "resumed from step 25" in outcome.err
        check_moved(
            desk / "model", here / "after-50", allowed(file), here / "run" if adapted else None
        )
        lines = [entry for entry in metrics(here / "run") if "loss" in entry]
        assert len(lines) == 50 and all(line["grad_norm"] > 0.02 for line in lines)
        losses[name] = [line["loss"] for line in lines]
        assert np.mean(losses[name][-5:]) < np.mean(losses[name][:5])
    for name in ("eight", "two"):
        np.testing.assert_allclose(losses[name][:20], losses["one"][:20], rtol=1e-5)


def _every_row(self, text, size):
    return np.ones(size, bool)


def _moved_weights(job):
    return {name: x + jnp.asarray(1e-3, x.dtype) for name, x in FROZEN(job).items()}


def _rounded(*arguments):
    read = READER(*arguments)
    return lambda name: read(name).astype(np.float16).astype(np.float32)


FROZEN, READER = begin._frozen, export.reader
GUARDS = {  # what keeps frozen bytes, and a way to break it
    "rows that a rule leaves are frozen": (claims._Selection, "_rows", _every_row),
    "layers that a rule leaves are frozen": (claims._Selection, "_layers", _every_row),
    "frozen weights are those of the base": (begin, "_frozen", _moved_weights),
    "exports write what there is": (export, "reader", _rounded),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_a_broken_guard_is_noticed(guard, desk, tmp_path, monkeypatch):
    file = "redwhale/odd.py" if "layers" in guard else "kosolar/stage1.py"
    monkeypatch.setattr(*GUARDS[guard])
    outcome = call("maxlite.train", *arguments(file, desk, tmp_path, 2))
    assert outcome.status == 0, outcome.err
    with pytest.raises(AssertionError):
        check_moved(desk / "model", tmp_path / "after-2", allowed(file))


def test_a_base_that_changes_within_a_run_is_noticed(desk, tmp_path, monkeypatch):
    """Without the check at the start, the second half would go on with other frozen weights."""
    outcome = call("maxlite.train", *arguments("kosolar/stage1.py", desk, tmp_path, 2))
    assert outcome.status == 0, outcome.err
    monkeypatch.setattr(base, "check", lambda *_: None)
    monkeypatch.setattr(begin, "_frozen", _moved_weights)
    outcome = call("maxlite.train", *arguments("kosolar/stage1.py", desk, tmp_path, 4))
    assert outcome.status == 0 and "resumed from step 2" in outcome.err, outcome.err
    with pytest.raises(AssertionError):
        check_moved(desk / "model", tmp_path / "after-4", allowed("kosolar/stage1.py"))
