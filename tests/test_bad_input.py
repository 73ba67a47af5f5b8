"""What a user can get wrong: each ends with one clear sentence, and nothing is left behind."""

import contextlib
import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import call, metrics, run, snapshot, status
from safetensors.numpy import load_file, save_file

STAGE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer, Source


def get_config():
    return Config(
        model="model",
        out="run",
        export="better",
        steps=4,
        batch_size=8,
        seq_len=32,
        data=Data(train=(Source("text.txt"),)),
        optimizer=Optimizer(learning_rate=1e-3),
        checkpoint=Checkpoint(every=1),
        eval=Eval(every=0),
        log=Log(every=1),
    )
"""


@pytest.fixture
def desk(tmp_path, make_folder, tiny_text, monkeypatch) -> Path:
    """A user's folder: model/, text.txt and stage.py, which would train if all were well."""
    make_folder(tmp_path / "model", shards=2)
    shutil.copy(tiny_text / "en.txt", tmp_path / "text.txt")
    (tmp_path / "stage.py").write_text(STAGE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(desk: Path, module: str, *arguments) -> str:
    """The sentence of a program that must refuse, and must leave everything as it was."""
    before = snapshot(desk)
    sentence = call(module, *arguments).sentence
    assert snapshot(desk) == before
    assert not list(Path(os.environ["MAXLITE_CACHE"]).rglob("*.tmp*"))
    return sentence


def train_refused(desk: Path, **settings) -> str:
    keys = [f"--config.{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return refused(desk, "maxlite.train", f"--config={desk}/stage.py", *keys)


# --- the config ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config.learning_rate=1", ["'learning_rate'", "'optimizer.learning_rate'"]),
        ("--config.optimizer.learnign_rate=1", ["'optimizer.learning_rate'"]),
        ("--config.stepz=1", ["'stepz'", "'steps'"]),
        ("--config.steps=ten", ["'steps'", "int", "'ten'"]),
        ("--config.steps=1.5", ["'steps'", "int"]),
        ("--config.steps=0", ["'steps'", "1"]),
        ("--config.optimizer.learning_rate=fast", ["'optimizer.learning_rate'", "float"]),
        ("--config.optimizer.learning_rate=nan", ["'optimizer.learning_rate'"]),
        ("--config.architecture.mlp_bias=perhaps", ["'architecture.mlp_bias'", "bool"]),
        ("--config.optimizer.schedule=step", ["'optimizer.schedule'", "'cosine'"]),
        ("--config.optimizer.warmup=5", ["optimizer.warmup", "4"]),
        ("--config.init=Untie", ["'init'"]),
        ("--config.mesh=fsdp=3", ["mesh", "fsdp=3", "8 devices"]),
        ("--config.mesh=tensors=2", ["mesh", "tensors=2"]),
        ("--config.attention=flash9", ["attention", "flash9"]),
        ("--config.remat=some", ["remat", "some"]),
        ("--config.steps", ["--config.steps=VALUE"]),
        ("--confg.steps=5", ["--confg.steps=5"]),
        ("--dryrun", ["--dryrun"]),
    ],
)
def test_a_wrong_setting_is_named(desk, argument, words):
    sentence = refused(desk, "maxlite.train", f"--config={desk}/stage.py", argument)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["stage.py", "get_config"]),
        ("def get_config(:\n", ["stage.py", "line 1"]),
        ("import no_such_module\n", ["stage.py", "no_such_module"]),
        ("def get_config():\n    return 3\n", ["get_config()", "int"]),
        (
            "from maxlite.config import *\ndef get_config():\n    return Config(step=3)\n",
            ["'step'"],
        ),
        (
            "from maxlite.config import *\ndef get_config():\n    return Config(steps='3')\n",
            ["'steps'", "int", "'3'"],
        ),
        (
            "from maxlite.config import *\ndef get_config():\n    return Config(data=3)\n",
            ["'data'", "Data"],
        ),
        (
            "from maxlite.config import *\n"
            "def get_config():\n    return Config(data=Data(train=(3,)))\n",
            ["'data.train'", "3"],
        ),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(desk, text, words):
    (desk / "stage.py").write_text(text)
    sentence = train_refused(desk)
    assert all(word in sentence for word in words), sentence


