"""Tools that write models, killed, terminated or without room: nothing half-written looks whole."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, call, done, snapshot, strike
from extended import models_and_tokenizers
from safetensors.numpy import load_file

from maxlite.hf.folder import open_folder

WEIGHTS = "model.safetensors"
SLOW = """
import runpy, sys, time
from maxlite.hf.stream import Stream

append = Stream.append

def slowly(*arguments):
    time.sleep(0.2)
    append(*arguments)

Stream.append = slowly
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
REBUILD = {
    "upscale_depth": ["--method=dus", "--drop=1"],
    "extend_vocab": ["--tokenizer={desk}/new-257"],
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_tokenizer) -> Path:
    return models_and_tokenizers(tmp_path_factory.mktemp("surgery"), make_folder, tiny_tokenizer)


def started(tool: str, *arguments) -> subprocess.Popen:
    """A tool that takes its time to write."""
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, f"tools.{tool}", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("tool", REBUILD)
def test_a_killed_tool_leaves_nothing_that_looks_finished(tool, desk, tmp_path):
    arguments = [f"--model={desk}/untied", f"--out={tmp_path}/out"]
    arguments += [setting.format(desk=desk) for setting in REBUILD[tool]]

    def writing() -> bool:
        return any(tmp_path.glob(f"out.tmp-*/{WEIGHTS}"))

    (outcome,) = strike(signal.SIGKILL, started(tool, *arguments), writing)
    assert outcome.status == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("out.tmp-")
    done(call(f"tools.{tool}", *arguments))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert open_folder(tmp_path / "out").parameters > 0


@pytest.mark.parametrize("tool", REBUILD)
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_terminated_tool_leaves_nothing_at_all(tool, number, code, said, desk, tmp_path):
    arguments = [f"--model={desk}/untied", f"--out={tmp_path}/new/out"]
    arguments += [setting.format(desk=desk) for setting in REBUILD[tool]]

    def writing() -> bool:
        return any(tmp_path.glob(f"new/out.tmp-*/{WEIGHTS}"))

    (outcome,) = strike(number, started(tool, *arguments, f"--json={tmp_path}/f.json"), writing)
    assert outcome.status == code
    assert outcome.err.splitlines()[-1] == f"maxlite: {said}" and "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


def test_termination_while_replacing_keeps_what_was_there(desk, tmp_path, monkeypatch):
    arguments = [f"--model={desk}/untied", f"--out={tmp_path}/out", "--layers=0-1"]
    done(call("tools.upscale_depth", *arguments))
    before, handler = snapshot(tmp_path), signal.getsignal(signal.SIGTERM)
    rename = os.rename

    def struck(*names):
        rename(*names)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(os, "rename", struck)
    arguments[-1] = "--layers=0-2,0-2"
    outcome = call("tools.upscale_depth", *arguments, "--overwrite")
    assert outcome.status == 143 and outcome.err.endswith("maxlite: terminated\n")
    assert snapshot(tmp_path) == before
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.parametrize("tool", REBUILD)
def test_a_disk_without_room_is_one_sentence_with_both_numbers(tool, desk, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    settings = [setting.format(desk=desk) for setting in REBUILD[tool]]
    sentence = call(
        f"tools.{tool}", f"--model={desk}/untied", f"--out={tmp_path}/out", *settings
    ).sentence
    assert f"{tmp_path}/out needs 0.1" in sentence and "its disk has 0.01 MB free" in sentence
    assert not list(tmp_path.iterdir())


def test_the_room_that_is_asked_for_is_what_is_written(desk, tmp_path, monkeypatch):
    arguments = [f"--model={desk}/untied", f"--out={tmp_path}/out", "--method=dus", "--drop=1"]
    done(call("tools.upscale_depth", *arguments))
    weights = sum(x.nbytes for x in load_file(tmp_path / "out" / WEIGHTS).values())
    others = sum(
        path.stat().st_size
        for path in (tmp_path / "out").iterdir()
        if path.name in open_folder(desk / "untied").files
    )
    shutil.rmtree(tmp_path / "out")
    usage = shutil.disk_usage(tmp_path)
    for free, fits in ((weights + others - 1, False), (weights + others, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        outcome = call("tools.upscale_depth", *arguments)
        assert (outcome.status == 0) is fits, outcome.err
