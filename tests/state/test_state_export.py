"""Folder to run to folder: the same bytes, or a stated change of them."""

import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from maxlite import config as config_lib
from maxlite.config import Config
from maxlite.errors import InputError
from maxlite.hf.folder import open_folder
from maxlite.state import export, imported, origin
from maxlite.state import mesh as mesh_lib
from maxlite.state import run as run_lib
from maxlite.state.ready import ready_model
from maxlite.state.source import open_model


def import_export(folder, tmp_path, **settings):
    """The folder that comes out of a run that the folder went into; the first folder is gone."""
    figures = imported.import_model(open_model(str(folder)), tmp_path / "run")
    shutil.move(folder, tmp_path / "moved")
    ready = ready_model(str(tmp_path / "run"))
    with ready.on_mesh():
        export.write(tmp_path / "out", ready.source, ready.params, **settings)
    return tmp_path / "moved", tmp_path / "out", figures


def same_tensors(one, other):
    """Names, dtypes, shapes and every bit."""
    assert one.keys() == other.keys()
    for name, x in one.items():
        assert x.dtype == other[name].dtype and x.shape == other[name].shape, name
        assert x.tobytes() == other[name].tobytes(), name


def retype(folder, dtypes):
    """Stores the tensors whose names end so in other dtypes; odd bits included."""
    file = folder / "model.safetensors"
    loaded = {
        name: x.astype(next((d for end, d in dtypes.items() if name.endswith(end)), x.dtype))
        for name, x in load_file(file).items()
    }
    head = loaded["model.embed_tokens.weight"] = loaded["model.embed_tokens.weight"].copy()
    head[0, :3] = [-0.0, np.finfo(np.float32).tiny / 4, 1e-30]
    save_file(loaded, file, metadata={"format": "pt"})


MIXED = {
    "layers.0.self_attn.q_proj.weight": ml_dtypes.bfloat16,
    "layers.1.self_attn.q_proj.weight": np.float16,
    "mlp.up_proj.weight": np.float16,
    "layers.1.mlp.down_proj.weight": ml_dtypes.bfloat16,
    "lm_head.weight": ml_dtypes.bfloat16,
}
FOLDERS = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "mixed": {},
    "tied": {"tie_word_embeddings": True, "dtype": "float16", "shards": 3, "vocab_size": 401},
    "biases": {"attention_bias": True, "mlp_bias": True, "hidden_size": 36, "head_dim": 8},
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_round_trip_is_the_same_bytes(kind, tiny_folder, tensors, tmp_path):
    folder = tiny_folder(**FOLDERS[kind])
    (folder / "LICENSE.txt").write_text("terms")
    (folder / "maxlite.json").write_text('{"format": 1, "vocabulary": {"base_rows": 300}}')
    config = folder / "config.json"  # spelled as nobody else would
    config.write_text(
        config.read_text().replace(": ", "  :  ").replace('"use_cache"', '"use_cache"')
    )
    if kind == "mixed":
        retype(folder, MIXED)
    before, after, figures = import_export(folder, tmp_path)
    same_tensors(tensors(before), tensors(after))
    for file in ("config.json", "LICENSE.txt", "maxlite.json", "generation_config.json"):
        assert (after / file).read_bytes() == (before / file).read_bytes(), file
    for file in before.glob("*token*"):
        assert (after / file.name).read_bytes() == file.read_bytes()
    assert figures["parameters"] == sum(x.size for x in tensors(before).values())
    assert open_folder(after).architecture == open_folder(before).architecture


def test_transformers_loads_what_comes_out(tiny_folder, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    before, after, _ = import_export(tiny_folder(), tmp_path, max_shard_size="30KB")
    assert len(list(after.glob("*.safetensors"))) > 2
    tokens = torch.tensor([[1, 5, 9, 300, 42]])
    with torch.no_grad():
        one, other = (
            transformers.AutoModelForCausalLM.from_pretrained(f)(tokens).logits
            for f in (before, after)
        )
    assert torch.equal(one, other)


def test_an_imported_run_stands_alone(tiny_folder, tmp_path, tensors, stacked):
    folder = tiny_folder(dtype="bfloat16")
    expected = stacked(folder)
    imported.import_model(open_model(str(folder)), tmp_path / "deep" / "run")
    shutil.rmtree(folder)
    run = run_lib.RunFolder(tmp_path / "deep" / "run")
    assert run.status()["status"] == "finished" and run.status()["checkpoint"] == 0
    assert os.listdir(tmp_path / "deep") == ["run"]
    ready = ready_model(str(run.path))
    assert ready.step == 0 and ready.where == str(run.path)
    assert ready.tokenizer.bos == 1
    for name, x in ready.params.items():
        assert x.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.asarray(x), expected[name])
    with pytest.raises(InputError, match="step 3"):
        ready_model(str(run.path), step=3)


def test_an_import_that_fails_leaves_nothing(tiny_folder, tmp_path, digest):
    folder = tiny_folder(tokenizer="")
    file = folder / "model.safetensors"
    loaded = {name: x.copy() for name, x in load_file(file).items()}
    loaded["model.norm.weight"][0] = np.nan
    save_file(loaded, file)
    with pytest.raises(InputError, match=r"model\.norm\.weight"):
        imported.import_model(open_model(str(folder)), tmp_path / "run")
    assert os.listdir(tmp_path) == ["model"]


