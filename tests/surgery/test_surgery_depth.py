"""Depth surgery: which tensor goes where, what is recorded, and what the result computes."""

import dataclasses
import json

import numpy as np
import pytest

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import names, writer
from maxlite.hf.folder import open_folder
from maxlite.parameters import shapes
from maxlite.state import init
from maxlite.surgery import depth, layers
from maxlite.transforms import UpscaleDepth

MISTRAL_7B = Architecture(
    model_type="mistral",
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=32768,
    sliding_window=4096,
)
LLAMA_2_7B = Architecture(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
)
MISTRAL = {
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "attention_bias": None,
    "mlp_bias": None,
    "sliding_window": 8,
    "max_position_embeddings": 32,
}


def logits(folder, length=12):
    """Of random tokens [2, length], by maxlite's own model in float32."""
    import jax

    from maxlite.model.llama import bind

    model = open_folder(folder)
    arch = model.architecture
    parts: dict = {name: [] for name in shapes(arch)}
    for name, tensor in model.tensors.items():
        parts[names.split(name)[0]].append(tensor.read())
    params = {k: np.stack(v) if k.startswith(names.LAYERS) else v[0] for k, v in parts.items()}
    tokens = np.random.default_rng(1).integers(0, arch.vocab_size, (2, length), dtype=np.int32)

    @jax.jit
    def run(params):
        bound = bind(arch, params, {})
        return bound.logits(bound(tokens))

    return np.asarray(run(params))


# --- the numbers of the papers -------------------------------------------------------------------


def test_parameters_are_those_of_the_papers():
    """From the config alone: no weights are needed to know them."""
    assert depth.parameters(MISTRAL_7B) == 7_241_732_096
    deeper = len(layers.dus(32, 8))
    solar = dataclasses.replace(
        MISTRAL_7B, model_type="llama", sliding_window=0, num_hidden_layers=deeper
    )
    assert depth.parameters(solar) == 10_731_524_096
    assert depth.parameters(dataclasses.replace(solar, vocab_size=40960)) == 10_804_924_416
    deeper = len(layers.llama_pro(32, 8)[0])
    expanded = dataclasses.replace(LLAMA_2_7B, num_hidden_layers=deeper)
    assert depth.parameters(expanded) == 8_357_482_496


