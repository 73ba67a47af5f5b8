"""Recipes: what mergekit makes of them and we make of them is the same, to the byte."""

import dataclasses
import json

import numpy as np
import pytest
import yaml

from maxlite.errors import InputError
from maxlite.hf.folder import open_folder
from maxlite.hf.tensors import read_tree
from maxlite.surgery import depth, layers, mergekit

pytestmark = pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")  # in mergekit


@pytest.fixture
def pair(tiny_folder):
    """Two models of four layers in bfloat16, and the beginnings of a recipe of both."""
    one, two = (
        tiny_folder(name, seed=seed, num_hidden_layers=4, dtype="bfloat16", shards=1 + seed)
        for seed, name in enumerate(("one", "two"))
    )
    return one, two


def sliced(model, start, stop, **parameters):
    source = {"model": str(model), "layer_range": [start, stop]}
    return {"sources": [source | ({"parameters": parameters} if parameters else {})]}


def recipe(*slices, **more):
    return {"slices": [*slices], "merge_method": "passthrough", **more}


def written(folder, content):
    file = folder / "recipe.yml"
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    file.write_text(text, encoding="utf-8")
    return file


def theirs(file, out):
    """What mergekit makes of a recipe, by tensor."""
    pytest.importorskip("torch")
    pytest.importorskip("mergekit")
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    config = MergeConfiguration.model_validate(yaml.safe_load(file.read_text("utf-8")))
    options = MergeOptions(quiet=True, copy_tokenizer=False, write_model_card=False)
    run_merge(config, str(out), options)
    return {name: tensor.read() for name, tensor in read_tree(out).items()}


def ours(file):
    model = open_folder(mergekit.read(file).models[0])
    return depth.upscale(model, mergekit=str(file))


def same(file, out):
    """Our model of a recipe, after comparing it with mergekit's."""
    model, made = ours(file), theirs(file, out)
    assert set(model.tensors) == set(made)
    for name, tensor in model.tensors.items():
        assert tensor.dtype == made[name].dtype and tensor.shape == made[name].shape, name
        assert tensor.read().tobytes() == made[name].tobytes(), name
    config = json.loads((out / "config.json").read_text())
    rendered = json.loads(model.rendered())
    assert config["num_hidden_layers"] == rendered["num_hidden_layers"]
    assert config["dtype"].removeprefix("torch.") == rendered["torch_dtype"]
    return model


# --- the same as mergekit ------------------------------------------------------------------------


def test_slices_of_one_model(pair, tmp_path):
    one, _ = pair
    file = written(tmp_path, recipe(sliced(one, 0, 3), sliced(one, 1, 2), sliced(one, 2, 4)))
    model = same(file, tmp_path / "out")
    assert model.metadata["layers"] == {"sources": [0, 1, 2, 1, 2, 3], "inserted": []}
    assert model.notes[0].startswith("6 layers from 4, 1 seam (|), ")


def test_slices_of_two_models(pair, tmp_path):
    one, two = map(str, pair)
    file = written(tmp_path, recipe(sliced(one, 0, 3), sliced(two, 1, 4)))
    model = same(file, tmp_path / "out")
    sources = [[one, 0], [one, 1], [one, 2], [two, 1], [two, 2], [two, 3]]
    assert model.metadata["layers"] == {"sources": sources, "inserted": []}
    assert model.path == pair[0] and "  A:0-2 | B:1-3" in model.notes
    stored = {name: open_folder(folder).tensors for name, folder in zip("ab", pair, strict=True)}
    for name, owner in (
        ("model.embed_tokens.weight", "a"),
        ("model.norm.weight", "b"),
        ("lm_head.weight", "b"),
    ):
        assert model.tensors[name] == stored[owner][name]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_scales(dtype, tiny_folder, tmp_path):
    """At every place, with every form, and the more particular place first."""
    one = tiny_folder("one", num_hidden_layers=4, dtype=dtype, tie_word_embeddings=True)
    everywhere = [{"filter": "mlp", "value": "1e-1"}, {"filter": "gate_proj", "value": 7}]
    first = sliced(one, 0, 3, scale=[{"filter": "q_proj", "value": [0.1, 0.9, 0.3]}])
    first["parameters"] = {
        "scale": [{"filter": "q_proj", "value": 5}, {"filter": "k_proj", "value": 3}]
    }
    second = sliced(one, 1, 4, scale=[0.3, -1.7])
    third = sliced(one, 3, 4, scale={"filter": "*", "value": [1, 1.3]})
    fourth = sliced(one, 0, 2, scale=[{"filter": "o_proj", "value": 0.0}, {"value": 1.0}])
    content = recipe(first, second, third, fourth, parameters={"scale": everywhere})
    model = same(written(tmp_path, content), tmp_path / "out")
    moved = model.tensors["model.layers.0.self_attn.v_proj.weight"]
    assert moved in open_folder(one).tensors.values()  # what no filter names stays in its file


