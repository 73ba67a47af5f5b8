"""A run is a model on the host like any folder: the same tensors, files and notes, without jax."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from state_examples import flip

from maxlite.errors import InputError
from maxlite.hf import lazy, names, writer
from maxlite.hf.folder import open_folder
from maxlite.state import export, imported
from maxlite.state.host import open_lazy, run_model
from maxlite.state.ready import ready_model
from maxlite.state.run import RunFolder
from maxlite.state.source import open_model

TABLE, LAYER = "model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight"
FOLDERS = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16", "shards": 2},
    "float16 tied": {"dtype": "float16", "tie_word_embeddings": True, "vocab_size": 401},
    "biases": {"attention_bias": True, "mlp_bias": True, "hidden_size": 36, "head_dim": 8},
}


def contents(folder: Path) -> dict[str, bytes]:
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.fixture
def run(tiny_folder, tmp_path) -> Path:
    """A run at step 0 of a model in bfloat16."""
    imported.import_model(open_model(str(tiny_folder(dtype="bfloat16"))), tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("kind", FOLDERS)
def test_an_imported_run_opens_as_its_folder_does(kind, tiny_folder, tmp_path):
    folder = tiny_folder(**FOLDERS[kind])
    (folder / "LICENSE.txt").write_text("terms")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("{{ x }}")
    (folder / "maxlite.json").write_text('{"format": 1, "vocabulary": {"base_rows": 300}}')
    before = open_lazy(str(folder))
    assert list(before.tensors) == list(open_folder(folder).tensors)
    imported.import_model(open_model(str(folder)), tmp_path / "run")
    after = open_lazy(str(tmp_path / "run"))
    assert list(after.tensors) == list(before.tensors)
    for name, tensor in after.tensors.items():
        stored = before.tensors[name]
        assert (tensor.shape, tensor.dtype) == (stored.shape, stored.dtype), name
        assert tensor.nbytes == stored.nbytes
        assert tensor.read().tobytes() == stored.read().tobytes(), name
    assert after.architecture == before.architecture and after.architecture.base_rows == 300
    assert after.dtypes == before.dtypes and after.metadata == before.metadata
    assert after.rendered() == before.rendered() and after.parameters == before.parameters
    assert {name: p.read_bytes() for name, p in after.files.items()} == {
        name: p.read_bytes() for name, p in before.files.items()
    }
    for name in ("before", "after"):
        writer.write_model(tmp_path / name, {"before": before, "after": after}[name])
    assert contents(tmp_path / "after") == contents(tmp_path / "before")


def test_an_array_of_a_run_reads_as_any_lazy_array(run, tiny_folder):
    model = open_lazy(str(run))
    for name in (TABLE, LAYER):
        array, expected = model.tensors[name], open_folder(tiny_folder(name)).tensors[name].read()
        expected = expected.astype(array.dtype)
        assert array.shape == expected.shape and str(array.dtype) == "bfloat16"
        for index in (
            ...,
            slice(3, 9),
            (slice(4, 12), slice(8, 16)),
            (slice(None), slice(0, 5)),
            np.array([7, 0, 7]),
        ):
            assert array.read(index).tobytes() == expected[index].tobytes()
        part = array.rows(4, 12)
        assert part.shape == (8, expected.shape[1])
        assert part.read(slice(0, 3)).tobytes() == expected[4:7].tobytes()
        assert part.rows(2, 5).read().tobytes() == expected[6:9].tobytes()
        assert b"".join(x.tobytes() for x in part.pieces()) == expected[4:12].tobytes()
        chosen = lazy.select(array, [9, 10, 2])
        assert chosen.read().tobytes() == expected[[9, 10, 2]].tobytes()


def test_one_layer_is_stored_apart_from_the_others(run):
    """Or every layer would be read for each that is wanted."""
    stored = open_lazy(str(run)).tensors[LAYER].store.spec().to_json()["metadata"]
    assert stored["shape"] == [2, 48, 32] and stored["chunks"][0] == 1


def test_a_table_is_kept_once_some_of_it_was_read(run):
    """Rows that are asked for one after the other do not each cost a read of all of it."""
    model = open_lazy(str(run))
    expected = model.tensors[TABLE].read(slice(0, 1)), model.tensors[TABLE].read()
    model.tensors[LAYER].read()
    shutil.rmtree(run / "checkpoints")
    assert model.tensors[TABLE].read(slice(0, 1)).tobytes() == expected[0].tobytes()
    assert model.tensors[TABLE].rows(5, 400).read().tobytes() == expected[1][5:].tobytes()
    with pytest.raises(Exception, match="model"):
        model.tensors[LAYER].read()


def test_a_trained_run_is_read_in_float32_and_written_as_its_source(trained, tmp_path):
    run, values = trained("bfloat16")
    model = open_lazy(str(run.path))
    for name, tensor in model.tensors.items():
        stacked, layer = names.split(name)
        expected = values[stacked] if layer is None else values[stacked][layer]
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor.read(), expected)
    assert set(model.dtypes.values()) == {"bfloat16"}
    ready = ready_model(str(run.path))
    with ready.on_mesh():
        export.write(tmp_path / "exported", ready.source, ready.params)
    writer.write_model(tmp_path / "written", model)
    assert contents(tmp_path / "written") == contents(tmp_path / "exported")
    note = json.loads((tmp_path / "written" / "maxlite.json").read_text())
    assert [entry["tool"] for entry in note["history"]] == ["train"]
    assert note["origin"]["step"] == 7


def test_tensors_of_several_dtypes_are_each_written_in_theirs(tiny_folder, tmp_path):
    folder = tiny_folder(name="mixed")
    mixed = load_file(folder / "model.safetensors")
    for name, dtype in (("model.layers.1.mlp.up_proj.weight", np.float16), (TABLE, np.float16)):
        mixed[name] = mixed[name].astype(dtype)
    save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    imported.import_model(open_model(str(folder)), tmp_path / "imported")
    model = open_lazy(str(tmp_path / "imported"))
    assert model.dtypes == open_folder(folder).dtypes
    assert model.tensors["model.layers.0.mlp.up_proj.weight"].dtype == np.float32
    assert str(model.tensors["model.layers.1.mlp.up_proj.weight"].dtype) == "float32"  # both fit
    writer.write_model(tmp_path / "out", model)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert all(found[name].tobytes() == x.tobytes() for name, x in mixed.items())


@pytest.mark.parametrize("name", ["50% of #1?x=y", "한국어 모델", "a b", "%41"])
def test_a_run_may_have_any_name(name, run, tmp_path):
    expected = open_lazy(str(run)).tensors[TABLE].read().tobytes()
    shutil.move(run, tmp_path / name)
    assert open_lazy(str(tmp_path / name)).tensors[TABLE].read().tobytes() == expected


def test_a_run_by_a_relative_path(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    model = open_lazy("run")
    monkeypatch.chdir("/")
    assert model.tensors[TABLE].read().shape == (400, 32)


def test_without_a_step_there_is_no_tensor_and_nothing_of_the_training(trained):
    run, _ = trained()
    model = run_model(run)
    assert not model.tensors and "history" not in model.metadata
    assert model.rendered() == (run.model / "config.json").read_bytes()


@pytest.fixture
def twice(run) -> Path:
    """The run with a second, later checkpoint."""
    shutil.copytree(run / "checkpoints" / "0", run / "checkpoints" / "8")
    return run


def test_a_step_is_chosen_and_the_latest_that_verifies_is_the_default(twice, capsys):
    checkpoints = twice / "checkpoints"
    flip(checkpoints / "8")
    assert open_lazy(str(twice)).parameters > 0
    assert "checkpoint 8" in capsys.readouterr().err
    assert open_lazy(str(twice), 0).tensors[TABLE].read().shape == (400, 32)
    with pytest.raises(InputError, match=r"no checkpoint of step 8 .*differs from its manifest"):
        open_lazy(str(twice), 8)
    with pytest.raises(InputError, match=r"no checkpoint of step 3 .*\[0, 8\]"):
        open_lazy(str(twice), 3)
    flip(checkpoints / "0")
    with pytest.raises(InputError, match=r"no checkpoint in .*8: .*0: "):
        open_lazy(str(twice))


def test_a_run_without_a_checkpoint(run):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(InputError, match=r"no checkpoint in .*is empty"):
        open_lazy(str(run))


@pytest.mark.parametrize("name", ["", "nonesuch", "/nonesuch/model", "./a/b/c"])
def test_what_does_not_exist(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        open_lazy(name)
    assert not os.listdir(tmp_path)


def test_a_run_is_read_and_changed_without_jax(run):
    program = (
        "import sys\n"
        "from maxlite.state import host, init\n"
        "from maxlite.transforms import UpscaleDepth\n"
        "model = init.apply(host.open_lazy(sys.argv[1]), [UpscaleDepth(layers='0-1,0-1')])\n"
        "print(sum(t.read().size for t in model.tensors.values()) == model.parameters)\n"
        "print([m for m in ('jax', 'orbax', 'transformers', 'torch') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(run)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n[]\n"


def test_the_run_of_a_run(run, tmp_path):
    imported.import_model(open_model(str(run)), tmp_path / "again")
    one, other = open_lazy(str(run)), open_lazy(str(tmp_path / "again"))
    assert one.dtypes == other.dtypes and one.metadata == other.metadata == {}
    assert all(
        x.read().tobytes() == other.tensors[name].read().tobytes()
        for name, x in one.tensors.items()
    )
    assert RunFolder(tmp_path / "again").tensor_dtypes() == RunFolder(run).tensor_dtypes()
