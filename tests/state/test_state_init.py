"""What a config's `init` does to a model, and what of it each device reads."""

import copy
import dataclasses
import json
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from extended import extend

from maxlite.errors import InputError
from maxlite.hf import lazy, writer
from maxlite.hf.folder import open_folder
from maxlite.hf.lazy import FileTensor
from maxlite.state import export, init
from maxlite.state import mesh as mesh_lib
from maxlite.state.host import open_lazy
from maxlite.state.place import place
from maxlite.state.ready import ready_model
from maxlite.state.source import open_model
from maxlite.transforms import CompactVocab, ExtendVocab, Transform, Untie, UpscaleDepth

TABLE, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def new(tmp_path_factory, tiny_tokenizer):
    """The tokenizer with 257 pieces more."""
    return extend(tiny_tokenizer, tmp_path_factory.mktemp("extended") / "new", 257)


@pytest.fixture
def folder(tiny_folder):
    """A tied model of four layers in bfloat16."""
    return tiny_folder(
        tie_word_embeddings=True, num_hidden_layers=4, dtype="bfloat16", shards=2, vocab_size=400
    )


@pytest.fixture
def recipe(folder, tmp_path):
    """Layers 0-3 and 2-3, the output projections of the second part halved."""
    scale = {"scale": [{"filter": "o_proj", "value": 0.5}, {"value": 1.0}]}
    source = {"model": str(folder), "layer_range": [0, 4]}
    again = {"model": str(folder), "layer_range": [2, 4], "parameters": scale}
    slices = [{"sources": [source]}, {"sources": [again]}]
    file = tmp_path / "recipe.yml"
    file.write_text(yaml.safe_dump({"merge_method": "passthrough", "slices": slices}))
    return file


@pytest.fixture
def ids(tmp_path):
    (tmp_path / "ids").write_text("".join(f"{i}\n" for i in range(400)))
    return tmp_path / "ids"


# --- one after the other -------------------------------------------------------------------------


def test_they_are_applied_in_order_and_each_is_told(folder, new):
    transforms = [
        Untie(),
        ExtendVocab(tokenizer=str(new), output_init="first", match_norms=True),
        UpscaleDepth(method="dus", drop=1),
        UpscaleDepth(method="llama_pro", add=3),
    ]
    before = open_folder(folder)
    after = init.apply(before, transforms)
    arch = after.architecture
    assert (arch.num_hidden_layers, arch.vocab_size, arch.base_rows) == (9, 657, 400)
    assert arch.tie_word_embeddings is False and list(after.tensors)[-1] == HEAD
    assert [(entry["tool"], entry["arguments"]) for entry in after.metadata["history"]] == [
        ("untie", {}),
        ("extend_vocab", {"tokenizer": str(new), "output_init": "first", "match_norms": True}),
        ("upscale_depth", {"method": "dus", "drop": 1}),
        ("upscale_depth", {"method": "llama_pro", "add": 3}),
    ]
    said = "\n".join(after.notes)
    places = [said.index(words) for words in ("untied", "400 vocabulary", "6 layers", "9 layers")]
    assert places == sorted(places)
    config = json.loads(after.rendered())
    assert (config["num_hidden_layers"], config["vocab_size"]) == (9, 657)


def test_another_order_has_another_meaning(folder, new):
    model = open_folder(folder)
    tied = init.apply(model, [ExtendVocab(tokenizer=str(new), input_init="normal"), Untie()])
    assert tied.tensors[HEAD].read().tobytes() == tied.tensors[TABLE].read().tobytes()
    untied = init.apply(model, [Untie(), ExtendVocab(tokenizer=str(new), input_init="normal")])
    assert untied.tensors[HEAD].read().tobytes() != untied.tensors[TABLE].read().tobytes()
    assert untied.tensors[TABLE].read().tobytes() == tied.tensors[TABLE].read().tobytes()
    with pytest.raises(InputError, match="is tied"):
        init.apply(model, [ExtendVocab(tokenizer=str(new), output_init="mean"), Untie()])