# --- what goes where -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, sources",
    [
        ({"method": "dus", "drop": 1}, [0, 1, 2, 1, 2, 3]),
        ({"method": "interlocked", "drop": 2, "group": 1}, [0, 2, 1, 3]),
        ({"layers": "0,0,1,1"}, [0, 0, 1, 1]),
        ({"layers": "3,0"}, [3, 0]),
    ],
)
@pytest.mark.parametrize(
    "folder",
    [
        {"dtype": "bfloat16", "shards": 2},
        {"dtype": "float16", "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ],
)
def test_tensors_are_moved_not_touched(settings, sources, folder, tiny_folder):
    before = open_folder(tiny_folder(num_hidden_layers=4, **folder))
    after = depth.upscale(before, **settings)
    assert after.architecture.num_hidden_layers == len(sources)
    assert list(after.tensors) == list(names.expected(after.architecture))
    for name, tensor in after.tensors.items():
        part, layer = names.split(name)
        old = name if layer is None else names.unstacked(part, sources[layer])
        assert tensor is before.tensors[old]
    assert after.metadata == {"layers": {"sources": sources, "inserted": []}}
    assert after.parameters == depth.parameters(after.architecture)


def test_a_written_model_is_read_back_the_same(tiny_folder, tmp_path):
    before = open_folder(tiny_folder(num_hidden_layers=4, dtype="bfloat16"))
    after = depth.upscale(before, method="dus", drop=1)
    read = open_folder(writer.write_model(tmp_path / "out", after, max_shard_size="40KB"))
    assert read.architecture == after.architecture and read.metadata["layers"]["sources"]
    for name, tensor in after.tensors.items():
        assert read.tensors[name].read().tobytes() == tensor.read().tobytes()
    assert set(read.files) == {*before.files, "maxlite.json"}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == before.config | {"num_hidden_layers": 6}


def test_layer_types_follow_the_layers(tiny_folder):
    kinds = ["full_attention"] * 4
    before = open_folder(tiny_folder(num_hidden_layers=4, layer_types=kinds))
    after = depth.upscale(before, layers="0-3,0")
    assert json.loads(after.rendered())["layer_types"] == ["full_attention"] * 5
    kinds = ["sliding_attention"] * 2
    mistral = open_folder(tiny_folder("mistral", layer_types=kinds, **MISTRAL))
    after = depth.upscale(mistral, layers="0-1,1", as_llama=True)
    assert json.loads(after.rendered())["layer_types"] == ["full_attention"] * 3


def test_what_is_said_names_layers_and_parameters(tiny_folder):
    before = open_folder(tiny_folder(num_hidden_layers=4))
    line, bars, runs = depth.upscale(before, method="dus", drop=1).notes
    count = depth.parameters(dataclasses.replace(before.architecture, num_hidden_layers=6))
    assert line == f"6 layers from 4, 1 seam (|), {count:,} parameters"
    assert bars == "  ▁▃▅|▃▅▇" and runs == "  0-2 | 1-3"
    assert "no seams" in depth.upscale(before, layers="0-1").notes[0]


def test_dtypes_to_write_in_follow_the_layers(tiny_folder):
    before = open_folder(tiny_folder(num_hidden_layers=2))
    kinds = {name: "bfloat16" for name in before.tensors if ".0." in name}
    kinds |= {name: "float16" for name in before.tensors if ".0." not in name}
    after = depth.upscale(dataclasses.replace(before, kinds=kinds), layers="1,0,1")
    assert {after.dtypes[name] for name in after.tensors if ".1." in name} == {"bfloat16"}
    assert {after.dtypes[name] for name in after.tensors if ".1." not in name} == {"float16"}


def test_an_init_does_the_same_and_leaves_a_history(tiny_folder):
    before = open_folder(tiny_folder(num_hidden_layers=4))
    twice = [UpscaleDepth(method="dus", drop=1), UpscaleDepth(layers="0-1")]
    after = init.apply(before, twice)
    assert after.metadata["layers"] == {"sources": [0, 1], "inserted": []}
    told = [(entry["tool"], entry["arguments"]) for entry in after.metadata["history"]]
    assert told == [
        ("upscale_depth", {"method": "dus", "drop": 1}),
        ("upscale_depth", {"layers": "0-1"}),
    ]


# --- LLaMA-Pro -----------------------------------------------------------------------------------


@pytest.mark.parametrize("biased", [False, True])
def test_inserted_layers_are_copies_that_add_nothing(biased, tiny_folder):
    folder = tiny_folder(num_hidden_layers=4, attention_bias=biased, mlp_bias=biased)
    before = open_folder(folder)
    after = depth.upscale(before, method="llama_pro", add=2)
    sources, inserted = [0, 1, 1, 2, 3, 3], [2, 5]
    assert after.metadata["layers"] == {"sources": sources, "inserted": inserted}
    zeroed = set()
    for name, tensor in after.tensors.items():
        part, layer = names.split(name)
        old = before.tensors[name if layer is None else names.unstacked(part, sources[layer])]
        assert (tensor.shape, tensor.dtype) == (old.shape, old.dtype)
        if tensor is not old:
            assert layer in inserted and not tensor.read().view(np.uint8).any()
            zeroed.add(part.removeprefix(names.LAYERS))
    ends = ("weight", "bias") if biased else ("weight",)
    assert zeroed == {f"{p}.{end}" for p in ("self_attn.o_proj", "mlp.down_proj") for end in ends}


def test_an_expanded_model_computes_the_same_bits(tiny_folder, tmp_path):
    folder = tiny_folder(num_hidden_layers=4, scale=0.4, dtype="bfloat16")
    after = depth.upscale(open_folder(folder), method="llama_pro", add=2)
    before, expanded = logits(folder), logits(writer.write_model(tmp_path / "out", after))
    assert before.std() > 0.5
    np.testing.assert_array_equal(expanded, before)


def test_inserted_layers_stay_marked(tiny_folder):
    expanded = depth.upscale(open_folder(tiny_folder()), method="llama_pro", add=1)
    assert expanded.metadata["layers"] == {"sources": [0, 1, 1], "inserted": [2]}
    again = depth.upscale(expanded, layers="2,0,2,1")
    assert again.metadata["layers"] == {"sources": [2, 0, 2, 1], "inserted": [0, 2]}
    more = depth.upscale(expanded, method="llama_pro", add=3)
    assert more.metadata["layers"] == {"sources": [0, 0, 1, 1, 2, 2], "inserted": [1, 3, 4, 5]}
    assert depth.upscale(expanded, layers="0-1").metadata["layers"]["inserted"] == []


def test_a_damaged_record_is_refused(tiny_folder):
    before = dataclasses.replace(
        open_folder(tiny_folder()), metadata={"layers": {"inserted": "all"}}
    )
    with pytest.raises(InputError, match=r"has layers\.inserted 'all', expected a list"):
        depth.upscale(before, layers="0-1")


# --- Llama from Mistral --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelled",
    [
        {},
        {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
        {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 2},
    ],
    ids=["as_4_does", "as_5_does", "unsaid"],
)
def test_transformers_finds_a_llama_with_the_same_logits(spelled, tiny_folder, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tiny_folder("mistral", scale=0.5, **MISTRAL | spelled)
    if "head_dim" in spelled:  # a Mistral's default is 8, a Llama's is the attention heads
        config = json.loads((folder / "config.json").read_text())
        del config["num_key_value_heads"]
        (folder / "config.json").write_text(json.dumps(config))
    after = depth.upscale(open_folder(folder), as_llama=True)
    out = writer.write_model(tmp_path / "llama", after)

    models = [
        transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        for path in (folder, out)
    ]
    assert [type(m).__name__ for m in models] == ["MistralForCausalLM", "LlamaForCausalLM"]
    assert models[1].config.max_position_embeddings == 8
    tokens = torch.randint(400, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mistral, llama = (m(tokens).logits for m in models)
    assert torch.equal(mistral[:, :8], llama[:, :8])
    assert not torch.allclose(mistral[:, 8:], llama[:, 8:], atol=1e-3)  # the window did matter


@pytest.mark.parametrize(
    "window, length, after, note",
    [
        (
            8,
            32,
            8,
            "mistral becomes llama: its sliding window of 8 tokens is dropped and"
            " max_position_embeddings set to 8, from 32: up to there the model is the same, beyond"
            " it would not be",
        ),
        (
            32,
            32,
            32,
            "mistral becomes llama: its sliding window of 32 tokens is dropped; it is not shorter"
            " than max_position_embeddings, 32, so the model is the same",
        ),
        (
            "null",
            32,
            32,
            "mistral becomes llama: it has no sliding window, so the model is the same",
        ),
    ],
)
def test_the_window_is_dropped_and_that_is_said(window, length, after, note, tiny_folder):
    folder = tiny_folder(**MISTRAL | {"max_position_embeddings": length, "sliding_window": 0})
    text = (folder / "config.json").read_text()
    written = text.replace('"sliding_window": 0', f'"sliding_window": {window}')
    assert written != text
    (folder / "config.json").write_text(written)
    model = depth.upscale(open_folder(folder), as_llama=True)
    assert model.notes == (note,) and "layers" not in model.metadata
    config = json.loads(model.rendered())
    assert config["model_type"] == "llama" and config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == after and "sliding_window" not in config


def test_solar_is_a_mistral_made_deeper_and_a_llama(tiny_folder):
    before = open_folder(tiny_folder(num_hidden_layers=4, **MISTRAL))
    after = depth.upscale(before, method="dus", drop=1, as_llama=True)
    assert after.architecture.model_type == "llama" and after.architecture.num_hidden_layers == 6
    assert after.metadata["layers"]["sources"] == [0, 1, 2, 1, 2, 3]
    assert "6 layers from 4" in after.notes[0] and "becomes llama" in after.notes[-1]


def test_a_llama_is_not_made_one(tiny_folder):
    with pytest.raises(InputError, match="is a Llama model already: leave out as_llama"):
        depth.upscale(open_folder(tiny_folder()), as_llama=True)


def test_something_must_be_asked_for(tiny_folder):
    with pytest.raises(InputError, match="there is no method: give method"):
        depth.upscale(open_folder(tiny_folder()))