def test_a_scale_for_everything_meets_the_tables_too(pair, tmp_path):
    one, two = pair
    content = recipe(sliced(one, 0, 2, scale=[0.7, 0.2]), sliced(two, 0, 2, scale=1.1))
    same(written(tmp_path, content), tmp_path / "out")


@pytest.mark.parametrize(
    "cast",
    [
        {"dtype": "float16"},
        {"out_dtype": "torch.float32"},
        {"dtype": "float32", "out_dtype": "bfloat16"},
    ],
)
def test_casts(cast, pair, tmp_path):
    one, _ = pair
    content = recipe(sliced(one, 0, 3, scale=0.37), sliced(one, 1, 4), **cast)
    model = same(written(tmp_path, content), tmp_path / "out")
    wanted = cast.get("out_dtype", cast.get("dtype")).removeprefix("torch.")
    assert {str(t.dtype) for t in model.tensors.values()} == {wanted}


LISTS = {
    "dus": {"method": "dus", "drop": 1},
    "interlocked": {"method": "interlocked", "drop": 2, "group": 1},
    "llama_pro": {"method": "llama_pro", "add": 2},
    "dropped": {"layers": "0,2-3"},
}


@pytest.mark.parametrize("settings", LISTS.values(), ids=LISTS)
def test_the_recipe_we_write_makes_the_same(settings, pair, tmp_path):
    one, _ = pair
    file = written(tmp_path, mergekit.written(str(one), *layers.chosen(4, **settings)))
    direct, made = depth.upscale(open_folder(one), **settings), theirs(file, tmp_path / "out")
    assert set(direct.tensors) == set(made)
    for name, tensor in direct.tensors.items():
        assert tensor.dtype == made[name].dtype
        # a number times zero is a zero with the number's sign
        np.testing.assert_array_equal(tensor.read(), made[name], err_msg=name)
    followed = ours(file)
    assert followed.metadata["layers"] == direct.metadata["layers"]
    assert followed.notes == direct.notes


# --- reading -------------------------------------------------------------------------------------


def test_a_written_recipe_is_short(tmp_path):
    text = mergekit.written("org/name", *layers.chosen(32, method="dus", drop=8))
    assert yaml.safe_load(text) == recipe(sliced("org/name", 0, 24), sliced("org/name", 8, 32))
    by_eight = mergekit.written("m", layers.interlocked(32, 8, 8))
    found = mergekit.read(written(tmp_path, by_eight)).slices
    assert [(s.start, s.stop) for s in found] == [(0, 16), (8, 24), (16, 32)]
    found = mergekit.read(written(tmp_path, mergekit.written("m", *layers.llama_pro(32, 8))))
    assert len(found.slices) == 16 and found.inserted == layers.llama_pro(32, 8)[1]
    assert found.models == ["m"]


def test_what_changes_nothing_is_accepted(pair, tmp_path):
    one, _ = pair
    content = recipe(sliced(one, 0, 2), base_model=str(one), dtype=None, parameters={})
    assert ours(written(tmp_path, content)).architecture.num_hidden_layers == 2
    for source in ("base", "union", str(one)):
        file = written(tmp_path, recipe(sliced(one, 0, 2), tokenizer_source=source))
        model = depth.upscale(open_folder(one), mergekit=str(file), rows=lambda _: 400)
        assert model.architecture.num_hidden_layers == 2
        for rows in (None, lambda _: 399):
            with pytest.raises(InputError, match="tokenizer_source, which would cut the 400 rows"):
                depth.upscale(open_folder(one), mergekit=str(file), rows=rows)