def test_nothing_is_read_and_the_model_given_stays_as_it_was(folder, new, recipe, ids):
    model = open_folder(folder)
    before = copy.deepcopy({f.name: getattr(model, f.name) for f in dataclasses.fields(model)})
    several = (
        [CompactVocab(kept_ids=str(ids)), UpscaleDepth(mergekit=str(recipe))],
        [UpscaleDepth(layers="3,1"), ExtendVocab(tokenizer=str(new), untie=True), CompactVocab()],
    )
    with mock.patch.object(FileTensor, "read", side_effect=AssertionError("was read")):
        init.apply(model, several[0])
        with pytest.raises(InputError, match="CompactVocab has no kept_ids"):
            init.apply(model, several[1])
    assert {f.name: getattr(model, f.name) for f in dataclasses.fields(model)} == before


def test_no_transform_is_no_change(folder):
    model = open_folder(folder)
    assert init.apply(model, ()) is model
    assert open_model(str(folder)).metadata == {}


def test_what_has_no_meaning_is_an_error_of_ours():
    class Unknown(Transform):
        pass

    with pytest.raises(TypeError, match="Unknown has no meaning"):
        init.changed(Unknown(), None)


@pytest.mark.parametrize(
    ("transform", "name", "arguments"),
    [
        (Untie(), "untie", {}),
        (ExtendVocab(tokenizer="x", seed=3), "extend_vocab", {"tokenizer": "x", "seed": 3}),
        (CompactVocab(kept_ids="k"), "compact_vocab", {"kept_ids": "k"}),
        (UpscaleDepth(as_llama=True), "upscale_depth", {"as_llama": True}),
    ],
)
def test_history_names_the_tool_and_what_was_set(transform, name, arguments):
    assert init.tool(transform) == name and init.arguments(transform) == arguments


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (Untie(), "is not tied"),
        (ExtendVocab(), "ExtendVocab has no tokenizer"),
        (ExtendVocab(tokenizer="NEW", input_init="zeros"), "input_init 'zeros' is not a rule"),
        (ExtendVocab(tokenizer="NEW", untie=True), "is not tied"),
        (ExtendVocab(tokenizer="NEW", seed=-1), "seed -1 is negative"),
        (ExtendVocab(tokenizer="/none"), "/none"),
        (CompactVocab(), "CompactVocab has no kept_ids"),
        (UpscaleDepth(), "there is no method"),
        (UpscaleDepth(method="dus", drop=2), "drop is 2, but of 2 layers"),
        (UpscaleDepth(layers="0-2"), "names layer 2"),
        (UpscaleDepth(mergekit="/none.yml"), "/none.yml"),
    ],
)
def test_a_wrong_setting_is_one_sentence(transform, said, tiny_folder, new):
    if isinstance(transform, ExtendVocab):
        transform = dataclasses.replace(
            transform, tokenizer=transform.tokenizer.replace("NEW", str(new))
        )
    with pytest.raises(InputError, match=said) as caught:
        open_model(str(tiny_folder()), init=[transform])
    assert "\n" not in str(caught.value)


# --- onto devices --------------------------------------------------------------------------------


def kinds(new, recipe, ids):
    """By name: what holds each kind of lazy array in each place it can come to."""
    return {
        "extended": [Untie(), ExtendVocab(tokenizer=str(new), output_init="first")],
        "random": [ExtendVocab(tokenizer=str(new), input_init="gaussian", untie=True)],
        "matched": [ExtendVocab(tokenizer=str(new), input_init="normal", match_norms=True)],
        "twice": [ExtendVocab(tokenizer=str(new)), Untie(), UpscaleDepth(layers="0-3,0-3")],
        "llama_pro": [UpscaleDepth(method="llama_pro", add=4)],
        "scaled": [UpscaleDepth(mergekit=str(recipe)), CompactVocab(kept_ids=str(ids))],
    }


@pytest.mark.parametrize("mesh", ["fsdp=4,tensor=2", "data=2,fsdp=4"])
@pytest.mark.parametrize("kind", kinds("", "", ""))
def test_devices_hold_what_a_folder_would(kind, mesh, folder, new, recipe, ids, stacked, tmp_path):
    transforms = kinds(new, recipe, ids)[kind]
    writer.write_model(tmp_path / "written", init.apply(open_folder(folder), transforms))
    expected = stacked(tmp_path / "written")
    mesh = mesh_lib.make_mesh(mesh)
    source = open_model(str(folder), init=transforms)
    params = source.load(mesh_lib.shardings(mesh, source.shapes), source.stored_dtypes())
    assert params.keys() == expected.keys()
    for name, x in params.items():
        assert x.dtype == jnp.bfloat16 and x.sharding.spec == mesh_lib.spec(name)
        np.testing.assert_array_equal(np.asarray(x), expected[name], err_msg=name)


