"""PEFT adapters, ours and PEFT's own, merged into a folder or trained on."""

import json
import shutil

import numpy as np
import pytest
from commands import call
from safetensors.numpy import load_file, save_file

from maxlite.errors import InputError
from maxlite.hf.folder import open_folder
from maxlite.hf.peft import CONFIG, PREFIX, WEIGHTS, open_adapter, write_adapter
from maxlite.state import init
from maxlite.transforms import AddLora, Lora, MergeLora

Q, DOWN = (f"model.layers.{{}}.{name}.weight" for name in ("self_attn.q_proj", "mlp.down_proj"))


@pytest.fixture
def adapter(tmp_path):
    """adapter(name, tables=(), **lora): a random adapter folder for q_proj and down_proj."""

    def make(name="adapter", tables=(), width=32, **lora):
        settings = Lora(**{"rank": 2, "alpha": 3.0, "targets": "q_proj,down_proj"} | lora)
        rng = np.random.default_rng(len(name))
        shapes = {}
        for layer in range(2):
            for module, rows, columns in (
                ("self_attn.q_proj", 32, width),
                ("mlp.down_proj", 32, 48),
            ):
                shapes |= settings.shapes(f"model.layers.{layer}.{module}", rows, columns)
        shapes |= settings.shapes("model.embed_tokens", 400, 32)
        shapes |= dict.fromkeys(tables, (400, 32))
        values = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
        specs = {name: (np.float32, shape) for name, shape in shapes.items()}
        write_adapter(tmp_path / name, settings, "base", specs, values.__getitem__, {})
        return tmp_path / name

    return make


def merge(model, out, *adapters):
    names = ",".join(map(str, adapters))
    return call("tools.merge_lora", f"--model={model}", f"--adapter={names}", f"--out={out}")


def by_hand(w, folder, name, scale):
    tensors = load_file(folder / WEIGHTS)
    at = PREFIX + name.removesuffix("weight")
    w = w.astype(np.float32) + scale * tensors[f"{at}lora_B.weight"] @ tensors[f"{at}lora_A.weight"]
    if f"{at}lora_magnitude_vector" in tensors:
        w *= (tensors[f"{at}lora_magnitude_vector"] / np.linalg.norm(w, axis=1))[:, None]
    return w