def test_a_folder_stands_for_the_only_model(pair, tmp_path):
    one, two = pair
    file = written(tmp_path, recipe(sliced("some/name", 0, 2), sliced("some/name", 1, 3)))
    model = depth.upscale(open_folder(two), mergekit=str(file))
    assert model.path == two and model.metadata["layers"]["sources"] == [0, 1, 1, 2]
    both = written(tmp_path, recipe(sliced(one, 0, 2), sliced(two, 0, 2)))
    with pytest.raises(InputError, match=f"names 2 models, so {two} cannot stand for one of them"):
        depth.upscale(open_folder(two), mergekit=str(both))


def test_models_must_fit_each_other(tiny_folder, tmp_path):
    one = tiny_folder("one")
    other = tiny_folder(
        "two", num_attention_heads=8, vocab_size=410, rope_theta=5e5, num_hidden_layers=3
    )
    file = written(tmp_path, recipe(sliced(one, 0, 2), sliced(other, 1, 3)))
    with pytest.raises(InputError) as refused:
        ours(file)
    told = str(refused.value)
    assert f"{file} puts layers of {other} and {one} together, which do not fit: " in told
    for field in ("vocab_size 410 and 400", "num_attention_heads 8 and 4", "rope_theta 500000.0"):
        assert field in told
    assert "num_hidden_layers" not in told and "intermediate_size" not in told


def test_models_may_differ_where_it_does_not_matter(tiny_folder, tmp_path):
    one = tiny_folder("one", dtype="bfloat16")
    other = tiny_folder("two", num_hidden_layers=3, max_position_embeddings=64, eos_token_id=7)
    model = ours(written(tmp_path, recipe(sliced(one, 0, 2), sliced(other, 2, 3))))
    assert model.architecture.max_position_embeddings == 128
    assert model.notes[-1] == "every tensor keeps its dtype: bfloat16, float32"
    again = tiny_folder("three", num_hidden_layers=2)
    marked = dataclasses.replace(open_folder(again), metadata={"layers": {"inserted": [1]}})
    file = written(tmp_path, recipe(sliced(again, 0, 2), sliced(other, 0, 1)))
    assert depth.upscale(marked, mergekit=str(file)).metadata["layers"]["inserted"] == [1]


def test_values_too_large_for_a_dtype_are_refused(tiny_folder, tmp_path):
    one = tiny_folder("one", scale=1e6)
    model = ours(written(tmp_path, recipe(sliced(one, 0, 2), dtype="float16")))
    with pytest.raises(
        InputError, match=r"embed_tokens\.weight holds values too large for float16"
    ):
        model.tensors["model.embed_tokens.weight"].read()


GOOD = sliced("m", 0, 2)
SOURCE = GOOD["sources"][0]


def with_scale(scale):
    return recipe(GOOD, parameters={"scale": scale})


