import dataclasses
import json

import pytest
from hf_examples import tiny

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import config_json
from maxlite.hf.config_json import architecture, config_for, edited, render

LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
# the field sets of well-known folders, at their published values
LLAMA_2_7B = {
    "_name_or_path": "meta-llama/Llama-2-7b-hf",
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0.dev0",
    "use_cache": True,
    "vocab_size": 32000,
}
SOLAR = LLAMA_2_7B | {
    "intermediate_size": 14336,
    "num_hidden_layers": 48,
    "num_key_value_heads": 8,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "pad_token_id": 2,
    "torch_dtype": "bfloat16",
}
LLAMA_1 = {
    key: LLAMA_2_7B[key]
    for key in LLAMA_2_7B
    if key
    not in ("max_position_embeddings", "num_key_value_heads", "pretraining_tp", "rope_scaling")
} | {"max_sequence_length": 2048, "pad_token_id": -1}
TINY_LLAMA = LLAMA_2_7B | {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "max_position_embeddings": 2048,
    "num_hidden_layers": 22,
    "num_key_value_heads": 4,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.34.0.dev0",
    "use_cache": True,
    "vocab_size": 32000,
}
LLAMA_32_1B = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": LLAMA3,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "use_cache": True,
    "vocab_size": 128256,
}
SMOL = TINY_LLAMA | {
    "is_llama_config": True,
    "rope_interleaved": False,
    "transformers.js_config": {"dtype": "q4"},
}
FIVE = {key: LLAMA_32_1B[key] for key in LLAMA_32_1B if key[:4] != "rope"} | {
    "rope_parameters": LLAMA3 | {"rope_theta": 500000.0},
    "dtype": "bfloat16",
}
KNOWN = [LLAMA_2_7B, SOLAR, LLAMA_1, TINY_LLAMA, MISTRAL, LLAMA_32_1B, SMOL, FIVE]
SMALL = config_for(tiny(), "float32")


@pytest.mark.parametrize("config", KNOWN)
def test_known_configs_are_read_and_come_back_unchanged(config):
    text = json.dumps(config).encode()
    arch = architecture(config)
    assert arch.vocab_size == config["vocab_size"]
    assert edited(config, arch) == config
    assert list(edited(config, arch)) == list(config)
    assert render(text, arch) == text


def test_fields_arrive_where_they_belong():
    arch = architecture(LLAMA_32_1B)
    assert arch == architecture(FIVE)
    assert (arch.rope_type, arch.rope_factor, arch.rope_theta) == ("llama3", 32.0, 500000.0)
    assert (arch.rope_low_freq_factor, arch.rope_high_freq_factor) == (1.0, 4.0)
    assert arch.original_max_position_embeddings == 8192
    assert (arch.head_dim, arch.num_key_value_heads, arch.eos_token_id) == (64, 8, 128001)
    assert arch.tie_word_embeddings and not arch.mlp_bias
    arch = architecture(MISTRAL)
    assert (arch.model_type, arch.sliding_window, arch.head_dim) == ("mistral", 4096, 128)
    arch = architecture(LLAMA_1)
    assert (arch.max_position_embeddings, arch.num_key_value_heads) == (2048, 32)


