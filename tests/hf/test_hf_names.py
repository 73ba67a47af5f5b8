import numpy as np
import pytest
from hf_examples import BF16, random_weights, tiny, write_raw

from maxlite.errors import InputError
from maxlite.hf import names
from maxlite.hf.tensors import read_tree
from maxlite.parameters import shapes


def tree(tmp_path, weights):
    write_raw(tmp_path / "model.safetensors", weights)
    return read_tree(tmp_path)


def test_the_expected_tensors_of_a_small_model():
    shapes = names.expected(tiny(num_hidden_layers=1, head_dim=6, tie_word_embeddings=True))
    assert shapes == {
        "model.embed_tokens.weight": (24, 8),
        "model.layers.0.self_attn.q_proj.weight": (24, 8),
        "model.layers.0.self_attn.k_proj.weight": (12, 8),
        "model.layers.0.self_attn.v_proj.weight": (12, 8),
        "model.layers.0.self_attn.o_proj.weight": (8, 24),
        "model.layers.0.mlp.gate_proj.weight": (12, 8),
        "model.layers.0.mlp.up_proj.weight": (12, 8),
        "model.layers.0.mlp.down_proj.weight": (8, 12),
        "model.layers.0.input_layernorm.weight": (8,),
        "model.layers.0.post_attention_layernorm.weight": (8,),
        "model.norm.weight": (8,),
    }


def test_biases_and_the_head_are_expected_where_the_config_says():
    shapes = names.expected(tiny(attention_bias=True, mlp_bias=True))
    assert shapes["model.layers.2.self_attn.k_proj.bias"] == (4,)
    assert shapes["model.layers.2.mlp.down_proj.bias"] == (8,)
    assert shapes["lm_head.weight"] == (24, 8)
    assert len(shapes) == 3 + 3 * (9 + 7)


def test_stacking_and_unstacking_names():
    arch = tiny(attention_bias=True)
    stacked = shapes(arch)
    for name, shape in names.expected(arch).items():
        key, layer = names.split(name)
        assert stacked[key] == (shape if layer is None else (3, *shape))
        assert names.unstacked(key, layer or 0) == name
    assert names.split("model.layers.11.mlp.up_proj.weight") == (
        "model.layers.mlp.up_proj.weight",
        11,
    )


def test_a_complete_tree_comes_back_in_model_order(tmp_path):
    weights = random_weights(tiny())
    found, notes = names.check(tree(tmp_path, dict(sorted(weights.items()))), tiny(), "here")
    assert list(found) == list(weights) and notes == []


def test_missing_extra_and_wrong_tensors_are_listed_in_one_sentence(tmp_path):
    weights = random_weights(tiny())
    for i in range(3):
        for part in ("gate", "up"):
            del weights[f"model.layers.{i}.mlp.{part}_proj.weight"]
    weights["model.embed_tokens.weight"] = np.zeros((25, 8), np.float32)
    weights["score.weight"] = np.zeros((1, 8), np.float32)
    weights["model.norm.weight"] = np.zeros(8, np.float64)
    with pytest.raises(InputError) as error:
        names.check(tree(tmp_path, weights), tiny(), "here")
    text = str(error.value)
    assert "6 missing (model.layers.0.mlp.gate_proj.weight," in text and "and 1 more" in text
    assert "1 not known (score.weight)" in text
    assert "model.embed_tokens.weight is [25, 8] instead of [24, 8]" in text
    assert "model.norm.weight as float64" in text


def test_an_untied_model_needs_its_head(tmp_path):
    weights = random_weights(tiny(tie_word_embeddings=True))
    with pytest.raises(InputError, match=r"1 missing \(lm_head.weight\)"):
        names.check(tree(tmp_path, weights), tiny(), "here")


def test_buffers_and_a_copied_head_are_left_out_with_a_line_each(tmp_path):
    arch = tiny(tie_word_embeddings=True)
    weights = random_weights(arch)
    full = dict(weights)
    full["lm_head.weight"] = weights["model.embed_tokens.weight"]
    for i in range(3):
        full[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = np.ones(1, np.float32)
    found, notes = names.check(tree(tmp_path, full), arch, "here")
    assert list(found) == list(weights)
    assert len(notes) == 2 and "3 rotary_emb" in notes[0] and "lm_head.weight" in notes[1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_tied_model_with_another_head_is_refused(tmp_path, dtype):
    arch = tiny(tie_word_embeddings=True)
    weights = random_weights(arch, dtype)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].copy()
    weights["lm_head.weight"][-1, -1] += np.array(1, BF16).astype(dtype)
    with pytest.raises(InputError, match="tie_word_embeddings"):
        names.check(tree(tmp_path, weights), arch, "here")


def test_a_tied_model_that_stores_only_its_head_is_read(tmp_path):
    arch = tiny(tie_word_embeddings=True)
    weights = random_weights(arch)
    table = weights.pop("model.embed_tokens.weight")
    found, notes = names.check(tree(tmp_path, weights | {"lm_head.weight": table}), arch, "here")
    np.testing.assert_array_equal(found["model.embed_tokens.weight"].read(), table)
    assert len(notes) == 1
