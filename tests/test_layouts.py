"""The same training on one device, on eight, and in two processes."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from commands import (
    call,
    finish,
    losses,
    metrics,
    run,
    status,
    step_reached,
    strike,
)
from several import silent, start_alike

from maxlite.data.orders import read_order
from maxlite.hf.folder import open_folder
from maxlite.state.host import open_lazy

STEPS = 20
STAGE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer, Source


def get_config():
    return Config(
        model="{here}/model",
        steps=20,
        batch_size=8,
        seq_len=32,
        data=Data(
            train=(
                Source("{here}/xx.txt", weight=3, later=((12, 1),)),
                Source("{here}/en.txt"),
            )
        ),
        optimizer=Optimizer(learning_rate=3e-3, schedule="constant", warmup=0.0),
        checkpoint=Checkpoint(every=10),
        eval=Eval(every=10, sample_tokens=0),
        log=Log(every=1),
    )
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text) -> Path:
    here = tmp_path_factory.mktemp("layouts")
    make_folder(here / "model")
    for name in ("xx.txt", "en.txt"):
        shutil.copy(tiny_text / name, here / name)
    (here / "stage.py").write_text(STAGE.format(here=here))
    return here


def stage(desk: Path, name: str, **settings) -> list[str]:
    keys = [f"--config.{key}={value}" for key, value in settings.items()]
    return [f"--config={desk}/stage.py", f"--config.out={desk}/{name}", *keys]


def start_two(desk: Path, name: str, devices: int = 4, **settings) -> list:
    return start_alike("maxlite.train", *stage(desk, name, **settings), devices=devices)


def run_two(desk: Path, name: str, devices: int = 4, **settings) -> None:
    first, second = finish(*start_two(desk, name, devices, **settings))
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert f"step {STEPS}/{STEPS}" in first.err
    assert silent(second)


@pytest.fixture(scope="module")
def one(desk) -> Path:
    outcome = run("maxlite.train", *stage(desk, "one"))
    assert outcome.status == 0, outcome.err
    return desk / "one"


@pytest.fixture(scope="module")
def two_processes(desk) -> Path:
    run_two(desk, "two", mesh="fsdp=4,tensor=2")
    return desk / "two"


def assert_close(run_folder: Path, one: Path) -> None:
    """Losses within 1e-5 at every step, over the same number of tokens."""
    found, expected = losses(run_folder), losses(one)
    assert list(found) == list(expected) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=0, atol=1e-5)
    kept = ("tokens", "data/xx/share", "data/en/share", "data/xx/epochs", "data/en/epochs")
    told = [[[entry.get(k) for k in kept] for entry in metrics(r)] for r in (run_folder, one)]
    assert told[0] == told[1] and len(told[0]) == STEPS + 2
    assert read_order(run_folder).fingerprint == read_order(one).fingerprint


@pytest.mark.parametrize("mesh", ["fsdp=4,tensor=2", "data=2,fsdp=4", "fsdp=2,tensor=2,sequence=2"])
def test_eight_devices_learn_what_one_learns(desk, one, mesh):
    outcome = call("maxlite.train", *stage(desk, mesh, mesh=mesh))
    assert outcome.status == 0, outcome.err
    assert_close(desk / mesh, one)


def test_two_processes_learn_what_one_learns(desk, one, two_processes):
    assert_close(two_processes, one)


@pytest.mark.parametrize("mesh", ["fsdp=2", "sequence=2"])
def test_two_processes_of_a_device_are_one_of_two_to_the_bit(desk, mesh):
    run_two(desk, f"apart-{mesh}", devices=1, mesh=mesh)
    outcome = run("maxlite.train", *stage(desk, f"together-{mesh}", mesh=mesh), devices=2)
    assert outcome.status == 0, outcome.err
    apart, together = (desk / f"{name}-{mesh}" for name in ("apart", "together"))
    assert metrics(apart) == metrics(together)
    ours, theirs = (open_lazy(str(run_folder)).tensors for run_folder in (apart, together))
    for name, tensor in theirs.items():
        assert ours[name].read().tobytes() == tensor.read().tobytes()


def halfway(run_folder: Path, name: str) -> None:
    """A copy of a run as it was at step 10."""
    shutil.copytree(run_folder, run_folder.parent / name)
    shutil.rmtree(run_folder.parent / name / "checkpoints" / "20")


def test_a_checkpoint_of_one_device_resumes_on_eight(desk, one):
    halfway(one, "one-eight")
    outcome = call("maxlite.train", *stage(desk, "one-eight", mesh="fsdp=2,tensor=2,data=2"))
    assert outcome.status == 0, outcome.err
    assert "resumed from step 10" in outcome.err
    assert_close(desk / "one-eight", one)


def test_a_checkpoint_of_two_processes_resumes_on_one_device(desk, one, two_processes):
    halfway(two_processes, "two-one")
    outcome = run("maxlite.train", *stage(desk, "two-one"))
    assert outcome.status == 0, outcome.err
    assert "resumed from step 10" in outcome.err
    assert_close(desk / "two-one", one)


def test_two_processes_stop_at_the_same_step_and_go_on(desk, two_processes):
    name = desk / "stopped"
    settings = {"mesh": "fsdp=4,tensor=2", "export": desk / "better"}
    first, second = start_two(desk, "stopped", **settings)
    # Only one of them hears of it, as when a scheduler tells one host before the other.
    second, first = strike(signal.SIGTERM, second, lambda: step_reached(name) >= 3, first)
    assert (first.status, second.status) == (0, 0), first.err + second.err
    stopped = status(name)
    assert stopped["status"] == "stopped"
    assert 3 <= stopped["step"] == stopped["checkpoint"] < STEPS
    assert f"stopped and saved at step {stopped['step']}" in first.err
    assert silent(second)
    run_two(desk, "stopped", **settings)
    assert status(name)["status"] == "finished"
    assert metrics(name) == metrics(two_processes)  # bit for bit: the layout is the same
    assert json.loads((desk / "better" / "config.json").read_text())["vocab_size"] == 400
    model = open_lazy(str(name))  # in the pieces that the two have written
    for key, stored in open_folder(desk / "better").tensors.items():
        assert model.tensors[key].read().tobytes() == stored.read().tobytes()


def test_evaluations_tell_what_has_been_read(one):
    """Three parts of four until step 12, then a half; there is no text to score."""
    told = {entry["step"]: entry for entry in metrics(one) if "loss" not in entry}
    assert list(told) == [10, 20]
    assert told[10]["data/xx/share"] == pytest.approx(0.75, abs=0.01)
    assert told[20]["data/xx/share"] == pytest.approx(0.65, abs=0.01)
    assert told[20]["data/xx/share"] + told[20]["data/en/share"] == pytest.approx(1)
    assert 0 < told[10]["data/en/epochs"] < told[20]["data/en/epochs"] < 1


def test_every_layout_reads_the_same_tokens(desk):
    """A process asks for the rows of its own devices; together they are the one global batch."""
    import jax

    from maxlite import flags
    from maxlite.data.loader import batches
    from maxlite.state import batch as batch_lib
    from maxlite.state import mesh as mesh_lib
    from maxlite.training.job import prepare

    config, _ = flags.parse(stage(desk, "unused", mesh="fsdp=4,tensor=2", accumulate=2))
    corpus = prepare(config).corpus

    def tokens(devices: int, mesh_text: str) -> list[np.ndarray]:
        """[A * B, S] of three steps, as the devices hold them."""
        mesh = mesh_lib.make_mesh(mesh_text, jax.devices()[:devices])
        sharding, shape = mesh_lib.batch_sharding(mesh), (2, 4, 32)
        rows = batch_lib.rows_needed(sharding, shape)
        found = []
        for local in batches(corpus, 0, 3, rows):
            placed = batch_lib.to_devices(local, rows, sharding, shape)
            found.append(np.asarray(placed["tokens"]).reshape(8, 32))
        return found

    expected = [step["tokens"] for step in batches(corpus, 0, 3, np.arange(8))]
    assert len(np.unique(np.concatenate(expected), axis=0)) == 24
    for devices, mesh in ((1, ""), (2, "data=2"), (8, "data=2,fsdp=2,tensor=2"), (4, "fsdp=4")):
        found = tokens(devices, mesh)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
