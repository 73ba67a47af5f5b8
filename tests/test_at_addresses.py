"""Runs, models and exports at gs:// addresses, in an object store of this test's own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import commands
import object_store
import pytest
import stage_desk
from commands import call, done, run, start, strike

pytest.importorskip("gcsfs")

from maxlite.lineage import stages
from maxlite.state.host import open_lazy
from maxlite.state.run import RunFolder
from maxlite.storage import Url, files, relative
from tools.disturbed.attempt import TIMINGS

HERE = Url(f"gs://{object_store.BUCKET}")


@pytest.fixture(scope="module", autouse=True)
def store():
    """The object store, for this process and those that it starts."""
    server, where = object_store.start()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in where.items():
            patch.setenv(key, value)
        yield
    server.kill()


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text):
    """A folder with a model, text and a finished run; model and text are in the store as well."""
    here = stage_desk.lay(tmp_path_factory.mktemp("desk"), make_folder, tiny_text)
    (HERE / "text.txt").put(here / "text.txt")
    for file in files(here / "model"):
        (HERE / "model" / file.name).put(file)
    done(train(here, here / "model", here / "run", here / "better"))
    return here


def settings(here, model, out, export=""):
    text = (HERE if isinstance(out, Url) else here) / "text.txt"
    names = {"model": model, "out": out, "export": export, "data.train": text}
    return [f"--config={here}/stage.py", *(f"--config.{key}={v}" for key, v in names.items())]


def train(here, *places):
    return run("maxlite.train", *settings(here, *places))


def weights(model):
    return {name: tensor.read().tobytes() for name, tensor in open_lazy(str(model)).tensors.items()}


def exported(folder):
    """The files of an export; maxlite.json names the model by its place."""
    found = {relative(file, folder): file.read_bytes() for file in files(folder)}
    assert json.loads(found.pop("maxlite.json"))["origin"]["step"] == 4
    return found


def test_killed_and_resumed_it_is_the_same_run(desk):
    out, better = HERE / "run", HERE / "better"
    arguments = settings(desk, HERE / "model", out, better)

    def one_counts():
        status = out / "status.json"
        return status.is_file() and json.loads(status.read_text())["checkpoint"] >= 1

    strike(signal.SIGKILL, start("maxlite.train", *arguments), one_counts)
    assert (out / "lock").is_file() and not better.exists()
    kept = json.loads((out / "status.json").read_text())["checkpoint"]
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_bytes().splitlines()]
    assert steps[:kept] == [*range(1, kept + 1)]  # what led to a checkpoint is told before it

    assert f"resumed from step {kept}" in done(run("maxlite.train", *arguments)).err
    assert not (out / "lock").exists()
    assert weights(out) == weights(desk / "run")
    assert exported(better) == exported(desk / "better")
    told = (json.loads(line) for line in (out / "metrics.jsonl").read_bytes().splitlines())
    metrics = [{k: v for k, v in entry.items() if k not in TIMINGS} for entry in told]
    assert metrics == commands.metrics(desk / "run")
    assert len(files(out / "tensorboard")) == 2  # one for each start
    assert {int(p.name) for p in (out / "checkpoints").iterdir()} >= {4}
    assert "is finished at step 4" in done(run("maxlite.train", *arguments)).err


def test_a_damaged_checkpoint_is_set_aside(desk):
    out = HERE / "damaged"
    done(train(desk, HERE / "model", out))
    file = max(files(out / "checkpoints/4/params"), key=lambda file: file.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    assert "checkpoint 4 in" not in (told := done(train(desk, HERE / "model", out)).err)
    assert "checkpoint 4 is DAMAGED" in told and "resumed from step 3" in told
    assert (out / "checkpoints" / "damaged-4-0" / "params").is_dir()
    assert weights(out) == weights(desk / "run")


def test_a_stage_goes_on_from_a_run_there_with_frozen_weights(desk):
    first, second, local = HERE / "first", HERE / "second", desk / "second"
    done(train(desk, HERE / "model", first))
    more = ["--config.train=layers", "--config.steps=2"]
    for model, out, export in ((first, second, HERE / "staged"), (desk / "run", local, "")):
        done(run("maxlite.train", *settings(desk, model, out, export), *more))
    assert weights(second) == weights(local)
    base = json.loads((second / "run.json").read_text())["base"]
    assert base["origin"] == str(first)
    history = json.loads((HERE / "staged" / "maxlite.json").read_text())["history"]
    assert [stage.name for stage in stages(history, RunFolder(second))] == ["first", "second"]


def test_a_refused_start_leaves_no_lock(desk):
    out = HERE / "refused"
    done(train(desk, HERE / "model", out))
    for more in (["--config.data.train=none.txt"], ["--config.batch_size=4"], ["--dry_run"]):
        run("maxlite.train", *settings(desk, HERE / "model", out), *more)
        assert not (out / "lock").exists(), more


def test_a_launcher_is_told_how_a_run_stands(desk):
    def stands(*places):
        script = Path(commands.ROOT, "launch", "run_status.py")
        command = [sys.executable, script, *settings(desk, *places)]
        ended = subprocess.run(command, capture_output=True, text=True)
        return ended.returncode, ended.stdout + ended.stderr

    assert stands("model", HERE / "nothing") == (0, f"none -1 {HERE / 'nothing'}\n")
    (HERE / "stands" / "status.json").write_bytes(b'{"status": "stopped", "checkpoint": 3}')
    assert stands("model", HERE / "stands") == (0, f"stopped 3 {HERE / 'stands'}\n")
    (HERE / "stands" / "status.json").write_bytes(b'{"status": ')
    assert stands("model", HERE / "stands")[0] == 1


def test_tools_take_what_is_there_and_write_there(desk):
    imported, again = HERE / "imported", HERE / "again"
    done(call("tools.import_hf", f"--model={HERE}/model", f"--out={imported}"))
    done(call("tools.export_hf", f"--run={imported}", f"--out={again}"))
    shutil.rmtree(desk / "plain", ignore_errors=True)
    done(call("tools.import_hf", f"--model={desk}/model", f"--out={desk}/plain"))
    done(call("tools.export_hf", f"--run={desk}/plain", f"--out={desk}/again"))
    there = {relative(file, again): file.read_bytes() for file in files(again)}
    assert there == {relative(f, desk / "again"): f.read_bytes() for f in files(desk / "again")}
    folders = (HERE / "deeper", f"--model={again}"), (desk / "deeper", f"--model={desk}/again")
    for out, model in folders:
        done(call("tools.upscale_depth", model, "--layers=0,0-1", f"--out={out}"))
    assert weights(HERE / "deeper") == weights(desk / "deeper")


@pytest.mark.parametrize(
    ("places", "told"),
    [
        (("s3://b/model", "s3://b/run"), "s3://b/run: a run is a folder on a disk or at gs://"),
        (("gs://none/model", "out"), "there is no model folder gs://none/model"),
        (("model", "gs://none/run"), "gs://none cannot be opened: there is no such bucket"),
        (("model", HERE / "model"), f"{HERE}/model exists and is not a run of maxlite"),
        (("model", HERE / "new", "gs://none/x"), "gs://none cannot be opened: there is no such"),
        (("model", HERE / "new", HERE / "model"), f"export folder {HERE}/model exists"),
        (("model", HERE / "new/run", HERE / "new"), "is or lies in the export folder"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(desk, monkeypatch, places, told):
    monkeypatch.chdir(desk)
    before = files(HERE)
    assert told in call("maxlite.train", *settings(desk, *places)).sentence
    assert files(HERE) == before and not os.path.exists(desk / "gs:")


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("import_hf", ["--model=gs://bucket/model", "--out=gs://bucket/model"], "exists; remove"),
        ("untie", ["--model=model", "--out=gs://bucket/model", "--overwrite"], "exists already: r"),
        ("generate", ["--model=model", "--out=gs://bucket/x"], "--out=gs://bucket/x must be on"),
        ("export_hf", ["--run=gs://bucket/model", "--out=x"], "is not a run folder"),
    ],
)
def test_so_it_is_by_tools(desk, monkeypatch, tool, arguments, told):
    monkeypatch.chdir(desk)
    assert told in call(f"tools.{tool}", *arguments).sentence