REFUSED = {
    "has merge_method 'slerp', but only recipes of passthrough can be followed": recipe(
        GOOD, merge_method="slerp"
    ),
    "has merge_method None": {"slices": [GOOD]},
    "recipe.yml has the key 'models', but only slices, merge_method": recipe(GOOD, models=[]),
    "has the key 'modules'": recipe(GOOD, modules={}),
    "has the key 'chat_template'": recipe(GOOD, chat_template="auto"),
    "has the key 'tokenizer'": recipe(GOOD, tokenizer={"source": "union"}),
    "slices[1] has the key 'residual_weight', but only sources, parameters": recipe(
        GOOD, GOOD | {"residual_weight": 0.1}
    ),
    "slices[0].sources[0] has the key 'weight', but only model, layer_range, parameters": recipe(
        {"sources": [SOURCE | {"weight": 1}]}
    ),
    "recipe.yml: parameters has the key 'weight', but only scale": recipe(
        GOOD, parameters={"weight": 1}
    ),
    "slices[0].parameters has the key 't'": recipe(GOOD | {"parameters": {"t": 0.5}}),
    "parameters.scale[1] has the key 'vaule', but only filter, value": with_scale(
        [{"value": 1}, {"vaule": 2}]
    ),
    "slices[0].sources has 2 entries, but passthrough takes exactly one": recipe(
        {"sources": [SOURCE, SOURCE]}
    ),
    "slices[0].sources is None, expected a list": recipe({"parameters": {}}),
    "recipe.yml: slices is [], expected a list": recipe(),
    "slices[0] holds 'x' where a mapping is expected": recipe("x"),
    "sources[0].model is None, expected a folder or a hub id": recipe(
        {"sources": [{"layer_range": [0, 1]}]}
    ),
    "sources[0].model is {'model': 'm'}": recipe({"sources": [SOURCE | {"model": {"model": "m"}}]}),
    "sources[0].layer_range is None, expected [FIRST, END]": recipe({"sources": [{"model": "m"}]}),
    "sources[0].layer_range is [2, 2]": recipe(sliced("m", 2, 2)),
    "sources[0].layer_range is [-1, 2]": recipe(sliced("m", -1, 2)),
    "sources[0].layer_range is [0, 1.0]": recipe(sliced("m", 0, 1.0)),
    "sources[0].layer_range is [False, True]": recipe(sliced("m", False, True)),
    "parameters.scale is 'much', expected a number": with_scale("much"),
    "parameters.scale is True, expected a number": with_scale(True),
    "parameters.scale is inf, expected a number": with_scale(float("inf")),
    "parameters.scale is empty": with_scale([]),
    "parameters.scale[0].value is None, expected a number": with_scale([{"filter": "q_proj"}]),
    "parameters.scale[0].filter is 3, expected part of a tensor's name": with_scale(
        [{"filter": 3, "value": 1}]
    ),
    "parameters.scale[0] holds 1 where a mapping is expected": with_scale([1, {"value": 1}]),
    "has dtype 'int8', expected one of float32, float16, bfloat16": recipe(GOOD, dtype="int8"),
    "has out_dtype 'float64', expected one of": recipe(GOOD, out_dtype="float64"),
    "has base_model 'other', but config and tokenizer are those of the first slice's model, m": (
        recipe(GOOD, base_model="other")
    ),
    "has tokenizer_source 'other', but the tokenizer": recipe(GOOD, tokenizer_source="other"),
    "has tokenizer_source 'base', but the tokenizer": recipe(
        GOOD, sliced("n", 0, 1), tokenizer_source="base"
    ),
    "is not valid YAML: ": "slices: [",
    "recipe.yml holds 'nothing' where a mapping is expected": "nothing",
    "recipe.yml holds None where a mapping is expected": "",
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_cannot_be_followed_is_refused_by_name(sentence, tmp_path):
    with pytest.raises(InputError) as refused:
        mergekit.read(written(tmp_path, REFUSED[sentence]))
    assert sentence in str(refused.value)
    assert str(tmp_path / "recipe.yml") in str(refused.value) and "\n" not in str(refused.value)


def test_a_missing_recipe_is_named(tmp_path):
    for path in (tmp_path / "none.yml", tmp_path):
        with pytest.raises(InputError, match=f"there is no recipe {path} to read"):
            mergekit.read(path)


def test_layers_that_a_model_lacks_are_refused(tiny_folder, tmp_path):
    one = tiny_folder("one")
    file = written(tmp_path, recipe(sliced(one, 0, 2), sliced(one, 1, 3)))
    with pytest.raises(InputError) as refused:
        ours(file)
    assert str(refused.value) == f"{file} has layer_range [1, 3] of {one}, which has 2 layers"


def test_a_recipe_and_a_list_contradict_each_other(tiny_folder, tmp_path):
    one = tiny_folder("one")
    file = written(tmp_path, recipe(sliced(one, 0, 2)))
    with pytest.raises(InputError, match="gives the whole list, so method, drop beside it must"):
        depth.upscale(open_folder(one), mergekit=str(file), method="dus", drop=1)
