"""Rotations against Hugging Face's and against complex numbers."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.model import rope

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "rope_factor": 8.0,
    "rope_low_freq_factor": 1.0,
    "rope_high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    "scaling", [{}, {"rope_type": "linear", "rope_factor": 4.0}, LLAMA3], ids=str
)
def test_frequencies_are_those_of_transformers(scaling, tiny, peer):
    arch = tiny(head_dim=128, num_hidden_layers=1, **scaling)
    model, _ = peer(arch)
    expected = model.model.rotary_emb.inv_freq.numpy()
    ours = rope.frequencies(arch)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=3e-7)


def test_llama3_keeps_fast_rotations_and_slows_slow_ones(tiny):
    arch = tiny(head_dim=128, **LLAMA3)
    plain = rope.frequencies(tiny(head_dim=128, rope_theta=500000.0))
    ratio = rope.frequencies(arch) / plain
    np.testing.assert_allclose(ratio[:20], 1)
    np.testing.assert_allclose(ratio[-20:], 1 / 8, rtol=1e-6)
    assert np.any((ratio < 0.99) & (ratio > 0.13))


def test_llama3_without_an_original_length_takes_the_models(tiny):
    stated = tiny(**LLAMA3 | {"original_max_position_embeddings": 64})
    implied = tiny(**LLAMA3 | {"original_max_position_embeddings": 0})
    np.testing.assert_array_equal(rope.frequencies(stated), rope.frequencies(implied))


def test_unknown_type_is_refused(tiny):
    with pytest.raises(InputError, match="rope_type 'dynamic'"):
        rope.frequencies(tiny(rope_type="dynamic"))


def test_halves_turn_as_complex_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 3, 8)).astype(np.float32)
    positions = rng.integers(0, 5000, (2, 5)).astype(np.int32)
    frequencies = np.float32([1, 0.1, 0.01, 0.001])
    turned = rope.rotate(x, rope.angles(frequencies, positions))
    factor = np.exp(1j * positions[..., None].astype(np.float64) * frequencies)[:, :, None]
    expected = (x[..., :4] + 1j * x[..., 4:]) * factor
    np.testing.assert_allclose(turned[..., :4], expected.real, atol=1e-3)
    np.testing.assert_allclose(turned[..., 4:], expected.imag, atol=1e-3)


def test_angles_stay_float32_under_bfloat16():
    x = jnp.ones((1, 1, 1, 2), jnp.bfloat16)
    rotation = rope.angles(np.float32([1.0]), jnp.array([[1001]]))
    turned = rope.rotate(x, rotation)
    assert turned.dtype == jnp.bfloat16
    # 1001 is no bfloat16; rounded to 1000 it would turn elsewhere
    expected = np.cos(1001) - np.sin(1001), np.cos(1001) + np.sin(1001)
    np.testing.assert_allclose(turned.astype(np.float32).ravel(), expected, atol=0.01)
