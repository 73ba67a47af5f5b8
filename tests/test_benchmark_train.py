"""`benchmark train` runs beside torch, and compares only what computes the same."""

import dataclasses
import importlib.util
import json
import signal
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from commands import call

from maxlite.errors import InputError
from tools.benchmarks import train
from tools.benchmarks.batches import random_batch
from tools.benchmarks.paced import paced

SETTINGS = {
    "size": "tiny",
    "modes": ["full"],
    "runs": 1,
    "remat": "none",
    "against": "transformers",
    "compile_limit": 100,
    "dir": "",
    "dry_run": False,
}


def told(seconds, **others):
    """The figures of a canned process."""
    figures = {"first_s": 1.0, "seconds": seconds, "first_loss": 6.0, "loss": 5.0, "peak_mib": 100}
    figures |= {"flops_per_token": 1e6, "peak_flops": 0.0, "trained": 7, "dtype": "float32"}
    return figures | others


@pytest.mark.parametrize(
    ("mode", "size"), [("full", "tiny_packed"), ("new_rows", "tiny"), ("lora", "tiny")]
)
def test_the_same_training_as_torch(mode, size, monkeypatch, capsys, tmp_path):
    """Not the first loss alone, which is checked always: those after some steps are alike, too."""
    pytest.importorskip("peft" if mode == "lora" else "transformers")
    packed = size == "tiny_packed"
    monkeypatch.setattr(train, "_kinds", lambda *_: ("unpacked" if packed else "eager",))
    settings = SETTINGS | {"size": size, "modes": [mode], "dir": str(tmp_path)}
    (row,) = train.measure(SimpleNamespace(**settings))
    assert {"name", "ours", "peer", "ratio", "unit", "runs", "peak_mib"} <= row.keys()
    assert row["name"] == f"{mode} {size}" and row["unit"] == "tokens/s"
    assert row["ratio"] == row["ours"] / row["peer"] and row["peak_mib"] > 100
    assert row["loss"] == pytest.approx(row["peer_loss"], rel=1e-3 if mode == "lora" else 1e-5)
    assert row["mfu"] is None and row["tflops"] > 0
    assert row["name"] in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_the_faster_peer_counts_and_one_that_fails_does_not(monkeypatch, capsys):
    def ran(task):
        if task.kind == "compiled" and task.mode == "lora":
            raise InputError("no compiler")
        return told({"": 2.0, "eager": 4.0, "compiled": 3.0}[task.kind], peak_flops=1e9)

    monkeypatch.setattr(train, "_run", ran)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    settings = SETTINGS | {"modes": ["full", "lora"], "runs": 3}
    full, lora = train.measure(SimpleNamespace(**settings))
    assert (full["ours"], full["ratio"], lora["ratio"]) == (32, 1.5, 2)
    assert full["peers"].keys() == {"eager", "compiled"} and lora["peers"].keys() == {"eager"}
    assert full["mfu"] == pytest.approx(32 * 1e6 / 1e9)
    said = capsys.readouterr()
    assert "torch compiled*" in said.out and "lora: no compiler" in said.err


@pytest.mark.parametrize("loss", [6.1, float("nan")])
def test_another_loss_is_not_compared(loss, monkeypatch):
    def ran(task):
        return told(1.0, first_loss=loss if task.kind else 6.0)

    monkeypatch.setattr(train, "_run", ran)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(InputError, match="not compared"):
        train.measure(SimpleNamespace(**SETTINGS))


def test_a_compiler_has_its_time(monkeypatch):
    late = subprocess.CompletedProcess([], -signal.SIGALRM, "", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: late)
    task = train.Task("nowhere", "full", 1, 8, 1, 400, 1, kind="compiled", compile_limit=7)
    with pytest.raises(InputError, match="did not compile within 7 s"):
        train._run(task)
    with pytest.raises(InputError, match="maxlite failed with status -14"):
        train._run(dataclasses.replace(task, kind=""))


def test_refusals(monkeypatch, tmp_path):
    modes = call("tools.benchmark", "train", "--modes=full,half").sentence
    assert "half" in modes and "new_rows" in modes
    assert str(tmp_path / "x") in call("tools.benchmark", "train", f"--dir={tmp_path}/x").sentence
    outcome = call("tools.benchmark", "train", "--against=none", "--dry_run")
    assert outcome.status == 0 and "24.4M parameters on 4 x 256 tokens" in outcome.err
    found = importlib.util.find_spec
    peers = ("torch", "transformers", "peft")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: name not in peers and found(name, *rest)
    )
    sentence = call("tools.benchmark", "train", "--modes=full").sentence
    assert "torch and transformers" in sentence and "--against=none" in sentence
    assert "peft" in call("tools.benchmark", "train").sentence


def test_without_a_peer(monkeypatch):
    monkeypatch.setattr(train, "_run", lambda task: told(1.0))
    (row,) = train.measure(SimpleNamespace(**SETTINGS | {"against": "none"}))
    assert row["peer"] is None and row["ratio"] is None and row["peers"] == {}
    assert json.dumps(row)


def test_documents_of_a_batch():
    batch = random_batch((1, 3, 40), range(5, 9), documents=4, seed=2)
    assert set(np.unique(batch["tokens"])) == {5, 6, 7, 8}
    for row in range(3):
        segments, positions, weights = (
            batch[key][0, row] for key in ("segments", "positions", "weights")
        )
        assert sorted(set(segments)) == [1, 2, 3, 4] and (np.diff(segments) >= 0).all()
        begins = np.flatnonzero(np.diff(segments)) + 1
        assert list(np.flatnonzero(positions == 0)) == [0, *begins]
        assert list(np.flatnonzero(weights == 0)) == list(begins - 1)
    assert (batch["tokens"][..., 1:] == batch["targets"][..., :-1]).all()
    again = random_batch((1, 3, 40), range(5, 9), documents=4, seed=2)
    assert all((again[key] == batch[key]).all() for key in batch)
    other = random_batch((1, 3, 40), range(5, 9), documents=4, seed=3)
    assert (other["tokens"] != batch["tokens"]).any()


def test_a_loss_is_read_while_the_next_step_runs():
    order = []

    def step(number):
        order.append(f"step {number}")
        return number

    def read(loss):
        order.append(f"read {loss}")
        return float(loss)

    figures = paced(step, read, 2)
    assert order[:3] == ["step 0", "read 0", "step 1"]
    assert order[order.index("step 2") :] == [
        *("step 2", "step 3", "read 2", "step 4", "read 3", "read 4")
    ]
    assert (figures["first_loss"], figures["loss"]) == (0, 4)
