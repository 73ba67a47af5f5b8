"""The tool that makes models deeper, as a user calls it."""

import json
from unittest import mock

import pytest
import yaml
from commands import call, heavy, snapshot
from safetensors.numpy import load_file

from maxlite.hf.folder import open_folder
from maxlite.hf.stream import Stream

TOOL = "tools.upscale_depth"
DUS = ("--method=dus", "--drop=1")


@pytest.fixture
def desk(tmp_path, make_folder):
    """A folder with a model of four layers in it, and nothing else."""
    make_folder(tmp_path / "model", num_hidden_layers=4, dtype="bfloat16", shards=2)
    return tmp_path


def kept(folder):
    return {path.name for path in folder.iterdir()}


def write_recipe(file, *folders, **more):
    sources = [{"model": str(folder), "layer_range": [0, 2]} for folder in folders]
    slices = [{"sources": [source]} for source in sources]
    file.write_text(yaml.safe_dump({"merge_method": "passthrough", "slices": slices, **more}))
    return file


def test_help_names_every_flag():
    outcome = call(TOOL, "--help")
    assert outcome.status == 0 and not outcome.err
    assert f"python -m {TOOL} " in outcome.out
    flags = "model out method drop group add layers mergekit write_mergekit max_shard_size json"
    for flag in (*flags.split(), "[no]as_llama", "[no]overwrite", "[no]dry_run"):
        assert f"--{flag}:" in outcome.out, flag


def test_a_deeper_model_is_written_and_transformers_loads_it(desk):
    before = snapshot(desk / "model")
    figures = desk / "figures.json"
    outcome = call(
        TOOL, f"--model={desk}/model", f"--out={desk}/new/out", *DUS, f"--json={figures}"
    )
    assert outcome.status == 0 and outcome.out == "", outcome.err
    assert "6 layers from 4, 1 seam (|), " in outcome.err and "  0-2 | 1-3\n" in outcome.err
    assert snapshot(desk / "model") == before and kept(desk) == {"model", "new", "figures.json"}
    model = open_folder(desk / "new" / "out")
    assert json.loads(figures.read_text()) == {
        "parameters": model.parameters,
        "num_hidden_layers": 6,
        "sources": [0, 1, 2, 1, 2, 3],
        "inserted": [],
    }
    assert f"{model.parameters:,} parameters" in outcome.err
    assert model.metadata["history"][-1]["arguments"] == {"method": "dus", "drop": 1}

    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
        desk / "new" / "out", output_loading_info=True
    )
    assert not any(report.values()) and loaded.num_parameters() == model.parameters


def test_a_dry_run_shows_the_list_and_writes_nothing(desk):
    before = snapshot(desk)
    outcome = call(
        TOOL,
        f"--model={desk}/model",
        f"--out={desk}/out",
        "--method=interlocked",
        "--drop=2",
        "--group=1",
        f"--write_mergekit={desk}/recipe.yml",
        "--dry_run",
    )
    assert outcome.status == 0 and "  0 | 2 | 1 | 3\n" in outcome.err, outcome.err
    assert "would write 0.00 GB" in outcome.err
    assert call(TOOL, f"--model={desk}/model", *DUS, "--dry_run").status == 0
    assert snapshot(desk) == before


def test_one_group_of_all_layers_is_dus(desk):
    interlocked = (f"--model={desk}/model", "--method=interlocked", "--drop=1", "--dry_run")
    outcome = call(TOOL, *interlocked, "--group=all")
    assert outcome.status == 0 and "  0-2 | 1-3\n" in outcome.err, outcome.err
    assert "--group=some is no number" in call(TOOL, *interlocked, "--group=some").sentence


SOLAR = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
}


