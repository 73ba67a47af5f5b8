"""Where models come from: folders, runs, and nothing."""

import numpy as np
import pytest

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf.folder import open_folder
from maxlite.model import llama
from maxlite.state import imported
from maxlite.state import mesh as mesh_lib
from maxlite.state.ready import ready_model, widest_mesh
from maxlite.state.source import ModelSource, open_model, random_model
from maxlite.tokenizer import load_tokenizer

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer):
    return load_tokenizer(tiny_tokenizer)


def test_a_folder(tiny_folder):
    folder = tiny_folder(tie_word_embeddings=True)
    source = open_model(str(folder))
    assert source.where == str(folder) and source.step == -1
    assert source.architecture == open_folder(folder).architecture
    assert source.shapes == llama.shapes(source.architecture)
    assert {"config.json", "tokenizer.model", "tokenizer.json"} <= source.files.keys()


def test_a_run_opens_as_its_folder_did(tiny_folder, tmp_path):
    folder = tiny_folder()
    (folder / "maxlite.json").write_text('{"format": 1, "vocabulary": {"base_rows": 300}}')
    before = open_model(str(folder))
    imported.import_model(before, tmp_path / "run")
    after = open_model(str(tmp_path / "run"))
    assert after.architecture == before.architecture
    assert after.architecture.base_rows == 300
    assert after.dtypes == before.dtypes
    assert after.config == before.config and after.metadata == before.metadata
    assert after.files.keys() == before.files.keys()
    assert after.stored_dtypes() == before.stored_dtypes()
    assert (after.step, after.where) == (0, str(tmp_path / "run"))


@pytest.mark.parametrize("name", ["nonesuch", "/nonesuch/model", "./a/b/c", ""])
def test_what_does_not_exist(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        open_model(name)


def test_random_models_depend_on_the_seed_alone(tokenizer, monkeypatch):
    arch = Architecture(**SMALL)
    some = ("model.embed_tokens.weight", "model.layers.mlp.up_proj.weight", "model.norm.weight")
    shapes = random_model(arch, tokenizer, 0).shapes
    monkeypatch.setattr(ModelSource, "shapes", {name: shapes[name] for name in some})
    values = []
    for seed, text in ((0, "fsdp=8"), (0, "fsdp=4,tensor=2"), (1, "fsdp=8")):
        source = random_model(arch, tokenizer, seed)
        mesh = mesh_lib.make_mesh(text)
        values.append(source.load(mesh_lib.shardings(mesh, source.shapes), source.stored_dtypes()))
    for name, x in values[0].items():
        np.testing.assert_array_equal(np.asarray(x), np.asarray(values[1][name]))
        assert "norm" in name or not np.array_equal(np.asarray(x), np.asarray(values[2][name]))
    assert np.asarray(values[0]["model.norm.weight"]).tolist() == [1.0] * 16
    spread = np.asarray(values[0]["model.embed_tokens.weight"]).std()
    assert spread == pytest.approx(arch.initializer_range, rel=0.05)


def test_what_a_random_model_takes_from_its_tokenizer(tokenizer):
    source = random_model(Architecture(**SMALL), tokenizer, 0)
    arch = source.architecture
    assert (arch.vocab_size, arch.bos_token_id, arch.eos_token_id) == (400, 1, 2)
    assert source.config["vocab_size"] == 400 and source.where == "random weights"
    assert set(source.dtypes.values()) == {"float32"}
    given = Architecture(**SMALL, vocab_size=512, bos_token_id=7, eos_token_id=8)
    arch = random_model(given, tokenizer, 0).architecture
    assert (arch.vocab_size, arch.bos_token_id, arch.eos_token_id) == (512, 7, 8)


@pytest.mark.parametrize("missing", SMALL)
def test_a_random_model_needs_its_sizes(missing, tokenizer):
    with pytest.raises(InputError, match=f"architecture.{missing}") as caught:
        random_model(Architecture(**SMALL | {missing: 0}), tokenizer, 0)
    assert str(caught.value).count("architecture.") == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_key_value_heads": 3, "num_attention_heads": 4}, "num_key_value_heads"),
        ({"head_dim": 7}, "head_dim"),
        ({"hidden_size": 18, "num_attention_heads": 4}, "head_dim|num_attention_heads"),
        ({"sliding_window": 8}, "sliding_window"),
        ({"model_type": "mistral", "attention_bias": True}, "attention_bias"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps"),
    ],
)
def test_a_random_model_must_be_possible(changes, said, tokenizer):
    with pytest.raises(InputError, match=said):
        random_model(Architecture(**SMALL | changes), tokenizer, 0)


def test_the_widest_mesh_that_divides(tiny_folder):
    assert widest_mesh(open_model(str(tiny_folder("even", tokenizer="")))).shape["fsdp"] == 8
    odd = tiny_folder("odd", tokenizer="", hidden_size=36, head_dim=8)
    assert widest_mesh(open_model(str(odd))).size == 1


def test_a_tokenizer_that_does_not_belong_to_its_model(tiny_folder):
    ready = ready_model(str(tiny_folder(vocab_size=399)), weights=False)
    with pytest.raises(InputError, match="399"):
        ready.tokenizer  # noqa: B018


def test_loading_without_weights_is_no_random_model(tiny_folder, tmp_path):
    from maxlite.state.run import RunFolder
    from maxlite.state.source import run_files

    imported.import_model(open_model(str(tiny_folder())), tmp_path / "run")
    source = run_files(RunFolder(tmp_path / "run"))
    mesh = mesh_lib.make_mesh("fsdp=8")
    with pytest.raises(ValueError, match="without its weights"):
        source.load(mesh_lib.shardings(mesh, source.shapes), source.stored_dtypes())