def test_an_import_writes_over_runs_only(tiny_folder, tmp_path, digest):
    one, other = (open_model(str(tiny_folder(n, seed=i, tokenizer=""))) for i, n in enumerate("ab"))
    run = tmp_path / "run"
    imported.import_model(one, run)
    before = digest(run)
    with pytest.raises(InputError, match="another out"):
        imported.import_model(other, run)
    assert digest(run) == before
    imported.import_model(other, run, overwrite=True)
    assert digest(run) != before and sorted(os.listdir(tmp_path)) == ["a", "b", "run"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="another out"):
        imported.import_model(other, tmp_path / "mine", overwrite=True)
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


# --- a run that has trained ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "dtype"), [("bfloat16", ""), ("bfloat16", "float32"), ("float16", "bfloat16")]
)
def test_what_has_trained_is_rounded_once_and_only_when_written(
    source, dtype, trained, stacked, tmp_path
):
    run, values = trained(source)
    ready = ready_model(str(run.path))
    assert {str(x.dtype) for x in ready.params.values()} == {"float32"}
    with ready.on_mesh():
        export.write(tmp_path / "out", ready.source, ready.params, dtype=dtype)
    written = dtype or source
    for name, x in stacked(tmp_path / "out").items():
        assert str(x.dtype) == written
        np.testing.assert_array_equal(x, values[name].astype(x.dtype))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["torch_dtype"] == written
    assert config["hidden_size"] == 32


def test_from_any_mesh(trained, tmp_path, stacked):
    """Each tensor comes from its shards, in its place."""
    run, values = trained("float32", shards=2)
    source = open_model(str(run.path))
    mesh = mesh_lib.make_mesh("data=2,fsdp=2,tensor=2")
    params = source.load(mesh_lib.shardings(mesh, source.shapes), source.stored_dtypes())
    with jax.set_mesh(mesh):
        export.write(tmp_path / "out", source, params)
    same_tensors(values, stacked(tmp_path / "out"))


def test_values_that_do_not_fit_the_type(trained, tmp_path):
    run, _ = trained("float32")
    ready = ready_model(str(run.path))
    name = "model.layers.mlp.up_proj.weight"
    params = ready.params | {name: ready.params[name] + 1e6}
    before = sorted(os.listdir(tmp_path))
    with ready.on_mesh(), pytest.raises(InputError, match=r"layers\.0\.mlp\.up_proj.*float16"):
        export.write(tmp_path / "out", ready.source, params, dtype="float16")
    assert sorted(os.listdir(tmp_path)) == before


def test_an_export_writes_over_model_folders_only(trained, tmp_path, digest):
    run, _ = trained()
    ready = ready_model(str(run.path))
    out = tmp_path / "out"
    with ready.on_mesh():
        export.write(out, ready.source, ready.params)
        before = digest(out)
        with pytest.raises(InputError, match="exists already"):
            export.write(out, ready.source, ready.params)
        assert digest(out) == before
        export.write(out, ready.source, ready.params, dtype="float32", overwrite=True)
        assert digest(out) != before
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("")
        with pytest.raises(InputError, match="not a model folder"):
            export.write(tmp_path / "mine", ready.source, ready.params, overwrite=True)
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def test_notes_say_where_a_model_comes_from(trained, tmp_path):
    run, _ = trained()
    ready = ready_model(str(run.path))
    before = {"format": 1, "layers": {"sources": [0, 0]}, "history": [{"tool": "upscale_depth"}]}
    notes = origin.notes(run, 7, before)
    with ready.on_mesh():
        export.write(tmp_path / "out", ready.source, ready.params, notes=notes)
    found = json.loads((tmp_path / "out" / "maxlite.json").read_text())
    assert found["layers"] == {"sources": [0, 0]}
    assert [entry["tool"] for entry in found["history"]] == ["upscale_depth", "train"]
    arguments = found["history"][1]["arguments"]
    assert (arguments["steps"], arguments["step"], arguments["order"]) == (7, 7, "abc")
    assert found["origin"]["step"] == 7 and len(found["origin"]["signature"]) == 64
    assert before["history"] == [{"tool": "upscale_depth"}]  # not changed
    assert origin.is_from(tmp_path / "out", run, 7)
    assert not origin.is_from(tmp_path / "out", run, 6)
    assert not origin.is_from(Path(ready.source.where) / "model", run, 7)


def test_a_signature_is_of_the_training_and_not_of_its_place(tmp_path):
    def run(name, **changes):
        config = config_lib.as_dict(config_lib.resolve(Config(out=str(tmp_path / name), **changes)))
        return run_lib.create(tmp_path / name, {"config": config, "order": "abc"}, {}, {})

    base = origin.signature(run("a"), 5)
    assert origin.signature(run("b", export=str(tmp_path / "x")), 5) == base
    assert origin.signature(run("c", seed=1), 5) != base
    assert origin.signature(run_lib.RunFolder(tmp_path / "a"), 6) != base