def test_a_dry_run_needs_config_json_only(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SOLAR))
    before = snapshot(tmp_path)
    arguments = (f"--model={tmp_path}", "--method=dus", "--drop=8", "--as_llama")
    outcome = call(TOOL, *arguments, "--dry_run")
    assert outcome.status == 0, outcome.err
    assert f"{tmp_path} has no weights: sizes are those of its config.json, in bfloat16" in (
        outcome.err
    )
    assert "48 layers from 32, 1 seam (|), 10,731,524,096 parameters" in outcome.err
    assert "max_position_embeddings set to 4,096, from 32,768" in outcome.err
    assert "would write 21.46 GB" in outcome.err
    assert snapshot(tmp_path) == before
    assert "holds no weights" in call(TOOL, *arguments, f"--out={tmp_path}/out").sentence


def test_a_recipe_is_written_for_mergekit_and_followed(desk):
    recipe = desk / "recipe.yml"
    outcome = call(TOOL, f"--model={desk}/model", *DUS, f"--write_mergekit={recipe}")
    assert outcome.status == 0 and kept(desk) == {"model", "recipe.yml"}, outcome.err
    slices = yaml.safe_load(recipe.read_text())["slices"]
    assert [s["sources"][0]["model"] for s in slices] == [str(desk / "model")] * 2
    assert [s["sources"][0]["layer_range"] for s in slices] == [[0, 3], [1, 4]]

    again = call(TOOL, f"--model={desk}/model", *DUS, f"--write_mergekit={recipe}")
    assert f"{recipe} exists; choose another --write_mergekit" in again.sentence
    nowhere = call(TOOL, f"--model={desk}/model", *DUS, f"--write_mergekit={desk}/no/r.yml")
    assert "lies in a folder that does not exist" in nowhere.sentence
    both = call(
        TOOL,
        f"--model={desk}/model",
        "--layers=0-3",
        f"--write_mergekit={recipe}",
        "--overwrite",
        f"--out={desk}/plain",
    )
    assert both.status == 0 and len(yaml.safe_load(recipe.read_text())["slices"]) == 1, both.err

    for name, arguments in (("named", ()), ("given", (f"--model={desk}/plain",))):
        outcome = call(TOOL, f"--mergekit={recipe}", f"--out={desk}/{name}", *arguments)
        assert outcome.status == 0, outcome.err
        assert open_folder(desk / name).architecture.num_hidden_layers == 4
    for file in (desk / "named").glob("*.safetensors"):
        for tensor, values in load_file(file).items():
            stored = open_folder(desk / "model").tensors[tensor].read()
            assert values.tobytes() == stored.tobytes()


def test_a_recipe_of_two_models_needs_no_model(desk, make_folder):
    make_folder(desk / "other", num_hidden_layers=2, seed=1)
    recipe = write_recipe(desk / "recipe.yml", desk / "other", desk / "model", dtype="float16")
    outcome = call(TOOL, f"--mergekit={recipe}", f"--out={desk}/out")
    assert outcome.status == 0, outcome.err
    assert f"  A: {desk}/other\n  B: {desk}/model\n" in outcome.err
    model = open_folder(desk / "out")
    assert set(model.dtypes.values()) == {"float16"} and model.config["torch_dtype"] == "float16"
    pairs = [[str(desk / name), i] for name in ("other", "model") for i in (0, 1)]
    assert model.metadata["layers"]["sources"] == pairs
    outcome = call(TOOL, f"--model={desk}/model", f"--mergekit={recipe}", f"--out={desk}/new")
    assert f"{recipe} names 2 models, so {desk}/model cannot stand for one" in outcome.sentence


def test_the_tokenizer_of_a_recipe_must_have_all_rows(desk, make_folder):
    make_folder(desk / "padded", vocab_size=448)
    for name, refused in (("model", False), ("padded", True)):
        recipe = write_recipe(desk / f"{name}.yml", desk / name, tokenizer_source="base")
        outcome = call(TOOL, f"--mergekit={recipe}", "--dry_run")
        if refused:
            assert "tokenizer_source, which would cut the 448 rows" in outcome.sentence
        else:
            assert outcome.status == 0, outcome.err


