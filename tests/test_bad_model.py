"""Model folders that are broken, each refused with one clear sentence, and nothing left behind."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run, snapshot
from safetensors.numpy import load_file, save_file
from stage_desk import lay, refused, train_refused


@pytest.fixture
def desk(tmp_path, make_folder, tiny_text, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return lay(tmp_path, make_folder, tiny_text)


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