def test_adapters_are_merged_in_order_and_rounded_once(tiny_folder, adapter, tmp_path):
    folder = tiny_folder(dtype="bfloat16", shards=2)
    one = adapter("one", tables=["lm_head.weight"])
    two = adapter("other", dora=True, rslora=True)
    outcome = merge(folder, tmp_path / "out", one, two)
    assert outcome.status == 0, outcome.err
    before, after = open_folder(folder), open_folder(tmp_path / "out")
    assert {str(t.dtype) for t in after.tensors.values()} == {"bfloat16"}
    for name, tensor in after.tensors.items():
        if name in (Q.format(0), Q.format(1), DOWN.format(0), DOWN.format(1)):
            w = by_hand(before.tensors[name].read(), one, name, 3 / 2)
            expected = by_hand(w, two, name, 3 / 2**0.5).astype(tensor.dtype)
            ours = tensor.read().astype(np.float32)
            np.testing.assert_allclose(ours, expected.astype(np.float32), rtol=2**-7)
            assert np.mean(tensor.read() == expected) > 0.99  # but for ties
        elif name == "lm_head.weight":
            expected = load_file(one / WEIGHTS)[PREFIX + name].astype(tensor.dtype)
            assert tensor.read().tobytes() == expected.tobytes()
        else:
            assert tensor.read().tobytes() == before.tensors[name].read().tobytes()
    assert (after.path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    hashes = [entry["sha256"] for entry in after.metadata["adapters"]]
    assert hashes == [open_adapter(folder).sha256 for folder in (one, two)]
    assert after.metadata["history"][-1]["tool"] == "merge_lora"
    again = merge(tmp_path / "out", tmp_path / "again", two)
    assert "is merged into this model already" in again.sentence
    assert "already" in merge(folder, tmp_path / "again", one, one).sentence
    assert not (tmp_path / "again").exists()


PEFTS = [
    {"modules_to_save": ["lm_head"]},
    {"modules_to_save": ["lm_head"], "use_rslora": True},
    {"modules_to_save": ["lm_head"], "use_dora": True},
    {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    {"trainable_token_indices": [7, 3, 399]},
    {"trainable_token_indices": {"embed_tokens": [1, 2], "lm_head": [0, 5, 398]}},
]


@pytest.mark.parametrize("kind", PEFTS, ids=str)
def test_an_adapter_made_by_peft_merges_as_peft_merges(tiny_folder, tmp_path, kind):
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    folder = tiny_folder()
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = peft.LoraConfig(**{"r": 4, "target_modules": ["v_proj", "up_proj"]} | kind)
    model = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, x in model.named_parameters():
            if x.requires_grad and "lora_A" not in name:
                x += 0.1 * torch.randn_like(x)
    model.save_pretrained(tmp_path / "adapter")
    outcome = merge(folder, tmp_path / "out", tmp_path / "adapter")
    assert outcome.status == 0, outcome.err
    theirs = model.merge_and_unload().state_dict()
    for name, x in load_file(tmp_path / "out" / "model.safetensors").items():
        np.testing.assert_allclose(x, theirs[name].numpy(), rtol=1e-5, atol=1e-6)


def test_rows_must_be_those_that_are_named(tiny_folder, adapter, tmp_path):
    rows = f"{PREFIX}lm_head.token_adapter.trainable_tokens_delta"
    given = {"tensors": {rows: np.ones((2, 32), np.float32)}}
    model = open_folder(tiny_folder())
    for ids, sentence in (
        (
            {"lm_head": [3, 400]},
            r"\[2, 32\] for 2 rows of lm_head.weight up to 400, which is",
        ),
        ({"lm_head": [3]}, r"\[2, 32\] for 1 rows"),
        ({"lm_head": [3, 3]}, "expected different ids by table"),
        ({"norm": [3, 4]}, "expected different ids by table"),
        ({"lm_head": [3, 4], "embed_tokens": [1]}, "lacks the rows that .* names as trained"),
        (None, "tensors that maxlite cannot use"),
    ):
        folder = edited(adapter(), tmp_path / "bad", **given, trainable_token_indices=ids)
        with pytest.raises(InputError, match=sentence):
            init.apply(model, [MergeLora(str(folder))])
        shutil.rmtree(folder)
        shutil.rmtree(tmp_path / "adapter")


def test_it_is_trained_on_from_where_it_stands(tiny_folder, adapter):
    folder, given = open_folder(tiny_folder(dtype="bfloat16")), adapter(tables=["lm_head.weight"])
    model = init.apply(folder, [AddLora(adapter=str(given))])
    assert model.architecture.lora == Lora(2, 3.0, "q_proj,down_proj")
    stored = load_file(given / WEIGHTS)
    for name, tensor in model.tensors.items():
        if ".lora_" in name:
            assert tensor.read().tobytes() == stored[PREFIX + name].tobytes()
    head = model.tensors["lm_head.weight"]
    assert np.array_equal(head.read(), stored[PREFIX + "lm_head.weight"].astype(head.dtype))
    assert model.metadata["lora"]["adapter"] == open_adapter(given).sha256
    with pytest.raises(InputError, match="says rank itself"):
        init.apply(folder, [AddLora(adapter=str(given), rank=4)])


def edited(folder, out, tensors=None, **settings):
    """A copy of an adapter with settings changed (None removes one) and tensors replaced."""
    shutil.copytree(folder, out)
    config = json.loads((out / CONFIG).read_text()) | settings
    (out / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    if tensors:
        kept = {k: v for k, v in (load_file(out / WEIGHTS) | tensors).items() if v is not None}
        save_file(kept, out / WEIGHTS)
    return out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"r": 3}, r"does not fit the model: .*lora_A.weight is \[2, 32\] where \[3, 32\]"),
        ({"peft_type": "IA3"}, "only LORA is supported"),
        ({"r": None}, "has no 'r'"),
        ({"r": 0}, "'r': 0"),
        ({"bias": "all"}, "'bias': \"all\", which maxlite cannot compute with"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"use_dora": True}, "lacks model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight"),
        ({"tensors": {PREFIX + "model.norm.weight": np.ones(32, np.float32)}}, "cannot use"),
        (
            {"tensors": {f"{PREFIX}model.layers.7.mlp.up_proj.lora_A.weight": np.ones((2, 32))}},
            "layers.7.mlp.up_proj.lora_A.weight, for which the model has no place",
        ),
        (
            {"tensors": {f"{PREFIX}model.layers.0.mlp.down_proj.lora_B.weight": None}},
            "lacks model.layers.0.mlp.down_proj.lora_B.weight",
        ),
        (
            {"tensors": {f"{PREFIX}model.embed_tokens.weight": np.ones((500, 32))}},
            r"embed_tokens.weight is \[500, 32\] where \[400, 32\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tiny_folder, adapter, tmp_path, changes, sentence):
    folder, given = open_folder(tiny_folder()), edited(adapter(), tmp_path / "bad", **changes)
    for transform in (MergeLora(str(given)), AddLora(adapter=str(given))):
        with pytest.raises(InputError, match=sentence):
            init.apply(folder, [transform])


def test_what_is_no_adapter_is_refused(tiny_folder, adapter, tmp_path):
    folder = tiny_folder()
    assert "has no adapter_config.json" in merge(folder, tmp_path / "out", folder).sentence
    assert (
        "q_proj.lora_A.weight is [2, 40]"
        in merge(folder, tmp_path / "out", adapter("wide", width=40)).sentence
    )
    tied = tiny_folder("tied", tie_word_embeddings=True)
    tables = adapter("tables", tables=["model.embed_tokens.weight"])
    assert "input table of a tied model" in merge(tied, tmp_path / "out", tables).sentence
    with pytest.raises(InputError, match="changes the input table of a tied model"):
        lora = adapter("beside", targets="q_proj,embed_tokens")
        init.apply(open_folder(tied), [MergeLora(str(lora))])
    (tables / WEIGHTS).unlink()
    assert "has no adapter_model.safetensors" in merge(folder, tmp_path / "out", tables).sentence
    assert "--adapter must be given" in call("tools.merge_lora", f"--model={folder}").sentence
    assert not (tmp_path / "out").exists()
