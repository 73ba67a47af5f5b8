"""Runs that are damaged, in use, of another config, or on a full disk: nothing is lost."""

import contextlib
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import call, metrics, snapshot, status
from stage_desk import lay, refused, train_refused


@pytest.fixture
def desk(tmp_path, make_folder, tiny_text, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return lay(tmp_path, make_folder, tiny_text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Where the first test that needs it leaves what stage.py makes."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def finished(desk, trained) -> Path:
    """The run of four steps, done; checkpoints 3 and 4 are there."""
    if not any(trained.iterdir()):
        outcome = call("maxlite.train", "--config=stage.py")
        assert outcome.status == 0, outcome.err
        for name in ("run", "better"):
            shutil.move(name, trained)
    for name in ("run", "better"):
        shutil.copytree(trained / name, name)
    return desk / "run"


def test_a_run_of_another_config_lists_every_difference(desk, finished):
    sentence = train_refused(desk, seq_len=16, optimizer__learning_rate=2e-3)
    for words in ("seq_len", "32", "16", "optimizer.learning_rate", "0.001", "0.002"):
        assert words in sentence
    assert "batch_size" not in sentence
    with (desk / "text.txt").open("a") as file:
        file.write("Another line.\n")
    assert "text" in train_refused(desk)


def test_a_run_in_use_is_refused(desk, finished):
    import fcntl

    with (finished / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(desk / "better")  # so that there is something to do
        assert "another process" in train_refused(desk)


def damage(checkpoint: Path) -> None:
    """Flips one bit in the largest file of a checkpoint."""
    file = max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_the_checkpoint_before_a_damaged_one_is_used_loudly(desk, finished):
    better = snapshot(desk / "better")
    shutil.rmtree(desk / "better")
    damage(finished / "checkpoints" / "4")
    outcome = call("maxlite.train", f"--config={desk}/stage.py")
    assert outcome.status == 0, outcome.err
    assert "DAMAGED" in outcome.err and "resumed from step 3" in outcome.err
    assert status(finished)["status"] == "finished"
    assert snapshot(desk / "better") == better


def test_damaged_checkpoints_are_never_started_over(desk, finished):
    shutil.rmtree(desk / "better")
    for step in (3, 4):
        damage(finished / "checkpoints" / str(step))
    sentence = train_refused(desk)
    assert "3:" in sentence and "4:" in sentence and "scratch" in sentence
    for module, arguments in {
        "tools.export_hf": [f"--run={finished}", f"--out={desk}/better"],
        "tools.generate": [f"--model={finished}"],
        "tools.evaluate": [f"--model={finished}", f"--text={desk}/text.txt"],
    }.items():
        sentence = refused(desk, module, *arguments)
        assert "3:" in sentence and "4:" in sentence
    shutil.rmtree(finished / "checkpoints")
    assert "scratch" in train_refused(desk)


def test_a_damaged_run_folder_is_named(desk, finished):
    for name in ("status.json", "model/config.json", "model/tensors.json", "run.json"):
        whole = (finished / name).read_bytes()
        (finished / name).write_bytes(whole[:20])
        assert name in train_refused(desk)
        if name != "status.json":
            assert name in refused(desk, "tools.generate", f"--model={finished}")
        (finished / name).write_bytes(whole)


def test_what_is_no_run_is_not_exported(desk, finished):
    arguments = [f"--run={desk}/model", f"--out={desk}/new"]
    assert f"{desk}/model" in refused(desk, "tools.export_hf", *arguments)
    arguments = [f"--run={finished}", f"--out={desk}/new"]
    sentence = refused(desk, "tools.export_hf", *arguments, "--step=1")
    assert "step 1" in sentence and "3" in sentence and "4" in sentence
    assert "'5XB'" in refused(desk, "tools.export_hf", *arguments, "--max_shard_size=5XB")
    assert "dtype" in refused(desk, "tools.export_hf", *arguments, "--dtype=int8")


# --- a full disk ---------------------------------------------------------------------------------

CONSTANT = "--config.optimizer.schedule=constant"  # which lets `steps` grow


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MiB, and what makes it larger; skips where none can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        return subprocess.run(command, capture_output=True).returncode == 0

    if not mount("size=3m"):
        pytest.skip("mounting a file system is not allowed here")
    yield disk, lambda: mount("remount,size=99m")
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_costs_nothing_but_the_save_that_filled_it(desk, small_disk):
    disk, enlarge = small_disk
    stage = [f"--config={desk}/stage.py", "--config.steps=6", "--config.checkpoint.keep=99"]
    arguments = [*stage, f"--config.out={disk}/run"]
    outcome = call("maxlite.train", *arguments)
    assert "disk" in outcome.sentence and f"{disk}/run/checkpoints" in outcome.sentence
    assert not (desk / "better").exists()
    failed = status(disk / "run")
    assert failed["status"] == "failed" and 0 < failed["checkpoint"] < 6
    assert failed["message"] == outcome.sentence

    (disk / "fill").write_bytes(b"")
    with contextlib.suppress(OSError), (disk / "fill").open("wb", 0) as file:
        while True:
            file.write(bytes(512))
    assert call("tools.generate", f"--model={disk}/run", "--max_new_tokens=2").status == 0
    assert call("maxlite.train", *arguments).sentence
    assert status(disk / "run")["checkpoint"] == failed["checkpoint"]

    (disk / "fill").unlink()
    assert enlarge()
    outcome = call("maxlite.train", *arguments)
    assert outcome.status == 0, outcome.err
    assert f"resumed from step {failed['checkpoint']}" in outcome.err
    again = [*stage, f"--config.out={desk}/again", f"--config.export={desk}/again-better"]
    assert call("maxlite.train", *again).status == 0
    assert metrics(disk / "run") == metrics(desk / "again")
    assert snapshot(desk / "better") == snapshot(desk / "again-better")


@contextlib.contextmanager
def files_of_at_most(size: int):
    """Fails every write beyond so many bytes of a file, as a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_save_that_a_quota_refuses_leaves_the_one_before(desk):
    stage = [f"--config={desk}/stage.py", "--config.export=", CONSTANT]
    assert call("maxlite.train", *stage, "--config.steps=2").status == 0
    before = snapshot(desk / "run" / "checkpoints")
    with files_of_at_most(20_000):
        sentence = call("maxlite.train", *stage).sentence
    assert "step 3" in sentence
    failed = status(desk / "run")
    assert (failed["status"], failed["checkpoint"]) == ("failed", 2)
    after = snapshot(desk / "run" / "checkpoints")
    assert {name: after.get(name) for name in before} == before
    outcome = call("maxlite.train", *stage)
    assert "resumed from step 2" in outcome.err and status(desk / "run")["status"] == "finished"


def test_a_full_disk_leaves_no_part_of_an_export_or_import(desk, finished):
    for module, arguments in {
        "tools.export_hf": [f"--run={finished}", f"--out={desk}/new"],
        "tools.import_hf": [f"--model={desk}/model", f"--out={desk}/new"],
    }.items():
        before = snapshot(desk)
        with files_of_at_most(20_000):
            assert str(desk / "new") in call(module, *arguments).sentence
        assert snapshot(desk) == before
