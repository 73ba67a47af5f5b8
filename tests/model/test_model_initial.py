"""Names, shapes and random values of parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxlite.model.initial import initialize
from maxlite.parameters import shapes


def test_shapes_by_name_in_forward_order(tiny):
    arch = tiny(attention_bias=True, mlp_bias=True, head_dim=10)
    assert list(shapes(arch).items()) == [
        ("model.embed_tokens.weight", (96, 32)),
        ("model.layers.input_layernorm.weight", (3, 32)),
        ("model.layers.self_attn.q_proj.weight", (3, 40, 32)),
        ("model.layers.self_attn.q_proj.bias", (3, 40)),
        ("model.layers.self_attn.k_proj.weight", (3, 20, 32)),
        ("model.layers.self_attn.k_proj.bias", (3, 20)),
        ("model.layers.self_attn.v_proj.weight", (3, 20, 32)),
        ("model.layers.self_attn.v_proj.bias", (3, 20)),
        ("model.layers.self_attn.o_proj.weight", (3, 32, 40)),
        ("model.layers.self_attn.o_proj.bias", (3, 32)),
        ("model.layers.post_attention_layernorm.weight", (3, 32)),
        ("model.layers.mlp.gate_proj.weight", (3, 48, 32)),
        ("model.layers.mlp.gate_proj.bias", (3, 48)),
        ("model.layers.mlp.up_proj.weight", (3, 48, 32)),
        ("model.layers.mlp.up_proj.bias", (3, 48)),
        ("model.layers.mlp.down_proj.weight", (3, 32, 48)),
        ("model.layers.mlp.down_proj.bias", (3, 32)),
        ("model.norm.weight", (32,)),
        ("lm_head.weight", (96, 32)),
    ]
    tied = shapes(tiny(tie_word_embeddings=True))
    assert "lm_head.weight" not in tied and not any("bias" in name for name in tied)


@pytest.fixture(scope="module")
def drawn(tiny):
    arch = tiny(attention_bias=True, initializer_range=0.05, vocab_size=512)
    key = jax.random.key(3)
    table = shapes(arch)
    return {name: initialize(arch, name, table[name], key, jnp.float32) for name in table}


def test_matrices_are_normal_norms_one_and_biases_zero(drawn):
    for name, x in drawn.items():
        if "norm" in name:
            np.testing.assert_array_equal(x, 1)
        elif name.endswith("bias"):
            np.testing.assert_array_equal(x, 0)
        else:
            assert abs(float(x.std()) / 0.05 - 1) < 0.1 and abs(float(x.mean())) < 0.01


def test_no_two_parameters_are_alike(drawn):
    firsts = [float(x.ravel()[0]) for name, x in drawn.items() if name.endswith("proj.weight")]
    assert len(set(firsts)) == 7
    layers = drawn["model.layers.self_attn.q_proj.weight"]
    assert not np.array_equal(layers[0], layers[1])


def test_values_depend_on_seed_and_name_alone(tiny):
    """Literal values: a seed means the same model in every later version."""
    arch = tiny()
    name = "model.layers.mlp.up_proj.weight"
    first = initialize(arch, name, (3, 48, 32), jax.random.key(0), jnp.float32)
    np.testing.assert_allclose(first[1, 2, :3], [0.3006636, 0.2844772, -0.2546865], rtol=1e-5)
    rounded = initialize(arch, name, (3, 48, 32), jax.random.key(0), jnp.bfloat16)
    np.testing.assert_array_equal(rounded, first.astype(jnp.bfloat16))
    other = initialize(arch, name, (3, 48, 32), jax.random.key(1), jnp.float32)
    assert not np.allclose(first, other)