def test_a_recipe_that_mergekit_would_not_follow_is_not_written(desk, make_folder):
    make_folder(desk / "biased", attention_bias=True)
    make_folder(desk / "a+b")
    recipe = f"--write_mergekit={desk}/recipe.yml"
    followed = write_recipe(desk / "followed.yml", desk / "model")
    for arguments, told in (
        ((f"--model={desk}/biased", "--layers=0-1"), "mergekit would leave out the biases of"),
        ((f"--model={desk}/a+b", "--layers=0-1"), f"mergekit cannot read {desk}/a+b"),
        ((f"--model={desk}/model", "--as_llama"), "leave out --as_llama"),
        ((f"--mergekit={followed}",), "leave out --mergekit"),
    ):
        assert told in call(TOOL, *arguments, recipe).sentence
    assert not (desk / "recipe.yml").exists()


def test_what_exists_is_not_replaced_unasked(desk):
    first = call(TOOL, f"--model={desk}/model", f"--out={desk}/out", *DUS)
    assert first.status == 0, first.err
    before = snapshot(desk)
    arguments = (f"--model={desk}/model", f"--out={desk}/out", "--layers=0")
    assert f"{desk}/out exists already" in call(TOOL, *arguments).sentence
    assert snapshot(desk) == before
    assert call(TOOL, *arguments, "--overwrite").status == 0
    assert open_folder(desk / "out").architecture.num_hidden_layers == 1
    assert kept(desk) == {"model", "out"}


def test_the_model_is_never_the_output(desk, make_folder):
    make_folder(desk / "other", num_hidden_layers=2)
    before = snapshot(desk)
    (desk / "link").symlink_to(desk / "model")
    recipe = write_recipe(desk / "recipe.yml", desk / "other", desk / "model")
    for out in ("model", "link"):
        for given in ((f"--model={desk}/model", *DUS), (f"--mergekit={recipe}",)):
            outcome = call(TOOL, *given, f"--out={desk}/{out}", "--overwrite")
            assert f"--out={desk}/{out} is the model itself" in outcome.sentence
    (desk / "link").unlink()
    recipe.unlink()
    assert snapshot(desk) == before


def test_a_failed_write_leaves_nothing(desk):
    before = snapshot(desk)

    def full(*_):
        raise OSError(28, "No space left on device")

    with mock.patch.object(Stream, "append", full):
        outcome = call(TOOL, f"--model={desk}/model", f"--out={desk}/deep/out", *DUS)
    assert "there is no room to write" in outcome.sentence
    with mock.patch.object(Stream, "append", mock.Mock(side_effect=KeyboardInterrupt)):
        outcome = call(TOOL, f"--model={desk}/model", f"--out={desk}/out", *DUS)
    assert outcome.status == 130 and "interrupted" in outcome.err
    assert snapshot(desk) == before


def test_bad_input_is_refused_in_one_sentence(desk):
    before = snapshot(desk)
    model, out = f"--model={desk}/model", f"--out={desk}/out"
    for arguments, told in (
        ((), "--model, --out must be given"),
        ((model, *DUS), "--out must be given"),
        ((model, out), "there is no method"),
        ((model, out, "--method=dus"), "method dus needs drop"),
        ((model, out, "--method=solar"), "--method"),
        ((model, out, "--method=dus", "--drop=4"), "drop is 4, but of 4 layers"),
        ((model, out, "--method=dus", "--drop=-1"), "--drop"),
        ((model, out, "--layers=0-4"), "names layer 4, but the model has 4"),
        ((model, out, "--layers=0-3", *DUS), "method, drop beside it must be left out"),
        ((model, out, "--method=llama_pro", "--add=3"), "add 3 does not divide the 4 layers"),
        ((model, out, "--as_llama"), "is a Llama model already"),
        ((model, out, f"--mergekit={desk}/none.yml"), "there is no recipe"),
        ((model, out, "--max_shard_size=big", *DUS), "'big' is not a size"),
        ((f"--model={desk}/none", out, *DUS), f"there is no folder {desk}/none"),
    ):
        assert told in call(TOOL, *arguments).sentence, arguments
    assert snapshot(desk) == before


def test_it_is_a_program_of_its_own_without_jax(desk):
    assert heavy(TOOL, f"--model={desk}/model", f"--out={desk}/out", *DUS) == "[]"
    assert (desk / "out" / "config.json").is_file()