def test_a_process_that_refuses_says_one_sentence_and_fails(desk):
    outcome = run("maxlite.train", f"--config={desk}/stage.py", "--config.stepz=5")
    assert "'steps'" in outcome.sentence
    assert outcome.out == "" and len(outcome.err.splitlines()) == 1
    nan(desk / "model")
    before = snapshot(desk)
    outcome = run("tools.import_hf", f"--model={desk}/model", f"--out={desk}/imported")
    assert "NaN" in outcome.sentence
    assert outcome.out == "" and len(outcome.err.splitlines()) == 1
    assert snapshot(desk) == before


def test_a_config_file_that_is_not_there_is_named(desk):
    sentence = refused(desk, "maxlite.train", f"--config={desk}/stage9.py")
    assert f"{desk}/stage9.py" in sentence
    assert "'continue.py'" in refused(desk, "maxlite.train", "--config=continu.py")
    assert "--config" in refused(desk, "maxlite.train")


def test_what_a_run_cannot_do_without_is_asked_for(desk):
    assert "'out'" in train_refused(desk, out="")
    assert "'data.train'" in train_refused(desk, data__train="")
    sentence = train_refused(desk, model="")
    assert "'model'" in sentence and "'data.tokenizer'" in sentence
    sentence = train_refused(desk, model="", data__tokenizer=desk / "model")
    assert "architecture.hidden_size" in sentence


def test_numbers_that_do_not_fit_together_are_refused(desk):
    assert "128" in train_refused(desk, seq_len=129)
    assert "batch_size 6" in train_refused(desk, batch_size=6)
    sentence = train_refused(desk, accumulate=3)
    assert "batch_size 8" in sentence and "accumulate=3" in sentence
    assert "tensor=4" in train_refused(desk, mesh="fsdp=2,tensor=4")  # two key-value heads


# --- the model folder ----------------------------------------------------------------------------


def edit_json(path: Path, **fields) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (content | fields).items() if v is not None}))


def edit_tensors(folder: Path, shard: int, change) -> None:
    """Applies `change(tensors)` to one of the two shards; the index follows."""
    path = folder / f"model-{shard:05d}-of-00002.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    others = {k: v for k, v in content["weight_map"].items() if v != path.name}
    content["weight_map"] = others | dict.fromkeys(tensors, path.name)
    index.write_text(json.dumps(content))


def missing_shard(folder):
    (folder / "model-00002-of-00002.safetensors").unlink()


def truncated(folder):
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def cut_in_the_header(folder):
    path = folder / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def empty_shard(folder):
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")


def missing_tensor(folder):
    edit_tensors(folder, 2, lambda t: t.pop("model.norm.weight"))


def extra_tensor(folder):
    edit_tensors(folder, 2, lambda t: t.update(extra=np.zeros(3, np.float32)))


def wrong_shape(folder):
    edit_tensors(folder, 2, lambda t: t.update({"model.norm.weight": np.ones(31, np.float32)}))


def integers(folder):
    edit_tensors(folder, 2, lambda t: t.update({"model.norm.weight": np.ones(32, np.int32)}))


def nan(folder):
    name = "model.layers.1.mlp.up_proj.weight"

    def change(tensors):
        tensors[name] = tensors[name].copy()
        tensors[name][3, 5] = np.nan

    edit_tensors(folder, 2, change)


def infinity(folder):
    edit_tensors(
        folder, 2, lambda t: t.update({"model.norm.weight": np.full(32, np.inf, np.float32)})
    )


def shard_outside(folder):
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00002", "../model-00002"))


def shard_absolute(folder):
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00002", "/etc/model-00002"))