class Watched:
    """A lazy array that remembers how many values were read of it at a time."""

    def __init__(self, inner):
        self._inner, self.shape, self.dtype, self.log = inner, inner.shape, inner.dtype, []

    def read(self, index=...):
        values = self._inner.read(index)
        self.log.append(values.size)
        return values


@pytest.mark.parametrize("mesh", ["fsdp=4,tensor=2", "data=8"])
def test_each_device_reads_its_share_of_what_is_rebuilt(mesh, folder, new):
    mesh = mesh_lib.make_mesh(mesh)
    transforms = [ExtendVocab(tokenizer=str(new)), UpscaleDepth(method="llama_pro", add=2)]
    source = open_model(str(folder), init=transforms)
    watched = {name: Watched(x) for name, x in source.tensors.items()}
    shardings = mesh_lib.shardings(mesh, source.shapes)
    place(watched, source.shapes, shardings, source.stored_dtypes(), "here")
    for name, x in watched.items():
        size = int(np.prod(x.shape))
        cut = mesh.shape["fsdp"] * mesh.shape["tensor"] if "norm" not in name else 1
        assert set(x.log) == {size // cut} and sum(x.log) == size, name


def test_a_large_table_is_computed_a_block_at_a_time(grid):
    """Not all its new rows in float32 beside the device's own buffer."""
    shape = (3 * lazy.BLOCK // 64, 64)  # twelve blocks, three of a device's part
    asked = []

    def compute(start, stop):
        asked.append((start, stop))
        return np.arange(start, stop, dtype=np.float32)[:, None] % 256 + np.zeros(64, np.float32)

    table = lazy.Concatenated(
        (
            lazy.zeros((1000, 64), jnp.dtype("bfloat16")),
            lazy.Computed((shape[0] - 1000, 64), jnp.dtype("bfloat16"), compute),
        )
    )
    shardings = mesh_lib.shardings(grid, {TABLE: shape})
    placed = place({TABLE: table}, {TABLE: shape}, shardings, {TABLE: jnp.bfloat16}, "here")
    rows = np.asarray(placed[TABLE][:, 5])
    assert not rows[:1000].any()
    np.testing.assert_array_equal(rows[1000:], np.arange(shape[0] - 1000) % 256)
    assert max(stop - start for start, stop in asked) <= lazy.BLOCK // 4 // 64


# --- a run ---------------------------------------------------------------------------------------


def test_a_run_is_changed_as_its_float32_export_would_be(trained, new, tmp_path):
    run, _ = trained("bfloat16", num_hidden_layers=4)
    ready = ready_model(str(run.path))
    with ready.on_mesh():
        export.write(tmp_path / "exported", ready.source, ready.params, dtype="float32")
    transforms = [
        ExtendVocab(tokenizer=str(new), input_init="mean", output_init="gaussian"),
        UpscaleDepth(method="interlocked", drop=2, group=1),
    ]
    one = init.apply(open_lazy(str(run.path)), transforms)
    other = init.apply(open_folder(tmp_path / "exported"), transforms)
    assert {"format": 1, **one.metadata} == other.metadata
    assert one.architecture == other.architecture
    assert list(one.tensors) == list(other.tensors)
    for name, x in one.tensors.items():
        assert x.dtype == np.float32
        assert x.read().tobytes() == other.tensors[name].read().tobytes(), name
    assert set(one.dtypes.values()) == {"bfloat16"} and set(other.dtypes.values()) == {"float32"}
    assert [entry["tool"] for entry in one.metadata["history"]] == [
        *("train", "extend_vocab", "upscale_depth")
    ]


def test_new_rows_of_a_run_are_rounded_once(trained, new, tmp_path):
    """From float32 old rows, not from rows that were rounded before."""
    run, values = trained("bfloat16", tie_word_embeddings=True)
    after = init.apply(open_lazy(str(run.path)), [ExtendVocab(tokenizer=str(new), untie=True)])
    assert after.dtypes[HEAD] == after.dtypes[TABLE] == "bfloat16"
    writer.write_model(tmp_path / "out", after)
    written = open_folder(tmp_path / "out")
    for name in (TABLE, HEAD):
        found = written.tensors[name].read()
        assert found[:400].tobytes() == values[TABLE].astype(found.dtype).tobytes()
        assert found.tobytes() == after.tensors[name].read().astype(found.dtype).tobytes()
