"""What a user can get wrong: each ends with one clear sentence, and nothing is left behind."""

from pathlib import Path

import pytest
from stage_desk import lay, refused, train_refused


@pytest.fixture
def desk(tmp_path, make_folder, tiny_text, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return lay(tmp_path, make_folder, tiny_text)


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
        ("--confg.steps=5", ["--confg.steps"]),
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