def test_absent_and_null_fields_have_the_defaults_of_transformers():
    short = {key: MISTRAL[key] for key in ("model_type", *config_json.SIZES)}
    arch = architecture(short)
    assert (arch.sliding_window, arch.num_key_value_heads) == (4096, 8)
    assert (arch.max_position_embeddings, arch.rms_norm_eps) == (131072, 1e-6)
    assert (arch.bos_token_id, arch.eos_token_id) == (1, 2)
    null = dict.fromkeys(
        ("sliding_window", "head_dim", "num_key_value_heads", "bos_token_id", "eos_token_id")
    )
    arch = architecture(short | null)
    assert (arch.sliding_window, arch.num_key_value_heads, arch.head_dim) == (0, 32, 128)
    assert (arch.bos_token_id, arch.eos_token_id) == (-1, -1)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 4}},
        {"rope_theta": None, "rope_parameters": {"rope_type": "linear", "factor": 4.0}},
    ],
)
def test_linear_scaling_in_each_spelling(rope):
    config = {k: v for k, v in (SMALL | rope).items() if not (k == "rope_theta" and v is None)}
    arch = architecture(config)
    assert (arch.rope_type, arch.rope_factor, arch.rope_theta) == ("linear", 4.0, 10000.0)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"model_type": "phi"}, "model_type 'phi'"),
        ({"foo": 3}, "'foo': 3, which maxlite does not know"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_dropout": 0.1}, "attention_dropout"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, 'yarn", but maxlite knows'),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, '"dynamic"'),
        ({"rope_scaling": {"type": "linear"}}, "no 'factor'"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "'factor': \"2\""),
        ({"rope_scaling": {"type": "linear", "rope_type": "llama3"}}, "'type'"),
        ({"rope_scaling": {"rope_type": "default", "factor": 2.0}}, "'factor'"),
        ({"rope_scaling": [1]}, "must be an object"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, "must be below"),
        ({"rope_parameters": {"rope_theta": 5.0, "rope_type": "default"}}, "two values"),
        (
            {
                "rope_parameters": {"rope_type": "default"},
                "rope_scaling": {"type": "linear", "factor": 2.0},
            },
            "different things",
        ),
        ({"rope_theta": 0}, "rope_theta"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"vocab_size": -5}, "vocab_size"),
        ({"vocab_size": 24.0}, "vocab_size"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"hidden_size": "8"}, "hidden_size"),
        ({"num_key_value_heads": 3}, "does not divide"),
        ({"head_dim": None, "num_attention_heads": 3}, "does not divide"),
        ({"head_dim": 3}, "even"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"bos_token_id": [1]}, "bos_token_id"),
        ({"eos_token_id": "2"}, "eos_token_id"),
        ({"sliding_window": 16}, "Llama models do not have"),
        ({"layer_types": ["sliding_attention"] * 3}, "layer_types"),
        ({"layer_types": ["full_attention"] * 2}, "layer_types"),
        ({"model_type": "mistral", "attention_bias": True}, "no biases"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window"),
        ({"model_type": "mistral", "use_sliding_window": False}, "use_sliding_window"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(change, told):
    with pytest.raises(InputError) as error:
        architecture(SMALL | change, "folder/config.json")
    assert told in str(error.value) and "folder/config.json" in str(error.value)


@pytest.mark.parametrize("key", config_json.SIZES)
def test_a_size_that_is_absent_is_named(key):
    with pytest.raises(InputError, match=f"no '{key}'"):
        architecture({k: v for k, v in SMALL.items() if k != key})


def test_a_window_that_is_never_reached_is_none_for_llama():
    assert architecture(SMALL | {"sliding_window": 64}).sliding_window == 0


ARCHITECTURES = [
    tiny(),
    tiny(head_dim=6, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    tiny(rope_type="linear", rope_factor=2.0, bos_token_id=-1, eos_token_id=-1),
    tiny(
        rope_type="llama3",
        rope_factor=8.0,
        rope_theta=5e5,
        original_max_position_embeddings=32,
    ),
    tiny(model_type="mistral", sliding_window=16, rms_norm_eps=1e-6),
    tiny(model_type="mistral"),
]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_fresh_config_says_all_of_an_architecture(arch):
    config = json.loads(json.dumps(config_for(arch, "bfloat16")))
    assert architecture(config) == arch
    assert config["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize("new", ARCHITECTURES)
@pytest.mark.parametrize("old", [SMALL, FIVE, LLAMA_1, MISTRAL])
def test_any_architecture_can_be_edited_into_any_config(old, new):
    assert architecture(edited(old, new)) == new


def test_only_what_changed_is_edited():
    arch = dataclasses.replace(architecture(FIVE), vocab_size=128512, base_rows=128256)
    assert edited(FIVE, arch) == FIVE | {"vocab_size": 128512}
    arch = dataclasses.replace(architecture(FIVE), rope_theta=1e6, tie_word_embeddings=False)
    rope = LLAMA3 | {"rope_theta": 1e6}
    assert edited(FIVE, arch) == FIVE | {"rope_parameters": rope, "tie_word_embeddings": False}
    arch = dataclasses.replace(architecture(LLAMA_1), rope_theta=1e6)
    assert edited(LLAMA_1, arch) == LLAMA_1 | {"rope_theta": 1e6}
    typed = LLAMA_1 | {"layer_types": ["full_attention"] * 32}
    arch = dataclasses.replace(architecture(typed), num_hidden_layers=34)
    deeper = {"num_hidden_layers": 34, "layer_types": ["full_attention"] * 34}
    assert edited(typed, arch) == typed | deeper


def test_the_dtype_is_edited_in_its_spelling():
    arch = architecture(FIVE)
    assert edited(FIVE, arch, "float32") == {
        **{k: v for k, v in FIVE.items() if k not in ("dtype", "torch_dtype")},
        "torch_dtype": "float32",
        "dtype": "float32",
    }
    config = MISTRAL | {"torch_dtype": "torch.bfloat16"}
    assert edited(config, architecture(config), "bfloat16") == config
    none = {k: v for k, v in MISTRAL.items() if k != "torch_dtype"}
    assert edited(none, architecture(none), "float16")["torch_dtype"] == "float16"


def test_heads_that_do_not_follow_from_the_width_are_written():
    narrow = dataclasses.replace(architecture(TINY_LLAMA), num_attention_heads=24)
    config = edited(TINY_LLAMA, narrow)
    assert (config["head_dim"], config["num_attention_heads"]) == (64, 24)
    assert architecture(config) == narrow


def test_a_longer_context_keeps_the_trained_length_that_was_unsaid():
    rope = {k: v for k, v in LLAMA3.items() if k != "original_max_position_embeddings"}
    config = SMALL | {"rope_scaling": rope}
    assert architecture(config).original_max_position_embeddings == 64
    longer = dataclasses.replace(architecture(config), max_position_embeddings=128)
    assert architecture(edited(config, longer)) == longer


def test_what_a_config_cannot_say_is_refused():
    with pytest.raises(InputError, match="Llama models do not have"):
        config_for(tiny(sliding_window=16), "float32")
    with pytest.raises(InputError, match="rope_type 'yarn'"):
        config_json.check(tiny(rope_type="yarn"), "the architecture")
    with pytest.raises(InputError, match="must be positive"):
        config_json.check(Architecture(), "the architecture")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_transformers_reads_what_we_write_and_we_read_what_it_writes(arch, tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "config.json").write_bytes(_dumped(arch))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert (
        type(theirs).__name__
        == {"llama": "LlamaConfig", "mistral": "MistralConfig"}[arch.model_type]
    )
    for key in (*config_json.SIZES, "num_key_value_heads", "head_dim", "rms_norm_eps"):
        assert getattr(theirs, key) == getattr(arch, key)
    assert str(theirs.dtype).removeprefix("torch.") == "bfloat16"
    theirs.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert architecture(saved) == arch
    assert edited(saved, arch, "bfloat16") == saved


def _dumped(arch):
    return json.dumps(config_for(arch, "bfloat16")).encode()