def torn_index(folder):
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text()[:50])


def pickled(folder):
    for file in folder.glob("model*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def no_weights(folder):
    for file in folder.glob("model*"):
        file.unlink()


def unknown_field(folder):
    edit_json(folder / "config.json", residual_scale=0.5)


def other_activation(folder):
    edit_json(folder / "config.json", hidden_act="gelu")


def other_rope(folder):
    edit_json(folder / "config.json", rope_scaling={"rope_type": "yarn", "factor": 2.0})


def other_family(folder):
    edit_json(folder / "config.json", model_type="gpt2")


def no_width(folder):
    edit_json(folder / "config.json", hidden_size=None)


def torn_config(folder):
    (folder / "config.json").write_text('{"model_type": "llama",')


def no_config(folder):
    (folder / "config.json").unlink()


BROKEN = [
    (missing_shard, ["model-00002-of-00002.safetensors"]),
    (truncated, ["model-00002-of-00002.safetensors", "truncated"]),
    (cut_in_the_header, ["model-00001-of-00002.safetensors", "truncated"]),
    (empty_shard, ["model-00001-of-00002.safetensors", "truncated"]),
    (missing_tensor, ["model.norm.weight", "missing"]),
    (extra_tensor, ["extra", "not known"]),
    (wrong_shape, ["model.norm.weight", "[31]", "[32]"]),
    (integers, ["model.norm.weight", "int32"]),
    (nan, ["model.layers.1.mlp.up_proj.weight", "NaN"]),
    (infinity, ["model.norm.weight", "infinity"]),
    (shard_outside, ["../model-00002", "outside"]),
    (shard_absolute, ["/etc/model-00002", "outside"]),
    (torn_index, ["model.safetensors.index.json"]),
    (pickled, ["pytorch_model.bin", "save_pretrained"]),
    (no_weights, ["no weights"]),
    (unknown_field, ["config.json", "residual_scale"]),
    (other_activation, ["config.json", "hidden_act", "gelu"]),
    (other_rope, ["config.json", "yarn"]),
    (other_family, ["config.json", "gpt2"]),
    (no_width, ["config.json", "hidden_size"]),
    (torn_config, ["config.json"]),
    (no_config, ["config.json"]),
]


@pytest.mark.parametrize(("damage", "words"), BROKEN, ids=[d.__name__ for d, _ in BROKEN])
def test_a_broken_model_folder_is_refused(desk, damage, words):
    """By training and by import, which read it first."""
    damage(desk / "model")
    for sentence in (
        train_refused(desk),
        refused(desk, "tools.import_hf", "--model=model", "--out=imported"),
    ):
        assert all(word in sentence for word in words), sentence


def test_a_broken_model_folder_is_refused_by_the_tools_that_read_it(desk):
    nan(desk / "model")
    sentence = refused(desk, "tools.generate", f"--model={desk}/model")
    assert "model.layers.1.mlp.up_proj.weight" in sentence
    figures = f"--json={desk}/figures.json"
    text = f"--text={desk}/text.txt"
    sentence = refused(desk, "tools.evaluate", f"--model={desk}/model", text, figures)
    assert "model.layers.1.mlp.up_proj.weight" in sentence


@pytest.mark.parametrize("model", ["nowhere", "org/name", "/no/such/folder"])
def test_a_model_that_is_not_there_is_refused(desk, model):
    sentence = train_refused(desk, model=model)
    assert model in sentence


# --- the tokenizer -------------------------------------------------------------------------------


def test_token_ids_without_a_row_are_refused(desk, tiny_folder):
    tiny_folder("small", vocab_size=390)
    sentence = train_refused(desk, model=desk / "small")
    assert "399" in sentence and "390" in sentence
    arguments = [f"--model={desk}/small", f"--text={desk}/text.txt"]
    for sentence in (
        refused(desk, "tools.generate", arguments[0]),
        refused(desk, "tools.evaluate", *arguments),
    ):
        assert "399" in sentence and "390" in sentence


def test_an_unusable_tokenizer_is_refused(desk):
    (desk / "model" / "tokenizer.json").write_text("{}")
    assert "tokenizer.json" in train_refused(desk)
    (desk / "model" / "tokenizer.json").unlink()
    (desk / "model" / "tokenizer.model").write_bytes(b"not a model")
    assert "tokenizer.model" in train_refused(desk)
    (desk / "model" / "tokenizer.model").unlink()
    assert "tokenizer.json" in train_refused(desk)
    assert f"{desk}/none.json" in train_refused(desk, data__tokenizer=desk / "none.json")


# --- the text ------------------------------------------------------------------------------------


def test_text_that_cannot_be_used_is_refused(desk):
    assert "nothing*.txt" in train_refused(desk, data__train=desk / "nothing*.txt")
    assert str(desk) in train_refused(desk, data__train=desk)

    (desk / "empty.txt").write_text("")
    (desk / "blank.txt").write_text("  \n\n \n")
    for name in ("empty.txt", "blank.txt"):
        assert name in train_refused(desk, data__train=desk / name)

    (desk / "korean.txt").write_bytes("첫째 줄\n".encode() + "둘째 줄\n".encode("cp949"))
    sentence = train_refused(desk, data__train=desk / "korean.txt")
    assert "korean.txt, line 2" in sentence and "UTF-8" in sentence

    (desk / "x.jsonl").write_text('{"text": "a b"}\n{"body": "a b"}\n')
    sentence = train_refused(desk, data__train=desk / "x.jsonl")
    assert "x.jsonl, line 2" in sentence and "'body'" in sentence

    (desk / "x.jsonl").write_text('{"text": "a b"}\n{"text": "a b"\n')
    assert "x.jsonl, line 2" in train_refused(desk, data__train=desk / "x.jsonl")
    (desk / "x.parquet").write_text("no")
    assert "x.parquet" in train_refused(desk, data__train=desk / "x.parquet")
    (desk / "x.jsonl.gz").write_text("no")
    assert "x.jsonl.gz" in train_refused(desk, data__train=desk / "x.jsonl.gz")
    (desk / "x.pdf").write_text("no")
    assert "x.pdf" in train_refused(desk, data__train=desk / "x.pdf")
    assert "nothing.txt" in train_refused(desk, data__eval=desk / "nothing.txt")


def test_the_tools_refuse_such_text_too(desk):
    model = f"--model={desk}/model"
    assert "--text" in refused(desk, "tools.evaluate", model)
    sentence = refused(desk, "tools.evaluate", model, f"--text={desk}/text.txt,{desk}/no*.txt")
    assert "no*.txt" in sentence
    (desk / "empty.txt").write_text("\n")
    assert "empty.txt" in refused(desk, "tools.evaluate", model, f"--text={desk}/empty.txt")


# --- folders that exist --------------------------------------------------------------------------


def test_output_that_exists_is_never_touched(desk):
    mine = desk / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    (desk / "file").write_text("mine")
    for taken in (mine, desk / "file", desk / "model"):
        assert str(taken) in train_refused(desk, out=taken)
        assert str(taken) in train_refused(desk, export=taken)
        arguments = [f"--model={desk}/model", f"--out={taken}"]
        assert str(taken) in refused(desk, "tools.import_hf", *arguments)
        if taken != desk / "model":
            assert str(taken) in refused(desk, "tools.import_hf", *arguments, "--overwrite")
    assert "run" in train_refused(desk, export="run")


def test_a_folder_that_cannot_be_made_is_named(desk):
    (desk / "file").write_text("mine")
    assert str(desk / "file") in train_refused(desk, out=desk / "file" / "run")
    arguments = [f"--model={desk}/model", f"--out={desk}/file/run"]
    assert str(desk / "file") in refused(desk, "tools.import_hf", *arguments)


# --- runs ----------------------------------------------------------------------------------------


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
